"""Opening what opening has an effect on: once, and without taking the kernel workers of others."""

import asyncio
import ctypes
import os
import stat
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from uringloop import files

from .conftest import WITH_THREADS, Run

IN_MODIFY, IN_CLOSE_WRITE, IN_CLOSE_NOWRITE, IN_OPEN = 0x02, 0x08, 0x10, 0x20
#: More than there are kernel workers for files, whatever the number of CPUs.
WAITING = 4 * (os.cpu_count() or 1) + 4

with_threads = pytest.mark.parametrize("run", WITH_THREADS, indirect=True)


class Inotify:
    """The opens and closes of one path, by whatever process."""

    def __init__(self, path: str | Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        mask = IN_MODIFY | IN_OPEN | IN_CLOSE_NOWRITE | IN_CLOSE_WRITE
        assert libc.inotify_add_watch(self.fd, os.fsencode(path), mask) >= 0, os.strerror(ctypes.get_errno())

    def events(self) -> list[int]:
        """What happened since the last call."""
        masks = []
        try:
            data = os.read(self.fd, 65536)
        except BlockingIOError:
            return []
        while data:
            _, mask, _, name_bytes = struct.unpack_from("iIII", data)
            masks.append(mask)
            data = data[16 + name_bytes :]
        return masks

    def close(self) -> None:
        os.close(self.fd)


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


@pytest.fixture
def threads() -> Iterator[list[threading.Thread]]:
    started: list[threading.Thread] = []
    yield started
    for thread in started:
        thread.join(10)
        assert not thread.is_alive()


@with_threads
def test_a_fifo_keeps_the_reader_that_its_writer_has_met(run: Run, fifo: Path, threads: list[threading.Thread]) -> None:
    """A writer that waits goes on as soon as there is a reader; if that one goes away, it writes into nothing."""
    watch = Inotify(fifo)
    errors: list[OSError] = []

    def write() -> None:
        try:
            with open(fifo, "wb", 0) as file:
                file.write(b"content")
        except OSError as error:
            errors.append(error)

    async def main() -> None:
        for _ in range(20):
            thread = threading.Thread(target=write)
            thread.start()
            threads.append(thread)
            async with files.open(fifo, "rb") as file:
                closed_early = watch.events().count(IN_CLOSE_NOWRITE)
                assert await file.read() == b"content"
            # One wait for the writer, beside the reader that stays.
            assert closed_early <= 1
            assert watch.events().count(IN_CLOSE_NOWRITE) == 1

    run(main())
    watch.close()
    assert errors == []


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def a_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        os.close(os.open(path, os.O_RDWR))
    except OSError as error:
        pytest.skip(f"no devices here: {error}")


@with_threads
@pytest.mark.parametrize("make", [a_fifo, a_device])
def test_opened_and_closed_once(run: Run, tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Serial lines, tapes and others do something each time."""
    make(tmp_path / "special")
    watch = Inotify(tmp_path / "special")

    async def main() -> None:
        async with files.open(tmp_path / "special", "r+b", 0) as file:
            await file.write(b"content")

    run(main())
    assert watch.events() == [IN_OPEN, IN_MODIFY, IN_CLOSE_WRITE]
    watch.close()


@pytest.mark.parametrize("mode", ["rb", "wb", "ab"])
def test_opens_that_wait_for_another_process_stop_nobody_else(run: Run, tmp_path: Path, mode: str) -> None:
    """Kernel workers are few, and such an open may wait for ever."""

    async def main() -> None:
        for number in range(WAITING):
            os.mkfifo(tmp_path / f"fifo {number}")
        opening = [asyncio.ensure_future(opened(tmp_path / f"fifo {number}", mode)) for number in range(WAITING)]
        async with asyncio.timeout(20):
            # It is queued behind them, and nothing after it: neither wakes the other up.
            await files.os.mkdir(tmp_path / "folder")
            assert (await files.os.stat(tmp_path / "folder")).st_size
        assert not any(task.done() for task in opening)
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        async with asyncio.timeout(20):
            await files.write_bytes(tmp_path / "file", b"more content")

    run(main())


async def opened(path: Path, mode: str) -> files.BufferedReader | files.BufferedWriter:
    return await files.open(path, mode)
