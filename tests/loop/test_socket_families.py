"""Sockets of every family that this machine has: message boundaries, addresses, errors.

The socket module itself says which address a message comes from: a plain receive looks at it first (MSG_PEEK).
"""

import asyncio
import contextlib
import errno
import re
import select
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.kernel import can_interface, needs
from tests.variants import BACKENDS
from uringloop.operations import address
from uringloop.transports import making

from .datagrams import Recorder, endpoint
from .helpers import LOCALHOST
from .test_sockets import begun

pytestmark = pytest.mark.asyncio(loop_factories=("asyncio", *BACKENDS))

_NETLINK_USERSOCK = 2
_VSOCK_LOCAL = 1
#: Protocols of frames that nothing else on this machine listens for.
_FRAMES, _OTHER_FRAMES = 0x88B5, 0x88B6
_RTM_GETLINK, _NLMSG_DONE = 18, 3
_NLM_F_REQUEST_DUMP = 0x301
_TIMEOUT_S = 30


class Ends(NamedTuple):
    """Two sockets: `left` sends to `target`, `right` to `source`; both are None if the sockets are connected."""

    left: socket.socket
    right: socket.socket
    target: Any
    source: Any


def _made(stack: contextlib.ExitStack, family: int, kind: int, proto: int = 0, at: Any = None) -> socket.socket:
    sock = stack.enter_context(socket.socket(family, kind | socket.SOCK_NONBLOCK, proto))
    if at is not None:
        sock.bind(at)
    return sock


def _netlink(stack: contextlib.ExitStack, folder: Path) -> Ends:
    left, right = (_made(stack, socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_USERSOCK, (0, 0)) for _ in range(2))
    right.connect(left.getsockname())
    return Ends(left, right, right.getsockname(), left.getsockname())


def _packet(stack: contextlib.ExitStack, folder: Path) -> Ends:
    left, right = (
        _made(stack, socket.AF_PACKET, socket.SOCK_DGRAM, 0, ("lo", frames)) for frames in (_OTHER_FRAMES, _FRAMES)
    )
    return Ends(left, right, ("lo", _FRAMES, 0, 0, bytes(6)), ("lo", _OTHER_FRAMES))


def _unix(stack: contextlib.ExitStack, folder: Path) -> Ends:
    left, right = (_made(stack, socket.AF_UNIX, socket.SOCK_DGRAM, 0, str(folder / name)) for name in ("l", "r"))
    return Ends(left, right, right.getsockname(), left.getsockname())


def _connected(stack: contextlib.ExitStack, listener: socket.socket, at: Any = None) -> Ends:
    listener.listen()
    left = _made(stack, listener.family, listener.type, listener.proto, at)
    with contextlib.suppress(BlockingIOError):
        left.connect(listener.getsockname())
    select.select([listener], [], [], _TIMEOUT_S)
    right, _ = listener.accept()
    right.setblocking(False)
    return Ends(left, stack.enter_context(right), None, None)


def _seqpacket(stack: contextlib.ExitStack, folder: Path) -> Ends:
    listener = _made(stack, socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, str(folder / "listener"))
    return _connected(stack, listener, str(folder / "client"))


def _vsock(stack: contextlib.ExitStack, folder: Path) -> Ends:
    at = (_VSOCK_LOCAL, socket.VMADDR_PORT_ANY)
    return _connected(stack, _made(stack, socket.AF_VSOCK, socket.SOCK_SEQPACKET, 0, at))


def _sctp(stack: contextlib.ExitStack, folder: Path) -> Ends:
    left, right = (
        _made(stack, socket.AF_INET, socket.SOCK_SEQPACKET, socket.IPPROTO_SCTP, (LOCALHOST, 0)) for _ in range(2)
    )
    right.listen()
    left.listen()
    return Ends(left, right, right.getsockname(), left.getsockname())


def _can(stack: contextlib.ExitStack, folder: Path) -> Ends:
    at = (can_interface(),)
    left, right = (_made(stack, socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW, at) for _ in range(2))
    return Ends(left, right, at, at)


KINDS = {
    "netlink": pytest.param(_netlink),
    "packet": pytest.param(_packet, marks=needs("packet sockets for this user")),
    "unix": pytest.param(_unix),
    "seqpacket": pytest.param(_seqpacket),
    "vsock": pytest.param(_vsock, marks=needs("vsock loopback")),
    "sctp": pytest.param(_sctp, marks=needs("SCTP")),
    "can": pytest.param(_can, marks=needs("CAN interfaces")),
}


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def ends(request: pytest.FixtureRequest, folder: Path) -> Iterator[Ends]:
    with contextlib.ExitStack() as stack:
        yield request.param(stack, folder)


