"""SQLAlchemy's asyncio extension, with asyncpg, with psycopg and with aiosqlite, which has a thread for each file."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import String, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.compat.libraries.databases import USER, Database

from .load import check_engine, statistics

pytestmark = pytest.mark.asyncio(loop_factories=("auto", "epoll"))


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str] = mapped_column(String)


@pytest.fixture(params=["asyncpg", "psycopg", "aiosqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path, postgresql: Database) -> str:
    if request.param == "aiosqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/database"
    return f"postgresql+{request.param}://{USER}@127.0.0.1:{postgresql.port}/postgres"


async def test_sessions(url: str) -> None:
    before = statistics()
    engine = create_async_engine(url, pool_size=8)
    sessions = async_sessionmaker(engine)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)

    # SQLite has one writer at a time.
    writers = asyncio.Semaphore(1 if "sqlite" in url else 8)

    async def add(number: int) -> None:
        async with writers, sessions.begin() as session:
            session.add(Item(id=number, text=f"{number}" * 1000))

    async def read(session: AsyncSession, number: int) -> str:
        return (await session.execute(select(Item.text).where(Item.id == number))).scalar_one()

    async def cancelled(number: int) -> None:
        adding = asyncio.ensure_future(add(number))
        for _ in range(number % 7):
            await asyncio.sleep(0)
        adding.cancel()
        await asyncio.wait([adding])

    await asyncio.gather(*map(add, range(200)))
    await asyncio.gather(*map(cancelled, range(1000, 1020)))
    async with sessions() as session:
        assert [await read(session, number) for number in range(200)] == [f"{number}" * 1000 for number in range(200)]
        count = (await session.execute(select(func.count()).select_from(Item).where(Item.id < 1000))).scalar_one()
        assert count == 200
        streamed = [item.id async for item in await session.stream_scalars(select(Item).where(Item.id < 200))]
        assert sorted(streamed) == list(range(200))
    with pytest.raises(IntegrityError):
        await add(5)
    await engine.dispose()
    if "asyncpg" in url:
        check_engine(before)
