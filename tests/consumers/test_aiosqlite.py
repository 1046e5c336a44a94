"""aiosqlite, whose thread for each connection calls back by `call_soon_threadsafe`."""

import asyncio
from pathlib import Path

import aiosqlite
import pytest

from .load import statistics

pytestmark = pytest.mark.asyncio(loop_factories=("auto", "epoll"))


async def test_rows_of_several_connections(tmp_path: Path) -> None:
    statistics()
    async with aiosqlite.connect(tmp_path / "database") as database:
        await database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)")
        await database.executemany("INSERT INTO t VALUES (?, ?)", [(number, "x" * number) for number in range(2000)])
        await database.commit()

    async def read(number: int) -> None:
        async with aiosqlite.connect(tmp_path / "database") as database:
            for row in range(number, 2000, 20):
                async with database.execute("SELECT text FROM t WHERE id = ?", (row,)) as cursor:
                    assert await cursor.fetchone() == ("x" * row,)
            async with database.execute("SELECT id FROM t ORDER BY id") as cursor:
                assert [row[0] async for row in cursor] == list(range(2000))

    await asyncio.gather(*map(read, range(20)))


async def test_cancelled_query(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    begun = asyncio.Event()
    endless = "WITH RECURSIVE n(x) AS (SELECT begin() UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
    async with aiosqlite.connect(tmp_path / "database") as database:
        await database.create_function("begin", 0, lambda: loop.call_soon_threadsafe(begun.set) and 1)
        querying = asyncio.ensure_future(database.execute_fetchall(endless))
        await begun.wait()
        querying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await querying
        await database.interrupt()
        assert list(await database.execute_fetchall("SELECT 1")) == [(1,)]
