"""The questions of `benchmarks.readers`: sockets on which bytes are there, and conversations with a mirror.

The mirror is a process that sends back the bytes that it receives.  Each piece is a byte, so that the time is the
loop's: to watch the socket, to sleep, to wake up, and to call back.
"""

import asyncio
import contextlib
import functools
import os
import socket
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from benchmarks import runner

PIECE = b"x"


@functools.cache
def mirror() -> socket.socket:
    """Start the mirror on the CPU of load generators; return the socket to it.  It ends with this process."""
    near, far = socket.socketpair()
    with far, runner.pinned(runner.load_cpu()):
        subprocess.Popen([runner.compiled("mirror")], stdin=far.fileno())
    near.setblocking(False)
    return near


async def waited_for_and_removed(count: int) -> None:
    """Wait as psycopg does, for bytes that are there: watch the socket each time, and forget it."""
    with pair() as (near, far):
        await _wait_and_remove(count, near, far)


async def waited_for_both_ways(count: int) -> None:
    """Wait as psycopg does when it sends a query: first for room, then for the answer."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    with pair() as (near, far):
        fd = near.fileno()
        for _ in range(count):
            for sends in (True, False):
                ready.clear()
                loop.add_reader(fd, ready.set)
                if sends:
                    loop.add_writer(fd, ready.set)
                try:
                    await ready.wait()
                finally:
                    loop.remove_reader(fd)
                    if sends:
                        loop.remove_writer(fd)
                if sends:
                    far.send(PIECE)
            near.recv(100)


async def standing_reader(count: int) -> None:
    """Read by the callback of one reader, which sends the next bytes."""
    with pair() as (near, far):
        await _read_on(count, near, far)


async def waited_for_and_removed_beside_a_process(count: int) -> None:
    """Wait for the mirror's answers, and forget the socket after each."""
    await _wait_and_remove(count, mirror(), mirror())


async def standing_reader_beside_a_process(count: int) -> None:
    """Read the mirror's answers by the callback of one reader."""
    await _read_on(count, mirror(), mirror())


async def _wait_and_remove(count: int, near: socket.socket, far: socket.socket) -> None:
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    fd = near.fileno()
    for _ in range(count):
        far.send(PIECE)
        readable.clear()
        loop.add_reader(fd, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(fd)
        near.recv(100)


async def _read_on(count: int, near: socket.socket, far: socket.socket) -> None:
    done, left = asyncio.get_running_loop().create_future(), count

    def readable() -> None:
        nonlocal left
        near.recv(100)
        left -= 1
        if left:
            far.send(PIECE)
        else:
            done.set_result(None)

    with reader(near, readable):
        far.send(PIECE)
        await done


class Player(asyncio.Protocol):
    """Sends each answer back, so many times."""

    transport: Any

    def __init__(self, done: "asyncio.Future[None]", count: int) -> None:
        self.done, self.left = done, count

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(PIECE)

    def data_received(self, data: bytes) -> None:
        self.left -= 1
        if self.left:
            self.transport.write(PIECE)
        elif not self.done.done():
            self.done.set_result(None)


async def ping_pong(count: int) -> None:
    """Play with the mirror by a protocol."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    sock = socket.socket(fileno=os.dup(mirror().fileno()))
    transport, _ = await loop.create_connection(lambda: Player(done, count), sock=sock)
    await done
    transport.abort()
    await asyncio.sleep(0)


async def ping_pong_beside_an_idle_reader(count: int) -> None:
    """Play with the mirror by a protocol, while a reader watches a socket on which nothing comes."""
    with pair() as (near, _), reader(near, print):
        await ping_pong(count)


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give two ends of a connection, of which the first does not block."""
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        yield near, far


@contextlib.contextmanager
def reader(sock: socket.socket, callback: Callable[[], object]) -> Iterator[None]:
    """Watch a socket within the block."""
    loop = asyncio.get_running_loop()
    loop.add_reader(sock, callback)
    try:
        yield
    finally:
        loop.remove_reader(sock)


QUESTIONS: dict[str, Callable[[int], Coroutine[Any, Any, None]]] = {
    question.__name__: question
    for question in (
        waited_for_and_removed,
        waited_for_both_ways,
        standing_reader,
        waited_for_and_removed_beside_a_process,
        standing_reader_beside_a_process,
        ping_pong,
        ping_pong_beside_an_idle_reader,
    )
}
