"""Faults that the ring on epoll meets: bytes that others take, errors that stay, descriptors that are closed."""

import contextlib
import itertools
import os
import pty
import select
import signal
import socket
import struct
import threading
import tty
from collections.abc import Iterator

import pytest

from tests.epoll.hand import Hand, both, hand_on
from tests.kernel import needs
from uringloop.ring import Opcode, SqeFlag

ACCEPT_MULTISHOT = 1
HERE = (1 << 64) - 1
RECV_MULTISHOT = 2
#: SO_TIMESTAMPING: a report when a packet is sent, which holds no copy of the packet.
_TIMESTAMPING, _SENT_WITHOUT_DATA = 37, 1 << 1 | 1 << 4 | 1 << 11


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


def stage_read(hand: Hand, opcode: Opcode, name: str, fd: int) -> None:
    if opcode == Opcode.SPLICE:
        target = hand.pipe()[1]
        hand.stage(name, opcode, target, HERE, 10, HERE, file_index=fd)
    elif opcode == Opcode.READ_MULTISHOT:
        group = hand.group(4, 16)
        hand.stage(name, opcode, fd, offset=HERE, flags=SqeFlag.BUFFER_SELECT, buf_index=group.group_id)
    else:
        hand.stage(name, opcode, fd, bytearray(10), offset=HERE if opcode == Opcode.READ else 0)


READS = [Opcode.READ, Opcode.READ_MULTISHOT, Opcode.SPLICE]


@pytest.mark.parametrize(
    ("source", "opcode"),
    [*itertools.product(["pipe", "terminal", "tcp"], READS), ("tcp", Opcode.RECV)],
    ids=lambda part: part if isinstance(part, str) else part.name,
)
def test_bytes_that_another_takes(hand: Hand, source: str, opcode: Opcode) -> None:
    """The descriptors block, and the ring does not."""
    if source == "tcp":
        ours, theirs = (sock.fileno() for sock in hand.tcp_pair())
    elif source == "pipe":
        ours, theirs = hand.pipe()
    else:
        theirs, ours = map(hand.own, pty.openpty())
        tty.setraw(ours)
    names = ("one", "other")
    for name, fd in zip(names, (ours, hand.own(os.dup(ours))), strict=True):
        stage_read(hand, opcode, name, fd)
    hand.ring.submit()
    for count in (1, 2):
        os.write(theirs, b"abc")
        hand.wait()
        hand.stage("goes on", Opcode.NOP)
        hand.wait()
        assert sum(len(hand.outcomes[name]) for name in names) == count
    hand.cancel("cancel", op_flags=1 | 4)
    os.write(theirs, b"abc")  # a thread may wait for bytes that another took
    hand.wait_all()


# Errors and hang-ups that last, alone


def is_idle(hand: Hand) -> bool:
    """Return whether epoll has nothing to tell, once the ring has looked."""
    for _ in range(3):
        hand.ring.submit()
        hand.stage("look", Opcode.NOP)
        hand.wait()
    return not select.select([hand.ring.fd], [], [], 0)[0]


def leave_an_error(hand: Hand) -> tuple[socket.socket, socket.socket]:
    """Return two sockets, of which the first has a report in its error queue and nothing to receive."""
    ours, theirs = hand.tcp_pair()
    ours.setsockopt(socket.SOL_SOCKET, _TIMESTAMPING, _SENT_WITHOUT_DATA)
    ours.send(b"a")
    assert theirs.recv(1) == b"a"
    poll = select.poll()
    poll.register(ours, 0)
    assert poll.poll(10_000) == [(ours.fileno(), select.POLLERR)]
    return ours, theirs


def test_an_error_queue_keeps_no_receive_busy(hand: Hand) -> None:
    ours, theirs = leave_an_error(hand)
    hand.stage("receive", Opcode.RECV, ours.fileno(), bytearray(4))
    assert is_idle(hand)
    theirs.send(b"abc")
    assert hand.wait()["receive"] == [(3, "")]


def test_an_error_queue_keeps_no_send_busy(hand: Hand) -> None:
    ours, theirs = leave_an_error(hand)
    ours.setblocking(False)
    size = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            size += ours.send(bytes(1 << 16))
    ours.setblocking(True)
    hand.stage("send", Opcode.SEND, ours.fileno(), b"abc")
    hand.stage("receive", Opcode.RECV, ours.fileno(), bytearray(4))
    assert is_idle(hand)
    while size:
        size -= len(theirs.recv(size))
    assert hand.wait()["send"] == [(3, "")]
    theirs.send(b"abc")
    assert hand.wait()["receive"] == [(3, "")]


