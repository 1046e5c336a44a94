"""Datagram endpoints under pressure: full sockets, pauses, closing with a queue."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.variants import EVERY, RINGS

from .datagrams import Echo, Recorder, a_tick, bound_socket, endpoint, name_of
from .helpers import pattern

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)

rings_only = pytest.mark.asyncio(loop_factories=RINGS)


@contextlib.asynccontextmanager
async def facing_full_socket(folder: Path, connected: bool = True) -> AsyncIterator[tuple[Recorder, socket.socket]]:
    """A unix endpoint, and the socket that it sends to, which takes no more.  The former has queued nothing yet."""
    with bound_socket(socket.AF_UNIX, folder) as peer:
        sock = bound_socket(socket.AF_UNIX, folder, "own")
        sock.connect(peer.getsockname())
        with contextlib.suppress(BlockingIOError):
            while True:
                sock.send(b"filling")
        if not connected:
            sock.close()
            os.unlink(folder / "own")
            sock = bound_socket(socket.AF_UNIX, folder, "own")
        async with endpoint(sock=sock) as protocol:
            yield protocol, peer


def receive_all(peer: socket.socket) -> list[bytes]:
    received = []
    with contextlib.suppress(BlockingIOError):
        while True:
            received.append(peer.recv(1 << 18))
    return [data for data in received if data != b"filling"]


async def receive(peer: socket.socket, count: int) -> list[bytes]:
    received: list[bytes] = []
    async with asyncio.timeout(10):
        while len(received) < count:
            received += receive_all(peer)
            await asyncio.sleep(0)
    return received


# The queue


@pytest.mark.parametrize("connected", [True, False], ids=["connected", "unconnected"])
async def test_what_a_full_socket_refuses_is_sent_later_in_order(connected: bool, folder: Path) -> None:
    expected = [pattern(size, size) for size in (100, 5000, 1, 60_000, *range(200, 260))]
    async with facing_full_socket(folder, connected) as (client, peer):
        for data in expected:
            client.transport.sendto(data, None if connected else peer.getsockname())
        assert client.transport.get_write_buffer_size() >= sum(map(len, expected))
        assert await receive(peer, len(expected)) == expected
        assert client.errors == []


@rings_only
async def test_what_was_sent_counts_no_longer(folder: Path) -> None:
    async with facing_full_socket(folder) as (client, peer):
        for size in (0, 1000, 5):
            client.transport.sendto(bytes(size))
        await receive(peer, 2)
        client.transport.set_write_buffer_limits(high=0)
        if client.transport.get_write_buffer_size():
            await client.until_called("resume_writing")
        assert client.transport.get_write_buffer_size() == 0


async def test_a_protocol_is_paused_above_the_high_mark_and_resumed_at_the_low(folder: Path) -> None:
    sizes: list[int] = []

    class Looking(Recorder):
        def _called(self, name: str) -> None:
            if name.endswith("_writing"):
                sizes.append(self.transport.get_write_buffer_size())
            super()._called(name)

    async with facing_full_socket(folder) as (_, peer):
        sock = bound_socket(socket.AF_UNIX, folder, "looking")
        sock.connect(peer.getsockname())
        async with endpoint(Looking(), sock=sock) as client:
            client.transport.set_write_buffer_limits(high=10_000, low=2000)
            for _ in range(9):
                client.transport.sendto(bytes(1000))
            assert sizes == []
            client.transport.sendto(bytes(1000))
            client.transport.sendto(bytes(1000))
            assert len(sizes) == 1
            assert sizes[0] > 10_000
            await receive(peer, 11)
            await client.until_called("resume_writing")
            assert sizes[1] <= 2000
            assert client.count("pause_writing") == client.count("resume_writing") == 1


async def test_lowering_the_marks_under_a_queue_pauses(folder: Path) -> None:
    async with facing_full_socket(folder) as (client, peer):
        client.transport.sendto(bytes(1000))
        assert client.count("pause_writing") == 0
        client.transport.set_write_buffer_limits(high=100)
        assert client.count("pause_writing") == 1
        await receive(peer, 1)
        await client.until_called("resume_writing")


async def test_the_kernel_s_room_is_no_queue() -> None:
    async with endpoint() as server, endpoint() as client:
        client.transport.set_write_buffer_limits(high=0)
        for _ in range(50):
            client.transport.sendto(bytes(1000), name_of(server))
        assert client.transport.get_write_buffer_size() == 0
        await server.until_datagrams(50)
        assert client.count("pause_writing") == 0


async def test_an_error_in_the_queue_is_told_and_the_rest_is_sent(folder: Path) -> None:
    async with facing_full_socket(folder, connected=False) as (client, peer):
        for number in range(4):
            client.transport.sendto(str(number).encode(), peer.getsockname())
            client.transport.sendto(b"lost", str(folder / "missing"))
        assert await receive(peer, 4) == [b"0", b"1", b"2", b"3"]
        await client.until_errors(4)
        assert {type(error) for error in client.errors} == {FileNotFoundError}


async def test_a_name_is_resolved_behind_a_queue(folder: Path) -> None:
    async with facing_full_socket(folder, connected=False) as (client, peer):
        client.transport.sendto(b"1", peer.getsockname())
        client.transport.sendto(b"2", bytearray(os.fsencode(peer.getsockname())))
        client.transport.sendto(b"3", peer.getsockname())
        assert await receive(peer, 3) == [b"1", b"2", b"3"]


@pytest.mark.parametrize("connected", [True, False], ids=["connected", "unconnected"])
async def test_closing_sends_the_queue_first(connected: bool, folder: Path) -> None:
    async with facing_full_socket(folder, connected) as (client, peer):
        for number in range(5):
            client.transport.sendto(str(number).encode(), None if connected else peer.getsockname())
        client.transport.close()
        await a_tick()
        assert client.calls == ["connection_made"]
        assert await receive(peer, 5) == [str(number).encode() for number in range(5)]
        await client.until_called("connection_lost")
        assert client.lost_with is None


@pytest.mark.parametrize("closing_first", [False, True])
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "unconnected"])
async def test_aborting_drops_the_queue(connected: bool, closing_first: bool, folder: Path) -> None:
    async with facing_full_socket(folder, connected) as (client, peer):
        for number in range(5):
            client.transport.sendto(str(number).encode(), None if connected else peer.getsockname())
        await a_tick()
        if closing_first:
            client.transport.close()
        client.transport.abort()
        assert client.calls == ["connection_made"]
        await client.until_called("connection_lost")
        assert client.lost_with is None
        assert receive_all(peer) == []


async def test_a_paused_protocol_may_send_once_more_when_resumed_in_closing(folder: Path) -> None:
    class Adding(Recorder):
        def resume_writing(self) -> None:
            self.transport.sendto(b"added")
            super().resume_writing()

    async with facing_full_socket(folder) as (_, peer):
        sock = bound_socket(socket.AF_UNIX, folder, "adding")
        sock.connect(peer.getsockname())
        async with endpoint(Adding(), sock=sock) as client:
            # asyncio 3.13.0 goes on counting the headers of what it has sent.
            client.transport.set_write_buffer_limits(high=50, low=20)
            client.transport.sendto(bytes(100))
            client.transport.close()
            assert await receive(peer, 2) == [bytes(100), b"added"]
            await client.until_called("connection_lost")


# Pausing


async def test_a_paused_endpoint_delivers_nothing_and_loses_nothing() -> None:
    async with endpoint() as server, endpoint(Echo()) as client:
        server.transport.pause_reading()
        assert not server.transport.is_reading()
        expected = [str(number).encode() for number in range(40)]
        for data in expected[:20]:
            client.transport.sendto(data, name_of(server))
        await a_tick()
        await a_tick()
        assert server.datagrams == []
        server.transport.resume_reading()
        server.transport.pause_reading()
        for data in expected[20:]:
            client.transport.sendto(data, name_of(server))
        await a_tick()
        assert server.datagrams == []
        server.transport.resume_reading()
        await server.until_datagrams(40)
        assert server.datagrams == [(data, name_of(client)) for data in expected]


async def test_a_callback_may_pause() -> None:
    class Pausing(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.transport.pause_reading()

    async with endpoint(Pausing()) as server, endpoint() as client:
        for number in range(10):
            client.transport.sendto(str(number).encode(), name_of(server))
        for number in range(10):
            await server.until_datagrams(number + 1)
            await a_tick()
            assert len(server.datagrams) == number + 1
            server.transport.resume_reading()
        assert server.contents == [str(number).encode() for number in range(10)]


async def test_closing_while_paused() -> None:
    async with endpoint() as server, endpoint() as client:
        server.transport.pause_reading()
        for _ in range(5):
            client.transport.sendto(b"x", name_of(server))
        await a_tick()
        server.transport.resume_reading()
        server.transport.close()
        await server.until_called("connection_lost")
        assert server.calls == ["connection_made", "connection_lost"]