def _frame(text: bytes) -> bytes:
    """A message that is a frame of CAN too."""
    return struct.pack("=IB3x8s", 0x123, 8, text)


FIRST, SECOND = _frame(b"first"), _frame(b"second")


def _send(ends: Ends, data: bytes) -> None:
    if ends.target is None:
        ends.left.send(data)
    else:
        ends.left.sendto(data, ends.target)


def _sender(ends: Ends) -> Any:
    """The sender of the message that comes next, as the socket module says."""
    select.select([ends.right], [], [], _TIMEOUT_S)
    return ends.right.recvfrom(100, socket.MSG_PEEK)[1]


async def _sent(ends: Ends, data: bytes) -> None:
    loop = asyncio.get_running_loop()
    if ends.target is None:
        await loop.sock_sendall(ends.left, data)
    else:
        assert await loop.sock_sendto(ends.left, data, ends.target) == len(data)


async def _exchange(ends: Ends) -> None:
    """Receive by each method: messages that are there, and messages that come later."""
    loop = asyncio.get_running_loop()
    right = ends.right
    await _sent(ends, FIRST)
    await _sent(ends, SECOND)
    sender = _sender(ends)
    assert await loop.sock_recvfrom(right, 100) == (FIRST, sender)
    assert await loop.sock_recv(right, 100) == SECOND
    buffer = bytearray(100)
    for receiving, received in (
        (loop.sock_recvfrom(right, 100), (FIRST, sender)),
        (loop.sock_recvfrom_into(right, buffer), (len(FIRST), sender)),
        (loop.sock_recv(right, 100), FIRST),
        (loop.sock_recv_into(right, buffer), len(FIRST)),
    ):
        waiting = await begun(receiving)
        assert not waiting.done()
        _send(ends, FIRST)
        assert await waiting == received
    assert buffer[: len(FIRST)] == FIRST


async def test_messages_and_addresses(ends: Ends) -> None:
    await _exchange(ends)


async def test_a_cancelled_receive_loses_no_message(ends: Ends) -> None:
    loop = asyncio.get_running_loop()
    receiving = await begun(loop.sock_recvfrom(ends.right, 100))
    _send(ends, FIRST)
    receiving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        assert (await receiving)[0] == FIRST
        return
    assert await loop.sock_recv(ends.right, 100) == FIRST


