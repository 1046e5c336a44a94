"""Sources that never pause, cancelled at any moment: each of them must end."""

import asyncio
import contextlib
import random
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import uringloop
from uringloop.operations import Accept, Receive, ReceiveMessages, Timeout

#: An end takes microseconds; who waits longer has been forgotten.
_PATIENCE_S = 20
_INTERVALS_NS = (1, 1_000, 3_000, 10_000, 50_000, 200_000)


@dataclass
class Counts:
    """What came of the cancels: `forgotten` were never heard of again, `lost` were asked again by the ring."""

    ended: int = 0
    forgotten: int = 0
    lost: int = 0


def _flood(send: Callable[[], object], stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            send()
        except TimeoutError:
            continue
        except OSError:
            return


@contextlib.contextmanager
def _sender(send: Callable[[], object]) -> Iterator[None]:
    """A thread that sends until the end."""
    stop = threading.Event()
    thread = threading.Thread(target=_flood, args=(send, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


async def _finish(shots: Any, counts: Counts) -> None:
    """Take a few, cancel, and wait for the end."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            for _ in range(random.randrange(1, 6)):
                _drop(await anext(shots))
            shots.cancel()
            async for result in shots:
                _drop(result)
        counts.ended += 1
    except TimeoutError:
        counts.forgotten += 1


def _drop(result: Any) -> None:
    if type(result) is int:
        socket.close(result)


async def _timeouts(loop: uringloop.EventLoop, counts: Counts) -> None:
    await _finish(loop.submit_multishot(Timeout(random.choice(_INTERVALS_NS))), counts)


async def _receives(loop: uringloop.EventLoop, counts: Counts) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, random.choice((socket.SOCK_STREAM, socket.SOCK_DGRAM)))
    theirs.settimeout(0.1)
    fd = ours.fileno()
    operation = ReceiveMessages(fd) if ours.type == socket.SOCK_DGRAM else Receive(fd, 0)
    with ours, theirs, _sender(lambda: theirs.send(b"x" * 500)):
        await _finish(loop.submit_multishot(operation), counts)


async def _accepts(loop: uringloop.EventLoop, counts: Counts) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with _sender(lambda: socket.create_connection(address, 0.1).close()):
            await _finish(loop.submit_multishot(Accept(server.fileno())), counts)


class _Sink(asyncio.Protocol, asyncio.DatagramProtocol):
    """Closes its transport at the n-th bytes."""

    def __init__(self) -> None:
        self.left = random.randrange(1, 20)
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            random.choice((self.transport.close, self.transport.abort))()

    def data_received(self, data: bytes) -> None:
        if self.left % 3 == 0:
            self.transport.pause_reading()
            self.transport.resume_reading()
        self._count()

    def datagram_received(self, data: bytes, address: Any) -> None:
        self._count()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(None)


async def _is_released(loop: uringloop.EventLoop, protocol: _Sink, what: str, counts: Counts) -> None:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await protocol.lost
            while loop.statistics()[what]:
                await asyncio.sleep(0.001)
        counts.ended += 1
    except TimeoutError:
        counts.forgotten += 1


async def _streams(loop: uringloop.EventLoop, counts: Counts) -> None:
    ours, theirs = socket.socketpair()
    theirs.settimeout(0.1)
    with theirs, _sender(lambda: theirs.send(b"x" * 100_000)):
        _, protocol = await loop.create_connection(_Sink, sock=ours)
        await _is_released(loop, protocol, "streams", counts)


async def _datagrams(loop: uringloop.EventLoop, counts: Counts) -> None:
    transport, protocol = await loop.create_datagram_endpoint(_Sink, ("127.0.0.1", 0))
    address = transport.get_extra_info("sockname")
    with socket.socket(type=socket.SOCK_DGRAM) as theirs, _sender(lambda: theirs.sendto(b"x" * 500, address)):
        await _is_released(loop, protocol, "datagrams", counts)


_SOURCES = (_timeouts, _receives, _accepts, _streams, _datagrams)


async def cancels(seconds: float) -> Counts:
    """Cancel sources while they fire, for so long; none may go on."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, uringloop.EventLoop)
    counts = Counts()
    end_s = loop.time() + seconds
    while loop.time() < end_s:
        await random.choice(_SOURCES)(loop, counts)
        await asyncio.gather(*(_timeouts(loop, counts) for _ in range(random.randrange(10))))
    counts.lost = loop.statistics()["cancels_lost"]
    return counts
