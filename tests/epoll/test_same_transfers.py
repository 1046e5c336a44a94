"""Reads, writes and splices on epoll end as they do on io_uring, also on descriptors that block."""

import contextlib
import os
import pty
import select
import tty
from collections.abc import Callable
from typing import Any

import pytest

from tests.epoll.hand import LINK, Cases, Hand, both, lent
from tests.kernel import needs
from uringloop.ring import Opcode, SqeFlag

CASES = Cases()
SELECT = SqeFlag.BUFFER_SELECT
HERE = (1 << 64) - 1
NOP = Opcode.NOP


@needs("io_uring")
@pytest.mark.parametrize("body", CASES, ids=lambda body: body.__name__)
def test_as_io_uring(body: Callable[[Hand], Any]) -> None:
    both(body)


def terminal(hand: Hand) -> tuple[int, int]:
    """Return the ends of a terminal that passes on each byte: ours blocks, and does not know RWF_NOWAIT."""
    theirs, ours = pty.openpty()
    tty.setraw(ours)
    return hand.own(ours), hand.own(theirs)


# Reads


@CASES.add
def reads_of_a_file_into_a_group(hand: Hand) -> Any:
    fd = hand.file(b"0123456789")
    group = hand.group(8, 4)
    fields = {"flags": SELECT, "buf_index": group.group_id}
    contents = []
    for name, offset, length in (("full", 0, 0), ("limited", 4, 2), ("short", 8, 0), ("end", 10, 0)):
        hand.stage(name, Opcode.READ, fd, length=length, offset=offset, **fields)
        hand.wait()
        if "BUFFER" in hand.outcomes[name][0][1]:
            contents.append(lent(hand, group))
    hand.stage("no group", Opcode.READ, fd, length=1, flags=SELECT, buf_index=99)
    return hand.wait_all(), contents


@CASES.add
def reads_of_a_file_without_a_buffer(hand: Hand) -> Any:
    fd = hand.file(b"0123456789")
    group = hand.group(2, 4)
    for name in ("one", "two"):
        hand.stage(name, Opcode.READ, fd, flags=SELECT, buf_index=group.group_id)
    hand.wait_all()
    hand.stage("none", Opcode.READ, fd, flags=SELECT, buf_index=group.group_id)
    return hand.wait_all()


@CASES.add
def a_short_read_into_a_group_in_a_chain(hand: Hand) -> Any:
    fd = hand.file(b"01")
    group = hand.group(2, 4)
    hand.stage("read", Opcode.READ, fd, flags=SELECT | LINK, buf_index=group.group_id)
    hand.stage("after", NOP)
    return hand.wait_all()


@CASES.add
def a_read_of_a_terminal(hand: Hand) -> Any:
    ours, theirs = terminal(hand)
    buffer = bytearray(4)
    hand.stage("read", Opcode.READ, ours, buffer, offset=HERE)
    hand.stage("other", NOP)
    hand.wait()
    os.write(theirs, b"abc")
    return hand.wait_all(), bytes(buffer)


@CASES.add
def a_read_of_a_terminal_into_a_group(hand: Hand) -> Any:
    ours, theirs = terminal(hand)
    group = hand.group(2, 4)
    hand.stage("read", Opcode.READ, ours, offset=HERE, flags=SELECT, buf_index=group.group_id)
    hand.stage("other", NOP)
    hand.wait()
    os.write(theirs, b"abc")
    hand.wait()
    return hand.outcomes, lent(hand, group)


def reads_of_many(hand: Hand, ours: int, theirs: int) -> Any:
    group = hand.group(4, 4)
    read = hand.stage("read", Opcode.READ_MULTISHOT, ours, offset=HERE, flags=SELECT, buf_index=group.group_id)
    hand.stage("other", NOP)
    hand.wait()
    contents = []
    for data in (b"ab", b"cd", b"efgh"):
        os.write(theirs, data)
        hand.wait()
        contents.append(lent(hand, group))
    hand.cancel("cancel", read)
    return hand.wait_all(), contents


@CASES.add
def many_reads_of_a_pipe_that_blocks(hand: Hand) -> Any:
    return reads_of_many(hand, *hand.pipe())


@CASES.add
def many_reads_of_a_pipe_that_does_not_block(hand: Hand) -> Any:
    return reads_of_many(hand, *hand.pipe(os.O_NONBLOCK))


