"""Nobody starves: calls that return without waiting give others their turn after a bounded number in a row.

How many there are in a row is a matter of some hundred microseconds, and no call takes less than a tenth of one.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.variants import FILES
from uringloop import files

pytestmark = pytest.mark.asyncio(loop_factories=FILES)

TASKS = 2

Calls = AsyncIterator[None]


async def reads(path: Path) -> Calls:
    async with files.open(path, "rb") as file:
        while True:
            while await file.read(100):
                yield
            await file.seek(0)


async def raw_reads(path: Path) -> Calls:
    async with files.open(path, "rb", 0) as file:
        while True:
            while await file.read(4096):
                yield
            await file.seek(0)


async def reads_here_and_there(path: Path) -> Calls:
    async with files.open(path, "rb") as file:
        while True:
            await file.seek(50_000)
            yield
            await file.read(10)
            await file.seek(0)
            yield
            await file.read(10)


async def reads_into(path: Path) -> Calls:
    space = bytearray(300)
    async with files.open(path, "rb") as file:
        while True:
            while await file.readinto(space):
                yield
            await file.seek(0)


async def peeks(path: Path) -> Calls:
    async with files.open(path, "rb") as file:
        while await file.peek():
            yield


async def lines(path: Path) -> Calls:
    async with files.open(path, encoding="utf-8") as file:
        while True:
            async for _ in file:
                yield
            await file.seek(0)


async def readlines(path: Path) -> Calls:
    async with files.open(path, encoding="utf-8") as file:
        while True:
            while await file.readline():
                yield
            await file.seek(0)


async def characters(path: Path) -> Calls:
    async with files.open(path, encoding="utf-8") as file:
        while True:
            while await file.read(1):
                yield
            await file.seek(0)


async def writes(path: Path) -> Calls:
    async with files.open(path, "r+b") as file:
        while True:
            for _ in range(10_000):
                await file.write(b"0123456789")
                yield
            await file.seek(0)


async def texts(path: Path) -> Calls:
    async with files.open(path, "w", encoding="utf-8") as file:
        while True:
            for _ in range(10_000):
                await file.write("line\n")
                yield
            await file.seek(0)


async def whole_files(path: Path) -> Calls:
    while True:
        await files.read_bytes(path)
        yield


async def whole_files_and_work(path: Path) -> Calls:
    while True:
        await files.read_bytes(path)
        yield
        # Longer than a task may go on.
        sum(range(20_000))


async def statuses(path: Path) -> Calls:
    while True:
        await files.os.stat(path)
        yield


#: What is called, how often at most in a row, and how often in all.
CALLS = [
    *((calls, 10_000, 12_000) for calls in (reads, raw_reads, reads_here_and_there, reads_into, peeks, lines)),
    *((calls, 10_000, 12_000) for calls in (readlines, characters, writes)),
    (texts, 5_000, 30_000),
    (whole_files, 1_000, 1_500),
    (whole_files_and_work, 20, 100),
    (statuses, 1_000, 1_500),
]


@pytest.mark.parametrize(("calls", "in_a_row", "in_all"), CALLS, ids=[calls.__name__ for calls, *_ in CALLS])
async def test_bounded_number_in_a_row(
    tmp_path: Path, calls: Callable[[Path], Any], in_a_row: int, in_all: int
) -> None:
    """Of each task, between two turns of the loop and between two answers from a socket, which the loop must fetch."""
    path = tmp_path / "file"
    path.write_bytes(b"a line\n" * 20_000)
    loop = asyncio.get_running_loop()
    heard = {"turns": 0, "answers": 0}
    longest = dict.fromkeys(heard, 0)

    def tick() -> None:
        nonlocal ticking
        heard["turns"] += 1
        ticking = loop.call_soon(tick)

    async def answer(sock: socket.socket) -> None:
        while await loop.sock_recv(sock, 1):
            heard["answers"] += 1
            await loop.sock_sendall(sock, b"!")

    async def call_on() -> None:
        last, row = dict(heard), dict.fromkeys(heard, 0)
        running = calls(path)
        for _ in range(in_all):
            await anext(running)
            for what, number in heard.items():
                row[what] = row[what] + 1 if number == last[what] else 0
                last[what] = number
                longest[what] = max(longest[what], row[what])
        await running.aclose()

    ticking = loop.call_soon(tick)
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    answering = [asyncio.ensure_future(answer(end)) for end in ends]
    ends[0].send(b"?")
    await asyncio.gather(*(call_on() for _ in range(TASKS)))
    ticking.cancel()
    for task in answering:
        task.cancel()
    await asyncio.wait(answering)
    for end in ends:
        end.close()
    # To send and to receive takes a turn each, or two.
    assert longest["turns"] < in_a_row
    assert longest["answers"] < 5 * in_a_row
