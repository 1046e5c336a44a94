"""Calls that are cancelled at any moment, and descriptors whose numbers are used again at once."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random

from .counts import Counts, ask_streams, echo, held, judge, leaked, question

CONNECTIONS = 1024
_CALLS_OF_ONE = 20
_TURNS_MAX = 6

Ask = Callable[[bytes], Awaitable[bool]]


@contextlib.asynccontextmanager
async def _by_stream(address: tuple[str, int]) -> AsyncIterator[Ask]:
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield lambda line: ask_streams(reader, writer, line)
    finally:
        writer.transport.abort()


@contextlib.asynccontextmanager
async def _by_socket(address: tuple[str, int]) -> AsyncIterator[Ask]:
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, address)

        async def ask(line: bytes) -> bool:
            await loop.sock_sendall(sock, line)
            answer = bytearray()
            while not answer.endswith(b"\n"):
                data = await loop.sock_recv(sock, 1 << 16)
                if not data:
                    raise ConnectionResetError
                answer += data
            return answer == line

        yield ask


async def _interrupt(random: Random, asking: Awaitable[bool]) -> None:
    """Cancel a call after a few turns of the loop."""
    task = asyncio.ensure_future(asking)
    for _ in range(random.randrange(_TURNS_MAX)):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()


async def cancel_storm(seconds: float, random: Random, connections: int = CONNECTIONS) -> Counts:
    """Ask over many connections, cancel one call in four, and close its connection: the next one gets its number.

    Args:
        seconds: For how long.
        random: Chooses questions, calls, and moments.
        connections: How many clients ask at once.

    Returns:
        The outcomes of the calls that were not cancelled.
    """
    counts = Counts()
    server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=connections)
    address = server.sockets[0].getsockname()
    before = held()
    over = time.monotonic() + seconds

    async def client(who: int) -> None:
        number = 0
        while time.monotonic() < over:
            try:
                async with random.choice((_by_stream, _by_socket))(address) as ask:
                    for _ in range(random.randrange(1, _CALLS_OF_ONE)):
                        number += 1
                        asking = ask(question(random, who, number))
                        if random.random() < 0.25:
                            await _interrupt(random, asking)
                            break
                        await judge(counts, _awaited(asking))
            except OSError:
                counts.lost += 1

    await asyncio.gather(*map(client, range(connections)))
    counts.leaked = await leaked(before)
    server.close()
    await server.wait_closed()
    return counts


async def _awaited(asking: Awaitable[bool]) -> bool:
    return await asking


async def connects_cancelled(seconds: float, random: Random) -> Counts:
    """Cancel connects to a listener that is full, and use the numbers of their descriptors for connections at once.

    Args:
        seconds: For how long.
        random: Chooses the calls, and when they are cancelled.

    Returns:
        The outcomes of the connections after the cancelled ones.
    """
    counts = Counts()
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        before = held()
        over = time.monotonic() + seconds
        number = 0
        while time.monotonic() < over:
            number += 1
            if random.random() < 0.5:
                await _interrupt(random, _opened(full.getsockname()))
            else:
                with socket.socket() as sock:
                    sock.setblocking(False)
                    await _interrupt(random, _connected(loop, sock, full.getsockname()))
            await judge(counts, _converse(random, address, number))
        counts.leaked = await leaked(before)
    server.close()
    await server.wait_closed()
    return counts


async def _opened(address: tuple[str, int]) -> bool:
    _, writer = await asyncio.open_connection(*address)
    writer.close()
    return True


async def _connected(loop: asyncio.AbstractEventLoop, sock: socket.socket, address: tuple[str, int]) -> bool:
    await loop.sock_connect(sock, address)
    return True


async def _converse(random: Random, address: tuple[str, int], number: int) -> bool:
    async with random.choice((_by_stream, _by_socket))(address) as ask:
        return await ask(question(random, 0, number))
