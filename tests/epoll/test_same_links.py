"""Links, drains and skipped completions on epoll end as they do on io_uring."""

import errno
import os
import select
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.epoll.hand import DRAIN, HARDLINK, LINK, SKIP, Cases, Hand, both
from tests.kernel import needs
from uringloop.ring import Opcode, Ring

CASES = Cases()
INJECT = 1
NOP, TIMEOUT = Opcode.NOP, Opcode.TIMEOUT


@needs("io_uring")
@pytest.mark.parametrize("body", CASES, ids=lambda body: body.__name__)
def test_as_io_uring(body: Callable[[Hand], Any]) -> None:
    both(body)


def failing(hand: Hand, name: str, flags: int = 0) -> None:
    hand.stage(name, NOP, length=-errno.EIO % (1 << 32), op_flags=INJECT, flags=flags)


def now(hand: Hand, token: int = 0, **arguments: int) -> str:
    try:
        hand.ring.cancel_now(token, **arguments)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "cancelled"


# Links


@CASES.add
def a_chain(hand: Hand) -> Any:
    for name in "abc":
        hand.stage(name, NOP, flags=LINK)
    hand.stage("d", NOP)
    return hand.wait_all(), hand.order


@CASES.add
def a_chain_with_a_failing_part(hand: Hand) -> Any:
    hand.stage("a", NOP, flags=LINK)
    failing(hand, "b", LINK)
    hand.stage("c", NOP, flags=LINK)
    hand.stage("d", NOP)
    hand.stage("e", NOP)
    return hand.wait_all()


@CASES.add
def a_hard_chain_with_a_failing_part(hand: Hand) -> Any:
    hand.stage("a", NOP, flags=HARDLINK)
    failing(hand, "b", HARDLINK)
    hand.stage("c", NOP, flags=LINK)
    hand.stage("d", NOP)
    return hand.wait_all()


@CASES.add
def a_chain_that_turns_soft(hand: Hand) -> Any:
    failing(hand, "a", HARDLINK)
    failing(hand, "b", LINK)
    hand.stage("c", NOP, flags=HARDLINK)
    hand.stage("d", NOP)
    return hand.wait_all()


@CASES.add
def a_chain_that_the_submit_ends(hand: Hand) -> Any:
    failing(hand, "a", LINK)
    hand.ring.submit()
    hand.stage("b", NOP)
    return hand.wait_all()


@CASES.add
def a_chain_with_an_unknown_opcode(hand: Hand) -> Any:
    hand.stage("a", NOP, flags=LINK)
    hand.stage("b", 250, flags=LINK)
    hand.stage("c", NOP)
    hand.stage("d", NOP)
    return hand.wait_all()


@CASES.add
def a_chain_with_a_bad_field(hand: Hand) -> Any:
    hand.stage("a", NOP, flags=LINK)
    hand.stage("b", Opcode.FSYNC, hand.file(), op_flags=77, flags=LINK)
    hand.stage("c", NOP)
    return hand.wait_all()


@CASES.add
def a_hard_chain_with_a_bad_field(hand: Hand) -> Any:
    hand.stage("a", NOP, flags=HARDLINK)
    hand.stage("b", Opcode.FSYNC, hand.file(), op_flags=77, flags=HARDLINK)
    hand.stage("c", NOP)
    return hand.wait_all()


@CASES.add
def a_chain_with_a_bad_descriptor(hand: Hand) -> Any:
    hand.stage("a", NOP, flags=LINK)
    hand.stage("b", Opcode.FSYNC, 1 << 20, flags=LINK)
    hand.stage("c", NOP)
    return hand.wait_all()


@CASES.add
def short_reads_break_a_chain(hand: Hand) -> Any:
    fd = hand.file(b"short")
    hand.stage("read", Opcode.READ, fd, bytearray(10), flags=LINK)
    hand.stage("after", NOP)
    pipe, end = hand.pipe()
    os.write(end, b"abc")
    hand.stage("read of a pipe", Opcode.READ, pipe, bytearray(10), offset=-1, flags=LINK)
    hand.stage("after a pipe", NOP)
    return hand.wait_all()