@CASES.add
def many_reads_of_a_terminal(hand: Hand) -> Any:
    return reads_of_many(hand, *terminal(hand))


@CASES.add
def many_reads_of_a_file(hand: Hand) -> Any:
    group = hand.group(4, 4)
    hand.stage("read", Opcode.READ_MULTISHOT, hand.file(b"abc"), flags=SELECT, buf_index=group.group_id)
    return hand.wait_all()


@CASES.add
def reads_of_a_pipe_that_ends(hand: Hand) -> Any:
    reader, writer = hand.pipe()
    group = hand.group(4, 4)
    fields = {"flags": SELECT, "buf_index": group.group_id}
    hand.stage("poll", Opcode.POLL_ADD, reader, op_flags=select.POLLIN)
    hand.stage("read", Opcode.READ, reader, bytearray(4), offset=HERE)
    hand.ring.submit()
    os.close(writer)
    hand.stage("into a group", Opcode.READ, reader, offset=HERE, **fields)
    hand.stage("many", Opcode.READ_MULTISHOT, reader, offset=HERE, **fields)
    return hand.wait_all()


@CASES.add
def many_reads_without_a_buffer(hand: Hand) -> Any:
    reader, writer = hand.pipe()
    group = hand.group(2, 4)
    hand.stage("read", Opcode.READ_MULTISHOT, reader, offset=HERE, flags=SELECT, buf_index=group.group_id)
    hand.stage("length", Opcode.READ_MULTISHOT, reader, length=3, flags=SELECT, buf_index=group.group_id)
    hand.ring.submit()
    os.write(writer, b"0123456789ab")
    return hand.wait_all()


