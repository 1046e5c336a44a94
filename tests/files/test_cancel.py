"""Cancelling at every await: no byte lost, no byte twice, no descriptor left, and memory released only afterwards.

Schedules come from seeds.  A cancel comes some turns of the loop after the call, or some microseconds after.
"""

import asyncio
import errno
import gc
import os
import random
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.housekeeping import open_descriptors
from uringloop import files

from .conftest import Run, quiet

SCHEDULES = 200
CONTENT = random.Random(4).randbytes(400_000)


async def cancelled_sometime(choice: random.Random, call: Coroutine[Any, Any, Any]) -> Any:
    """The call's result, or None if the cancel came first."""
    task = asyncio.ensure_future(call)
    if choice.random() < 0.7:
        for _ in range(choice.randrange(8)):
            await asyncio.sleep(0)
    else:
        await asyncio.sleep(choice.random() * 0.0005)
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return None


def test_open(run: Run, tmp_path: Path) -> None:
    (tmp_path / "fifo").parent.mkdir(exist_ok=True)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_bytes(b"content")

    async def opened(name: str, mode: str, opener: Any) -> files.BufferedReader:
        return await files.open(tmp_path / name, mode, opener=opener)

    async def main() -> None:
        finished = 0
        for seed in range(SCHEDULES):
            choice = random.Random(seed)
            name, mode = choice.choice([("file", "rb"), ("new", "wb"), ("fifo", "rb"), ("fifo", "wb"), (".", "rb")])
            opener = os.open if choice.random() < 0.2 and name != "fifo" else None
            try:
                file = await cancelled_sometime(choice, opened(name, mode, opener))
            except IsADirectoryError:
                continue
            if file is not None:
                finished += 1
                await file.close()
        assert 0 < finished < SCHEDULES

    run(main())


def test_with_block(run: Run, tmp_path: Path) -> None:
    """The usual way to be cancelled: within `async with`, at any of its awaits."""
    path = tmp_path / "file"

    async def copy(seed: int) -> None:
        async with files.open(path, "wb") as file:
            await file.write(b"%d" % seed)
            await file.flush()
            await file.write(CONTENT)
            await file.write(b"end")
        async with files.open(path, "rb") as file:
            while await file.read(50_000):
                pass

    async def main() -> None:
        for seed in range(SCHEDULES):
            await cancelled_sometime(random.Random(seed), copy(seed))

    run(main())


