"""What the tests of operations share."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

import uringloop
from uringloop.operations import Operation


def running_loop() -> uringloop.EventLoop:
    """The loop of this test, which is never asyncio's here."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, uringloop.EventLoop)
    return loop


def connect(listener: socket.socket) -> socket.socket:
    """Return a client of a listening TCP socket."""
    return socket.create_connection(listener.getsockname())


async def submit(operation: Operation) -> Any:
    """`loop.submit`."""
    return await running_loop().submit(operation)


async def refused(operation: Operation, *errnos: int) -> OSError:
    """The operation fails with one of these errnos."""
    try:
        result = await submit(operation)
    except OSError as error:
        caught = error
    else:
        pytest.fail(f"{operation} was not refused, but gave {result!r}")
    assert caught.errno in errnos, caught
    return caught


@contextlib.contextmanager
def opened(path: Any, flags: int = os.O_RDWR | os.O_CREAT) -> Iterator[int]:
    """A descriptor."""
    fd = os.open(path, flags, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """The reading and the writing end."""
    reading, writing = os.pipe()
    try:
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)
