"""Polls, cancels and wrong SQEs on epoll end as they do on io_uring."""

import errno
import os
import select
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.epoll.hand import SKIP, Cases, Hand, both
from tests.kernel import needs
from uringloop.ring import Opcode, SqeFlag

CASES = Cases()
ALL, OF_FD, ANY, OF_OP, USERDATA = 1, 2, 4, 32, 16
INJECT = 1
NOP, TIMEOUT = Opcode.NOP, Opcode.TIMEOUT


@needs("io_uring")
@pytest.mark.parametrize("body", CASES, ids=lambda body: body.__name__)
def test_as_io_uring(body: Callable[[Hand], Any]) -> None:
    both(body)


def now(hand: Hand, token: int = 0, **arguments: int) -> str:
    try:
        hand.ring.cancel_now(token, **arguments)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "cancelled"


# Polls


@CASES.add
def a_poll(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    hand.stage("writable", Opcode.POLL_ADD, ours.fileno(), op_flags=select.POLLOUT)
    hand.stage("readable", Opcode.POLL_ADD, ours.fileno(), op_flags=select.POLLIN)
    hand.wait()
    theirs.send(b"a")
    return hand.wait_all()


@CASES.add
def a_poll_of_a_hangup(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    hand.stage("nothing", Opcode.POLL_ADD, ours.fileno(), op_flags=0)
    hand.stage("end", Opcode.POLL_ADD, ours.fileno(), op_flags=select.POLLRDHUP)
    hand.stage("both", Opcode.POLL_ADD, ours.fileno(), op_flags=select.POLLRDHUP | select.POLLIN)
    hand.ring.submit()
    theirs.close()
    return hand.wait_all()


@CASES.add
def polls_of_files(hand: Hand) -> Any:
    fd = hand.file(b"data")
    null = hand.own(os.open("/dev/null", os.O_RDWR))
    hand.stage("file", Opcode.POLL_ADD, fd, op_flags=select.POLLIN | select.POLLOUT)
    hand.stage("null", Opcode.POLL_ADD, null, op_flags=select.POLLIN | select.POLLOUT)
    hand.stage("again and again", Opcode.POLL_ADD, null, op_flags=select.POLLIN, length=1)
    hand.stage("bad", Opcode.POLL_ADD, 1 << 20, op_flags=select.POLLIN)
    hand.wait(4)
    outcomes = {name: heard[:1] for name, heard in hand.outcomes.items()}
    hand.cancel("cancel", op_flags=ALL | ANY)
    hand.wait_all()
    return outcomes


@CASES.add
def bad_polls(hand: Hand) -> Any:
    ours, _ = hand.pair()
    fd = ours.fileno()
    for name, fields in {
        "length": {"length": 1 << 8},
        "update": {"length": 2},
        "memory": {"memory": 1},
        "offset": {"offset": 1},
        "priority": {"ioprio": 1},
        "index": {"buf_index": 1},
        "multishot that skips": {"length": 1, "flags": SKIP},
    }.items():
        hand.stage(name, Opcode.POLL_ADD, fd, op_flags=select.POLLOUT, **fields)
    hand.stage("unconnected", Opcode.POLL_ADD, hand.stack.enter_context(socket.socket()).fileno(), op_flags=0)
    return hand.wait_all()


@CASES.add
def a_multishot_poll(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    poll = hand.stage("poll", Opcode.POLL_ADD, ours.fileno(), op_flags=select.POLLIN, length=1)
    hand.ring.submit()
    for _ in range(3):
        theirs.send(b"a")
        hand.wait()
    hand.cancel("cancel", poll)
    return hand.wait_all()


@CASES.add
def a_multishot_poll_with_level(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    theirs.send(b"a")
    poll = hand.stage("poll", Opcode.POLL_ADD, ours.fileno(), op_flags=select.POLLIN, length=1 | 8)
    hand.wait(1)
    first = list(hand.outcomes["poll"])
    hand.cancel("cancel", poll)
    hand.wait_all()
    return first, hand.outcomes["poll"][-1], hand.outcomes["cancel"]


@CASES.add
def a_multishot_poll_of_what_is_ready(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    theirs.send(b"a")
    poll = hand.stage("poll", Opcode.POLL_ADD, ours.fileno(), op_flags=select.POLLIN, length=1)
    hand.stage("other", NOP)
    hand.wait(2)
    theirs.send(b"a")
    hand.wait()
    hand.cancel("cancel", poll)
    return hand.wait_all()


@CASES.add
def removing_a_poll(hand: Hand) -> Any:
    ours, _ = hand.pair()
    poll = hand.stage("poll", Opcode.POLL_ADD, ours.fileno(), op_flags=select.POLLIN)
    hand.ring.submit()
    hand.stage("none", Opcode.POLL_REMOVE, memory=12345)
    hand.stage("remove", Opcode.POLL_REMOVE, memory=poll.user_data)
    hand.stage("again", Opcode.POLL_REMOVE, memory=poll.user_data)
    return hand.wait_all()


@CASES.add
def removing_what_is_no_poll(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    receive = hand.stage("receive", Opcode.RECV, ours.fileno(), bytearray(3))
    hand.ring.submit()
    hand.stage("remove", Opcode.POLL_REMOVE, memory=receive.user_data)
    hand.wait()
    theirs.send(b"abc")
    return hand.wait_all()["remove"]


@CASES.add
def updating_the_events_of_a_poll(hand: Hand) -> Any:
    ours, _ = hand.pair()
    poll = hand.stage("poll", Opcode.POLL_ADD, ours.fileno(), op_flags=select.POLLIN)
    hand.ring.submit()
    hand.stage("update", Opcode.POLL_REMOVE, memory=poll.user_data, length=2, op_flags=select.POLLOUT)
    return hand.wait_all()


@CASES.add
def updating_the_token_of_a_poll(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    poll = hand.stage("poll", Opcode.POLL_ADD, ours.fileno(), op_flags=select.POLLIN)
    hand.ring.submit()
    other = hand.stage("other", NOP, flags=SKIP)
    hand.stage("update", Opcode.POLL_REMOVE, memory=poll.user_data, length=4, offset=other.user_data)
    hand.wait()
    theirs.send(b"a")
    hand.wait()
    hand.ring._queues.operations.clear()
    return hand.outcomes["other"], hand.outcomes["update"]


@CASES.add
def bad_removals_of_polls(hand: Hand) -> Any:
    ours, _ = hand.pair()
    poll = hand.stage("poll", Opcode.POLL_ADD, ours.fileno(), op_flags=select.POLLIN)
    hand.ring.submit()
    token = poll.user_data
    for name, fields in {
        "length": {"length": 1 << 8},
        "multishot alone": {"length": 1},
        "offset without update": {"offset": 5},
        "events without update": {"op_flags": select.POLLIN},
        "index": {"buf_index": 1},
        "file index": {"file_index": 1},
        "priority": {"ioprio": 1},
    }.items():
        hand.stage(name, Opcode.POLL_REMOVE, memory=token, **fields)
    hand.wait(7)
    outcomes = {name: list(heard) for name, heard in hand.outcomes.items()}
    hand.cancel("cancel", op_flags=ANY)
    hand.wait_all()
    return outcomes


# Cancels


def receives(hand: Hand, count: int = 3) -> tuple[list[Any], socket.socket]:
    ours, _ = hand.pair()
    staged = [hand.stage(f"receive {n}", Opcode.RECV, ours.fileno(), bytearray(1)) for n in range(count)]
    hand.ring.submit()
    return staged, ours


@CASES.add
def cancelling_by_token(hand: Hand) -> Any:
    staged, _ = receives(hand)
    for sqe in staged:
        hand.cancel("cancel", sqe)
    hand.cancel("none", 12345)
    hand.cancel("none of all", 12345, ALL)
    return hand.wait_all()


@CASES.add
def cancelling_by_descriptor(hand: Hand) -> Any:
    _, ours = receives(hand)
    hand.cancel("one", op_flags=OF_FD, fd=ours.fileno())
    hand.wait(2)
    hand.cancel("all", op_flags=OF_FD | ALL, fd=ours.fileno())
    hand.wait_all()
    hand.cancel("no more", op_flags=OF_FD | ALL, fd=ours.fileno())
    hand.cancel("none", op_flags=OF_FD, fd=ours.fileno())
    hand.cancel("bad", op_flags=OF_FD, fd=1 << 20)
    hand.cancel("bad all", op_flags=OF_FD | ALL, fd=1 << 20)
    outcomes = hand.wait_all()
    return {name: outcomes[name] for name in outcomes if "receive" not in name}


@CASES.add
def cancelling_by_opcode(hand: Hand) -> Any:
    receives(hand)
    hand.stage("timeout", TIMEOUT, memory=hand.seconds(50), length=1)
    hand.ring.submit()
    hand.cancel("timeouts", op_flags=OF_OP | ALL, length=TIMEOUT)
    hand.cancel("receives", op_flags=OF_OP | ALL, length=Opcode.RECV)
    hand.cancel("reads", op_flags=OF_OP | ALL, length=Opcode.READ)
    hand.cancel("unknown", op_flags=OF_OP | ALL, length=200)
    return hand.wait_all()


@CASES.add
def cancelling_by_more_than_one(hand: Hand) -> Any:
    staged, ours = receives(hand)
    hand.cancel("wrong", staged[0], OF_OP | USERDATA, length=Opcode.READ)
    hand.cancel("right", staged[0], OF_OP | USERDATA, length=Opcode.RECV)
    hand.cancel("of one", staged[1], OF_FD | USERDATA, ours.fileno())
    hand.wait(5)
    hand.cancel("both", op_flags=OF_FD | OF_OP | ALL, fd=ours.fileno(), length=Opcode.RECV)
    return hand.wait_all()


@CASES.add
def cancelling_everything(hand: Hand) -> Any:
    receives(hand)
    hand.stage("timeout", TIMEOUT, memory=hand.seconds(50), length=1)
    hand.ring.submit()
    hand.cancel("any", op_flags=ANY)
    hand.wait_all()
    hand.cancel("all", op_flags=ALL | ANY)
    return hand.wait_all()


@CASES.add
def bad_cancels(hand: Hand) -> Any:
    for name, fields in {
        "flags": {"op_flags": 1 << 20},
        "offset": {"offset": 1},
        "file index": {"file_index": 1},
        "any of a descriptor": {"op_flags": ANY | OF_FD, "fd": 0},
        "any of an opcode": {"op_flags": ANY | OF_OP},
        "priority": {"ioprio": 1},
        "fixed": {"op_flags": OF_FD | 8, "fd": 0},
    }.items():
        hand.stage(name, Opcode.ASYNC_CANCEL, memory=7, **fields)
    return hand.wait_all()


@CASES.add
def cancelling_at_once(hand: Hand) -> Any:
    staged, ours = receives(hand)
    seen = [
        now(hand, 12345),
        now(hand, staged[0].user_data),
        now(hand, fd=ours.fileno(), flags=OF_FD),
        now(hand, fd=1 << 20, flags=OF_FD),
        now(hand, fd=ours.fileno(), flags=OF_FD | ALL),
        now(hand, fd=ours.fileno(), flags=OF_FD | ALL),
    ]
    return seen, hand.wait_all()


# SQEs that are wrong


@CASES.add
def unknown_opcodes(hand: Hand) -> Any:
    for opcode in (200, 255):
        hand.stage(str(opcode), opcode)
    return hand.wait_all()


@CASES.add
def unknown_flags(hand: Hand) -> Any:
    hand.stage("flag", NOP, flags=1 << 7)
    hand.stage("buffers", NOP, flags=SqeFlag.BUFFER_SELECT)
    hand.stage("personality", NOP, personality=5)
    hand.stage("fixed", Opcode.READ, 0, bytearray(1), flags=SqeFlag.FIXED_FILE)
    hand.stage("nop flags", NOP, op_flags=1 << 20)
    hand.stage("nop priority", NOP, ioprio=7)
    hand.stage("nop result", NOP, length=77, op_flags=INJECT)
    return hand.wait_all()
