"""Libraries that are built on asyncio's streams, with `uringloop.streams.install()`.

Redis is the real server, and aiosmtpd is one itself.  MySQL, RabbitMQ, NATS and the proxy are small peers (peers.py).
"""

import asyncio
import contextlib
import email.message
import importlib
import os
import smtplib
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from tests.tls import client_context, server_context
from tests.variants import DEFAULT
from uringloop import streams

from . import peers
from .databases import Database
from .needs import library

pytestmark = [pytest.mark.compat, pytest.mark.asyncio(loop_factories=(DEFAULT,))]


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    streams.install()
    yield
    streams.uninstall()


@contextlib.asynccontextmanager
async def serving(callback: Callable[..., Any], **options: Any) -> AsyncIterator[int]:
    """The port of a server whose connections are over when the block is."""
    handled: list[asyncio.Task[None]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert type(reader) is streams.StreamReader
        task = asyncio.current_task()
        assert task is not None
        handled.append(task)
        await callback(reader, writer)

    async with await asyncio.start_server(handle, "127.0.0.1", 0, **options) as server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*handled)


async def test_redis(redis_server: Database) -> None:
    redis = library("redis.asyncio")
    async with redis.Redis(host="localhost", port=redis_server.port) as client:
        await client.flushall()
        value = os.urandom(1 << 20)
        await client.set("key", value)
        assert await client.get("key") == value
        async with client.pipeline(transaction=True) as pipeline:
            for number in range(1000):
                pipeline.rpush("list", number)
            assert await pipeline.execute() == list(range(1, 1001))
        assert await client.lrange("list", 0, -1) == [b"%d" % number for number in range(1000)]
        async with client.client() as one:
            # That of redis-py 5 and later, by whichever parser.
            assert isinstance(one.connection._reader, streams.StreamReader)
            assert await one.ping()
        waiting = asyncio.ensure_future(client.blpop("queue"))
        while (await client.info("clients"))["blocked_clients"] == 0:
            pass
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await client.blpop("queue", timeout=0.01) is None


async def test_aiomysql() -> None:
    aiomysql = library("aiomysql")
    async with serving(peers.mysql) as port:
        connection = await aiomysql.connect(host="127.0.0.1", port=port, user="tester")
        assert isinstance(connection._writer, streams.StreamWriter)
        async with connection.cursor() as cursor:
            for count, size_bytes in ((1, 1), (500, 100), (3, 200_000)):
                await cursor.execute(f"SELECT {count}, {size_bytes}")
                assert await cursor.fetchall() == tuple((number, "x" * size_bytes) for number in range(count))
        await connection.ensure_closed()


async def test_aio_pika() -> None:
    aio_pika = library("aio_pika")
    broker = peers.Amqp(library("pamqp.frame"), library("pamqp.commands"))
    bodies = [os.urandom(size_bytes) for size_bytes in (1, 1000, 300_000)]
    async with (
        serving(broker.serve) as port,
        await aio_pika.connect(f"amqp://guest:guest@127.0.0.1:{port}/") as connection,
    ):
        channel = await connection.channel()
        queue = await channel.declare_queue("queue")
        for body in bodies:
            await channel.default_exchange.publish(aio_pika.Message(body), routing_key="queue")
        received = []
        async with queue.iterator() as messages:
            async for message in messages:
                await message.ack()
                received.append(message.body)
                if len(received) == len(bodies):
                    break
    assert received == bodies


async def test_nats() -> None:
    nats = library("nats")
    async with serving(peers.Nats().serve) as port:
        client = await nats.connect(f"nats://127.0.0.1:{port}")
        subscription = await client.subscribe("numbers")
        for number in range(300):
            await client.publish("numbers", b"%d" % number)
        messages = [await subscription.next_msg() for _ in range(300)]
        assert [int(message.data) for message in messages] == list(range(300))
        await client.close()


@pytest.mark.filterwarnings("ignore:.*ByteString:DeprecationWarning")  # its own, on Python 3.15
async def test_aiosmtpd() -> None:
    """With STARTTLS: the server empties the reader's `_buffer`, and gives it another `_transport`."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "aiosmtpd"]:
        del sys.modules[name]
    library("aiosmtpd")
    smtp = importlib.import_module("aiosmtpd.smtp")
    assert issubclass(smtp.SMTP, streams.StreamReaderProtocol)
    received = []

    class Handler:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            received.append(envelope.content)
            return "250 taken"

    def send(port: int) -> None:
        message = email.message.EmailMessage()
        message["Subject"], message["From"], message["To"] = "here", "me@localhost", "you@localhost"
        message.set_content("line\n" * 5000)
        with smtplib.SMTP("localhost", port) as client:
            client.starttls(context=client_context())
            for _ in range(2):
                client.send_message(message)

    loop = asyncio.get_running_loop()
    ended = []

    class Server(smtp.SMTP):  # type: ignore[name-defined,misc]
        def connection_lost(self, error: Exception | None) -> None:
            super().connection_lost(error)
            ended.append(asyncio.all_tasks() - before)
            over.set()

    before = asyncio.all_tasks()
    over = asyncio.Event()
    make = lambda: Server(Handler(), hostname="localhost", tls_context=server_context(), loop=loop)  # noqa: E731
    async with await loop.create_server(make, "localhost", 0) as server:
        await asyncio.to_thread(send, server.sockets[0].getsockname()[1])
        await over.wait()
    assert len(received) == 2
    assert received[0] == received[1]
    assert received[0].count(b"line\r\n") == 5000


async def test_aiohttp_through_a_proxy() -> None:
    aiohttp = library("aiohttp")
    body = os.urandom(1 << 20)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
        writer.write(body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with (
        serving(answer, ssl=server_context()) as port,
        serving(peers.proxy) as proxy_port,
        aiohttp.ClientSession() as session,
        session.get(
            f"https://localhost:{port}", proxy=f"http://127.0.0.1:{proxy_port}", ssl=client_context()
        ) as response,
    ):
        assert await response.read() == body
