"""redis-py's asyncio client, which is built on streams, and a real Redis."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.tls import CERTIFICATE
from tests.variants import BOTH_SLEEPS

from .databases import Database
from .needs import library

redis = library("redis.asyncio")
exceptions = library("redis.exceptions")

pytestmark = [pytest.mark.compat, pytest.mark.asyncio(loop_factories=("asyncio", *BOTH_SLEEPS))]


@pytest_asyncio.fixture
async def client(redis_server: Database) -> AsyncIterator[Any]:
    async with redis.Redis(host="localhost", port=redis_server.port) as client:
        await client.flushall()
        yield client


async def test_values_of_all_sizes(client: Any) -> None:
    for size_bytes in (0, 1, 65_536, 16 << 20):
        value = os.urandom(size_bytes)
        await client.set("key", value)
        assert await client.get("key") == value


async def test_pipeline_and_transaction(client: Any) -> None:
    async with client.pipeline(transaction=True) as pipeline:
        for number in range(5000):
            pipeline.rpush("list", number)
        assert await pipeline.execute() == list(range(1, 5001))
    assert await client.lrange("list", 0, -1) == [b"%d" % number for number in range(5000)]
    async with client.pipeline() as pipeline:
        await pipeline.watch("watched")
        pipeline.multi()
        pipeline.set("watched", "mine")
        await client.set("watched", "other")
        with pytest.raises(exceptions.WatchError):
            await pipeline.execute()


async def test_publish_and_subscribe(client: Any) -> None:
    async with client.pubsub(ignore_subscribe_messages=True) as subscription:
        await subscription.subscribe("news")
        await subscription.psubscribe("n*")
        # What it says to each subscription comes first.
        for _ in range(2):
            await subscription.get_message(timeout=None)
        for number in range(200):
            assert await client.publish("news", number) == 2
        heard = [await _next(subscription) for _ in range(400)]
    for kind in ("message", "pmessage"):
        assert [int(one["data"]) for one in heard if one["type"] == kind] == list(range(200))


async def _next(subscription: Any) -> Any:
    while (message := await subscription.get_message(timeout=None)) is None:
        pass
    return message


async def test_pop_that_waits_and_pop_that_is_cancelled(redis_server: Database, client: Any) -> None:
    async def blocked() -> None:
        while (await client.info("clients"))["blocked_clients"] == 0:
            pass

    waiting = asyncio.ensure_future(client.blpop("queue"))
    await blocked()
    await client.rpush("queue", "given")
    assert await waiting == (b"queue", b"given")

    waiting = asyncio.ensure_future(client.blpop("queue"))
    await blocked()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await client.blpop("queue", timeout=0.01) is None


async def test_thousands_at_once(redis_server: Database) -> None:
    pool = redis.BlockingConnectionPool(host="localhost", port=redis_server.port, max_connections=50, timeout=None)
    async with redis.Redis.from_pool(pool) as client:
        await client.set("counter", 0)
        assert sorted(await asyncio.gather(*[client.incr("counter") for _ in range(5000)])) == list(range(1, 5001))


async def test_connection_that_the_server_ends(client: Any) -> None:
    async with client.client() as victim:
        name = await victim.client_id()
        assert await client.client_kill_filter(_id=name) == 1
        # It connects once more by itself.
        assert await victim.client_id() != name


async def test_tls(redis_server: Database) -> None:
    options = {"ssl": True, "ssl_ca_certs": str(CERTIFICATE)}
    async with redis.Redis(host="localhost", port=redis_server.tls_port, **options) as client:
        value = os.urandom(3 << 20)
        await client.set("key", value)
        assert await client.get("key") == value


async def test_unix_socket(redis_server: Database) -> None:
    async with redis.Redis(unix_socket_path=str(redis_server.folder / "socket")) as client:
        assert await client.ping()
