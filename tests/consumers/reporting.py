"""The part of each application that its test asks: which loop serves, and endless events whose end is counted."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

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
