"""Calls of several tasks on one file: in the order in which they were made, with nothing lost, on each loop."""

import asyncio
import os
import random
from pathlib import Path
from typing import Any

import pytest

from uringloop import files
from uringloop.files.layers.lock import Lock

from .conftest import WITH_THREADS, Run

pytestmark = pytest.mark.parametrize("run", WITH_THREADS, indirect=True)

LINES = [f"{number} {'x' * (number * 37 % 400)}\n" for number in range(2000)]
KINDS = [("", -1), ("", 1), ("b", -1), ("b", 100), ("b", 0)]


def as_in(mode: str, text: str) -> Any:
    return text.encode() if "b" in mode else text


@pytest.mark.parametrize(("kind", "buffering"), KINDS)
def test_reads_come_in_order(run: Run, tmp_path: Path, kind: str, buffering: int) -> None:
    path = tmp_path / "file"
    path.write_text("".join(LINES))

    async def main() -> None:
        async with files.open(path, "r" + kind, buffering) as file:
            assert await asyncio.gather(*(file.readline() for _ in LINES)) == [as_in(kind, line) for line in LINES]
            assert await file.read() == as_in(kind, "")

    run(main())


@pytest.mark.parametrize(("kind", "buffering"), KINDS)
def test_writes_go_out_in_order(run: Run, tmp_path: Path, kind: str, buffering: int) -> None:
    async def main() -> None:
        async with files.open(tmp_path / "file", "w" + kind, buffering) as file:
            counts = await asyncio.gather(*(file.write(as_in(kind, line)) for line in LINES))
            assert counts == [len(line) for line in LINES]

    run(main())
    assert (tmp_path / "file").read_text() == "".join(LINES)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("kind", "buffering"), KINDS)
def test_tasks_that_come_and_go(run: Run, tmp_path: Path, kind: str, buffering: int, seed: int) -> None:
    """Each of some tasks calls whatever it likes; what was written is what is read, each line whole and once."""
    choice = random.Random(seed)
    path = tmp_path / "file"
    written: list[str] = []
    read: list[str] = []

    async def write(file: Any, own: list[str]) -> None:
        while own:
            part, own = own[: (count := choice.randrange(1, 5))], own[count:]
            written.extend(part)
            await file.write(as_in(kind, "".join(part)))
            if choice.random() < 0.3:
                await (file.flush() if choice.random() < 0.5 else asyncio.sleep(0))

    async def read_on(file: Any) -> None:
        while line := await file.readline():
            read.append(line if isinstance(line, str) else line.decode())
            if choice.random() < 0.3:
                await asyncio.sleep(0)

    async def main() -> None:
        async with files.open(path, "w" + kind, buffering) as file:
            await asyncio.gather(*(write(file, LINES[start:400:8]) for start in range(8)))
        async with files.open(path, "r" + kind, buffering) as file:
            await asyncio.gather(*(read_on(file) for _ in range(8)))

    run(main())
    assert sorted(written) == sorted(LINES[:400])
    assert path.read_text() == "".join(written)
    assert sorted(read) == sorted(written)


def test_a_call_that_is_cancelled_keeps_its_turn_until_it_has_ended(run: Run, tmp_path: Path) -> None:
    """What it was cancelled in the middle of is over before the next call begins."""
    path = tmp_path / "file"
    path.write_text("".join(LINES))

    async def main() -> None:
        async with files.open(path) as file:
            for _ in range(50):
                calls = [asyncio.ensure_future(file.readline()) for _ in range(4)]
                await asyncio.sleep(0)
                calls[1].cancel()
                lines = [line for line in await asyncio.gather(*calls, return_exceptions=True) if isinstance(line, str)]
                # Those that were read are whole lines, in order.
                numbers = [LINES.index(line) for line in lines]
                assert numbers == sorted(numbers)

    run(main())


def test_close_comes_after_the_calls_before_it(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        file = await files.open(tmp_path / "file", "w")
        calls = [asyncio.ensure_future(file.write(line)) for line in LINES[:100]]
        await asyncio.sleep(0)
        await file.close()
        await asyncio.gather(*calls)

    run(main())
    assert (tmp_path / "file").read_text() == "".join(LINES[:100])


def test_standard_streams(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with open(reader) as pipe, open(writer, "w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)

        async def main() -> None:
            await asyncio.gather(*(files.stdout.write(line) for line in LINES[:100]))
            await files.stdout.flush()

        run(main())
        assert [pipe.readline() for _ in range(100)] == LINES[:100]


def test_a_call_is_cancelled_in_the_tick_in_which_its_turn_would_come(run: Run) -> None:
    async def main() -> None:
        lock = Lock()
        await lock.acquire()
        first, second = asyncio.ensure_future(lock.acquire()), asyncio.ensure_future(lock.acquire())
        await asyncio.sleep(0)
        first.cancel()
        lock.release()
        with pytest.raises(asyncio.CancelledError):
            await first
        await second
        lock.release()
        assert not lock.locked

    run(main())
