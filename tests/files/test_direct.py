"""Files past the page cache: any part of them, with registered buffers, without, and without a ring."""

import asyncio
import contextlib
import errno
import gc
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kernel import needs
from uringloop import files
from uringloop.companion import submitter
from uringloop.files import direct
from uringloop.ring import allocate

from .conftest import Run

CONTENT = random.Random(9).randbytes(300_001)

pytestmark = pytest.mark.parametrize("run", ["ring", "selector", "tiny", "asyncio"], indirect=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
    except OSError:
        pytest.skip("this file system has no O_DIRECT")
    return path


def as_it_is(monkeypatch: pytest.MonkeyPatch) -> bool:
    ring: Any = submitter(asyncio.get_running_loop())
    return bool(ring.ring.backend == "io_uring")


def with_somebody_else_s_buffers(monkeypatch: pytest.MonkeyPatch) -> bool:
    ring: Any = submitter(asyncio.get_running_loop())
    ring.ring.register_buffers([allocate(4096)])
    return False


def without_ring(monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(direct, "submitter", lambda loop: None)
    return False


WAYS = [as_it_is, pytest.param(with_somebody_else_s_buffers, marks=needs("registered buffers")), without_ring]


@pytest.mark.parametrize("prepare", WAYS)
def test_any_part(
    run: Run, path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[pytest.MonkeyPatch], bool]
) -> None:
    async def main() -> None:
        registered = prepare(monkeypatch)
        choice = random.Random(1)
        async with files.open_direct(path, poll=False) as file:
            assert file.has_registered_buffers == registered
            parts = [(0, 0), (0, 1), (len(CONTENT), 10), (len(CONTENT) + 9999, 10), (0, len(CONTENT) + 5)]
            for _ in range(60):
                parts.append((choice.randrange(len(CONTENT)), choice.choice([1, 511, 512, 4096, 65_536, 150_000])))
            for offset, length in parts:
                assert await file.pread(length, offset) == CONTENT[offset : offset + length], (offset, length)
        assert file.closed

    run(main())


@pytest.mark.parametrize("prepare", WAYS)
def test_write(
    run: Run, path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[pytest.MonkeyPatch], bool]
) -> None:
    async def main() -> None:
        prepare(monkeypatch)
        async with files.open_direct(path, "r+b") as file:
            block = file.block_size_bytes
            new = bytes(range(256)) * (block * 50 // 256)
            assert await file.pwrite(new, 2 * block) == len(new)
            assert await file.pread(len(new), 2 * block) == new
            assert await file.pwrite(bytearray(), 0) == 0
            for data, offset in ((new, 1), (new[1:], 0), (new, -block)):
                with pytest.raises(ValueError, match="multiples of"):
                    await file.pwrite(data, offset)
            assert path.read_bytes() == CONTENT[: 2 * block] + new + CONTENT[2 * block + len(new) :]

    run(main())


def test_more_at_a_time_than_there_are_buffers(run: Run, path: Path) -> None:
    async def main() -> None:
        async with files.open_direct(path) as file, files.open_direct(path) as other:
            offsets = random.Random(2).sample(range(len(CONTENT)), 300)
            parts = await asyncio.gather(*((file, other)[o % 2].pread(1000, o) for o in offsets))
            assert parts == [CONTENT[offset : offset + 1000] for offset in offsets]

    run(main())


def test_cancel(run: Run, path: Path) -> None:
    """Every buffer comes back, and not before the kernel is done with it."""

    async def main() -> None:
        async with files.open_direct(path, "r+b") as file:
            for seed in range(100):
                choice = random.Random(seed)
                calls = [file.pread(200_000, choice.randrange(100_000)), file.pwrite(CONTENT[:262_144], 0)]
                tasks = [asyncio.ensure_future(call) for call in calls]
                for _ in range(choice.randrange(8)):
                    await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
            buffers = file._buffers_for(direct._READ)
            assert len(buffers._free) == direct.BUFFERS
            assert await file.pread(len(CONTENT), 0) == CONTENT

    run(main())


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_close_waits_for_calls_under_way(run: Run, path: Path, is_cancelled: bool) -> None:
    async def main() -> None:
        file = await files.open_direct(path)
        fd = file.fileno()
        reading = [asyncio.ensure_future(file.pread(len(CONTENT), 0)) for _ in range(3)]
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(file.close())
        await asyncio.sleep(0)
        if is_cancelled:
            closing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await closing
        assert await asyncio.gather(*reading) == [CONTENT] * 3
        await asyncio.wait([closing])
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
        with pytest.raises(ValueError, match="closed"):
            await file.pread(1, 0)
        with pytest.raises(ValueError, match="closed"):
            file.fileno()
        await file.close()

    run(main())


def test_errors(run: Run, path: Path) -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError) as missing:
            await files.open_direct(path.with_name("missing"))
        assert missing.value.filename == str(path.with_name("missing"))
        for mode in ("r", "ab", "nonsense"):
            with pytest.raises(ValueError, match="mode"):
                files.open_direct(path, mode)
        async with files.open_direct(path) as file:
            with pytest.raises(OSError, match="Bad file descriptor") as not_writable:
                await file.pwrite(bytes(file.block_size_bytes), 0)
            assert (not_writable.value.errno, not_writable.value.filename) == (errno.EBADF, str(path))
            for length, offset in ((-1, 0), (1, -1)):
                with pytest.raises(ValueError, match="negative"):
                    await file.pread(length, offset)
        dropped = await files.open_direct(path)
        with pytest.warns(ResourceWarning, match="unclosed file <uringloop.files.DirectFile"):  # noqa: PT031
            del dropped
            gc.collect()

    run(main())
