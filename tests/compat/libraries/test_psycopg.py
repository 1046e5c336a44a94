"""psycopg's asynchronous connections and a real PostgreSQL: libpq's sockets, watched by add_reader and add_writer."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.tls import CERTIFICATE
from tests.variants import BOTH_SLEEPS

from .databases import USER, Database, insert_both
from .needs import library

psycopg = library("psycopg")

pytestmark = [pytest.mark.compat, pytest.mark.asyncio(loop_factories=("asyncio", *BOTH_SLEEPS))]


async def connect(postgresql: Database, **options: Any) -> Any:
    address = {"host": "localhost", "port": postgresql.port, "user": USER, "dbname": "postgres", "autocommit": True}
    return await psycopg.AsyncConnection.connect(**address | options)


@pytest_asyncio.fixture
async def connection(postgresql: Database) -> AsyncIterator[Any]:
    async with await connect(postgresql) as connection:
        yield connection


async def value(connection: Any, query: str, *arguments: Any) -> Any:
    row = await (await connection.execute(query, arguments)).fetchone()
    return row[0]


async def test_values_and_transactions(connection: Any) -> None:
    await connection.execute("CREATE TEMPORARY TABLE t (id int PRIMARY KEY, body bytea)")
    body = os.urandom(8 << 20)
    async with connection.transaction():
        await connection.execute("INSERT INTO t VALUES (%s, %b)", (1, body))
    with pytest.raises(psycopg.errors.UniqueViolation):
        await insert_both(connection)
    cursor = connection.cursor(binary=True)
    await cursor.execute("SELECT * FROM t")
    assert await cursor.fetchall() == [(1, body)]


async def test_cursor_of_the_server(connection: Any) -> None:
    async with connection.transaction(), connection.cursor("numbers") as cursor:
        cursor.itersize = 7
        await cursor.execute("SELECT generate_series(1, 1000)")
        assert [row[0] async for row in cursor] == list(range(1, 1001))


async def test_listen_and_notify(postgresql: Database, connection: Any) -> None:
    await connection.execute("LISTEN news")

    async def speak() -> None:
        async with await connect(postgresql) as speaker:
            for number in range(100):
                await speaker.execute("SELECT pg_notify('news', %s)", (str(number),))

    speaking = asyncio.ensure_future(speak())
    heard = [notice.payload async for notice in connection.notifies(stop_after=100)]
    await speaking
    assert heard[:100] == [str(number) for number in range(100)]


async def test_copy(connection: Any) -> None:
    await connection.execute("CREATE TEMPORARY TABLE t (id int, word text)")
    records = [(number, f"word {number}") for number in range(20_000)]
    async with connection.cursor() as cursor:
        async with cursor.copy("COPY t FROM STDIN") as copy:
            for record in records:
                await copy.write_row(record)
        async with cursor.copy("COPY (SELECT * FROM t ORDER BY id) TO STDOUT") as copy:
            copied = b"".join([bytes(block) async for block in copy])
    assert copied == "".join(f"{number}\t{word}\n" for number, word in records).encode()


async def test_pipeline(connection: Any) -> None:
    async with connection.pipeline(), contextlib.AsyncExitStack() as stack:
        cursors = [await stack.enter_async_context(connection.cursor()) for _ in range(1000)]
        for number, cursor in enumerate(cursors):
            await cursor.execute("SELECT %s::int", (number,))
        assert [(await cursor.fetchone())[0] for cursor in cursors] == list(range(1000))


async def test_query_that_is_cancelled(postgresql: Database, connection: Any) -> None:
    asking = asyncio.ensure_future(connection.execute("SELECT pg_sleep(600)"))
    async with await connect(postgresql) as watcher:
        active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid = %s"
        while await value(watcher, active, connection.info.backend_pid) == 0:
            pass
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        while await value(watcher, active, connection.info.backend_pid) > 0:
            pass
    assert await value(connection, "SELECT 7") == 7


async def test_connection_that_the_server_ends(postgresql: Database, connection: Any) -> None:
    victim = await connect(postgresql)
    asking = asyncio.ensure_future(victim.execute("SELECT pg_sleep(600)"))
    await asyncio.sleep(0)
    assert await value(connection, "SELECT pg_terminate_backend(%s)", victim.info.backend_pid)
    with pytest.raises(psycopg.OperationalError):
        await asking
    await victim.close()


async def test_thousands_at_once(postgresql: Database) -> None:
    numbers = iter(range(3000))
    answers: list[int] = []

    async def ask() -> None:
        async with await connect(postgresql) as connection:
            for number in numbers:
                answers.append(await value(connection, "SELECT %s::int", number))

    await asyncio.gather(*[ask() for _ in range(20)])
    assert sorted(answers) == list(range(3000))


async def test_tls(postgresql: Database) -> None:
    body = os.urandom(3 << 20)
    async with await connect(postgresql, sslmode="verify-full", sslrootcert=str(CERTIFICATE)) as connection:
        assert await value(connection, "SELECT %b::bytea", body) == body
        assert await value(connection, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")


async def test_unix_socket(postgresql: Database) -> None:
    async with await connect(postgresql, host=str(postgresql.folder)) as connection:
        assert await value(connection, "SELECT inet_client_addr()") is None
