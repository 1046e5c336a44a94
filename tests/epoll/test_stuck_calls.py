"""Calls that never return, in the threads of the pool: neither the loop nor its end waits for them."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import uringloop
from uringloop import files
from uringloop.operations import Open
from uringloop.pool._cffi import ffi, lib

MORE_THAN_THREADS = 80
THREADS_MIN = 8


def counts() -> tuple[int, int]:
    """Return the numbers of the pool's busy threads and of its queued jobs."""
    found = ffi.new("ul_pool_counts *")
    lib.ul_pool_count(found)
    return found.threads - found.idle, found.queued


class LeasedFile:
    """A file whose opens wait until its lease ends."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self.path = path
        self._fd = os.open(path, os.O_RDWR)
        fcntl.fcntl(self._fd, fcntl.F_SETSIG, signal.SIGURG)  # in place of SIGIO, which would end this process
        fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)

    def let_go(self) -> None:
        """Have the opens return."""
        fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def leased(tmp_path: Path) -> Iterator[LeasedFile]:
    file = LeasedFile(tmp_path / "leased")
    yield file
    file.close()


async def open_and_cancel(leased: LeasedFile, count: int) -> list[Open]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, uringloop.EventLoop)
    opens = [Open(str(leased.path), os.O_RDONLY) for _ in range(count)]
    tasks = [asyncio.ensure_future(loop.submit(operation)) for operation in opens]
    busy = 0
    while busy < min(count, THREADS_MIN) or busy != counts()[0]:
        await asyncio.sleep(0)
        busy, _ = counts()
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ended)
    return opens


@pytest.mark.asyncio(loop_factories=["epoll"])
async def test_a_loop_goes_on_beside_them(leased: LeasedFile) -> None:
    opens = await open_and_cancel(leased, MORE_THAN_THREADS)
    detained = [operation for operation in opens if operation.detained]
    assert detained
    assert all(operation.in_flight for operation in detained)
    other = leased.path.with_name("other")
    await files.write_bytes(other, b"written")
    assert await files.read_bytes(other) == b"written"
    leased.let_go()
    while any(operation.in_flight for operation in opens):
        await asyncio.sleep(0)


@pytest.mark.asyncio(loop_factories=["epoll"])
async def test_long_calls_make_no_other_call_wait(leased: LeasedFile) -> None:
    """More opens wait than there are threads, and none is cancelled."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, uringloop.EventLoop)
    tasks = [asyncio.ensure_future(loop.submit(Open(str(leased.path), os.O_RDONLY))) for _ in range(THREADS_MIN + 2)]
    await asyncio.sleep(0)
    os.close(await loop.submit(Open(__file__, os.O_RDONLY)))
    leased.let_go()
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
    for task in tasks:
        os.close(task.result())


def test_a_closing_loop_does_not_wait(leased: LeasedFile) -> None:
    with asyncio.Runner(loop_factory=lambda: uringloop.EventLoop(backend="epoll")) as runner:
        runner.run(open_and_cancel(leased, 3))
    before = set(os.listdir("/proc/self/fd"))
    leased.let_go()
    # What the opens return now has no owner: the pool closes it.
    with asyncio.Runner(loop_factory=lambda: uringloop.EventLoop(backend="epoll")) as runner:
        runner.run(files.read_bytes(__file__))
    while len(os.listdir("/proc/self/fd")) > len(before):
        time.sleep(0.01)


_ENDS = """
import asyncio, sys, uringloop
from uringloop.operations import Open
from uringloop.pool._cffi import ffi, lib

async def main():
    task = asyncio.ensure_future(asyncio.get_running_loop().submit(Open(sys.argv[1], 0)))
    for _ in range(1000):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    print("over")

with asyncio.Runner(loop_factory=lambda: uringloop.EventLoop(backend="epoll")) as runner:
    runner.run(main())
"""


def test_the_end_of_the_program_does_not_wait(leased: LeasedFile) -> None:
    command = [sys.executable, "-c", _ENDS, str(leased.path)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (finished.returncode, finished.stdout) == (0, "over\n"), finished.stderr
