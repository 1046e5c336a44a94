"""websockets: its server and its client, on every loop and with TLS; the server alone under `uringloop.run`."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.tls import client_context, server_context
from tests.variants import BOTH_SLEEPS

from .needs import library
from .processes import running
from .sockets_client import ConnectionClosed, check_echo, open_websocket

client = library("websockets.asyncio.client")
server = library("websockets.asyncio.server")

pytestmark = pytest.mark.compat
on_every_loop = pytest.mark.asyncio(loop_factories=("asyncio", *BOTH_SLEEPS))
both_ways = pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])


async def echo(connection: Any) -> None:
    async for message in connection:
        if message == "close":
            await connection.close(4000)
            return
        await connection.send(message)


@contextlib.asynccontextmanager
async def serving(secure: bool, **options: Any) -> AsyncIterator[str]:
    context = server_context() if secure else None
    async with server.serve(echo, "127.0.0.1", 0, ssl=context, max_size=None, **options) as listening:
        yield f"{'wss' if secure else 'ws'}://localhost:{listening.sockets[0].getsockname()[1]}"


def connect(address: str, **options: Any) -> Any:
    context = client_context() if address.startswith("wss:") else None
    return client.connect(address, ssl=context, max_size=None, **options)


@on_every_loop
@both_ways
async def test_messages_of_all_sizes(secure: bool) -> None:
    async with serving(secure) as address, connect(address) as connection:
        for size_bytes in (0, 1, 125, 126, 65_535, 65_536, 3_000_000):
            message = os.urandom(size_bytes)
            await connection.send(message)
            assert await connection.recv() == message
        await (await connection.ping())


@on_every_loop
@both_ways
async def test_fragments_both_ways_at_once(secure: bool) -> None:
    pieces = [os.urandom(100_000) for _ in range(50)]

    async def send() -> None:
        await connection.send(pieces)
        await connection.send("last")

    async with serving(secure, compression=None) as address, connect(address, compression=None) as connection:
        sending = asyncio.ensure_future(send())
        assert await connection.recv() == b"".join(pieces)
        assert await connection.recv() == "last"
        await sending


@on_every_loop
async def test_hundreds_of_connections_at_once() -> None:
    async def converse(number: int) -> list[str]:
        async with connect(address) as connection:
            for count in range(10):
                await connection.send(f"{number} {count}")
            return [await connection.recv() for _ in range(10)]

    async with serving(False) as address:
        heard = await asyncio.gather(*map(converse, range(200)))
    assert heard == [[f"{number} {count}" for count in range(10)] for number in range(200)]


@on_every_loop
@both_ways
async def test_server_that_ends_tells_its_clients(secure: bool) -> None:
    async with contextlib.AsyncExitStack() as clients:
        async with serving(secure) as address:
            connections = [await clients.enter_async_context(connect(address)) for _ in range(10)]
        for connection in connections:
            with pytest.raises(ConnectionClosed) as closed:
                await connection.recv()
            assert closed.value.rcvd.code == 1001


@on_every_loop
async def test_client_that_is_silent_is_given_up() -> None:
    async with serving(False, ping_interval=0.02, ping_timeout=0.02) as address:
        host, port = address.removeprefix("ws://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"GET / HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        # A ping, then a close frame with the code 1011 since no pong came.
        assert b"\x03\xf3keepalive ping timeout" in await reader.read()
        writer.close()
        await writer.wait_closed()


SERVER = """
import asyncio
import signal

import uringloop
from websockets.asyncio.server import serve
from tests.compat.libraries.test_websockets import echo


async def main():
    loop = asyncio.get_running_loop()
    async with serve(echo, "127.0.0.1", 0, max_size=None) as server:
        loop.add_signal_handler(signal.SIGTERM, server.close)
        print("listening on", server.sockets[0].getsockname()[1], flush=True)
        await server.wait_closed()


uringloop.run(main())
"""


def test_server_that_is_told_to_end() -> None:
    with running([sys.executable, "-W", "error", "-c", SERVER]) as server:
        port = int(server.until_says(r"listening on (\d+)")[0])
        check_echo(port)
        with open_websocket(port) as connection:
            server.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:
                connection.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
        assert server.wait() == 0
