"""Readers on epoll, whose entries stand in the ring's own set beside those of its requests."""

import asyncio
import os
import select
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.loop.helpers import Recorder
from uringloop.operations import Ready

from .test_streams import watched

pytestmark = pytest.mark.asyncio(loop_factories=["epoll"])


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection."""
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        yield near, far


class Reader:
    """Takes one byte in each call."""

    def __init__(self, sock: socket.socket) -> None:
        self.loop: Any = asyncio.get_running_loop()
        self.sock = sock
        self.told = asyncio.Event()
        self.read = b""
        self.loop.add_reader(sock, self.readable)

    def readable(self) -> None:
        self.read += self.sock.recv(1)
        self.told.set()

    async def once(self) -> None:
        """Wait for a call."""
        async with asyncio.timeout(10):
            await self.told.wait()
        self.told.clear()


async def reader_after(count: int, near: socket.socket, far: socket.socket) -> Reader:
    """A reader that has had so many events, and has gone to sleep again."""
    reader = Reader(near)
    for _ in range(count):
        far.send(b"x")
        await reader.once()
    await asyncio.sleep(0)
    return reader


@pytest.mark.parametrize("before", [0, 1, 3])
async def test_a_request_takes_the_place_of_a_reader_in_the_set(
    pair: tuple[socket.socket, socket.socket], before: int
) -> None:
    """before: so many events of the reader come before the request; from the second on its entry stands."""
    near, far = pair
    reader = await reader_after(before, near, far)
    assert near.fileno() in watched(reader.loop)
    request = asyncio.create_task(reader.loop.submit(Ready(near.fileno(), select.POLLIN)))
    await asyncio.sleep(0)
    far.send(b"y")
    await reader.once()
    async with asyncio.timeout(10):
        assert await request & select.POLLIN
    for _ in range(3):
        far.send(b"z")
        await reader.once()
    assert reader.read == b"x" * before + b"yzzz"
    assert reader.loop.remove_reader(near)


async def test_a_reader_that_has_made_room_for_a_request_is_told_of_each_byte(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    near, far = pair
    reader = Reader(near)
    request = asyncio.create_task(reader.loop.submit(Ready(near.fileno(), select.POLLIN)))
    await asyncio.sleep(0)
    far.send(b"xyz")
    for _ in range(3):
        await reader.once()
    assert reader.read == b"xyz"
    assert await request & select.POLLIN
    reader.loop.remove_reader(near)


async def test_a_request_takes_the_place_of_a_reader_that_has_missed_an_event(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    near, far = pair
    reader = await reader_after(3, near, far)

    async def missing_then_asking() -> int:
        far.send(b"y")
        reader.loop._dispatcher.submit()
        return int(await reader.loop.submit(Ready(near.fileno(), select.EPOLLRDHUP)))

    request = asyncio.create_task(missing_then_asking())
    reader.loop.call_soon(reader.loop._dispatcher.submit)  # before the next sleep
    await reader.once()
    far.shutdown(socket.SHUT_WR)
    async with asyncio.timeout(10):
        assert await request & select.EPOLLRDHUP
    assert reader.read == b"xxxy"
    reader.loop.remove_reader(near)


@pytest.mark.parametrize("before", [0, 3])
async def test_an_event_between_two_sleeps_is_told_in_the_next(
    pair: tuple[socket.socket, socket.socket], before: int
) -> None:
    near, far = pair
    reader = await reader_after(before, near, far)
    far.send(b"y")
    for _ in range(2):
        reader.loop._dispatcher.submit()  # as a file's operation does in a callback
    assert not reader.told.is_set()
    await reader.once()
    await asyncio.sleep(0)
    far.send(b"z")
    await reader.once()
    assert reader.read == b"x" * before + b"yz"
    reader.loop.remove_reader(near)


@pytest.mark.parametrize("before", [0, 3])
async def test_a_reader_that_another_thread_adds_again_misses_no_event(
    pair: tuple[socket.socket, socket.socket], before: int
) -> None:
    near, far = pair
    reader = await reader_after(before, near, far)
    begins = threading.Event()

    def between_two_sleeps() -> None:
        far.send(b"y")
        reader.loop._dispatcher.submit()

    def add_again() -> None:
        begins.wait()
        reader.loop.remove_reader(near)
        reader.loop.add_reader(near, reader.readable)
        reader.loop.call_soon_threadsafe(between_two_sleeps)

    thread = threading.Thread(target=add_again)
    thread.start()
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # the thread goes on when the loop sleeps
    try:
        begins.set()
        await reader.once()
    finally:
        sys.setswitchinterval(interval_s)
        thread.join()
    assert reader.read == b"x" * before + b"y"
    reader.loop.remove_reader(near)


async def test_a_transport_has_the_number_of_a_reader_that_was_not_removed(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    near, far = pair
    reader = Reader(near)
    far.send(b"x")
    await reader.once()
    fd = near.detach()
    ours, peer = socket.socketpair()
    with peer:
        os.dup2(ours.fileno(), fd)
        ours.close()
        transport, protocol = await reader.loop.create_connection(Recorder, sock=socket.socket(fileno=fd))
        for number in range(3):
            peer.send(b"y")
            async with asyncio.timeout(10):
                while len(protocol.received) <= number:
                    await asyncio.sleep(0.001)
        transport.abort()
        await asyncio.sleep(0)
    assert reader.read == b"x"
