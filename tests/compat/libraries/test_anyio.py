"""anyio on every loop, by `anyio.run(..., backend_options={"loop_factory": ...})`: what of it reaches the loop."""

import asyncio
import functools
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import uringloop
from tests.tls import client_context, server_context
from tests.variants import BOTH_SLEEPS, FACTORIES

from .needs import library

anyio = library("anyio")
tls = library("anyio.streams.tls")
from_thread = library("anyio.from_thread")

pytestmark = pytest.mark.compat

LARGE_BYTES = 2 << 20
_LOCAL_PORT = anyio.abc.SocketAttribute.local_port


@pytest.fixture(params=["asyncio", *BOTH_SLEEPS])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`anyio.run` on one loop after the other."""
    return functools.partial(anyio.run, backend_options={"loop_factory": FACTORIES[request.param]})


async def echo(stream: Any) -> None:
    async with stream:
        async for piece in stream:
            await stream.send(piece)


async def converse(stream: Any) -> None:
    """Send much and read it back at once, then say that this was all."""
    body = os.urandom(LARGE_BYTES)
    received = bytearray()

    async def send() -> None:
        for start in range(0, LARGE_BYTES, 100_000):
            await stream.send(body[start : start + 100_000])

    async with stream, anyio.create_task_group() as group:
        group.start_soon(send)
        while len(received) < LARGE_BYTES:
            received += await stream.receive()
    assert received == body


async def serve_and_converse(listener: Any, connect: Callable[[], Awaitable[Any]], clients: int = 5) -> None:
    async with listener, anyio.create_task_group() as server:
        server.start_soon(listener.serve, echo)
        async with anyio.create_task_group() as group:
            for _ in range(clients):
                group.start_soon(_connect_and_converse, connect)
        server.cancel_scope.cancel()


async def _connect_and_converse(connect: Callable[[], Awaitable[Any]]) -> None:
    await converse(await connect())


def test_loop_factory_among_the_backend_options() -> None:
    async def main() -> None:
        assert type(asyncio.get_running_loop()) is uringloop.EventLoop

    anyio.run(main, backend_options={"loop_factory": uringloop.new_event_loop})


def test_tcp(run: Callable[..., Any]) -> None:
    async def main() -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(_LOCAL_PORT)
        await serve_and_converse(listener, lambda: anyio.connect_tcp("127.0.0.1", port))

    run(main)


def test_tls(run: Callable[..., Any]) -> None:
    async def main() -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(_LOCAL_PORT)
        secure = tls.TLSListener(listener, server_context(), standard_compatible=False)

        def connect() -> Awaitable[Any]:
            return anyio.connect_tcp("localhost", port, ssl_context=client_context(), tls_standard_compatible=False)

        await serve_and_converse(secure, connect)

    run(main)


def test_unix_socket(run: Callable[..., Any], tmp_path: Path) -> None:
    async def main() -> None:
        listener = await anyio.create_unix_listener(tmp_path / "socket")
        await serve_and_converse(listener, lambda: anyio.connect_unix(tmp_path / "socket"))

    run(main)


def test_datagrams(run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with (
            await anyio.create_udp_socket(local_host="127.0.0.1") as server,
            await anyio.create_connected_udp_socket("127.0.0.1", server.extra(_LOCAL_PORT)) as client,
        ):
            for size_bytes in (1, 1400, 60_000):
                await client.send(bytes(size_bytes))
                packet, (host, port) = await server.receive()
                await server.sendto(packet, host, port)
                assert await client.receive() == bytes(size_bytes)

    run(main)


def test_processes(run: Callable[..., Any]) -> None:
    async def main() -> None:
        finished = await anyio.run_process([sys.executable, "-c", "print(input())"], input=b"hello\n")
        assert finished.stdout == b"hello\n"
        async with await anyio.open_process(["cat"]) as process:
            await process.stdin.send(b"there")
            assert await process.stdout.receive() == b"there"
            process.terminate()
            assert await process.wait() == -signal.SIGTERM

    run(main)


def test_threads(run: Callable[..., Any]) -> None:
    async def double(number: int) -> int:
        await anyio.sleep(0)
        return 2 * number

    async def main() -> None:
        answers = []

        async def there_and_back(number: int) -> None:
            answers.append(await anyio.to_thread.run_sync(from_thread.run, double, number))

        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(there_and_back, number)
        assert sorted(answers) == [2 * number for number in range(200)]

    run(main)


@pytest.mark.parametrize("loop", ["asyncio", *BOTH_SLEEPS])
def test_portal(loop: str) -> None:
    with from_thread.start_blocking_portal(backend_options={"loop_factory": FACTORIES[loop]}) as portal:
        listener = portal.call(functools.partial(anyio.create_tcp_listener, local_host="127.0.0.1"))
        port = portal.call(listener.extra, _LOCAL_PORT)
        serving = portal.start_task_soon(listener.serve, echo)
        with portal.wrap_async_context_manager(portal.call(anyio.connect_tcp, "127.0.0.1", port)) as stream:
            portal.call(stream.send, b"here")
            assert portal.call(stream.receive) == b"here"
        serving.cancel()
        portal.call(listener.aclose)


def test_signals(run: Callable[..., Any]) -> None:
    async def main() -> None:
        with anyio.open_signal_receiver(signal.SIGUSR1, signal.SIGUSR2) as received:
            for number in (signal.SIGUSR1, signal.SIGUSR2) * 10:
                os.kill(os.getpid(), number)
                assert await anext(received) == number

    run(main)


def test_waiting_for_a_socket(run: Callable[..., Any]) -> None:
    async def main() -> None:
        left, right = socket.socketpair()
        with left, right:
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.wait_readable, left)
                await anyio.wait_all_tasks_blocked()
                right.send(b"now")
            await anyio.wait_writable(left)
            with anyio.move_on_after(0.01) as scope:
                await anyio.wait_readable(right)
            assert scope.cancelled_caught

    run(main)
