"""Timeouts on epoll end as they do on io_uring."""

import struct
from collections.abc import Callable
from typing import Any

import pytest

from tests.epoll.hand import LINK, SKIP, Cases, Hand, both
from tests.kernel import needs
from uringloop.ring import Opcode

CASES = Cases()
ABS, UPDATE, BOOTTIME, REALTIME, LINK_UPDATE, ETIME_SUCCESS, MULTI = 1, 2, 4, 8, 16, 32, 64
NOP, TIMEOUT = Opcode.NOP, Opcode.TIMEOUT


@needs("io_uring")
@pytest.mark.parametrize("body", CASES, ids=lambda body: body.__name__)
def test_as_io_uring(body: Callable[[Hand], Any]) -> None:
    both(body)


# Timeouts of links


@CASES.add
def a_link_timeout_that_is_not_needed(hand: Hand) -> Any:
    hand.stage("a", NOP, flags=LINK)
    hand.stage("timeout", Opcode.LINK_TIMEOUT, memory=hand.seconds(5), length=1)
    return hand.wait_all()


@CASES.add
def a_link_timeout_that_ends_it_unneeded_and_skips(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    hand.stage("a", Opcode.RECV, ours.fileno(), bytearray(3), flags=LINK)
    hand.stage("timeout", Opcode.LINK_TIMEOUT, memory=hand.seconds(50), length=1, flags=SKIP)
    hand.ring.submit()
    theirs.send(b"abc")
    hand.wait()
    hand.stage("other", NOP)
    hand.wait()
    return dict(hand.outcomes)


@CASES.add
def a_link_timeout_that_fires(hand: Hand) -> Any:
    ours, _ = hand.pair()
    hand.stage("receive", Opcode.RECV, ours.fileno(), bytearray(3), flags=LINK)
    hand.stage("timeout", Opcode.LINK_TIMEOUT, memory=hand.seconds(0.001), length=1)
    return hand.wait_all()


@CASES.add
def a_link_timeout_with_more_behind(hand: Hand) -> Any:
    ours, _ = hand.pair()
    hand.stage("receive", Opcode.RECV, ours.fileno(), bytearray(3), flags=LINK)
    hand.stage("timeout", Opcode.LINK_TIMEOUT, memory=hand.seconds(0.001), length=1, flags=LINK)
    hand.stage("after", NOP)
    return hand.wait_all()


@CASES.add
def a_link_timeout_with_more_behind_that_is_not_needed(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    hand.stage("receive", Opcode.RECV, ours.fileno(), bytearray(3), flags=LINK)
    hand.stage("timeout", Opcode.LINK_TIMEOUT, memory=hand.seconds(50), length=1, flags=LINK)
    hand.stage("after", NOP)
    hand.ring.submit()
    theirs.send(b"abc")
    return hand.wait_all()


@CASES.add
def a_link_timeout_alone(hand: Hand) -> Any:
    hand.stage("timeout", Opcode.LINK_TIMEOUT, memory=hand.seconds(0.001), length=1)
    return hand.wait_all()


@CASES.add
def two_link_timeouts(hand: Hand) -> Any:
    hand.stage("a", NOP, flags=LINK)
    hand.stage("first", Opcode.LINK_TIMEOUT, memory=hand.seconds(5), length=1, flags=LINK)
    hand.stage("second", Opcode.LINK_TIMEOUT, memory=hand.seconds(5), length=1)
    return hand.wait_all()


@CASES.add
def a_link_timeout_with_bad_fields(hand: Hand) -> Any:
    for name, fields in {
        "length": {"length": 2},
        "flags": {"length": 1, "op_flags": 1 << 20},
        "offset": {"length": 1, "offset": 3},
        "multishot": {"length": 1, "op_flags": MULTI},
        "clocks": {"length": 1, "op_flags": BOOTTIME | REALTIME},
    }.items():
        hand.stage("of " + name, NOP, flags=LINK)
        hand.stage(name, Opcode.LINK_TIMEOUT, memory=hand.seconds(5), **fields)
    hand.stage("of time", NOP, flags=LINK)
    hand.stage("time", Opcode.LINK_TIMEOUT, memory=struct.pack("qq", 1, -1), length=1)
    return hand.wait_all()


@CASES.add
def a_link_timeout_that_is_updated(hand: Hand) -> Any:
    ours, _ = hand.pair()
    hand.stage("receive", Opcode.RECV, ours.fileno(), bytearray(3), flags=LINK)
    timeout = hand.stage("timeout", Opcode.LINK_TIMEOUT, memory=hand.seconds(500), length=1)
    hand.ring.submit()
    hand.stage(
        "update",
        Opcode.TIMEOUT_REMOVE,
        memory=timeout.user_data,
        offset=hand.seconds(0.001),
        op_flags=UPDATE | LINK_UPDATE,
    )
    return hand.wait_all()


@CASES.add
def a_link_timeout_is_no_timeout_to_remove(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    hand.stage("receive", Opcode.RECV, ours.fileno(), bytearray(3), flags=LINK)
    timeout = hand.stage("timeout", Opcode.LINK_TIMEOUT, memory=hand.seconds(500), length=1)
    hand.ring.submit()
    hand.stage("remove", Opcode.TIMEOUT_REMOVE, memory=timeout.user_data)
    hand.cancel("cancel", timeout)
    hand.wait(2)
    theirs.send(b"abc")
    return hand.wait_all()


# Timeouts


@CASES.add
def a_timeout(hand: Hand) -> Any:
    hand.stage("timeout", TIMEOUT, memory=hand.seconds(0.001), length=1, flags=LINK)
    hand.stage("after", NOP)
    hand.stage("good", TIMEOUT, memory=hand.seconds(0.001), length=1, op_flags=ETIME_SUCCESS, flags=LINK)
    hand.stage("after good", NOP)
    return hand.wait_all()


@CASES.add
def a_timeout_of_the_past(hand: Hand) -> Any:
    hand.stage("zero", TIMEOUT, memory=hand.seconds(0), length=1)
    hand.stage("absolute", TIMEOUT, memory=hand.seconds(1), length=1, op_flags=ABS)
    hand.stage("of the calendar", TIMEOUT, memory=hand.seconds(1), length=1, op_flags=ABS | REALTIME)
    hand.stage("since the boot", TIMEOUT, memory=hand.seconds(1), length=1, op_flags=ABS | BOOTTIME)
    return hand.wait_all()


@CASES.add
def a_timeout_that_counts(hand: Hand) -> Any:
    hand.stage("timeout", TIMEOUT, memory=hand.seconds(50), length=1, offset=2)
    hand.stage("a", NOP)
    hand.stage("b", NOP)
    return hand.wait_all()


@CASES.add
def a_timeout_that_counts_what_a_timeout_ends(hand: Hand) -> Any:
    """A timeout that fires is not counted."""
    hand.stage("counting", TIMEOUT, memory=hand.seconds(50), length=1, offset=1)
    hand.stage("fires", TIMEOUT, memory=hand.seconds(0.001), length=1)
    hand.ring.submit()
    hand.wait()
    before = list(hand.outcomes["counting"])
    hand.stage("a", NOP)
    return before, hand.wait_all()


@CASES.add
def timeouts_that_count_in_a_row(hand: Hand) -> Any:
    for count in (3, 1, 2):
        hand.stage(f"timeout {count}", TIMEOUT, memory=hand.seconds(50), length=1, offset=count)
    for name in "abc":
        hand.stage(name, NOP)
    return hand.wait_all()


@CASES.add
def a_multishot_timeout(hand: Hand) -> Any:
    hand.stage("timeout", TIMEOUT, memory=hand.seconds(0.001), length=1, offset=3, op_flags=MULTI)
    return hand.wait_all()


@CASES.add
def a_multishot_timeout_that_is_cancelled(hand: Hand) -> Any:
    timeout = hand.stage("timeout", TIMEOUT, memory=hand.seconds(0.001), length=1, op_flags=MULTI)
    hand.wait(3)
    hand.cancel("cancel", timeout)
    outcomes = hand.wait_all()
    return outcomes["timeout"][:3], outcomes["timeout"][-1], outcomes["cancel"]


@CASES.add
def bad_timeouts(hand: Hand) -> Any:
    time = hand.seconds(0.001)
    hand.stage("length", TIMEOUT, memory=time, length=2)
    hand.stage("no length", TIMEOUT, memory=time, length=0)
    hand.stage("flags", TIMEOUT, memory=time, length=1, op_flags=1 << 20)
    hand.stage("clocks", TIMEOUT, memory=time, length=1, op_flags=BOOTTIME | REALTIME)
    hand.stage("absolute multishot", TIMEOUT, memory=time, length=1, op_flags=ABS | MULTI)
    hand.stage("update", TIMEOUT, memory=time, length=1, op_flags=UPDATE)
    hand.stage("nanoseconds", TIMEOUT, memory=struct.pack("qq", 0, 1_000_000_000), length=1)
    hand.stage("negative seconds", TIMEOUT, memory=struct.pack("qq", -1, 0), length=1)
    hand.stage("negative nanoseconds", TIMEOUT, memory=struct.pack("qq", 1, -1), length=1)
    hand.stage("nowhere", TIMEOUT, memory=0, length=1)
    hand.stage("index", TIMEOUT, memory=time, length=1, buf_index=1)
    hand.stage("file index", TIMEOUT, memory=time, length=1, file_index=1)
    hand.stage("large offset", TIMEOUT, memory=time, length=1, offset=1 << 40)
    return hand.wait_all()


@CASES.add
def removing_a_timeout(hand: Hand) -> Any:
    timeout = hand.stage("timeout", TIMEOUT, memory=hand.seconds(50), length=1)
    hand.ring.submit()
    hand.stage("none", Opcode.TIMEOUT_REMOVE, memory=12345)
    hand.stage("remove", Opcode.TIMEOUT_REMOVE, memory=timeout.user_data)
    hand.stage("again", Opcode.TIMEOUT_REMOVE, memory=timeout.user_data)
    return hand.wait_all()


@CASES.add
def removing_what_is_no_timeout(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    receive = hand.stage("receive", Opcode.RECV, ours.fileno(), bytearray(3))
    hand.ring.submit()
    hand.stage("remove", Opcode.TIMEOUT_REMOVE, memory=receive.user_data)
    hand.stage("update", Opcode.TIMEOUT_REMOVE, memory=receive.user_data, offset=hand.seconds(1), op_flags=UPDATE)
    hand.wait(2)
    theirs.send(b"abc")
    return hand.wait_all()


@CASES.add
def updating_a_timeout(hand: Hand) -> Any:
    timeout = hand.stage("timeout", TIMEOUT, memory=hand.seconds(50), length=1)
    hand.ring.submit()
    hand.stage("update", Opcode.TIMEOUT_REMOVE, memory=timeout.user_data, offset=hand.seconds(0), op_flags=UPDATE)
    return hand.wait_all()


@CASES.add
def updating_a_timeout_that_counts(hand: Hand) -> Any:
    timeout = hand.stage("timeout", TIMEOUT, memory=hand.seconds(50), length=1, offset=2)
    hand.ring.submit()
    hand.stage("update", Opcode.TIMEOUT_REMOVE, memory=timeout.user_data, offset=hand.seconds(0.001), op_flags=UPDATE)
    return hand.wait_all()


@CASES.add
def bad_removals_of_timeouts(hand: Hand) -> Any:
    timeout = hand.stage("timeout", TIMEOUT, memory=hand.seconds(50), length=1)
    hand.ring.submit()
    token = timeout.user_data
    time = hand.seconds(70)
    hand.stage("flags", Opcode.TIMEOUT_REMOVE, memory=token, op_flags=1 << 20)
    hand.stage("absolute without update", Opcode.TIMEOUT_REMOVE, memory=token, op_flags=ABS)
    hand.stage("both", Opcode.TIMEOUT_REMOVE, memory=token, offset=time, op_flags=UPDATE | LINK_UPDATE)
    hand.stage("length", Opcode.TIMEOUT_REMOVE, memory=token, length=3)
    hand.stage("index", Opcode.TIMEOUT_REMOVE, memory=token, buf_index=3)
    hand.stage("priority", Opcode.TIMEOUT_REMOVE, memory=token, ioprio=3)
    hand.stage("clocks", Opcode.TIMEOUT_REMOVE, memory=token, offset=time, op_flags=UPDATE | BOOTTIME | REALTIME)
    hand.stage("time", Opcode.TIMEOUT_REMOVE, memory=token, offset=struct.pack("qq", 0, -1), op_flags=UPDATE)
    hand.wait(8)
    hand.stage("a removal all the same", Opcode.TIMEOUT_REMOVE, memory=token, offset=time, op_flags=LINK_UPDATE)
    return hand.wait_all()
