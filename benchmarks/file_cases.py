"""What `benchmarks.files` measures: the contenders, and the cases, which run in a process of the contender's own.

    python -m benchmarks.file_cases CONTENDER CASE FOLDER SECONDS

prints how much of it was done in a second.  A quarter of the time is warm-up, in which every byte that was read is
compared; then lengths and first bytes are, because comparing all would take about as long as reading does.
"""

import asyncio
import importlib
import itertools
import mmap
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.contenders import EPOLL

SMALL_FILES = 100
BLOCK_BYTES = 4096
PIECE_BYTES = 65536
LARGE_BYTES = 32 << 20
DIRECT_BYTES = 256 << 20
BLOCKS = LARGE_BYTES // BLOCK_BYTES
#: Writes, or seeks and reads, in one go.
STEPS = 1000
LINES = 20_000
TASKS = 64


@dataclass(frozen=True)
class Contender:
    """A library: its module, the package that has it, how it opens a file, and the loop that it runs on."""

    module: str
    package: str
    opener: str = "open"
    loop: str = "asyncio:SelectorEventLoop"

    def open(self) -> Callable[..., Any]:
        return getattr(importlib.import_module(self.module), self.opener)  # type: ignore[no-any-return]

    def new_loop(self) -> asyncio.AbstractEventLoop:
        module, _, factory = self.loop.partition(":")
        return getattr(importlib.import_module(module), factory)()  # type: ignore[no-any-return]


OURS = "uringloop"
#: The same on asyncio's loop, by a ring beside it.
BESIDE = "uringloop@asyncio"
SYNC = "open"
CONTENDERS = {
    OURS: Contender("uringloop.files", "uringloop", loop="uringloop:new_event_loop"),
    EPOLL: Contender("uringloop.files", "uringloop", loop="benchmarks.contenders:new_epoll_loop"),
    BESIDE: Contender("uringloop.files", "uringloop"),
    "aiofiles": Contender("aiofiles", "aiofiles"),
    "anyio": Contender("anyio", "anyio", opener="open_file"),
    "aiofile": Contender("aiofile", "aiofile", opener="async_open"),
    "turbofile": Contender("turbofile", "turbofile"),
    "urio": Contender("urio", "urio"),
    "asyncfiles": Contender("asyncfiles", "py-asyncfiles"),
    "blazio": Contender("blazio", "blazio", loop="blazio:new_event_loop"),
}


class WrongContent(Exception):
    """Something else was read or written than should have been."""


