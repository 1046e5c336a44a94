"""The stream engine under random use: small queues, few buffers, features taken away; what arrives is what was sent."""

import asyncio
import random
import socket
from typing import Any

import uringloop
from tests.housekeeping import settle
from uringloop.ring import OPTIONAL

_TIMEOUT_S = 60


class Half(asyncio.Protocol):
    """One end of a connection, which knows what the other end sent."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.received = bytearray()
        self.peer: Half | None = None
        self.transport: Any = None
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert self.peer is not None
        place = len(self.received)
        self.received += data
        assert self.peer.sent[place : place + len(data)] == data, "other bytes than were sent"

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(error)


def _step(half: Half, chance: random.Random) -> None:
    transport = half.transport
    if half.lost.done():
        return
    kind = chance.choices(("write", "lines", "pause", "resume", "eof", "close", "abort"), (60, 10, 8, 12, 2, 1, 1))[0]
    if kind in ("write", "lines") and not transport.is_closing() and not getattr(half, "ended", False):
        data = chance.randbytes(chance.choice((1, 10, 100, 5000, 70_000)))
        half.sent += data
        if kind == "write":
            transport.write(data if chance.random() < 0.7 else bytearray(data))
        else:
            middle = len(data) // 2
            transport.writelines([data[:middle], memoryview(data)[middle:]])
    elif kind == "pause":
        transport.pause_reading()
    elif kind == "resume":
        transport.resume_reading()
    elif kind == "eof" and not transport.is_closing():
        half.ended = True  # type: ignore[attr-defined]
        transport.write_eof()
    elif kind == "close":
        transport.close()
    elif kind == "abort":
        transport.abort()


async def _life(chance: random.Random) -> None:
    loop = asyncio.get_running_loop()
    halves: list[Half] = []
    for _ in range(chance.randrange(1, 6)):
        ends = socket.socketpair()
        pair = [(await loop.connect_accepted_socket(Half, end))[1] for end in ends]
        pair[0].peer, pair[1].peer = pair[1], pair[0]
        halves += pair
    for _ in range(chance.randrange(10, 200)):
        _step(chance.choice(halves), chance)
        if chance.random() < 0.4:
            await asyncio.sleep(0)
    for half in halves:
        if not half.lost.done():
            half.transport.resume_reading()
    async with asyncio.timeout(_TIMEOUT_S):
        for half in halves:
            await _arrived(half)
    # Two ends that are closed with bytes unsent would wait for each other's reading, as asyncio's do.
    for half in halves:
        half.transport.abort()
    for half in halves:
        await asyncio.wait_for(half.lost, _TIMEOUT_S)
    assert await settle() == {}


async def _arrived(half: Half) -> None:
    """If neither end was closed, wait until all that this one sent is with the other."""
    peer = half.peer
    assert peer is not None
    while not half.transport.is_closing() and not peer.transport.is_closing() and peer.received != half.sent:
        await asyncio.sleep(0.001)


def run(chance: random.Random) -> None:
    """One loop's life."""
    options: dict[str, Any] = {
        "sleep": chance.choice(("ring", "selector", "auto")),
        "without": frozenset(name for name in OPTIONAL if chance.random() < 0.15),
        "sq_entries": chance.choice((4, 64)),
        "cq_entries": chance.choice((8, 256)),
        "buffer_count": chance.choice((1, 2, 16)),
        "buffer_size_bytes": chance.choice((64, 4096)),
        "buffer_count_max": chance.choice((16, 64)),
        "bulk_stream_count_max": chance.choice((0, 1, 64)),
    }
    with asyncio.Runner(loop_factory=lambda: uringloop.new_event_loop(**options)) as runner:
        runner.run(_life(chance))
