"""Datagrams that leave and come together: many to one address (UDP_SEGMENT), many of one address (UDP_GRO)."""

import asyncio
import contextlib
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import children
from tests.variants import BACKENDS, RINGS

from .datagrams import Recorder, bound_socket, endpoint, name_of
from .helpers import LOCALHOST, pattern

UDP_SEGMENT, UDP_GRO = 103, 104
#: Also where there are two receive buffers.
MANY = 40

pytestmark = pytest.mark.asyncio(loop_factories=BACKENDS)


def _has_segments() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1)
        sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        return True
    return False


needs_segments = pytest.mark.skipif(not _has_segments(), reason="no UDP_SEGMENT or UDP_GRO here")
families = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])


@contextlib.contextmanager
def joining_peer(family: int = socket.AF_INET) -> Iterator[socket.socket]:
    """A socket that sees how datagrams have left: those that left together come together."""
    with bound_socket(family, Path()) as peer:
        peer.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        yield peer


def messages(peer: socket.socket) -> list[list[bytes]]:
    """Return all that is in the socket: a list of datagrams for each message that was sent."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            data, controls, _, _ = peer.recvmsg(1 << 16, 100)
            size = struct.unpack("i", controls[0][2])[0] if controls else len(data) or 1
            found.append([data[start : start + size] for start in range(0, len(data) or 1, size)])
    return found


def contents(peer: socket.socket) -> list[bytes]:
    return [data for message in messages(peer) for data in message]


def joins(protocol: Recorder) -> bool:
    sock: socket.socket = protocol.transport._sock
    return sock.getsockopt(socket.IPPROTO_UDP, UDP_GRO) != 0


@contextlib.contextmanager
def sender_to(protocol: Recorder, size_bytes: int) -> Iterator[socket.socket]:
    """A connected socket whose sends are cut into datagrams of this size."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(name_of(protocol))
        sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size_bytes)
        yield sock


def numbered(count: int, size_bytes: int, first: int = 0) -> list[bytes]:
    return [pattern(size_bytes, number) for number in range(first, first + count)]


async def begin_joining(protocol: Recorder, sender: socket.socket) -> None:
    """Have the endpoint receive so much at once that it lets the kernel join datagrams."""
    before = len(protocol.datagrams)
    for _ in range(MANY):
        sender.send(b"b")
    await protocol.until_datagrams(before + MANY)
    assert joins(protocol)
    del protocol.datagrams[:]


# Sending


@needs_segments
@families
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "unconnected"])
async def test_many_of_a_callback_leave_together(family: int, connected: bool) -> None:
    with joining_peer(family) as peer:
        name = peer.getsockname()
        made = {"remote_addr": name[:2]} if connected else {"local_addr": ("::1" if ":" in name[0] else LOCALHOST, 0)}
        async with endpoint(**made) as client:
            for count, expected in ((20, [1, 1, 1, 1, 16]), (20, [1, 19]), (130, [1, 64, 64, 1])):
                sent = numbered(count, 100)
                for data in sent:
                    client.transport.sendto(data, None if connected else name)
                await asyncio.sleep(0)
                left = messages(peer)
                assert [data for message in left for data in message] == sent
                assert list(map(len, left)) == expected
            assert client.errors == []


@needs_segments
async def test_few_leave_at_once() -> None:
    with joining_peer() as peer:
        async with endpoint(remote_addr=peer.getsockname()) as client:
            for number in range(8):
                for data in (sent := numbered(4, 100, number)):
                    client.transport.sendto(data)
                assert messages(peer) == [[data] for data in sent]
                await asyncio.sleep(0)


@needs_segments
async def test_those_of_a_busy_tick_leave_together() -> None:
    with joining_peer() as peer:
        async with endpoint(remote_addr=peer.getsockname()) as client:
            sent = numbered(12, 500)
            for data in sent:
                asyncio.get_running_loop().call_soon(client.transport.sendto, data)
            for _ in range(3):
                await asyncio.sleep(0)
            left = messages(peer)
            assert [data for message in left for data in message] == sent
            assert len(left) < len(sent)