@pytest.mark.parametrize("ends", [_unix], indirect=True, ids=["unix"])
async def test_a_family_that_only_the_socket_module_knows(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (address, making):
        monkeypatch.setattr(module, "FAMILIES", frozenset())
    monkeypatch.setattr(address, "pack", lambda *_: None)
    await _exchange(ends)
    loop = asyncio.get_running_loop()
    with socket.create_server((LOCALHOST, 0)) as listener, socket.socket() as client:
        listener.setblocking(False)
        client.setblocking(False)
        accepting = await begun(loop.sock_accept(listener))
        assert not accepting.done()
        await loop.sock_connect(client, listener.getsockname())
        accepted, name = await accepting
        with accepted:
            assert name == client.getsockname()
            assert accepted.gettimeout() == 0
        gone = listener.getsockname()
        listener.close()
        with socket.socket() as late:
            late.setblocking(False)
            with pytest.raises(ConnectionRefusedError, match=re.escape(f"Connect call failed {gone}")):
                await loop.sock_connect(late, gone)
    async with endpoint(Recorder(), sock=ends.right.dup()) as protocol:
        assert type(protocol.transport).__module__ == "asyncio.selector_events"
        _send(ends, FIRST)
        await protocol.until_datagrams(1)
        assert protocol.contents == [FIRST]


async def test_endpoint(ends: Ends) -> None:
    left, right, _, source = ends
    if right.type != socket.SOCK_DGRAM and sys.version_info < (3, 13):
        pytest.skip("before 3.13 asyncio took no other socket than SOCK_DGRAM")
    _send(ends, FIRST)
    sender = _sender(ends)
    async with endpoint(Recorder(), sock=right) as protocol:
        await protocol.until_datagrams(1)
        _send(ends, SECOND)
        _send(ends, FIRST)
        await protocol.until_datagrams(3)
        assert protocol.datagrams == [(FIRST, sender), (SECOND, sender), (FIRST, sender)]
        for data in (SECOND, FIRST):
            protocol.transport.sendto(data, source)
            assert await asyncio.get_running_loop().sock_recv(left, 100) == data
        assert protocol.errors == []
    assert protocol.calls[-1] == "connection_lost"


@pytest.mark.parametrize("ends", [KINDS["netlink"], KINDS["packet"]], indirect=True, ids=["netlink", "packet"])
async def test_the_socket_module_refuses_wrong_addresses(ends: Ends) -> None:
    loop = asyncio.get_running_loop()
    for wrong in ((), ("nowhere", 1), [0, 0], (0, "x"), ("lo", 1 << 16), "lo", 5, ("lo", 1, 0, 0, bytes(9))):
        with pytest.raises((OSError, OverflowError, TypeError, ValueError)) as plain:
            ends.left.sendto(FIRST, wrong)
        with pytest.raises(type(plain.value), match=f"^{re.escape(str(plain.value))}$"):
            await loop.sock_sendto(ends.left, FIRST, wrong)
        if plain.type is not OSError:
            with pytest.raises(plain.type, match=f"^{re.escape(str(plain.value)).replace('sendto', 'connect')}$"):
                await loop.sock_connect(ends.left, wrong)


async def test_a_conversation_with_the_kernel() -> None:
    """Each answer of netlink(7) has several messages, and the last one says that it is."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK) as sock:
        sock.bind((0, 0))
        request = struct.pack("=IHHIIBxHiII", 32, _RTM_GETLINK, _NLM_F_REQUEST_DUMP, 7, 0, 0, 0, 0, 0, 0)
        assert await loop.sock_sendto(sock, request, (0, 0)) == len(request)
        kinds: list[int] = []
        while _NLMSG_DONE not in kinds:
            data, sender = await loop.sock_recvfrom(sock, 1 << 16)
            assert sender == (0, 0)
            while data:
                size, kind, _, number, _ = struct.unpack_from("=IHHII", data)
                assert number == 7
                kinds.append(kind)
                data = data[(size + 3) & ~3 :]
        assert len(kinds) - 1 == len(socket.if_nameindex())


async def test_lost_messages_of_netlink_are_told() -> None:
    with contextlib.ExitStack() as stack:
        sender = _made(stack, socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_USERSOCK, (0, 0))
        own = _made(stack, socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_USERSOCK, (0, 1))
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        async with endpoint(Recorder(), sock=own) as protocol:
            for _ in range(100):
                with contextlib.suppress(ConnectionRefusedError):  # the kernel itself listens to no such messages
                    sender.sendto(FIRST, (0, 1))
            await protocol.until_errors(1)
            assert [error.errno for error in protocol.errors if isinstance(error, OSError)] == [errno.ENOBUFS]
            await protocol.until_datagrams(1)


async def test_all_of_a_message_waits_for_room() -> None:
    """The receiver of a unix socket is full: nothing of the message that waits is sent before there is room."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        left = _made(stack, socket.AF_UNIX, socket.SOCK_DGRAM)
        right = _made(stack, socket.AF_UNIX, socket.SOCK_DGRAM, 0, "")
        left.connect(right.getsockname())
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                left.send(b"filling")
                count += 1
        sending = await begun(loop.sock_sendall(left, b"last"))
        received = [await loop.sock_recv(right, 100) for _ in range(count + 1)]
        await sending
        assert received == [b"filling"] * count + [b"last"]
        with pytest.raises(BlockingIOError):
            right.recv(100)


@pytest.mark.parametrize(
    ("family", "proto", "at"),
    [
        pytest.param(socket.AF_VSOCK, 0, (_VSOCK_LOCAL, -1 & 0xFFFFFFFF), marks=needs("vsock loopback"), id="vsock"),
        pytest.param(socket.AF_INET, socket.IPPROTO_SCTP, (LOCALHOST, 0), marks=needs("SCTP"), id="sctp"),
        pytest.param(socket.AF_UNIX, 0, "", id="unix"),
    ],
)
async def test_streams(family: int, proto: int, at: Any) -> None:
    """A server and a client on sockets that are given to them."""
    with contextlib.ExitStack() as stack:
        listener = _made(stack, family, socket.SOCK_STREAM, proto, at)

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(5))
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(echo, sock=listener) as server:
            client = _made(stack, family, socket.SOCK_STREAM, proto)
            await asyncio.get_running_loop().sock_connect(client, listener.getsockname())
            reader, writer = await asyncio.open_connection(sock=client)
            assert writer.get_extra_info("peername") == server.sockets[0].getsockname()
            writer.write(b"bytes")
            assert await reader.read() == b"bytes"
            writer.close()
            await writer.wait_closed()


@pytest.mark.asyncio(loop_factories=BACKENDS)
async def test_a_socket_with_a_timeout_keeps_no_one_waiting() -> None:
    """With asyncio it does: the methods of such a socket wait themselves."""
    loop = asyncio.get_running_loop()
    with socket.socket(type=socket.SOCK_DGRAM) as sock, socket.socket(type=socket.SOCK_DGRAM) as sender:
        sock.bind((LOCALHOST, 0))
        sock.settimeout(0.01)
        receiving = await begun(loop.sock_recv(sock, 10))
        sender.sendto(b"one", sock.getsockname())
        assert await receiving == b"one"
