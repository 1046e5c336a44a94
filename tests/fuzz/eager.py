"""Eager tasks in all callbacks, over streams, pipes and datagrams at once: whose bytes arrive, and what is lost.

Each callback may start a coroutine that runs at once: it writes to a file, flushes it, or opens and closes one, through
the ring.  Each connection is sent bytes of its own, by a socket that the loop does not know.
"""

import asyncio
import os
import random
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import uringloop
from tests.housekeeping import settle
from uringloop import files
from uringloop.operations import Fsync, Nop, Write
from uringloop.ring import OPTIONAL

_TIMEOUT_S = 10


class _Life:
    """What the callbacks of one loop share."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.log = os.memfd_create("log")
        self.begun = self.ended = 0

    def start(self) -> None:
        if self.chance.random() < 0.7:
            self.begun += 1
            self.go_on(self._operate())

    def go_on(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        try:
            future = coroutine.send(None)
        except StopIteration:
            self.ended += 1
            return
        if future is None:
            asyncio.get_running_loop().call_soon(self.go_on, coroutine)
        else:
            future._asyncio_future_blocking = False
            future.add_done_callback(lambda _: self.go_on(coroutine))

    async def _operate(self) -> None:
        loop: Any = asyncio.get_running_loop()
        for _ in range(self.chance.randrange(1, 4)):
            kind = self.chance.randrange(4)
            if kind == 0:
                await loop.submit(Write(self.log, b"line\n", 0))
            elif kind == 1:
                await loop.submit(Fsync(self.log))
            elif kind == 2:
                await loop.submit(Nop())
            else:
                file = await files.open("/proc/self/comm", "rb")
                await file.read()
                await file.close()


class _End(asyncio.Protocol, asyncio.DatagramProtocol):
    """One connection, which checks what it receives against what was sent to it."""

    def __init__(self, life: _Life, send: Callable[[bytes], int]) -> None:
        self.life, self.send = life, send
        self.sent, self.received = bytearray(), bytearray()
        self.transport: Any = None
        self.lost = asyncio.get_running_loop().create_future()

    def feed(self) -> None:
        """Have it receive some of its own bytes, as many as its peer takes."""
        data = self.life.chance.randbytes(self.life.chance.choice((1, 30, 100, 1000)))
        try:
            count = self.send(data)
        except BlockingIOError:
            return
        self.sent += data[:count]

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.life.start()

    def took(self, data: bytes) -> None:
        place = len(self.received)
        self.received += data
        assert self.sent[place : place + len(data)] == data, "other bytes than were sent"
        self.life.start()

    def data_received(self, data: bytes) -> None:
        self.took(data)

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.took(data)

    def eof_received(self) -> None:
        self.life.start()

    def connection_lost(self, error: Exception | None) -> None:
        self.life.start()
        self.lost.set_result(error)


async def _connect(life: _Life, kind: str) -> tuple[_End, Any]:
    loop = asyncio.get_running_loop()
    if kind == "pipe":
        read, write = os.pipe()
        os.set_blocking(write, False)
        peer: Any = os.fdopen(write, "wb", 0)
        end = _End(life, lambda data: peer.write(data) or 0)
        await loop.connect_read_pipe(lambda: end, os.fdopen(read, "rb", 0))
        return end, peer
    ours, peer = socket.socketpair(type=socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM)
    ours.setblocking(False)
    peer.setblocking(False)
    end = _End(life, peer.send)
    if kind == "datagram":
        await loop.create_datagram_endpoint(lambda: end, sock=ours)
    else:
        await loop.connect_accepted_socket(lambda: end, ours)
    return end, peer


async def _run(chance: random.Random) -> None:
    life = _Life(chance)
    ends = [await _connect(life, chance.choice(("stream", "pipe", "datagram"))) for _ in range(chance.randrange(2, 9))]
    for _ in range(chance.randrange(10, 150)):
        for _ in range(chance.randrange(1, 6)):
            chance.choice(ends)[0].feed()
        await asyncio.sleep(0)
    async with asyncio.timeout(_TIMEOUT_S):
        while any(end.received != end.sent for end, _ in ends) or life.ended < life.begun:
            await asyncio.sleep(0.001)
        for end, peer in ends:
            peer.close()
            end.transport.close()
            await end.lost
        while life.ended < life.begun:
            await asyncio.sleep(0.001)
    os.close(life.log)
    assert await settle() == {}


def run(chance: random.Random) -> None:
    """One loop's life."""
    failures: list[dict[str, Any]] = []
    options: dict[str, Any] = {
        "sleep": chance.choice(("ring", "selector", "auto")),
        "without": frozenset(name for name in OPTIONAL if chance.random() < 0.1),
        "sq_entries": chance.choice((4, 64)),
        "cq_entries": chance.choice((8, 256)),
        "buffer_count": chance.choice((2, 8)),
        "buffer_size_bytes": chance.choice((64, 1024)),
        "buffer_count_max": chance.choice((8, 16)),
        "bulk_buffer_count_max": chance.choice((0, 1)),
    }
    with asyncio.Runner(loop_factory=lambda: uringloop.new_event_loop(**options)) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: failures.append(context))
        try:
            runner.run(_run(chance))
        finally:
            assert not failures, failures
