"""The part of each application that its test asks: the loop that serves, endless events, a connection of its own."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

#: Sends bytes and returns the answer.
Ask = Callable[[bytes], Awaitable[bytes]]

STATIC = Path(os.environ.get("CONSUMERS_STATIC", "/nonexistent"))

_EVENT_INTERVAL_S = 0.005
_live = 0


def report() -> str:
    """Return JSON of the running loop's class and statistics, the process, and the count of event streams."""
    loop = asyncio.get_running_loop()
    kind = type(loop)
    statistics = getattr(loop, "statistics", dict)()
    return json.dumps(
        {
            "loop": f"{kind.__module__}.{kind.__qualname__}",
            "pid": os.getpid(),
            "backend": statistics.get("backend"),
            "streams": statistics.get("streams"),
            "bytes_received": statistics.get("bytes_received"),
            "live": _live,
        }
    )


async def numbers(count: int) -> AsyncIterator[int]:
    """Yield so many numbers, or numbers for ever where the count is 0; `report` counts those under way."""
    global _live
    _live += 1
    try:
        number = 0
        while count == 0 or number < count:
            yield number
            number += 1
            await asyncio.sleep(0 if count else _EVENT_INTERVAL_S)
    finally:
        _live -= 1


async def events(count: int) -> AsyncIterator[str]:
    """Yield `numbers` as server-sent events."""
    async for number in numbers(count):
        yield f"data: {number}\n\n"


@contextlib.asynccontextmanager
async def echoing() -> AsyncIterator[Ask]:
    """Serve an echo on the running loop, and yield a function that asks it over a connection."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                size = int.from_bytes(await reader.readexactly(4))
                writer.write(await reader.readexactly(size))
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())

        async def ask(data: bytes) -> bytes:
            writer.write(len(data).to_bytes(4) + data)
            return await reader.readexactly(len(data))

        yield ask
        writer.close()
        await writer.wait_closed()
