"""Reads and writes of files on epoll end as they do on io_uring."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.kernel import needs
from uringloop.ring import Opcode, SqeFlag

from .hand import Cases, Hand, Outcomes, both, iovec

CASES = Cases()


@needs("io_uring")
@pytest.mark.parametrize("body", CASES, ids=lambda body: body.__name__)
def test_as_io_uring(body: Callable[[Hand], Any]) -> None:
    both(body)


def _vectors(hand: Hand, fd: int) -> Outcomes:
    group = hand.group()
    parts = iovec(hand, bytearray(3), bytearray(3))
    for count in (0, 1, 2):
        hand.stage(
            f"{count} parts",
            Opcode.READV,
            fd,
            parts,
            count,
            (1 << 64) - 1,
            flags=SqeFlag.BUFFER_SELECT,
            buf_index=group.group_id,
        )
        hand.wait()
    return hand.outcomes


@CASES.add
def a_vector_of_a_pipe_into_a_group(hand: Hand) -> Outcomes:
    reading, writing = hand.pipe()
    os.write(writing, b"abcdefgh")
    return _vectors(hand, reading)


@CASES.add
def a_vector_of_a_file_into_a_group(hand: Hand) -> Outcomes:
    return _vectors(hand, hand.file(b"abcdefgh"))


@CASES.add
def a_vector_into_a_group_that_is_not_there(hand: Hand) -> Outcomes:
    reading, writing = hand.pipe()
    os.write(writing, b"abc")
    parts = iovec(hand, bytearray(3))
    hand.stage("read", Opcode.READV, reading, parts, 1, (1 << 64) - 1, flags=SqeFlag.BUFFER_SELECT, buf_index=77)
    hand.stage("write", Opcode.WRITEV, writing, parts, 1, (1 << 64) - 1, flags=SqeFlag.BUFFER_SELECT, buf_index=77)
    return hand.wait(2)


@CASES.add
def polled_reads_and_writes(hand: Hand) -> Outcomes:
    for name, fd in (("file", hand.file(b"abc")), ("nothing", 1 << 20)):
        hand.stage(f"read {name}", Opcode.READ, fd, bytearray(3), op_flags=os.RWF_HIPRI)
        hand.stage(f"write {name}", Opcode.WRITE, fd, bytearray(3), op_flags=os.RWF_HIPRI)
    return hand.wait(4)


@CASES.add
def a_file_that_pwrite_refuses(hand: Hand) -> Outcomes:
    fd = hand.own(os.open("/proc/self/coredump_filter", os.O_RDWR))
    hand.stage("write", Opcode.WRITE, fd, b"no number", offset=0)
    return hand.wait()


@CASES.add
def commands_of_files(hand: Hand) -> Outcomes:
    for command in range(5):
        hand.stage(f"command {command}", Opcode.URING_CMD, hand.file(), offset=command)
    return hand.wait(5)
