"""A stream that receives much receives by readiness, in large pieces: no byte is lost on the way there and back."""

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import uringloop

from .helpers import BufferedRecorder, Observed, Recorder, facing_socket, pattern, reset

BUFFER_BYTES = 256
MUCH_BYTES = 200_000

Test = Callable[[Any, socket.socket], Awaitable[None]]


class Sizes(Recorder):
    """Keeps the largest piece that came."""

    largest = 0

    def data_received(self, data: bytes) -> None:
        self.largest = max(self.largest, len(data))
        super().data_received(data)


def bulk_streams() -> int:
    number: int = asyncio.get_running_loop().statistics()["bulk_streams"]  # type: ignore[attr-defined]
    return number


async def send(peer: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(peer, data)


def run(test: Test, protocol: Callable[[], Observed] = Sizes, *, sleep: Any = "ring", buffers: int = 1) -> None:
    async def main() -> None:
        async with facing_socket(protocol()) as (ours, peer):
            await test(ours, peer)
        assert bulk_streams() == 0

    def factory() -> uringloop.EventLoop:
        return uringloop.EventLoop(sleep=sleep, buffer_size_bytes=BUFFER_BYTES, bulk_stream_count_max=buffers)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


async def there_and_back(protocol: Any, peer: socket.socket) -> None:
    chance = random.Random(1)
    sent = bytearray()
    for _ in range(10):
        for size in (MUCH_BYTES, *(chance.randrange(1, BUFFER_BYTES) for _ in range(8))):
            piece = pattern(size, chance.randrange(100))
            await send(peer, piece)
            sent += piece
            if size < BUFFER_BYTES:
                await protocol.until_received(len(sent))
        assert bulk_streams() == 0
    assert protocol.received == sent


@pytest.mark.parametrize("protocol", [Sizes, BufferedRecorder])
@pytest.mark.parametrize("sleep", ["ring", "selector"])
def test_to_bulk_and_back(protocol: type[Observed], sleep: str) -> None:
    run(there_and_back, protocol, sleep=sleep)


async def much(protocol: Any, peer: socket.socket) -> None:
    await send(peer, pattern(MUCH_BYTES))
    await protocol.until_received(MUCH_BYTES)
    assert protocol.received == pattern(MUCH_BYTES)


def test_pieces_are_larger_in_bulk() -> None:
    async def test(protocol: Sizes, peer: socket.socket) -> None:
        await much(protocol, peer)
        assert bulk_streams() == 1
        assert protocol.largest > BUFFER_BYTES

    run(test)


def test_bulk_can_be_forbidden() -> None:
    async def test(protocol: Sizes, peer: socket.socket) -> None:
        await much(protocol, peer)
        assert bulk_streams() == 0

    run(test, buffers=0)


def test_so_many_streams_at_a_time_receive_in_bulk() -> None:
    async def test(first: Sizes, peer: socket.socket) -> None:
        await much(first, peer)
        async with facing_socket(Sizes()) as (second, other):
            await much(second, other)
            assert bulk_streams() == 1
            first.transport.abort()
            await first.until_called("connection_lost")
            await send(other, pattern(MUCH_BYTES))
            await second.until_received(2 * MUCH_BYTES)
            assert bulk_streams() == 1
            assert second.largest > BUFFER_BYTES

    run(test)


def test_a_pause_in_bulk_loses_nothing() -> None:
    async def test(protocol: Sizes, peer: socket.socket) -> None:
        await much(protocol, peer)
        protocol.transport.pause_reading()
        await send(peer, b"while it is paused")
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(protocol.received) == MUCH_BYTES
        protocol.transport.resume_reading()
        await send(peer, b", and after")
        await protocol.until_received(MUCH_BYTES + 29)
        assert protocol.received.endswith(b"while it is paused, and after")

    run(test)


@pytest.mark.parametrize("end", ["close", "abort", "eof", "reset"])
def test_each_end_in_bulk(end: str) -> None:
    async def test(protocol: Sizes, peer: socket.socket) -> None:
        await much(protocol, peer)
        if end == "eof":
            peer.shutdown(socket.SHUT_WR)
        elif end == "reset":
            reset(peer)
        else:
            getattr(protocol.transport, end)()
        await protocol.until_called("connection_lost")
        assert isinstance(protocol.lost_with, ConnectionResetError if end == "reset" else type(None))

    run(test)


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(ValueError, match="bulk_stream_count_max"):
        uringloop.EventLoop(bulk_stream_count_max=-1)
