"""psycopg, pyzmq and grpc.aio for a long time: every answer is compared, many calls are cancelled, and nothing stays.

Each watches descriptors of its own by `add_reader` and `add_writer`, and closes some of them while the loop runs.
"""

import asyncio
import importlib
import itertools
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

_AT_ONCE = 8
#: A connection, or a pair of sockets, serves so many calls; then comes another one.
_CALLS_OF_ONE = 50
#: One in so many calls is cancelled after a few turns of the loop.
_CANCELLED = 10
_TURNS_MAX = 5

Call = Callable[[int], Coroutine[Any, Any, bool]]


async def _in_turns(count: int, calling: Callable[[], Any]) -> None:
    """Make so many calls, some at once, each worker with one thing after the other of those that `calling` opens."""
    left = iter(range(count))

    async def work() -> None:
        while mine := list(itertools.islice(left, _CALLS_OF_ONE)):
            async with calling() as call:
                for number in mine:
                    await _one(call, number)

    await asyncio.gather(*(work() for _ in range(_AT_ONCE)))


async def _one(call: Call, number: int) -> None:
    """Make a call, or cancel it and make it again: a cancel leaves the connection in order."""
    if number % _CANCELLED == 0:
        calling = asyncio.ensure_future(call(number))
        for _ in range(random.randrange(_TURNS_MAX)):
            await asyncio.sleep(0)
        calling.cancel()
        await asyncio.wait([calling])
        assert calling.cancelled() or calling.result()
    assert await call(number)


def _body(number: int) -> bytes:
    """Short ones, and at times one of many packets."""
    return number.to_bytes(8, "big") * (1 if number % 20 else 50_000)


async def psycopg_queries(count: int, dsn: str) -> None:
    """Ask so many times, over a new connection after each few."""
    psycopg = importlib.import_module("psycopg")

    @asynccontextmanager
    async def calling() -> AsyncIterator[Call]:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:

            async def ask(number: int) -> bool:
                cursor = await connection.execute("SELECT %b::bytea", (_body(number),), binary=True)
                return bool(await cursor.fetchone() == (_body(number),))

            yield ask

    await _in_turns(count, calling)


async def pyzmq_messages(count: int) -> None:
    """Send so many messages over pairs of sockets, by TCP and within the process in turns, and get each back."""
    zmq, zmq_asyncio = importlib.import_module("zmq"), importlib.import_module("zmq.asyncio")
    pairs = itertools.count()
    context = zmq_asyncio.Context()

    @asynccontextmanager
    async def calling() -> AsyncIterator[Call]:
        number = next(pairs)
        near, far = context.socket(zmq.DEALER), context.socket(zmq.DEALER)
        far.bind("tcp://127.0.0.1:*" if number % 2 else f"inproc://{number}")
        near.connect(far.getsockopt(zmq.LAST_ENDPOINT).decode().rstrip("\0"))

        async def answer() -> None:
            while True:
                await far.send(await far.recv())

        async def ask(number: int) -> bool:
            body = _body(number)
            await near.send(body)
            # The answer to a call that was cancelled comes before.
            while (answered := await near.recv()) != body:
                if answered[:8] >= body[:8]:
                    return False
            return True

        answering = asyncio.ensure_future(answer())
        try:
            yield ask
        finally:
            answering.cancel()
            await asyncio.wait([answering])
            near.close(linger=0)
            far.close(linger=0)

    await _in_turns(count, calling)
    context.term()


async def grpc_calls(count: int) -> None:
    """Call so many times over channels to a server in this loop."""
    grpc, grpc_aio = importlib.import_module("grpc"), importlib.import_module("grpc.aio")

    async def echo(request: bytes, _: Any) -> bytes:
        return request

    server = grpc_aio.server()
    methods = {"Call": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Echo", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    @asynccontextmanager
    async def calling() -> AsyncIterator[Call]:
        async with grpc_aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary("/Echo/Call")

            async def ask(number: int) -> bool:
                return bool(await call(_body(number)) == _body(number))

            yield ask

    try:
        await _in_turns(count, calling)
    finally:
        await server.stop(None)
    await _closed(port)


async def _closed(port: int) -> None:
    """Wait for the end of this process's sockets of a TCP port: threads of grpc's own close them, some time later."""
    async with asyncio.timeout(10):
        while _sockets_of_port(port) & _sockets_of_process():
            await asyncio.sleep(0.01)


def _sockets_of_port(port: int) -> set[str]:
    """The inodes of the TCP sockets with this port at either end, by proc_net(5)."""
    end = f":{port:04X}"
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/self/net", name).read_text().splitlines()]
    return {fields[9] for fields in lines if fields[1].endswith(end) or fields[2].endswith(end)}


def _sockets_of_process() -> set[str]:
    """The inodes of the sockets that this process has open, by proc_pid_fd(5)."""
    inodes = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            kind, _, inode = os.readlink(entry).partition(":")
            if kind == "socket":
                inodes.add(inode.strip("[]"))
    return inodes


#: The soaks that need nothing but their library.
ALONE: dict[str, Callable[[int], Awaitable[None]]] = {"pyzmq": pyzmq_messages, "grpc": grpc_calls}
