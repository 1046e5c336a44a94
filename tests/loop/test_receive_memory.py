"""Memory that a burst of receives needed is given back, by the work that comes after it."""

import asyncio
import contextlib
import socket
from typing import Any

import pytest

import uringloop
from tests.housekeeping import resident_bytes
from tests.kernel import needs
from tests.variants import WITHOUT

from . import datagrams
from .helpers import Recorder, facing_socket, pattern, socket_pair

_MIB = 1 << 20
_CONNECTIONS = 150
_FIRST_BUFFERS = 8
#: Memory is given back after it was not needed for one to two seconds.
_TIMEOUT_S = 20

needs_groups = pytest.mark.skipif("buffer_rings" in WITHOUT, reason="there are no buffer groups")


def run(test: Any, *without: str) -> None:
    def factory() -> uringloop.EventLoop:
        return uringloop.EventLoop(
            buffer_count=_FIRST_BUFFERS,
            buffer_count_max=512,
            buffer_size_bytes=128 * 1024,
            without=(*without, *WITHOUT),
        )

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(test())


def figure(name: str) -> int:
    number: int = asyncio.get_running_loop().statistics()[name]  # type: ignore[attr-defined]
    return number


async def burst(size_bytes: int) -> None:
    """Many connections that receive at the same time."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as sockets:
        protocols = []
        for _ in range(_CONNECTIONS):
            peer, accepted = sockets.enter_context(socket_pair())
            protocols.append(Recorder())
            await loop.connect_accepted_socket(lambda protocol=protocols[-1]: protocol, accepted)  # type: ignore[misc]
            protocols[-1].peer = peer  # type: ignore[attr-defined]
        for _ in range(7):
            for protocol in protocols:
                protocol.peer.send(pattern(size_bytes))  # type: ignore[attr-defined]
            for protocol in protocols:
                await protocol.until_received(size_bytes)
                protocol.received.clear()
        for protocol in protocols:
            protocol.transport.abort()
        for protocol in protocols:
            await protocol.until_called("connection_lost")


async def work_until_small(protocol: Recorder, peer: socket.socket) -> None:
    """One byte after the other, as long as the group is larger than it was."""
    async with asyncio.timeout(_TIMEOUT_S):
        while figure("buffers") > _FIRST_BUFFERS:
            protocol.received.clear()
            peer.send(b"x")
            await protocol.until_received(1)


@needs_groups
@needs("io_uring")
def test_the_group_of_streams_grows_and_shrinks() -> None:
    async def main() -> None:
        async with facing_socket(Recorder()) as (protocol, peer):
            before = resident_bytes()
            for _ in range(3):
                await burst(30_000)
                assert figure("buffers") >= _CONNECTIONS / 2
                await work_until_small(protocol, peer)
            assert resident_bytes() < before + 8 * _MIB
            assert figure("buffers_lent") == 0

    run(main)


@needs_groups
def test_an_idle_loop_is_not_woken_to_shrink() -> None:
    async def main() -> None:
        async with facing_socket(Recorder()) as (protocol, peer):
            await burst(1000)
            large = figure("buffers")
            enters = figure("enters")
            await asyncio.sleep(2.5)  # longer than what is unused is kept
            assert figure("enters") < enters + 10
            assert large > _FIRST_BUFFERS
            await work_until_small(protocol, peer)

    run(main)


@needs_groups
def test_bytes_are_right_while_the_group_shrinks() -> None:
    async def main() -> None:
        async with facing_socket(Recorder()) as (protocol, peer):
            loop = asyncio.get_running_loop()
            await burst(1000)
            sent = 0
            async with asyncio.timeout(_TIMEOUT_S):
                while figure("buffers") > _FIRST_BUFFERS:
                    protocol.received.clear()
                    await loop.sock_sendall(peer, pattern(200_000, sent))
                    await protocol.until_received(200_000)
                    assert protocol.received == pattern(200_000, sent)
                    sent += 200_000

    run(main)


@needs_groups
def test_the_group_of_datagrams_shrinks(folder: Any) -> None:
    async def burst_of_datagrams() -> None:
        async with contextlib.AsyncExitStack() as stack:
            protocols, peers = [], []
            for number in range(60):
                own = datagrams.on(socket.AF_UNIX, folder, f"{figure('completed')} {number}")
                name = own["sock"].getsockname()
                protocols.append(await stack.enter_async_context(datagrams.endpoint(**own)))
                peer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
                peers.append(stack.enter_context(peer))
                peer.connect(name)
            for _ in range(3):
                for peer in peers:
                    peer.send(pattern(50_000))
                for protocol in protocols:
                    await protocol.until_datagrams(1)
                    assert protocol.contents == [pattern(50_000)]
                    protocol.datagrams.clear()

    async def main() -> None:
        async with facing_socket(Recorder()) as (protocol, peer), datagrams.endpoint():
            both = figure("buffers")
            for _ in range(2):
                await burst_of_datagrams()
                assert figure("buffers") > both
                async with asyncio.timeout(_TIMEOUT_S):
                    while figure("buffers") > both:
                        protocol.received.clear()
                        peer.send(b"x")
                        await protocol.until_received(1)

    run(main)


def test_without_a_group_connections_cost_no_buffers() -> None:
    async def main() -> None:
        before = resident_bytes()
        with contextlib.ExitStack() as sockets:
            loop = asyncio.get_running_loop()
            protocols = []
            for _ in range(_CONNECTIONS):
                peer, accepted = sockets.enter_context(socket_pair())
                protocols.append(Recorder())
                await loop.connect_accepted_socket(lambda protocol=protocols[-1]: protocol, accepted)  # type: ignore[misc]
                await loop.sock_sendall(peer, bytes(50_000))
                await protocols[-1].until_received(50_000)
                protocols[-1].received.clear()
            assert resident_bytes() < before + 4 * _MIB
            for protocol in protocols:
                protocol.transport.abort()
            for protocol in protocols:
                await protocol.until_called("connection_lost")

    run(main, "buffer_rings")
