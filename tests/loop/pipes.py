"""Pipes of every sort: one end in a transport of the loop, the other one bare."""

import asyncio
import contextlib
import os
import pty
import socket
import tempfile
import tty
from collections.abc import AsyncIterator, Callable
from typing import Any, BinaryIO

import pytest

from .helpers import Observed, Recorder

Ends = tuple[BinaryIO, BinaryIO]


class Writer(Observed, asyncio.BaseProtocol):
    """Of a transport that only writes."""


# What a pipe may be: each gives the end that is read and the end that is written


def files(read_fd: int, write_fd: int) -> Ends:
    return os.fdopen(read_fd, "rb", 0), os.fdopen(write_fd, "wb", 0)


def a_pipe() -> Ends:
    return files(*os.pipe())


def a_fifo() -> Ends:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/fifo"
        os.mkfifo(path)
        read_fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        return files(read_fd, os.open(path, os.O_WRONLY))


def a_socket() -> Ends:
    left, right = socket.socketpair()
    return files(left.detach(), right.detach())


def a_terminal() -> Ends:
    """The terminal is written to, its other side is read."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    return files(master, slave)


def a_terminal_input() -> Ends:
    """The terminal is read, its other side is written to."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    return files(slave, master)


LASTING = [a_pipe, a_fifo, a_socket]
EACH = [*LASTING, a_terminal, a_terminal_input]
each_kind = pytest.mark.parametrize("make", EACH)
each_lasting_kind = pytest.mark.parametrize("make", LASTING)


@contextlib.asynccontextmanager
async def reading(make: Callable[[], Ends], protocol: Any = None) -> AsyncIterator[tuple[Any, BinaryIO]]:
    """A protocol that reads, and the bare other end."""
    protocol = protocol or Recorder()
    read_end, write_end = make()
    with write_end:
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, read_end)
        try:
            yield protocol, write_end
        finally:
            protocol.transport.close()
            await protocol.until_called("connection_lost")


@contextlib.asynccontextmanager
async def writing(make: Callable[[], Ends], protocol: Any = None) -> AsyncIterator[tuple[Any, BinaryIO]]:
    """A protocol that writes, and the bare other end, which does not block."""
    protocol = protocol or Writer()
    read_end, write_end = make()
    os.set_blocking(read_end.fileno(), False)
    with read_end:
        await asyncio.get_running_loop().connect_write_pipe(lambda: protocol, write_end)
        try:
            yield protocol, read_end
        finally:
            if not protocol.transport.is_closing():
                protocol.transport.abort()
            await protocol.until_called("connection_lost")


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def read_bare(end: BinaryIO, size_bytes: int) -> bytes:
    """Exactly so many bytes, or up to the end, from a bare end, without stopping the loop."""
    received = bytearray()
    while len(received) < size_bytes:
        try:
            data = os.read(end.fileno(), size_bytes - len(received))
        except BlockingIOError:
            await readable(end)
            continue
        if not data:
            break
        received += data
    return bytes(received)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def readable(end: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(end, _set, ready)
    try:
        await ready
    finally:
        loop.remove_reader(end)


def fill(end: BinaryIO) -> int:
    """Write zeros to the pipe behind a transport until it takes no more; how many that were."""
    size_bytes = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            size_bytes += os.write(end.fileno(), bytes(4096))
    return size_bytes


def pipe_of(protocol: Observed) -> BinaryIO:
    pipe: BinaryIO = protocol.transport.get_extra_info("pipe")
    return pipe
