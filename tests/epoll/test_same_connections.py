"""Accepts, connects, and the setting up of sockets on epoll end as they do on io_uring."""

import os
import select
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from tests.epoll.hand import LINK, Cases, Hand, address_of, both, c_path
from tests.kernel import needs
from uringloop.ring import Opcode

CASES = Cases()
ACCEPT_MULTISHOT, ACCEPT_DONTWAIT, ACCEPT_POLL_FIRST = 1, 2, 4
GETSOCKOPT, SETSOCKOPT = 2, 3
AT_FDCWD = -100


@needs("io_uring")
@pytest.mark.parametrize("body", CASES, ids=lambda body: body.__name__)
def test_as_io_uring(body: Callable[[Hand], Any]) -> None:
    both(body)


# Connections


@CASES.add
def accepts(hand: Hand) -> Any:
    listener = hand.listener()
    name, size = bytearray(16), bytearray(struct.pack("I", 16))
    hand.stage("not now", Opcode.ACCEPT, listener.fileno(), ioprio=ACCEPT_DONTWAIT)
    hand.wait_all()
    hand.stage("accept", Opcode.ACCEPT, listener.fileno(), name, 0, size, socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    hand.ring.submit()
    peer = hand.stack.enter_context(socket.create_connection(listener.getsockname()))
    fd = hand.wait()["accept"][0][0]
    assert isinstance(fd, int)
    flags = os.get_blocking(fd), os.get_inheritable(fd)
    os.close(fd)
    return hand.outcomes["not now"], flags, bytes(name[2:4]) == struct.pack("!H", peer.getsockname()[1]), bytes(size)


@CASES.add
def accepts_on_a_listener_that_does_not_block(hand: Hand) -> Any:
    listener = hand.listener()
    listener.setblocking(False)
    hand.stage("accept", Opcode.ACCEPT, listener.fileno())
    hand.stage("not now", Opcode.ACCEPT, listener.fileno(), ioprio=ACCEPT_DONTWAIT)
    hand.stage("poll first", Opcode.ACCEPT, listener.fileno(), ioprio=ACCEPT_POLL_FIRST)
    hand.wait()
    for _ in range(2):
        hand.stack.enter_context(socket.create_connection(listener.getsockname()))
    hand.wait_all()
    for name in ("accept", "poll first"):
        fd = hand.outcomes[name][0][0]
        assert isinstance(fd, int)
        os.close(fd)
    return hand.outcomes["not now"]


def closed(hand: Hand, name: str) -> list[str]:
    """Close accepted descriptors; return their flags, and the errors."""
    seen = []
    for res, flags in hand.outcomes[name]:
        seen.append(flags if isinstance(res, int) else res)
        if isinstance(res, int):
            os.close(res)
    return seen


def accept_three(hand: Hand, listener: socket.socket) -> Any:
    accept = hand.stage("accept", Opcode.ACCEPT, listener.fileno(), ioprio=ACCEPT_MULTISHOT)
    hand.ring.submit()
    for _ in range(3):
        hand.stack.enter_context(socket.create_connection(listener.getsockname()))
        hand.wait()
    hand.cancel("cancel", accept)
    hand.wait_all()
    return closed(hand, "accept"), hand.outcomes["cancel"]


@CASES.add
def a_multishot_accept_on_a_listener_that_blocks(hand: Hand) -> Any:
    return accept_three(hand, hand.listener())


@CASES.add
def a_multishot_accept(hand: Hand) -> Any:
    listener = hand.listener()
    listener.setblocking(False)
    return accept_three(hand, listener)


@CASES.add
def accepts_into_a_slot(hand: Hand) -> Any:
    """Without a table of files the connection is lost."""
    seen = []
    for blocks, slot, priority in ((True, 1, 0), (False, 1, 0), (True, -1, 0), (False, -1, ACCEPT_MULTISHOT)):
        listener = hand.listener()
        listener.setblocking(blocks)
        hand.stage("not now", Opcode.ACCEPT, listener.fileno(), ioprio=ACCEPT_DONTWAIT, file_index=slot)
        hand.wait()
        hand.stage("accept", Opcode.ACCEPT, listener.fileno(), ioprio=priority, file_index=slot)
        hand.ring.submit()
        with socket.create_connection(listener.getsockname()) as peer:
            hand.wait()
            seen.append(peer.recv(1))
    return hand.outcomes, seen


@CASES.add
def accepts_that_fail(hand: Hand) -> Any:
    ours, _ = hand.pair()
    unbound = hand.stack.enter_context(socket.socket())
    pipe, _ = hand.pipe()
    listener = hand.listener().fileno()
    hand.stage("connected", Opcode.ACCEPT, ours.fileno())
    hand.stage("no listener", Opcode.ACCEPT, unbound.fileno())
    hand.stage("no listener, multishot", Opcode.ACCEPT, unbound.fileno(), ioprio=ACCEPT_MULTISHOT)
    hand.stage("no socket", Opcode.ACCEPT, pipe)
    hand.stage("bad descriptor", Opcode.ACCEPT, 1 << 20)
    hand.stage("length", Opcode.ACCEPT, listener, length=1)
    hand.stage("flags", Opcode.ACCEPT, listener, op_flags=1)
    hand.stage("priority", Opcode.ACCEPT, listener, ioprio=1 << 10)
    hand.stage("index", Opcode.ACCEPT, listener, buf_index=1)
    return hand.wait_all()


@CASES.add
def connects(hand: Hand) -> Any:
    listener = hand.listener()
    target = address_of(listener)
    for name, blocks in (("blocking", True), ("not blocking", False)):
        sock = hand.stack.enter_context(socket.socket())
        sock.setblocking(blocks)
        hand.stage(name, Opcode.CONNECT, sock.fileno(), target, 0, offset=len(target))
        hand.wait_all()
        hand.stage(name + " again", Opcode.CONNECT, sock.fileno(), target, 0, offset=len(target))
        hand.wait_all()
        assert sock.getpeername() == listener.getsockname()
    return hand.outcomes


@CASES.add
def connects_that_fail(hand: Hand) -> Any:
    listener = hand.listener()
    target = address_of(listener)
    listener.close()
    for name, blocks in (("blocking", True), ("not blocking", False)):
        sock = hand.stack.enter_context(socket.socket())
        sock.setblocking(blocks)
        hand.stage(name, Opcode.CONNECT, sock.fileno(), target, 0, offset=len(target))
        hand.wait_all()
    sock = hand.stack.enter_context(socket.socket())
    fd = sock.fileno()
    path = struct.pack("H", socket.AF_UNIX) + os.fsencode(hand.folder / "none") + b"\0"
    unix = hand.stack.enter_context(socket.socket(socket.AF_UNIX)).fileno()
    hand.stage("no such path", Opcode.CONNECT, unix, path, 0, offset=len(path))
    hand.stage("family", Opcode.CONNECT, fd, struct.pack("H", 99) + bytes(14), 0, offset=16)
    hand.stage("short", Opcode.CONNECT, fd, target, 0, offset=4)
    hand.stage("long", Opcode.CONNECT, fd, target, 0, offset=1000)
    hand.stage("length", Opcode.CONNECT, fd, target, 5, offset=16)
    hand.stage("flags", Opcode.CONNECT, fd, target, 0, offset=16, op_flags=1)
    hand.stage("bad descriptor", Opcode.CONNECT, 1 << 20, target, 0, offset=16)
    hand.stage("no socket", Opcode.CONNECT, hand.pipe()[0], target, 0, offset=16)
    return hand.wait_all()


# Setting up


@CASES.add
def sockets(hand: Hand) -> Any:
    kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
    hand.stage("tcp", Opcode.SOCKET, socket.AF_INET, length=0, offset=kind)
    fd = hand.wait_all()["tcp"][0][0]
    assert isinstance(fd, int)
    with socket.socket(fileno=fd) as made:
        seen = made.family, made.type, os.get_blocking(fd)
    hand.stage("family", Opcode.SOCKET, 99, length=0, offset=socket.SOCK_STREAM)
    hand.stage("type", Opcode.SOCKET, socket.AF_INET, length=0, offset=99)
    hand.stage("protocol", Opcode.SOCKET, socket.AF_INET, length=99, offset=socket.SOCK_STREAM)
    hand.stage("type flags", Opcode.SOCKET, socket.AF_INET, length=0, offset=socket.SOCK_STREAM | 1 << 20)
    hand.stage("flags", Opcode.SOCKET, socket.AF_INET, length=0, offset=socket.SOCK_STREAM, op_flags=1)
    hand.stage("address", Opcode.SOCKET, socket.AF_INET, 1, 0, socket.SOCK_STREAM)
    del hand.outcomes["tcp"]
    return seen, hand.wait_all()


@CASES.add
def binding_and_listening(hand: Hand) -> Any:
    sock = hand.stack.enter_context(socket.socket())
    name = struct.pack("H", socket.AF_INET) + bytes(2) + socket.inet_aton("127.0.0.1") + bytes(8)
    hand.stage("bind", Opcode.BIND, sock.fileno(), name, 0, offset=len(name), flags=LINK)
    hand.stage("listen", Opcode.LISTEN, sock.fileno(), length=5)
    hand.wait_all()
    listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    hand.stage("bound", Opcode.BIND, sock.fileno(), name, 0, offset=len(name))
    hand.stage("bind length", Opcode.BIND, sock.fileno(), name, 1, offset=len(name))
    hand.stage("listen offset", Opcode.LISTEN, sock.fileno(), length=5, offset=1)
    hand.stage("no socket", Opcode.LISTEN, hand.pipe()[0], length=5)
    hand.stage("bind of no socket", Opcode.BIND, hand.pipe()[0], name, 0, offset=len(name))
    return listens, hand.wait_all()


@CASES.add
def shutdowns(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    hand.stage("shutdown", Opcode.SHUTDOWN, ours.fileno(), length=socket.SHUT_WR)
    hand.wait_all()
    end = theirs.recv(1)
    hand.stage("how", Opcode.SHUTDOWN, ours.fileno(), length=9)
    hand.stage("not connected", Opcode.SHUTDOWN, hand.stack.enter_context(socket.socket()).fileno(), length=0)
    hand.stage("no socket", Opcode.SHUTDOWN, hand.pipe()[0], length=0)
    hand.stage("offset", Opcode.SHUTDOWN, ours.fileno(), length=0, offset=1)
    return end, hand.wait_all()


@CASES.add
def commands(hand: Hand) -> Any:
    ours, theirs = hand.tcp_pair()
    theirs.send(b"abc")
    select.select([ours], [], [])
    value = bytearray(4)
    one = struct.pack("i", 1)

    def command(name: str, number: int, level: int = 0, option: int = 0, memory: bytes | bytearray = b"") -> None:
        hand.stage(
            name,
            Opcode.URING_CMD,
            ours.fileno(),
            level | option << 32,
            0,
            number,
            file_index=len(memory),
            addr3=hand.memory(memory) if memory else 0,
        )

    command("unread", 0)
    command("unsent", 1)
    command("get", GETSOCKOPT, socket.SOL_SOCKET, socket.SO_KEEPALIVE, value)
    command("get of TCP", GETSOCKOPT, socket.IPPROTO_TCP, socket.TCP_NODELAY, bytearray(4))
    command("get of nothing", GETSOCKOPT, socket.SOL_SOCKET, 9999, bytearray(4))
    command("set", SETSOCKOPT, socket.SOL_SOCKET, socket.SO_KEEPALIVE, one)
    command("set of TCP", SETSOCKOPT, socket.IPPROTO_TCP, socket.TCP_NODELAY, one)
    command("set of nothing", SETSOCKOPT, socket.SOL_SOCKET, 9999, one)
    command("unknown", 99)
    hand.stage("flags", Opcode.URING_CMD, ours.fileno(), op_flags=1 << 10)
    hand.stage("of a pipe", Opcode.URING_CMD, hand.pipe()[0])
    hand.stage("of a file", Opcode.URING_CMD, hand.file())
    hand.wait_all()
    set_now = [ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), ours.getsockopt(socket.IPPROTO_TCP, 1)]
    return hand.outcomes, bytes(value), set_now


# Files that are to be registered ones, where none is


@CASES.add
def files_for_slots(hand: Hand) -> Any:
    folder, slot = c_path(hand.folder), {"file_index": 1}
    for name, flags, slot in (
        ("slot", 0, {"file_index": 1}),
        ("any slot", 0, {"file_index": -1}),
        ("slot that is closed", os.O_CLOEXEC, {"file_index": 1}),
    ):
        how = struct.pack("QQQ", os.O_RDONLY | flags, 0, 0)
        kind = socket.SOCK_STREAM | flags
        hand.stage("open " + name, Opcode.OPENAT, AT_FDCWD, folder, 0, op_flags=os.O_RDONLY | flags, **slot)
        hand.stage("openat2 " + name, Opcode.OPENAT2, AT_FDCWD, folder, len(how), how, **slot)
        hand.stage("socket " + name, Opcode.SOCKET, socket.AF_INET, length=0, offset=kind, **slot)
        hand.stage("pipe " + name, Opcode.PIPE, 0, bytearray(8), 0, op_flags=flags, **slot)
    slot = {"file_index": 1}
    hand.stage("accept", Opcode.ACCEPT, hand.listener().fileno(), op_flags=socket.SOCK_CLOEXEC, **slot)
    hand.stage("multishot accept", Opcode.ACCEPT, hand.listener().fileno(), ioprio=ACCEPT_MULTISHOT, **slot)
    hand.stage("openat2 short", Opcode.OPENAT2, AT_FDCWD, folder, 8, bytes(24))
    hand.stage("openat2 nowhere", Opcode.OPENAT2, AT_FDCWD, folder, 24, 0)
    hand.stage("openat2 long", Opcode.OPENAT2, AT_FDCWD, folder, 32, struct.pack("QQQQ", 0, 0, 0, 1))
    return hand.wait_all()