async def test_lengths_and_addresses_keep_their_order() -> None:
    sizes = [*[100] * 9, 50, 0, 0, 100, 200, 200, 70_000 // 2, 70_000 // 2, 200, 1, 1, 65_000, 3, *[1300] * 60]
    with bound_socket(socket.AF_INET, Path()) as peer, bound_socket(socket.AF_INET, Path()) as other:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        async with endpoint() as client:
            sent = [pattern(size, number) for number, size in enumerate(sizes)]
            for data in sent:
                client.transport.sendto(data, peer.getsockname())
            for number in range(6):
                client.transport.sendto(b"%d" % number, other.getsockname())
                client.transport.sendto(b"%d" % number, other.getsockname())
                client.transport.sendto(b"peer %d" % number, peer.getsockname())
            await asyncio.sleep(0)
            expected = [data for data in sent if data or sys.version_info >= (3, 13)]
            assert contents(peer) == expected + [b"peer %d" % number for number in range(6)]
            assert contents(other) == [b"%d" % (number // 2) for number in range(12)]
            assert client.errors == []


@needs_segments
@pytest.mark.parametrize("given", [True, False], ids=["given", "handed out"])
async def test_a_socket_that_others_have_is_used_as_asyncio_does(given: bool) -> None:
    with joining_peer() as peer:
        sock = bound_socket(socket.AF_INET, Path())
        if given:
            sock.connect(peer.getsockname())
            made = endpoint(sock=sock)
        else:
            sock.close()
            made = endpoint(remote_addr=peer.getsockname())
        async with made as client, endpoint() as third:
            if not given:
                assert client.transport.get_extra_info("socket") is not None
            for data in (sent := numbered(40, 100)):
                client.transport.sendto(data)
            assert messages(peer) == [[data] for data in sent]
            for _ in range(20):
                peer.sendto(b"back", name_of(client))
            await client.until_datagrams(20)
            assert not joins(client)
            assert third.datagrams == []


@needs_segments
@pytest.mark.parametrize("end", ["close", "abort", "get_write_buffer_size", "get_extra_info"])
async def test_what_waits_leaves_as_soon_as_it_is_looked_for(end: str) -> None:
    with joining_peer() as peer:
        async with endpoint(remote_addr=peer.getsockname()) as client:
            for data in (sent := numbered(30, 100)):
                client.transport.sendto(data)
            assert contents(peer) == sent[:4]
            result = getattr(client.transport, end)(*(["socket"] if end == "get_extra_info" else []))
            assert contents(peer) == sent[4:]
            assert result == 0 or end != "get_write_buffer_size"
            assert client.count("pause_writing") == 0


@needs_segments
async def test_a_message_that_the_kernel_refuses_is_sent_one_by_one() -> None:
    no_checksum = 11  # SO_NO_CHECK: such a socket has no segments
    with joining_peer() as peer:
        async with endpoint(remote_addr=peer.getsockname()) as client:
            client.transport._sock.setsockopt(socket.SOL_SOCKET, no_checksum, 1)
            for _ in range(2):
                for data in (sent := numbered(30, 100)):
                    client.transport.sendto(data)
                await asyncio.sleep(0)
                assert messages(peer) == [[data] for data in sent]
            assert client.errors == []


REFUSED = """
import asyncio, os, socket, sys
import uringloop
from tests.refused.seccomp import refuse

error, expected_errors = map(int, sys.argv[1:])
SENDMSG = {"x86_64": 46, "aarch64": 211}[os.uname().machine]

class Errors(asyncio.DatagramProtocol):
    errors = []
    def error_received(self, exc):
        self.errors.append(exc.errno)

async def main():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(10)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Errors, remote_addr=peer.getsockname())
        refuse(error, SENDMSG)
        sent = [b"%02d" % number for number in range(12)]
        for data in sent:
            transport.sendto(data)
        while len(Errors.errors) < expected_errors:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        arrived = sent if expected_errors == 0 else sent[:4] + sent[-1:]
        assert [peer.recv(100) for _ in arrived] == arrived
        assert Errors.errors == [error] * expected_errors, Errors.errors
        transport.close()

with asyncio.Runner(loop_factory=lambda: uringloop.EventLoop(backend="epoll")) as runner:
    runner.run(main())
print("done")
"""


@needs_segments
@pytest.mark.asyncio(loop_factories=["auto"])
@pytest.mark.parametrize(("error", "errors"), [("EMSGSIZE", 0), ("EIO", 0), ("EPERM", 7)], ids=lambda value: str(value))
async def test_errors_are_those_of_each_datagram(error: str, errors: int) -> None:
    import errno

    assert children.script(REFUSED, str(getattr(errno, error)), str(errors)) == "done\n"


# Receiving


@needs_segments
@pytest.mark.asyncio(loop_factories=RINGS)
async def test_what_comes_joined_is_handed_out_one_by_one() -> None:
    async with endpoint() as server:
        with sender_to(server, 1000) as sender:
            await begin_joining(server, sender)
            sent = numbered(64, 1000) + numbered(40, 1000) + [b"last"] + [b""]
            sender.send(b"".join(sent[:64]))
            sender.send(b"".join(sent[64:105]))
            sender.send(b"")
            await server.until_datagrams(len(sent))
            assert server.datagrams == [(data, sender.getsockname()) for data in sent]
            assert server.errors == []


@needs_segments
@pytest.mark.parametrize("act", ["close", "pause"])
async def test_a_callback_in_the_middle_ends_or_pauses_the_rest(act: str) -> None:
    class Acting(Recorder):
        act: Callable[[], None] | None = None

        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if data == b"act":
                getattr(self.transport, "close" if act == "close" else "pause_reading")()

    async with endpoint(Acting()) as server:
        with sender_to(server, 3) as sender:
            await begin_joining(server, sender)
            sender.send(b"oneactend")
            if act == "close":
                await server.until_called("connection_lost")
            else:
                await server.until_datagrams(2)
                await asyncio.sleep(0)
            assert server.contents == [b"one", b"act"]
            if act == "pause":
                sender.send(b"new")
                server.transport.resume_reading()
                await server.until_datagrams(4)
                assert server.contents == [b"one", b"act", b"end", b"new"]


@needs_segments
@pytest.mark.asyncio(loop_factories=RINGS)
@pytest.mark.parametrize("paused", [True, False], ids=["paused", "reading"])
async def test_handing_the_socket_out_ends_the_joining(paused: bool) -> None:
    async with endpoint() as server:
        with sender_to(server, 100) as sender:
            await begin_joining(server, sender)
            sent = numbered(200, 100)
            sender.send(b"".join(sent[:50]))
            await server.until_datagrams(1)
            if paused:
                server.transport.pause_reading()
            sender.send(b"".join(sent[50:100]))
            sender.send(b"".join(sent[100:150]))
            assert server.transport.get_extra_info("socket") is not None
            assert not joins(server)
            sender.send(b"".join(sent[150:]))
            assert len(server.transport._sock.recv(1 << 16, socket.MSG_PEEK)) == 100
            if paused:
                await asyncio.sleep(0)
                server.transport.resume_reading()
            await server.until_datagrams(200)
            assert server.contents == sent
            sender.send(b"more")
            await server.until_datagrams(201)
            assert server.contents[-1] == b"more"


CLOSED_UNDERNEATH = """
import asyncio, os, resource, socket
import uringloop
from tests.housekeeping import size_bytes

class Protocol(asyncio.DatagramProtocol):
    count = 0
    def datagram_received(self, data, addr):
        Protocol.count += 1

async def main():
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Protocol, local_addr=("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(40):
            sender.sendto(b"x", transport.get_extra_info("sockname"))
    while Protocol.count < 40:
        await asyncio.sleep(0)
    os.close(transport._sock_fd)
    limit = size_bytes() + (256 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    assert transport.get_extra_info("socket").fileno() == transport._sock_fd
    print("done", flush=True)
    os._exit(0)

uringloop.run(main())
"""


@needs_segments
@pytest.mark.asyncio(loop_factories=["auto"])
async def test_a_descriptor_that_is_closed_underneath_can_be_handed_out() -> None:
    assert children.script(CLOSED_UNDERNEATH) == "done\n"


@needs_segments
async def test_a_fork_shares_the_socket() -> None:
    async with endpoint() as server:
        with sender_to(server, 100) as sender:
            await begin_joining(server, sender)
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)  # noqa: ASYNC222
            assert not joins(server)
            sender.send(bytes(1000))
            await server.until_datagrams(10)
            assert server.contents == [bytes(100)] * 10
