"""asyncpg and a real PostgreSQL: transports and protocols, TLS after a plain word, cancels on a second connection."""

import asyncio
import io
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.tls import client_context
from tests.variants import BOTH_SLEEPS

from .databases import USER, Database, insert_both
from .needs import library

asyncpg = library("asyncpg")

pytestmark = [pytest.mark.compat, pytest.mark.asyncio(loop_factories=("asyncio", *BOTH_SLEEPS))]


def address(postgresql: Database) -> dict[str, Any]:
    return {"host": "localhost", "port": postgresql.port, "user": USER, "database": "postgres", "ssl": False}


@pytest_asyncio.fixture
async def connection(postgresql: Database) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(**address(postgresql))
    yield connection
    await connection.close()


async def test_values_and_transactions(connection: Any) -> None:
    await connection.execute("CREATE TEMPORARY TABLE t (id int PRIMARY KEY, body bytea)")
    body = os.urandom(8 << 20)
    async with connection.transaction():
        await connection.execute("INSERT INTO t VALUES ($1, $2)", 1, body)
    with pytest.raises(asyncpg.UniqueViolationError):
        await insert_both(connection)
    assert [tuple(row) for row in await connection.fetch("SELECT * FROM t")] == [(1, body)]


async def test_cursor(connection: Any) -> None:
    async with connection.transaction():
        numbers = [row["n"] async for row in connection.cursor("SELECT generate_series(1, 1000) AS n", prefetch=7)]
    assert numbers == list(range(1, 1001))


async def test_listen_and_notify(postgresql: Database, connection: Any) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    await connection.add_listener("news", lambda connection, pid, channel, payload: heard.put_nowait(payload))
    speaker = await asyncpg.connect(**address(postgresql))
    for number in range(100):
        await speaker.execute("SELECT pg_notify('news', $1)", str(number))
    await speaker.close()
    assert [await heard.get() for _ in range(100)] == [str(number) for number in range(100)]


async def test_copy(connection: Any) -> None:
    await connection.execute("CREATE TEMPORARY TABLE t (id int, word text)")
    records = [(number, f"word {number}") for number in range(20_000)]
    assert await connection.copy_records_to_table("t", records=records) == "COPY 20000"
    output = io.BytesIO()
    await connection.copy_from_query("SELECT * FROM t ORDER BY id", output=output)
    assert output.getvalue() == "".join(f"{number}\t{word}\n" for number, word in records).encode()
    assert await connection.copy_to_table("t", source=io.BytesIO(output.getvalue())) == "COPY 20000"
    assert await connection.fetchval("SELECT count(*) FROM t") == 40_000


async def test_query_that_is_cancelled(postgresql: Database, connection: Any) -> None:
    asking = asyncio.ensure_future(connection.execute("SELECT pg_sleep(600)"))
    watcher = await asyncpg.connect(**address(postgresql))
    active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid = $1"
    while await watcher.fetchval(active, connection.get_server_pid()) == 0:
        pass
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    with pytest.raises(asyncio.TimeoutError):
        await connection.execute("SELECT pg_sleep(600)", timeout=0.5)
    assert await connection.fetchval("SELECT 7") == 7
    while await watcher.fetchval(active, connection.get_server_pid()) > 0:
        pass
    await watcher.close()


async def test_connection_that_the_server_ends(postgresql: Database, connection: Any) -> None:
    lost = asyncio.Event()
    victim = await asyncpg.connect(**address(postgresql))
    victim.add_termination_listener(lambda connection: lost.set())
    asking = asyncio.ensure_future(victim.execute("SELECT pg_sleep(600)"))
    await asyncio.sleep(0)
    assert await connection.fetchval("SELECT pg_terminate_backend($1)", victim.get_server_pid())
    with pytest.raises((asyncpg.AdminShutdownError, asyncpg.ConnectionDoesNotExistError)):
        await asking
    await lost.wait()
    assert victim.is_closed()


async def test_thousands_at_once(postgresql: Database) -> None:
    async with asyncpg.create_pool(**address(postgresql), min_size=1, max_size=20) as pool:
        asked = [pool.fetchval("SELECT $1::int + 1", number) for number in range(3000)]
        assert await asyncio.gather(*asked) == list(range(1, 3001))


async def test_tls(postgresql: Database) -> None:
    options = address(postgresql) | {"ssl": client_context()}
    async with asyncpg.create_pool(**options, min_size=3, max_size=3) as pool:
        body = os.urandom(3 << 20)
        query = "SELECT $1::bytea, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        answers = await asyncio.gather(*[pool.fetchrow(query, body) for _ in range(6)])
        assert [tuple(row) for row in answers] == [(body, True)] * 6


async def test_unix_socket(postgresql: Database) -> None:
    options = address(postgresql) | {"host": str(postgresql.folder)}
    connection = await asyncpg.connect(**options)
    assert await connection.fetchval("SELECT inet_client_addr()") is None
    await connection.close()
