"""Writes with a long computation after them: whether the peers have the bytes by then.

A callback writes to its connection, computes, and looks what the peer has.  In a tick of one such callback all of its
bytes must be there.  In a tick of many, the bytes of the earlier callbacks must be there once the tick has gone on for
long, and all bytes in the next tick.  The same is asked of what `data_received` writes.
"""

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_CONNECTIONS = 40
#: A tick that has gone on for so long has sent all that its earlier callbacks wrote.
_LONG_S = 0.001
#: What has not left never comes while the peer is read, so this only bears a busy machine.
_PATIENCE_S = 5
_CONTENT = bytes(range(251)) * 1000


@dataclass
class Counts:
    """What became of the writes: late ones came after their time, lost ones never, and wrong ones were other bytes."""

    ticks: int = 0
    writes: int = 0
    late: int = 0
    lost: int = 0
    wrong: int = 0

    def __str__(self) -> str:
        return f"{self.ticks} ticks, {self.writes} writes: {self.late} late, {self.lost} lost, {self.wrong} wrong"


class _Connection(asyncio.Protocol):
    """Writes when it is told to, and when it receives a byte; `peer` is the other end, read by blocking calls."""

    transport: Any

    def __init__(self, peer: socket.socket, counts: Counts, dice: random.Random) -> None:
        self.peer, self._counts, self._dice = peer, counts, dice
        self.written_bytes = self.seen_bytes = 0
        self.answers = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.write()
        self.answers += len(data)

    def write(self) -> None:
        pieces = [self._piece() for _ in range(self._dice.randint(1, 3))]
        if self._dice.random() < 0.2:
            self.transport.writelines(pieces)
        else:
            for piece in pieces:
                self.transport.write(piece)
        self._counts.writes += len(pieces)

    def _piece(self) -> bytes:
        size = self._dice.choice((1, 10, 200, 1000)) if self._dice.random() < 0.98 else 20_000
        start = self.written_bytes % 251
        self.written_bytes += size
        return _CONTENT[start : start + size]

    def look(self) -> bool:
        """Whether the peer has all that was written."""
        missing = self.written_bytes - self.seen_bytes
        if missing == 0:
            return True
        received = b""
        with contextlib.suppress(TimeoutError):
            while len(received) < missing:
                received += self.peer.recv(missing - len(received))
        start = self.seen_bytes % 251
        self._counts.wrong += received != _CONTENT[start : start + len(received)]
        self.seen_bytes += len(received)
        return len(received) == missing


@contextlib.contextmanager
def _pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        pairs = []
        for number in range(_CONNECTIONS):
            if number % 4:
                ours, peer = socket.socketpair()
            else:
                ours = socket.create_connection(listener.getsockname())
                peer, _ = listener.accept()
            peer.settimeout(_PATIENCE_S)
            stack.enter_context(peer)
            pairs.append((ours, peer))
        yield pairs


async def write_and_compute(seconds: float, seed: int = 0) -> Counts:
    """Do so for a while, with random numbers of callbacks a tick."""
    loop = asyncio.get_running_loop()
    counts, dice = Counts(), random.Random(seed)
    with _pairs() as pairs:
        connections = []
        for ours, peer in pairs:
            connection = _Connection(peer, counts, dice)
            await loop.create_connection(lambda made=connection: made, sock=ours)  # type: ignore[misc]
            connections.append(connection)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            chosen = dice.sample(connections, dice.choice((1, 1, 2, 5, 20, _CONNECTIONS)))
            if dice.random() < 0.5:
                await _tick(chosen, counts, dice)
            else:
                await _answers(chosen)
            # The first comes back in the tick of the writes.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            counts.late += sum(not each.look() for each in chosen)
            counts.ticks += 1
        counts.lost = sum(not each.look() for each in connections)
        for each in connections:
            each.transport.abort()
        await asyncio.sleep(0)
    return counts


async def _tick(chosen: list[_Connection], counts: Counts, dice: random.Random) -> None:
    """Have each of them write in one tick, and look at the peers of those before."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    begin_s = ended_s = 0.0  # of the tick's first callback, of the last one before

    def callback(place: int) -> None:
        nonlocal begin_s, ended_s
        if place == 0:
            begin_s = time.monotonic()
        elif ended_s - begin_s > _LONG_S and dice.random() < 0.3:
            counts.late += sum(not each.look() for each in chosen[:place])
        chosen[place].write()
        if dice.random() < 0.1:
            _compute(dice.uniform(0, 2 * _LONG_S))
        if len(chosen) == 1:
            counts.late += not chosen[0].look()
        ended_s = time.monotonic()
        if place == len(chosen) - 1:
            done.set_result(None)

    for place in range(len(chosen)):
        loop.call_soon(callback, place)
    await done


async def _answers(chosen: list[_Connection]) -> None:
    """Have each of them write when it receives something."""
    wanted = [(each, each.answers + 1) for each in chosen]
    for each in chosen:
        each.peer.send(b"?")
    while any(each.answers < number for each, number in wanted):
        await asyncio.sleep(0)


def _compute(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