@pytest.mark.parametrize("buffering", [-1, 0, 1000])
@pytest.mark.parametrize("mode", ["wb", "ab"])
def test_write(run: Run, tmp_path: Path, mode: str, buffering: int) -> None:
    """`tell` says how much of a cancelled write is written, and that much it is."""
    path = tmp_path / "file"

    async def schedule(seed: int) -> None:
        choice = random.Random(seed)
        expected = b""
        path.write_bytes(b"")
        async with files.open(path, mode, buffering) as file:
            for _ in range(5):
                data = choice.randbytes(choice.choice([1, 999, 5000, 70_000, 300_000]))
                await cancelled_sometime(choice, file.write(data))
                if choice.random() < 0.3:
                    await cancelled_sometime(choice, file.flush())
                position = await file.tell()
                assert len(expected) <= position <= len(expected) + len(data)
                expected += data[: position - len(expected)]
        assert path.read_bytes() == expected, seed

    async def main() -> None:
        for seed in range(SCHEDULES // 4):
            await schedule(seed)

    run(main())


@pytest.mark.parametrize("buffering", [-1, 0, 1000])
def test_read(run: Run, tmp_path: Path, buffering: int) -> None:
    """A cancelled read leaves the file where it was."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT)

    async def schedule(seed: int) -> None:
        choice = random.Random(seed)
        position = 0
        async with files.open(path, "rb", buffering) as file:
            for _ in range(8):
                size = choice.choice([1, 999, 5000, 70_000, -1])
                call = choice.choice([file.read, file.readline, lambda size: file.readinto(bytearray(abs(size)))])
                answer = await cancelled_sometime(choice, call(size))
                if isinstance(answer, bytes):
                    assert answer == CONTENT[position : position + len(answer)], seed
                    position += len(answer)
                elif answer is not None:
                    position += answer
                assert await file.tell() == position, seed

    async def main() -> None:
        for seed in range(SCHEDULES // 4):
            await schedule(seed)

    run(main())


@pytest.mark.parametrize("buffering", [-1, 0, 1000])
def test_no_byte_of_a_pipe_is_lost(run: Run, buffering: int) -> None:
    async def main() -> None:
        reader, writer = os.pipe()

        def write() -> None:
            choice = random.Random(5)
            view = memoryview(CONTENT)
            while view:
                view = view[os.write(writer, view[: choice.randrange(1, 3000)]) :]
            os.close(writer)

        writing = threading.Thread(target=write)
        writing.start()
        choice = random.Random(6)
        received, cancelled = b"", 0
        async with files.open(reader, "rb", buffering) as file:
            while len(received) < len(CONTENT):
                size = choice.choice([1, 10, 3000, 20_000])
                call = choice.choice([file.read, file.readline])
                data = await cancelled_sometime(choice, call(size))
                if data is None:
                    cancelled += 1
                else:
                    received += data
            assert await file.read() == b""
        writing.join()
        assert received == CONTENT
        assert cancelled > 20

    run(main())


def test_no_byte_into_a_pipe_is_lost_or_doubled(run: Run) -> None:
    async def main() -> None:
        reader, writer = os.pipe()
        received = bytearray()

        def read() -> None:
            choice = random.Random(7)
            while data := os.read(reader, choice.randrange(1, 5000)):
                received.extend(data)
            os.close(reader)

        reading = threading.Thread(target=read)
        reading.start()
        choice = random.Random(8)
        expected = 0
        async with files.open(writer, "wb", 5000) as file:
            for _ in range(SCHEDULES):
                data = choice.randbytes(choice.choice([10, 2000]))
                # Small enough to be buffered or not at all.
                if await cancelled_sometime(choice, file.write(data)) is not None:
                    expected += len(data)
        reading.join()
        assert len(received) == expected

    run(main())


@pytest.mark.parametrize("turns", range(6))
def test_cancelled_close_still_writes_and_closes(run: Run, tmp_path: Path, turns: int) -> None:
    path = tmp_path / "file"

    async def main() -> None:
        file = await files.open(path, "wb")
        await file.write(b"content")
        fd = file.fileno()
        closing = asyncio.ensure_future(file.close())
        for _ in range(turns):
            await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])
        if not turns:
            # It had not begun.
            assert not file.closed
        await file.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)

    run(main())
    assert path.read_bytes() == b"content"


def test_close_cancelled_many_times(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "file"

    async def main() -> None:
        for seed in range(SCHEDULES):
            choice = random.Random(seed)
            file = await files.open(path, "wb")
            data = choice.randbytes(choice.randrange(60_000))
            await file.write(data)
            for _ in range(choice.randrange(4)):
                await cancelled_sometime(choice, file.close())
            await file.close()
            assert path.read_bytes() == data, seed

    run(main())


def test_everything_cancelled_at_the_end_of_run(tmp_path: Path) -> None:
    """`asyncio.run` cancels what is left, also a close under way: what was written is there all the same."""
    import uringloop

    path = tmp_path / "file"
    before = open_descriptors()

    async def main(turns: int) -> None:
        file = await files.open(path, "wb")
        await file.write(b"%d" % turns)
        # Kept by the loop alone, for the length of this test.
        main.closing = asyncio.ensure_future(file.close())  # type: ignore[attr-defined]
        for _ in range(turns):
            await asyncio.sleep(0)

    for turns in range(1, 6):
        uringloop.run(main(turns))
        assert path.read_bytes() == b"%d" % turns
    gc.collect()
    assert open_descriptors() == before


def test_close_of_a_pipe_that_nobody_reads(run: Run) -> None:
    """It waits for as long as it takes; cancelled by the end of the loop or by hand, it drops what is not written."""

    async def main() -> None:
        reader, writer = os.pipe()
        file = await files.open(writer, "wb", 200_000)
        await file.write(bytes(150_000))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await file.close()
        assert file.closed
        assert file._closing is not None
        file._closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await file._closing
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(writer)
        os.close(reader)

    run(main())


def test_close_waits_for_a_read_and_closes_when_cancelled(run: Run) -> None:
    async def main() -> None:
        reader, writer = os.pipe()
        file = await files.open(reader, "rb")
        reading = asyncio.ensure_future(file.read(10))
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await file.close()
        os.write(writer, b"0123456789")
        assert await reading == b"0123456789"
        await file.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(reader)
        os.close(writer)

    run(main())


def test_failure_of_a_cancelled_close_is_reported(run: Run) -> None:
    async def main() -> None:
        reported: list[dict[str, Any]] = []
        heard = asyncio.Event()

        def hear(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            reported.append(context)
            heard.set()

        asyncio.get_running_loop().set_exception_handler(hear)
        file = await files.open("/dev/full", "wb")
        await file.write(b"content")
        closing = asyncio.ensure_future(file.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await asyncio.wait_for(heard.wait(), 10)
        assert [context["exception"].errno for context in reported] == [errno.ENOSPC]

    run(main())


def test_memory_is_free_when_a_cancelled_call_returns(run: Run, tmp_path: Path) -> None:
    """A bytearray cannot be resized while the kernel may use it."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT)

    async def main() -> None:
        async with files.open(path, "r+b") as file:
            for seed in range(SCHEDULES):
                choice = random.Random(seed)
                memory = bytearray(200_000)
                await cancelled_sometime(choice, choice.choice([file.readinto, file.write])(memory))
                # Also the cancelled task's traceback, which asyncio holds until the next turn, is gone.
                await asyncio.sleep(0)
                gc.collect()
                memory.clear()
                await file.seek(0)

    run(main())


def test_thrown_away_calls(run: Run, tmp_path: Path) -> None:
    """A coroutine that is dropped in the middle, not cancelled: the kernel goes on alone, and hurts nobody."""
    path = tmp_path / "file"

    async def main() -> None:
        for turns in range(6):
            path.write_bytes(CONTENT)
            async with files.open(path, "r+b") as file:
                for call in (file.read(100_000), file.write(bytes(100_000)), file.read(1), file.seek(0, os.SEEK_END)):
                    for _ in range(turns):
                        try:
                            call.send(None)
                        except (StopIteration, RuntimeError):
                            break
                        await asyncio.sleep(0)
                    call.close()
        for name, mode in (("file", "wb"), (".", "rb")):
            opening = files.open(tmp_path / name, mode).__await__()
            # Somebody is ready, so it waits for the loop.
            asyncio.get_running_loop().call_soon(lambda: None)
            opening.send(None)
            opening.close()
        await quiet()

    run(main())
