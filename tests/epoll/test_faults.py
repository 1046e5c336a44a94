"""Faults that the ring on epoll meets: bytes that others take, errors that stay, descriptors that are closed."""

import os
import socket
from collections.abc import Iterator

import pytest

from tests.epoll.hand import Hand, hand_on
from uringloop.ring import Opcode

ACCEPT_MULTISHOT = 1


@pytest.fixture
def hand() -> Iterator[Hand]:
    with hand_on("epoll") as hand:
        yield hand


def connect(hand: Hand, listener: socket.socket) -> None:
    hand.stack.enter_context(socket.create_connection(listener.getsockname()))


def close_accepted(hand: Hand, name: str) -> list[str]:
    """Close accepted descriptors; return the flags that came with them."""
    for fd, _ in hand.outcomes[name]:
        assert isinstance(fd, int)
        os.close(fd)
    return [flags for _, flags in hand.outcomes[name]]


# Another process takes what was ready: here another request does, through a second descriptor.


@pytest.mark.parametrize("blocks", [False, True], ids=["not blocking", "blocking"])
def test_a_connection_that_another_takes(hand: Hand, *, blocks: bool) -> None:
    listener = hand.listener()
    listener.setblocking(blocks)
    for name, fd in (("one", listener.fileno()), ("other", hand.own(os.dup(listener.fileno())))):
        hand.stage(name, Opcode.ACCEPT, fd)
    hand.ring.submit()
    for _ in range(2):
        connect(hand, listener)
        hand.wait()
        hand.stage("goes on", Opcode.NOP)
        hand.wait()
    assert close_accepted(hand, "one") + close_accepted(hand, "other") == ["", ""]


def test_a_connection_that_another_takes_from_a_multishot_accept(hand: Hand) -> None:
    listener = hand.listener()
    listener.setblocking(False)
    for fd in (listener.fileno(), hand.own(os.dup(listener.fileno()))):
        hand.stage("accept", Opcode.ACCEPT, fd, ioprio=ACCEPT_MULTISHOT)
    hand.ring.submit()
    for _ in range(3):
        connect(hand, listener)
        hand.wait()
    assert close_accepted(hand, "accept") == 3 * ["MORE"]
    hand.cancel("cancel", op_flags=1 | 4)
    hand.wait_all()
