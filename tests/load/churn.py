"""What comes and goes, many times over: short connections, timers.  Nothing of it may stay."""

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.housekeeping import open_descriptors, resident_bytes

_MESSAGE = b"x" * 100
_CONNECTIONS_AT_ONCE = 50
_TIMERS_AT_ONCE = 10_000


@dataclass(frozen=True)
class Footprint:
    """What the process holds."""

    resident_bytes: int
    blocks: int
    descriptors: int

    @classmethod
    def now(cls) -> "Footprint":
        gc.collect()
        return cls(resident_bytes(), sys.getallocatedblocks(), len(open_descriptors()))

    def __sub__(self, other: "Footprint") -> "Footprint":
        return Footprint(
            self.resident_bytes - other.resident_bytes,
            self.blocks - other.blocks,
            self.descriptors - other.descriptors,
        )


class _Answering(asyncio.Protocol):
    """Sends one message back and closes, so that what lingers in TIME_WAIT is the server's."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        self.transport.close()


class _Asking(asyncio.Protocol):
    def __init__(self) -> None:
        self.received = b""
        self.ended: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        transport.write(_MESSAGE)

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, error: Exception | None) -> None:
        if error is None:
            self.ended.set_result(self.received)
        else:
            self.ended.set_exception(error)


async def short_connections(count: int) -> None:
    """Connect, accept, one message each way, close: so many times, fifty at once."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Answering, "127.0.0.1", 0, backlog=1000)
    address = server.sockets[0].getsockname()
    left = iter(range(count))

    async def ask() -> None:
        for _ in left:
            _, protocol = await loop.create_connection(_Asking, *address)
            assert await protocol.ended == _MESSAGE

    await asyncio.gather(*(ask() for _ in range(_CONNECTIONS_AT_ONCE)))
    server.close()
    await server.wait_closed()


async def timers(count: int) -> None:
    """Set so many timers, ten thousand at once: a third fires, a third is cancelled, a third is a timeout's."""
    loop = asyncio.get_running_loop()
    for start in range(0, count, _TIMERS_AT_ONCE):
        size = min(_TIMERS_AT_ONCE, count - start)
        fired = 0
        all_fired = loop.create_future()

        def fire(expected: int = size // 3) -> None:
            nonlocal fired
            fired += 1
            if fired == expected:
                all_fired.set_result(None)  # noqa: B023

        cancelled = [loop.call_later(3600, fire) for _ in range(size // 3)]
        for number in range(size // 3):
            loop.call_later(number % 10 / 1000, fire)
        for handle in cancelled:
            handle.cancel()
        for _ in range(size - 2 * (size // 3)):
            async with asyncio.timeout(3600):  # noqa: ASYNC100  # its timer is all that is wanted
                pass
        if size >= 3:
            await all_fired


async def growth(churn: Callable[[int], Awaitable[None]], warm_up: int, count: int) -> Footprint:
    """What the process holds more after `count` than after `warm_up`."""
    await churn(warm_up)
    before = Footprint.now()
    await churn(count)
    return Footprint.now() - before
