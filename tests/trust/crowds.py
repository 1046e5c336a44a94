"""A server with more clients than descriptors, and one under floods of data."""

import argparse
import asyncio
import dataclasses
import json
import resource
import socket
import subprocess
import sys
import time
from random import Random

from tests.children import ROOT, environment
from tests.housekeeping import open_descriptors, resident_bytes

from .counts import Counts, ask_streams, echo, held, judge, leaked, question

_CROWD = 200
#: So many descriptors a server may have besides those that it holds at the start.
_SPARE = 40
_STAY_S = 0.02
_FLOOD = 200
_FLOOD_BYTES = 1 << 20
_FLOODS_MIN = 3


async def too_few_descriptors(seconds: float, random: Random) -> Counts:
    """Serve 200 clients of another process with 40 descriptors.

    Args:
        seconds: For how long the clients come back.
        random: Chooses their questions.

    Returns:
        The outcomes of the clients: each connects, asks, stays for a moment, and leaves.
    """
    listener = socket.create_server(("127.0.0.1", 0), backlog=_CROWD)
    # Before the server starts: io_uring keeps to the limit of the moment at which an accept begins.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_descriptors()) + 1 + _SPARE, hard))
    server = await asyncio.start_server(echo, sock=listener, backlog=_CROWD)
    port = listener.getsockname()[1]
    options = ["-m", "tests.trust.crowds", str(port), str(seconds), str(random.randrange(1 << 30))]
    with _start(options) as crowd:
        before = held()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: None)  # asyncio reports each refused accept there
        output, _ = await loop.run_in_executor(None, crowd.communicate)
        counts = Counts(**json.loads(output))
    # The crowd's pipe and its process are gone.
    counts.leaked = await leaked(before - 2)
    server.close()
    return counts


def _start(options: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, *options], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)


async def _crowd(port: int, seconds: float, random: Random) -> Counts:
    counts = Counts()
    over = time.monotonic() + seconds

    async def visit(line: bytes) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            right = await ask_streams(reader, writer, line)
            await asyncio.sleep(_STAY_S)
            return right
        finally:
            writer.transport.abort()

    async def client(who: int) -> None:
        number = 0
        while time.monotonic() < over:
            number += 1
            await judge(counts, visit(question(random, who, number)))

    await asyncio.gather(*map(client, range(_CROWD)))
    return counts


async def floods(seconds: float, random: Random) -> Counts:
    """Take a mebibyte from each of 200 connections at once, again and again.

    Args:
        seconds: For how long, and three times at least.
        random: Chooses the data.

    Returns:
        The outcomes of the connections, and by how much the memory grew in the second half of them.
    """
    counts = Counts()
    loop = asyncio.get_running_loop()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = 0
        while data := await reader.read(1 << 16):
            size += len(data)
        writer.write(b"%d\n" % size)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0, backlog=_FLOOD)
    address = server.sockets[0].getsockname()
    data = random.randbytes(_FLOOD_BYTES)

    async def pour() -> bool:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(data)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer == b"%d\n" % _FLOOD_BYTES

    before = held()
    resident: list[int] = []
    over = loop.time() + seconds
    while loop.time() < over or len(resident) < _FLOODS_MIN:
        await asyncio.gather(*(judge(counts, pour()) for _ in range(_FLOOD)))
        counts.leaked = await leaked(before)
        resident.append(resident_bytes() // 1024)
    counts.grown_kib = max(0, resident[-1] - resident[len(resident) // 2])
    server.close()
    await server.wait_closed()
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.trust.crowds", description="The clients of a small server.")
    parser.add_argument("port", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("seed", type=int)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    counts = asyncio.run(_crowd(options.port, options.seconds, Random(options.seed)))
    print(json.dumps(dataclasses.asdict(counts)))


if __name__ == "__main__":
    main()
