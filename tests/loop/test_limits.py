"""Limits of readers and of write buffers that are not small integers: asyncio multiplies and compares them."""

import asyncio
import math
import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
import pytest_asyncio

from .helpers import LOCALHOST, Recorder, facing_socket, pattern


class Comparable:
    """No number, but twice it can be compared with one."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def __le__(self, other: int) -> bool:
        return self.limit <= other

    def __lt__(self, other: int) -> bool:
        return self.limit < other

    def __ge__(self, other: int) -> bool:
        return self.limit >= other

    def __rmul__(self, factor: int) -> "Comparable":
        return Comparable(factor * self.limit)


class Integer(int):
    """An integer of another class."""


LARGE = [
    sys.maxsize,
    1 << 62,
    1 << 63,
    1 << 64,
    math.inf,
    1e300,
    Decimal("Infinity"),
    Comparable(1 << 64),
    Integer(1 << 64),
]
SMALL = [1, 0.5, 1.0, True, Decimal(1), Fraction(1, 2), Comparable(1), Integer(1)]
SIZE_BYTES = 200_000


def described(limit: Any) -> str:
    return f"{type(limit).__name__}-{getattr(limit, 'limit', limit)}"


@pytest_asyncio.fixture
async def peer() -> AsyncIterator[tuple[str, int]]:
    """An address that sends many bytes to each connection, and its end."""

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(pattern(SIZE_BYTES))
        writer.close()

    async with await asyncio.start_server(send, LOCALHOST, 0) as server:
        yield server.sockets[0].getsockname()


@pytest.mark.asyncio
@pytest.mark.parametrize("limit", LARGE + SMALL, ids=described)
async def test_a_reader_takes_any_limit(peer: tuple[str, int], limit: Any) -> None:
    reader, writer = await asyncio.open_connection(*peer, limit=limit)
    assert await reader.readexactly(SIZE_BYTES) == pattern(SIZE_BYTES)
    writer.close()
    await writer.wait_closed()


@pytest.mark.asyncio
@pytest.mark.parametrize("limit", SMALL, ids=described)
async def test_a_small_limit_pauses(peer: tuple[str, int], limit: Any) -> None:
    reader, writer = await asyncio.open_connection(*peer, limit=limit)
    while not reader._paused:  # type: ignore[attr-defined]
        await asyncio.sleep(0)
    assert await reader.readexactly(SIZE_BYTES) == pattern(SIZE_BYTES)
    writer.close()
    await writer.wait_closed()


@pytest.mark.asyncio
@pytest.mark.parametrize("limit", LARGE, ids=described)
async def test_a_large_limit_does_not_pause(peer: tuple[str, int], limit: Any) -> None:
    reader, writer = await asyncio.open_connection(*peer, limit=limit)
    while not reader.at_eof() and len(reader._buffer) < SIZE_BYTES:  # type: ignore[attr-defined]
        assert not reader._paused  # type: ignore[attr-defined]
        await asyncio.sleep(0)
    assert await reader.readexactly(SIZE_BYTES) == pattern(SIZE_BYTES)
    writer.close()
    await writer.wait_closed()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("high", "low"),
    [(math.inf, 0), (1 << 64, 0), (1 << 64, 1 << 63), (math.inf, math.inf), (1e6, 10.5), (Decimal(10**6), Decimal(1))],
)
async def test_write_buffers_take_any_limits(high: Any, low: Any) -> None:
    async with facing_socket(Recorder()) as (protocol, _):
        transport = protocol.transport
        transport.set_write_buffer_limits(high=high, low=low)
        assert transport.get_write_buffer_limits()[1] == high
        while transport.get_write_buffer_size() < 1_000_000:
            assert "pause_writing" not in protocol.calls
            transport.write(bytes(100_000))
        transport.write(bytes(200_000))
        assert protocol.count("pause_writing") == (high < 1 << 62)
        transport.abort()


@pytest.mark.asyncio
async def test_a_low_limit_with_a_fraction() -> None:
    async with facing_socket(Recorder()) as (protocol, peer):
        protocol.transport.set_write_buffer_limits(high=1000.5, low=10.5)
        protocol.transport.write(bytes(1_000_000))
        assert protocol.count("pause_writing") == 1
        received_bytes = 0
        loop = asyncio.get_running_loop()
        while received_bytes < 1_000_000:
            received_bytes += len(await loop.sock_recv(peer, 1 << 16))
        await protocol.until_called("resume_writing")


@pytest.mark.asyncio
@pytest.mark.parametrize(("high", "low"), [(math.nan, None), (math.inf, None), (1, 2.5), (math.inf, -1), (-1.5, None)])
async def test_limits_that_are_refused(high: Any, low: Any) -> None:
    async with facing_socket(Recorder()) as (protocol, _):
        before = protocol.transport.get_write_buffer_limits()
        with pytest.raises(ValueError, match="must be >="):
            protocol.transport.set_write_buffer_limits(high=high, low=low)
        assert protocol.transport.get_write_buffer_limits() == before