def test_an_error_queue_beside_a_multishot_receive(hand: Hand) -> None:
    ours, theirs = leave_an_error(hand)
    group = hand.group(8, 4)
    fields = {"ioprio": RECV_MULTISHOT, "flags": SqeFlag.BUFFER_SELECT, "buf_index": group.group_id}
    hand.stage("receive", Opcode.RECV, ours.fileno(), **fields)
    assert is_idle(hand)
    theirs.send(b"0123456789")
    hand.wait(3)
    assert is_idle(hand)
    theirs.close()
    assert [res for res, _ in hand.wait_all()["receive"]] == [4, 4, 2, 0]


# Descriptors that are closed under a request, and their numbers


def test_a_descriptor_closed_under_its_waiter(hand: Hand) -> None:
    ours, theirs = hand.pair()
    hand.stage("receive", Opcode.RECV, ours.fileno(), bytearray(4))
    hand.ring.submit()
    ours.close()
    assert hand.wait()["receive"] == [("EBADF", "")]
    assert theirs.recv(1) == b""


def test_a_number_used_again_under_its_waiter(hand: Hand) -> None:
    ours, _ = hand.pair()
    other, others = hand.pair()
    hand.stage("receive", Opcode.RECV, ours.fileno(), bytearray(4))
    hand.ring.submit()
    os.dup2(other.fileno(), ours.fileno())
    hand.stage("other", Opcode.RECV, ours.fileno(), bytearray(4))
    hand.ring.submit()
    others.send(b"abc")
    hand.wait_all()
    assert hand.outcomes == {"receive": [("EBADF", "")], "other": [(3, "")]}


@pytest.mark.parametrize("multishot", [0, 1], ids=["once", "multishot"])
def test_a_number_used_again_while_a_child_has_the_file(hand: Hand, multishot: int) -> None:
    """The set keeps the entry of the old file, which must not speak for the new one."""
    ours, theirs = hand.pair()
    other, others = hand.pair()
    first = hand.stage("first", Opcode.POLL_ADD, ours.fileno(), op_flags=select.POLLIN, length=multishot)
    hand.ring.submit()
    hand.cancel("cancel", first)
    hand.wait(2)
    held = hand.own(os.dup(ours.fileno()))  # as a forked child does
    os.dup2(other.fileno(), ours.fileno())
    poll = hand.stage("second", Opcode.POLL_ADD, ours.fileno(), op_flags=select.POLLIN, length=multishot)
    hand.ring.submit()
    theirs.send(b"for the old file")
    assert is_idle(hand)
    assert hand.outcomes["second"] == []
    others.send(b"for the new one")
    hand.wait()
    assert hand.outcomes["second"] == [(select.POLLIN, "MORE" if multishot else "")]
    assert os.read(held, 100) == b"for the old file"
    if multishot:
        hand.cancel("cancel", poll)
        hand.wait(2)


def test_a_close_ends_what_waits_for_the_descriptor(hand: Hand) -> None:
    ours, _ = hand.pair()
    hand.stage("receive", Opcode.RECV, ours.fileno(), bytearray(4))
    hand.stage("poll", Opcode.POLL_ADD, ours.fileno(), op_flags=select.POLLIN)
    hand.ring.submit()
    hand.stage("close", Opcode.CLOSE, ours.detach())
    hand.wait_all()
    assert hand.outcomes == {"receive": [("EBADF", "")], "poll": [("EBADF", "")], "close": [(0, "")]}


def test_a_send_of_all_ends_before_its_length_is_no_result_any_more(hand: Hand) -> None:
    """As one system call, and as io_uring, it moves 2 GiB less a page at most."""
    ours, theirs = hand.tcp_pair()
    for sock in (ours, theirs):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
    vector = struct.pack("QQ", hand.memory(bytearray(1 << 22)), 1 << 22) * 600
    head = struct.pack("QIxxxxQQQQixxxx", 0, 0, hand.memory(vector), 600, 0, 0, 0)

    def drop_all() -> None:
        while theirs.recv_into(memory, 0, socket.MSG_TRUNC):
            pass

    memory = bytearray(1 << 22)
    reader = threading.Thread(target=drop_all)
    reader.start()
    try:
        hand.stage("send", Opcode.SENDMSG, ours.fileno(), head, 1, op_flags=socket.MSG_WAITALL)
        assert hand.wait_all() == {"send": [(0x7FFF_F000, "")]}
    finally:
        ours.shutdown(socket.SHUT_RDWR)
        reader.join()


@needs("io_uring")
def test_a_signal_interrupts_a_wait_as_on_io_uring() -> None:
    both(interrupted)


def interrupted(hand: Hand) -> list[str]:
    """Wait again and again, since each signal ends a wait."""
    heard = []
    before = signal.signal(signal.SIGALRM, lambda *_: heard.append("signal"))
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    try:
        hand.stage("timeout", Opcode.TIMEOUT, memory=hand.seconds(0.05), length=1)
        hand.wait()
    finally:
        signal.signal(signal.SIGALRM, before)
    return [*heard, *(str(res) for res, _ in hand.outcomes["timeout"])]
