"""Buffers of 2 and of 4 GiB, of which only what is received or sent becomes memory."""

import asyncio
import mmap
import os
import socket
from collections.abc import Awaitable, Iterator
from typing import Any

import pytest

from tests.variants import BACKENDS, USUAL
from uringloop.operations import Receive, Splice, Tee
from uringloop.ring import Descriptor

pytestmark = pytest.mark.asyncio(loop_factories=USUAL)

RINGS = tuple(name for name in USUAL if name != "asyncio")
SIZES_BYTES = (1 << 31, (1 << 32) + 4096)
WORDS = b"a few bytes"
_MAP_NORESERVE = 0x4000  # Python 3.12 and newer have a name for it


@pytest.fixture(params=SIZES_BYTES, ids=["2 GiB", "4 GiB"])
def buffer(request: pytest.FixtureRequest) -> Iterator[memoryview]:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    with mmap.mmap(-1, request.param, flags=flags) as memory, memoryview(memory) as view:
        yield view


@pytest.fixture(params=[socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["stream", "datagram"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    yield from made_pair(request.param)


@pytest.fixture
def streams() -> Iterator[tuple[socket.socket, socket.socket]]:
    yield from made_pair(socket.SOCK_STREAM)


def made_pair(kind: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair(socket.AF_UNIX, kind)
    with one, other:
        one.setblocking(False)
        other.setblocking(False)
        yield one, other


async def waited_for(receiving: Awaitable[Any], sender: socket.socket, waits: bool) -> Any:
    """The result of a receive that found something, or that had to wait."""
    if not waits:
        sender.send(WORDS)
        return await receiving
    task = asyncio.ensure_future(receiving)
    await asyncio.sleep(0)
    sender.send(WORDS)
    return await task


each_time = pytest.mark.parametrize("waits", [False, True], ids=["at once", "later"])


@each_time
async def test_received_into(pair: tuple[socket.socket, socket.socket], buffer: memoryview, waits: bool) -> None:
    loop = asyncio.get_running_loop()
    assert await waited_for(loop.sock_recv_into(pair[0], buffer), pair[1], waits) == len(WORDS)
    assert buffer[: len(WORDS)] == WORDS


@each_time
async def test_received_from_into(pair: tuple[socket.socket, socket.socket], buffer: memoryview, waits: bool) -> None:
    loop = asyncio.get_running_loop()
    count, _ = await waited_for(loop.sock_recvfrom_into(pair[0], buffer), pair[1], waits)
    assert count == len(WORDS)
    assert buffer[: len(WORDS)] == WORDS


@pytest.mark.asyncio(loop_factories=RINGS)  # asyncio's makes room for all of it
@pytest.mark.parametrize("size_bytes", SIZES_BYTES)
@each_time
async def test_received(streams: tuple[socket.socket, socket.socket], size_bytes: int, waits: bool) -> None:
    loop = asyncio.get_running_loop()
    assert await waited_for(loop.sock_recv(streams[0], size_bytes), streams[1], waits) == WORDS


async def test_sent_and_cancelled(streams: tuple[socket.socket, socket.socket], buffer: memoryview) -> None:
    loop = asyncio.get_running_loop()
    buffer[: len(WORDS)] = WORDS
    task = loop.create_task(loop.sock_sendall(streams[0], buffer))
    received = bytearray()
    while len(received) < 1 << 20:
        received += await loop.sock_recv(streams[1], 1 << 16)
    assert received == WORDS.ljust(len(received), b"\0")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.asyncio(loop_factories=BACKENDS)
@pytest.mark.parametrize("size_bytes", SIZES_BYTES)
async def test_a_receive_by_itself(streams: tuple[socket.socket, socket.socket], size_bytes: int) -> None:
    loop: Any = asyncio.get_running_loop()
    streams[1].send(WORDS)
    assert await loop.submit(Receive(streams[0].fileno(), size_bytes)) == WORDS


@pytest.mark.asyncio(loop_factories=BACKENDS)
@pytest.mark.parametrize("size_bytes", SIZES_BYTES)
async def test_bytes_between_pipes(size_bytes: int) -> None:
    loop: Any = asyncio.get_running_loop()
    (source, first), (copy, second), (target, third) = (map(Descriptor, os.pipe()) for _ in range(3))
    os.write(first.fd, WORDS)
    assert await loop.submit(Tee(source, second, size_bytes)) == len(WORDS)
    assert await loop.submit(Splice(source, third, size_bytes)) == len(WORDS)
    assert (os.read(copy.fd, 100), os.read(target.fd, 100)) == (WORDS, WORDS)