@CASES.add
def many_reads_of_a_socket(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    group = hand.group(4, 4)
    hand.stage("read", Opcode.READ_MULTISHOT, ours.fileno(), offset=HERE, flags=SELECT, buf_index=group.group_id)
    hand.ring.submit()
    theirs.send(b"abcdefgh")
    hand.wait(2)
    theirs.close()
    return hand.wait_all()


@CASES.add
def devices_that_never_wait(hand: Hand) -> Any:
    null, zero = (hand.own(os.open(path, os.O_RDWR)) for path in ("/dev/null", "/dev/zero"))
    group = hand.group(4, 4)
    fields = {"flags": SELECT, "buf_index": group.group_id}
    hand.stage("end", Opcode.READ, null, bytearray(3))
    hand.stage("write", Opcode.WRITE, null, b"abc")
    hand.stage("zeros", Opcode.READ, zero, bytearray(3))
    hand.stage("zeros into a group", Opcode.READ, zero, **fields)
    hand.stage("many", Opcode.READ_MULTISHOT, null, **fields)
    return hand.wait_all()


# Writes


@CASES.add
def a_write_to_a_full_pipe_that_blocks(hand: Hand) -> Any:
    reader, writer = hand.pipe()
    os.write(writer, bytes(1 << 16))
    hand.stage("write", Opcode.WRITE, writer, b"abc", offset=HERE)
    hand.stage("other", NOP)
    hand.wait()
    os.read(reader, 1 << 16)
    return hand.wait_all(), os.read(reader, 10)


@CASES.add
def a_write_to_a_pipe_without_a_reader(hand: Hand) -> Any:
    reader, writer = hand.pipe()
    os.close(reader)
    hand.stage("poll", Opcode.POLL_ADD, writer, op_flags=select.POLLOUT)
    hand.stage("write", Opcode.WRITE, writer, b"abc", offset=HERE)
    return hand.wait_all()


@CASES.add
def offsets_where_there_is_no_position(hand: Hand) -> Any:
    reader, writer = hand.pipe()
    hand.stage("write", Opcode.WRITE, writer, b"abc", offset=5)
    hand.stage("read", Opcode.READ, reader, bytearray(3), offset=7)
    return hand.wait_all()


@CASES.add
def a_write_to_a_terminal(hand: Hand) -> Any:
    ours, theirs = terminal(hand)
    hand.stage("write", Opcode.WRITE, ours, b"abc", offset=HERE)
    return hand.wait_all(), os.read(theirs, 10)


# Splices


def splice(hand: Hand, name: str, source: int, target: int, length: int = 4) -> None:
    hand.stage(name, Opcode.SPLICE, target, HERE, length, HERE, file_index=source)


@CASES.add
def a_splice_from_a_socket_that_blocks(hand: Hand) -> Any:
    ours, theirs = hand.tcp_pair()
    reader, writer = hand.pipe()
    splice(hand, "splice", ours.fileno(), writer)
    hand.stage("other", NOP)
    hand.wait()
    theirs.send(b"abc")
    return hand.wait_all(), os.read(reader, 10)


@CASES.add
def a_splice_to_a_socket_that_blocks(hand: Hand) -> Any:
    ours, theirs = hand.tcp_pair()
    ours.setblocking(False)
    size = 0
    while select.select([], [ours], [], 0.1)[1]:
        size += ours.send(bytes(1 << 20))
    ours.setblocking(True)
    reader, writer = hand.pipe()
    os.write(writer, b"abc")
    splice(hand, "splice", reader, ours.fileno(), 3)
    hand.stage("other", NOP)
    hand.wait()
    while size:
        size -= len(theirs.recv(size))
    return hand.wait_all(), theirs.recv(10)


@CASES.add
def splices_and_tees_of_pipes_that_block(hand: Hand) -> Any:
    source, source_end = hand.pipe()
    reader, writer = hand.pipe()
    copy, copy_end = hand.pipe()
    hand.stage("tee", Opcode.TEE, copy_end, length=3, file_index=source)
    hand.stage("other", NOP)
    hand.wait()
    os.write(source_end, b"abc")
    hand.wait_all()
    splice(hand, "splice", source, writer)
    hand.wait_all()
    splice(hand, "empty", source, writer)
    hand.stage("other", NOP)
    hand.wait()
    os.write(source_end, b"def")
    return hand.wait_all(), os.read(copy, 10), os.read(reader, 10)


@CASES.add
def splices_and_tees_of_pipes_that_end(hand: Hand) -> Any:
    source, source_end = hand.pipe()
    _, writer = hand.pipe()
    splice(hand, "splice", source, writer)
    hand.stage("tee", Opcode.TEE, writer, length=4, file_index=source)
    hand.ring.submit()
    os.close(source_end)
    return hand.wait_all()


@CASES.add
def a_splice_to_a_pipe_without_a_reader(hand: Hand) -> Any:
    source, source_end = hand.pipe()
    reader, writer = hand.pipe()
    os.write(source_end, b"abc")
    os.close(reader)
    splice(hand, "splice", source, writer)
    return hand.wait_all()


@CASES.add
def splices_of_a_file(hand: Hand) -> Any:
    fd = hand.file(b"0123456789")
    reader, writer = hand.pipe()
    hand.stage("splice", Opcode.SPLICE, writer, 3, 4, HERE, file_index=fd, flags=LINK)
    hand.stage("short", Opcode.SPLICE, writer, 8, 4, HERE, file_index=fd, flags=LINK)
    hand.stage("after", NOP)
    return hand.wait_all(), os.read(reader, 10)


@CASES.add
def splices_that_fail(hand: Hand) -> Any:
    ours, theirs = hand.tcp_pair()
    reader, writer = hand.pipe()
    splice(hand, "no pipe", ours.fileno(), theirs.fileno())
    splice(hand, "bad source", 1 << 20, writer)
    splice(hand, "bad target", reader, 1 << 20)
    hand.stage("tee of a socket", Opcode.TEE, writer, length=3, file_index=ours.fileno())
    return hand.wait_all()


@CASES.add
def a_splice_into_a_full_socket_that_does_not_block(hand: Hand) -> Any:
    ours, _ = hand.pair(blocks=False)
    with contextlib.suppress(BlockingIOError):
        while True:
            ours.send(bytes(65536))
    reader, writer = hand.pipe()
    os.write(writer, b"abcd")
    splice(hand, "splice", reader, ours.fileno())
    return hand.wait_all()


@CASES.add
def splices_of_pipes_of_which_one_does_not_block(hand: Hand) -> Any:
    for name, flags_in, flags_out in (("in", os.O_NONBLOCK, 0), ("out", 0, os.O_NONBLOCK)):
        splice(hand, name, hand.pipe(flags_in)[0], hand.pipe(flags_out)[1])
    return hand.wait_all()