@CASES.add
def short_receives_break_no_chain(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    theirs.send(b"abc")
    hand.stage("receive", Opcode.RECV, ours.fileno(), bytearray(10), flags=LINK)
    hand.stage("after", NOP)
    return hand.wait_all()


@CASES.add
def a_short_receive_of_all_breaks_a_chain(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    theirs.send(b"abc")
    theirs.shutdown(socket.SHUT_WR)
    hand.stage("receive", Opcode.RECV, ours.fileno(), bytearray(10), op_flags=socket.MSG_WAITALL, flags=LINK)
    hand.stage("after", NOP)
    return hand.wait_all()


@CASES.add
def full_transfers_keep_a_chain(hand: Hand) -> Any:
    fd = hand.file(b"0123456789")
    buffer = bytearray(10)
    hand.stage("read", Opcode.READ, fd, buffer, flags=LINK)
    hand.stage("write", Opcode.WRITE, fd, b"abcdefghij", flags=LINK)
    hand.stage("after", NOP)
    return hand.wait_all(), bytes(buffer), os.pread(fd, 20, 0)


@CASES.add
def a_chain_that_waits(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    buffer = bytearray(3)
    hand.stage("receive", Opcode.RECV, ours.fileno(), buffer, flags=LINK)
    hand.stage("send", Opcode.SEND, ours.fileno(), b"answer", flags=LINK)
    hand.stage("after", NOP)
    hand.ring.submit()
    before = {name: list(heard) for name, heard in hand.outcomes.items()}
    theirs.send(b"abc")
    return before, hand.wait_all(), bytes(buffer), theirs.recv(10)


@CASES.add
def a_chain_that_is_cancelled(hand: Hand) -> Any:
    ours, _ = hand.pair()
    receive = hand.stage("receive", Opcode.RECV, ours.fileno(), bytearray(3), flags=LINK)
    after = hand.stage("after", NOP)
    hand.ring.submit()
    hand.cancel("of what has not begun", after)
    hand.cancel("cancel", receive)
    return hand.wait_all()


@CASES.add
def a_hard_chain_that_is_cancelled(hand: Hand) -> Any:
    ours, _ = hand.pair()
    receive = hand.stage("receive", Opcode.RECV, ours.fileno(), bytearray(3), flags=HARDLINK)
    hand.stage("after", NOP)
    hand.ring.submit()
    hand.cancel("cancel", receive)
    return hand.wait_all()


@CASES.add
def a_read_of_a_file_that_a_link_opened(hand: Hand) -> Any:
    hand.file(b"content")
    hand.stage("sync", Opcode.FSYNC, hand.file(name="other"))
    hand.wait()
    fd = os.dup(0)
    os.close(fd)
    buffer = bytearray(7)
    hand.stage("open", Opcode.OPENAT, -100, str(hand.folder / "file").encode() + b"\0", 0, op_flags=0, flags=HARDLINK)
    hand.stage("read", Opcode.READ, fd, buffer, flags=LINK)
    hand.stage("close", Opcode.CLOSE, fd)
    outcomes = hand.wait_all()
    return outcomes["open"] == [(fd, "")], outcomes["read"], outcomes["close"], bytes(buffer)


def test_a_chain_as_long_as_the_queue() -> None:
    """Its parts begin one after the other, and not one within the other."""
    with Ring(8192, cq_entries=16384, backend="epoll") as ring:
        for number in range(8192):
            sqe = ring.get_sqe()
            sqe.prep_nop()
            sqe.flags = LINK if number < 8191 else 0
        assert [completion.res for completion in ring.completions()] == [0] * 8192


# Drains


@CASES.add
def a_drain_waits_for_earlier_ones(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    hand.stage("receive", Opcode.RECV, ours.fileno(), bytearray(3))
    hand.stage("drained", NOP, flags=DRAIN)
    hand.stage("behind", NOP)
    hand.ring.submit()
    theirs.send(b"abc")
    return hand.wait_all(), hand.order


@CASES.add
def a_drain_in_the_middle_of_a_chain(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    hand.stage("receive", Opcode.RECV, ours.fileno(), bytearray(3))
    hand.stage("a", NOP, flags=LINK)
    hand.stage("b", NOP, flags=DRAIN | LINK)
    hand.stage("c", NOP)
    hand.stage("d", NOP)
    hand.ring.submit()
    theirs.send(b"abc")
    return hand.wait_all(), hand.order[0]


@CASES.add
def a_drain_with_a_multishot_poll_before_it(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    poll = hand.stage("poll", Opcode.POLL_ADD, ours.fileno(), op_flags=select.POLLIN, length=1)
    hand.stage("drained", NOP, flags=DRAIN)
    hand.ring.submit()
    theirs.send(b"a")
    hand.wait()
    before = list(hand.outcomes["drained"])
    hand.ring.cancel_now(poll.user_data)
    return before, hand.wait_all()


@CASES.add
def cancelling_a_drained_one(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    hand.stage("receive", Opcode.RECV, ours.fileno(), bytearray(3))
    drained = hand.stage("drained", NOP, flags=DRAIN)
    hand.ring.submit()
    result = now(hand, drained.user_data)
    theirs.send(b"abc")
    return result, hand.wait_all()


# Skipped completions


@CASES.add
def a_success_is_skipped(hand: Hand) -> Any:
    hand.stage("a", NOP, flags=SKIP | LINK)
    hand.stage("b", NOP, flags=SKIP | LINK)
    hand.stage("c", NOP)
    return hand.wait_all()


@CASES.add
def a_failure_is_not_skipped(hand: Hand) -> Any:
    failing(hand, "a", SKIP)
    hand.stage("b", NOP)
    hand.wait(2)
    return hand.outcomes


@CASES.add
def a_skipping_chain_that_breaks(hand: Hand) -> Any:
    failing(hand, "a", SKIP | LINK)
    silent = [hand.stage("b", NOP, flags=LINK), hand.stage("c", NOP)]
    hand.stage("other", NOP)
    hand.wait(2)
    for sqe in silent:
        hand.ring._queues.retire(sqe.user_data)
    return hand.outcomes


@CASES.add
def a_chain_that_breaks_before_skipping_parts(hand: Hand) -> Any:
    failing(hand, "a", LINK)
    hand.stage("b", NOP, flags=LINK | SKIP)
    hand.stage("c", NOP, flags=SKIP)
    return hand.wait_all()


@CASES.add
def a_drain_after_skipping(hand: Hand) -> Any:
    hand.stage("a", NOP, flags=SKIP | LINK)
    hand.stage("b", NOP)
    hand.stage("c", NOP, flags=DRAIN)
    return hand.wait_all()


@CASES.add
def a_skipping_drain(hand: Hand) -> Any:
    hand.stage("a", NOP, flags=SKIP | DRAIN)
    hand.stage("b", NOP)
    return hand.wait_all()