def block(number: int) -> bytes:
    """What is where in the files of bytes."""
    return number.to_bytes(8, "little") * (BLOCK_BYTES // 8)


def line(number: int) -> str:
    return f"line {number} of a text that is as long as lines are in logs and such\n"


def prepare(folder: Path, direct_bytes: int) -> None:
    """Make the files of all cases, the one that is read with O_DIRECT of this size if it is not 0."""
    for number in range(SMALL_FILES):
        (folder / f"small{number}").write_bytes(block(number))
    with (folder / "large").open("wb") as file:
        file.writelines(map(block, range(BLOCKS)))
    with (folder / "text").open("w", encoding="utf-8") as text:
        text.writelines(map(line, range(LINES)))
    if direct_bytes:
        with (folder / "direct").open("wb") as file:
            file.writelines(map(block, range(direct_bytes // BLOCK_BYTES)))
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def places(blocks: int) -> Iterator[int]:
    """Blocks in an order that no read-ahead foresees, each of them once before any again."""
    return (step * 3571 % blocks for step in itertools.count(1))


class Cases:
    """What both kinds of contender need.

    Attributes:
        thorough: compare every byte.
        excluded_s: time spent on what is not to be measured.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places = places(BLOCKS)
        self.thorough = True
        self.excluded_s = 0.0

    def check(self, data: bytes, number: int, blocks: int = 1) -> None:
        """That data is so many blocks from this one on."""
        expected = b"".join(map(block, range(number, number + blocks))) if self.thorough else b""
        right = data == expected if expected else data[:8] == number.to_bytes(8, "little")
        if not right or len(data) != blocks * BLOCK_BYTES:
            raise WrongContent(f"block {number} is not what it should be")

    def check_in_place(self, space: mmap.mmap, count: int, number: int) -> None:
        """The same of one block in memory, of which no more is copied than is compared."""
        if self.thorough:
            self.check(space[:count], number)
        elif count != BLOCK_BYTES or space[:8] != number.to_bytes(8, "little"):
            raise WrongContent(f"block {number} is not what it should be")

    def remove_new(self) -> None:
        """Remove the files that the last call wrote: all that it writes are new."""
        start = time.perf_counter()
        for path in self.folder.glob("new*"):
            if self.thorough:
                self.check(path.read_bytes(), int(path.name.removeprefix("new")))
            path.unlink()
        self.excluded_s += time.perf_counter() - start

    def check_lines(self, count: int, last: str) -> None:
        if count != LINES or last != line(LINES - 1):
            raise WrongContent(f"{count} lines, the last is {last!r}")

    def check_line(self, number: int, text: str) -> None:
        if text != line(number):
            raise WrongContent(f"line {number} is {text!r}")


class Sync(Cases):
    """The cases with the built-in `open`; each returns how much it did."""

    def open(self) -> int:
        for number in range(SMALL_FILES):
            with open(f"{self.folder}/small{number}", "rb") as file:
                self.check(file.read(), number)
        return SMALL_FILES

    def many(self) -> int:
        files = [open(f"{self.folder}/small{number}", "rb") for number in range(SMALL_FILES)]  # noqa: SIM115  # below
        for number, file in enumerate(files):
            self.check(file.read(), number)
        for file in files:
            file.close()
        return SMALL_FILES

    def new(self) -> int:
        self.remove_new()
        for number in range(SMALL_FILES):
            with open(f"{self.folder}/new{number}", "wb") as file:
                file.write(block(number))
        return SMALL_FILES

    def new_many(self) -> int:
        self.remove_new()
        files = [open(f"{self.folder}/new{number}", "wb") for number in range(SMALL_FILES)]  # noqa: SIM115  # below
        for number, file in enumerate(files):
            file.write(block(number))
        for file in files:
            file.close()
        return SMALL_FILES

    def read(self) -> int:
        count = 0
        with (self.folder / "large").open("rb") as file:
            while data := file.read(PIECE_BYTES):
                self.check(data, count // BLOCK_BYTES, PIECE_BYTES // BLOCK_BYTES)
                count += len(data)
        return count

    def write(self) -> int:
        data = block(STEPS)
        start = time.perf_counter()
        with (self.folder / "written").open("wb") as file:
            # To empty the old file takes longer than to write the new one.
            self.excluded_s += time.perf_counter() - start
            for _ in range(STEPS):
                file.write(data)
        return STEPS

    def seek(self) -> int:
        with (self.folder / "large").open("rb") as file:
            for number in itertools.islice(self.places, STEPS):
                file.seek(number * BLOCK_BYTES)
                self.check(file.read(BLOCK_BYTES), number)
        return STEPS

    seek64 = seek

    def lines(self) -> int:
        count = 0
        with (self.folder / "text").open(encoding="utf-8") as file:
            if self.thorough:
                for count, last in enumerate(file):
                    self.check_line(count, last)
                count += 1
            else:
                for last in file:  # noqa: B007  # used below
                    count += 1
        self.check_lines(count, last)
        return count


class Async(Cases):
    """The same with one of the libraries."""

    def __init__(self, folder: Path, opener: Callable[..., Any]) -> None:
        super().__init__(folder)
        self.opener = opener

    def opened(self, name: str, mode: str) -> Any:
        file = self.opener(f"{self.folder}/{name}", mode)
        # anyio's is a coroutine for the file.
        return file if hasattr(file, "__aenter__") else _Entered(file)

    async def _open(self, number: int) -> None:
        async with self.opened(f"small{number}", "rb") as file:
            self.check(await file.read(), number)

    async def open(self) -> int:
        for number in range(SMALL_FILES):
            await self._open(number)
        return SMALL_FILES

    async def many(self) -> int:
        await asyncio.gather(*map(self._open, range(SMALL_FILES)))
        return SMALL_FILES

    async def _new(self, number: int) -> None:
        async with self.opened(f"new{number}", "wb") as file:
            await file.write(block(number))

    async def new(self) -> int:
        self.remove_new()
        for number in range(SMALL_FILES):
            await self._new(number)
        return SMALL_FILES

    async def new_many(self) -> int:
        self.remove_new()
        await asyncio.gather(*map(self._new, range(SMALL_FILES)))
        return SMALL_FILES

    async def read(self) -> int:
        count = 0
        async with self.opened("large", "rb") as file:
            while data := await file.read(PIECE_BYTES):
                self.check(data, count // BLOCK_BYTES, PIECE_BYTES // BLOCK_BYTES)
                count += len(data)
        return count

    async def write(self) -> int:
        data = block(STEPS)
        start = time.perf_counter()
        async with self.opened("written", "wb") as file:
            self.excluded_s += time.perf_counter() - start
            for _ in range(STEPS):
                await file.write(data)
        return STEPS

    async def seek(self, count: int = STEPS) -> int:
        async with self.opened("large", "rb") as file:
            # Some only take note of the position, without a coroutine.
            seeking = file.seek(0)
            waits = hasattr(seeking, "__await__")
            if waits:
                await seeking
            for number in itertools.islice(self.places, count):
                if waits:
                    await file.seek(number * BLOCK_BYTES)
                else:
                    file.seek(number * BLOCK_BYTES)
                self.check(await file.read(BLOCK_BYTES), number)
        return count

    async def seek64(self) -> int:
        return sum(await asyncio.gather(*(self.seek(STEPS // 10) for _ in range(TASKS))))

    async def lines(self) -> int:
        count = 0
        async with self.opened("text", "r") as file:
            if self.thorough:
                async for last in file:  # used below
                    self.check_line(count, last)
                    count += 1
            else:
                async for last in file:  # noqa: B007  # used below
                    count += 1
        self.check_lines(count, last)
        return count

    async def direct(self) -> int:
        """Only ours: no other library reads at an offset into memory that is aligned."""
        from uringloop import files

        fd = os.open(self.folder / "direct", os.O_RDONLY | os.O_DIRECT)
        numbers = places(os.fstat(fd).st_size // BLOCK_BYTES)

        async def read(count: int) -> None:
            space = mmap.mmap(-1, BLOCK_BYTES)
            buffers = [space]
            for number in itertools.islice(numbers, count):
                count = await files.os.preadv(fd, buffers, number * BLOCK_BYTES)
                self.check_in_place(space, count, number)

        try:
            await asyncio.gather(*(read(STEPS // 10) for _ in range(TASKS)))
        finally:
            os.close(fd)
        return STEPS // 10 * TASKS


class _Entered:
    def __init__(self, opening: Awaitable[Any]) -> None:
        self.opening = opening

    async def __aenter__(self) -> Any:
        self.file = await self.opening
        return self.file

    async def __aexit__(self, *exception: object) -> None:
        await self.file.aclose()


def sample(contender: str, case: str, folder: Path, seconds: float) -> float:
    """How much was done in a second."""
    if contender == SYNC:
        sync = Sync(folder)
        rate = _rate(sync, getattr(sync, case), seconds)
    else:
        cases = Async(folder, CONTENDERS[contender].open())
        with asyncio.Runner(loop_factory=CONTENDERS[contender].new_loop) as event_loop:
            rate = event_loop.run(_async_rate(cases, getattr(cases, case), seconds))
    if case == "write" and (folder / "written").read_bytes() != block(STEPS) * STEPS:
        raise WrongContent("what was written is not what should have been")
    if case.startswith("new"):
        for number in range(SMALL_FILES):
            Cases(folder).check((folder / f"new{number}").read_bytes(), number)
    return rate


def _rate(cases: Cases, case: Callable[[], int], seconds: float) -> float:
    for cases.thorough, limit in ((True, seconds / 4), (False, seconds)):
        case()
        count, start, cases.excluded_s = 0, time.perf_counter(), 0.0
        while (passed := time.perf_counter() - start - cases.excluded_s) < limit:
            count += case()
    return count / passed


async def _async_rate(cases: Cases, case: Callable[[], Awaitable[int]], seconds: float) -> float:
    for cases.thorough, limit in ((True, seconds / 4), (False, seconds)):
        await case()
        count, start, cases.excluded_s = 0, time.perf_counter(), 0.0
        while (passed := time.perf_counter() - start - cases.excluded_s) < limit:
            count += await case()
    return count / passed


if __name__ == "__main__":
    contender, case, folder, seconds = sys.argv[1:]
    print(sample(contender, case, Path(folder), float(seconds)))
