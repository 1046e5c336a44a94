"""Functions on descriptors against those of `os`: results, errors, and bytes on the disk."""

import asyncio
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.variants import BACKENDS, DEFAULT, FILES
from uringloop.companion import submitter
from uringloop.files import os as aos
from uringloop.ring import Descriptor

pytestmark = pytest.mark.asyncio(loop_factories=FILES)


def buffers(*sizes: int) -> Callable[[], list[bytearray]]:
    return lambda: [bytearray(size) for size in sizes]


CALLS: list[tuple[Any, ...]] = [
    ("fstat",),
    ("fsync",),
    ("fdatasync",),
    ("pread", 3, 2),
    ("pread", 0, 0),
    ("pread", 100, 5),
    ("pread", 100, 5000),
    ("pread", -1, 0),
    ("pread", 3, -1),
    ("pread", 3, 1 << 62),
    ("pread", 3, 1 << 64),
    ("pread", "3", 0),
    ("pwrite", b"new", 2),
    ("pwrite", bytearray(b"new"), 100_000),
    ("pwrite", b"", 2),
    ("pwrite", b"new", -1),
    ("pwrite", "text", 0),
    ("preadv", buffers(2, 3), 1),
    ("preadv", buffers(2, 300), 1),
    ("preadv", buffers(2, 3), 1, 0),
    ("preadv", buffers(), 0),
    ("preadv", buffers(2), -5),
    ("preadv", buffers(2), 0, 1 << 20),
    ("preadv", [b"bytes"], 0),
    ("pwritev", [b"ab", b"", bytearray(b"cd")], 3),
    ("pwritev", [], 3),
    ("pwritev", [b"x"] * 1025, 3),
    ("pwritev", ["text"], 3),
    ("ftruncate", 3),
    ("ftruncate", 5 << 30),
    ("ftruncate", -1),
    ("posix_fallocate", 0, 100_000),
    ("posix_fallocate", 0, 0),
    ("posix_fallocate", -1, 5),
    ("posix_fadvise", 0, 0, os.POSIX_FADV_WILLNEED),
    ("posix_fadvise", 0, 5 << 30, os.POSIX_FADV_DONTNEED),
    ("posix_fadvise", 0, 0, 77),
]


def named(call: tuple[Any, ...]) -> str:
    return "-".join(str(part)[:20] for part in call)


async def outcome(function: Callable[..., Any], fd: int, arguments: tuple[Any, ...]) -> Any:
    settled = [part() if callable(part) else part for part in arguments]
    try:
        result = function(fd, *settled)
        if asyncio.iscoroutine(result):
            result = await result
    except Exception as error:
        return type(error), getattr(error, "errno", None), getattr(error, "filename", None)
    return [getattr(result, name) for name in ("st_size", "st_mode")] if name_of(result) else result, settled


def name_of(result: Any) -> bool:
    return isinstance(result, os.stat_result)


@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_RDONLY, os.O_WRONLY], ids=["rw", "r", "w"])
@pytest.mark.parametrize("call", CALLS, ids=named)
async def test_as_os(call: tuple[Any, ...], flags: int, tmp_path: Path) -> None:
    ends = []
    for module, name in ((os, "theirs"), (aos, "ours")):
        path = tmp_path / name
        path.write_bytes(b"0123456789")
        fd = os.open(path, flags)
        try:
            end = await outcome(getattr(module, call[0]), fd, call[1:])
        finally:
            os.close(fd)
        with path.open("rb") as file:
            ends.append((end, os.stat(path).st_size, file.read(200_000)))
    assert ends[1] == ends[0]


@pytest.mark.parametrize("call", [call for call in CALLS if call[0] != "pread" or call[1] == 3], ids=named)
@pytest.mark.parametrize("fd", [9999, -1, "1", 1 << 40])
@pytest.mark.asyncio(loop_factories=[DEFAULT])
async def test_wrong_descriptors_as_os(call: tuple[Any, ...], fd: Any) -> None:
    assert await outcome(getattr(aos, call[0]), fd, call[1:]) == await outcome(getattr(os, call[0]), fd, call[1:])


async def test_many_tasks_on_one_file(tmp_path: Path) -> None:
    content = random.Random(3).randbytes(1 << 20)
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        starts = range(0, len(content), 4096)
        await asyncio.gather(*(aos.pwrite(fd, content[start : start + 4096], start) for start in starts))
        pieces = await asyncio.gather(*(aos.pread(fd, 4096, start) for start in starts))
        assert b"".join(pieces) == content
    finally:
        os.close(fd)


async def test_cancelled_pread_frees_nothing_too_early(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(1 << 20))
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        for seed in range(300):
            choice = random.Random(seed)
            space = [bytearray(1 << 16) for _ in range(4)]
            task = asyncio.ensure_future(aos.preadv(fd, space, 0))
            for _ in range(choice.randrange(4)):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            del task
            await asyncio.sleep(0)
            for part in space:
                # Not while the kernel may write there.
                part.clear()
    finally:
        os.close(fd)


async def test_a_read_in_the_ring_holds_its_file_and_names_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    ring = submitter(asyncio.get_running_loop())
    assert ring is not None
    fd = os.open(path, os.O_RDONLY)
    reading: Any = ring.read_at(Descriptor(fd), bytearray(7), 0)
    reading.send(None)
    reading.close()
    os.fstat(fd)
    while ring.statistics()["in_flight"]:  # type: ignore[attr-defined]
        await asyncio.sleep(0.001)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        await ring.read_at(Descriptor(os.open(path, os.O_WRONLY), path), bytearray(7), 0)
    assert caught.value.filename == path


@pytest.mark.asyncio(loop_factories=list(BACKENDS))
async def test_a_disk_gets_reads_before_all_of_a_tick_are_staged(tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = random.Random(3).randbytes(64 * 512)
    path.write_bytes(content)
    loop: Any = asyncio.get_running_loop()
    with path.open("rb") as file:
        fd = file.fileno()
        before = loop.statistics()
        pieces = await asyncio.gather(*(aos.pread(fd, 512, number * 512) for number in range(64)))
        after = loop.statistics()
    assert b"".join(pieces) == content
    assert after["submitted"] - before["submitted"] >= 64
    assert after["enters"] - before["enters"] >= 64 / 8
