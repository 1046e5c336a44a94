"""Children that are started while connections are busy."""

import asyncio
import contextlib
import time
from random import Random

from .counts import Counts, ask_streams, echo, held, judge, leaked, question

_CONNECTIONS = 32
_SPAWNERS = 4


async def spawn_under_load(seconds: float, random: Random) -> Counts:
    """Start children that copy their input and end with a status, while 32 connections echo.

    Args:
        seconds: For how long.
        random: Chooses inputs and statuses.

    Returns:
        The outcomes of the children and of the questions; `wrong` is another output, or another status.
    """
    counts = Counts()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    assert await _copy(random)  # the first child makes things that stay
    before = held()
    over = time.monotonic() + seconds

    async def spawn() -> None:
        while time.monotonic() < over:
            await judge(counts, _copy(random))

    async def client(who: int) -> None:
        reader, writer = await asyncio.open_connection(*address)
        number = 0
        with contextlib.closing(writer):
            while time.monotonic() < over:
                number += 1
                await judge(counts, ask_streams(reader, writer, question(random, who, number)))

    await asyncio.gather(*(spawn() for _ in range(_SPAWNERS)), *map(client, range(_CONNECTIONS)))
    counts.leaked = await leaked(before)
    server.close()
    await server.wait_closed()
    return counts


async def _copy(random: Random) -> bool:
    status, data = random.randrange(100), random.randbytes(random.choice((10, 200_000)))
    process = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        f"cat; exit {status}",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate(data)
    return output == data and process.returncode == status
