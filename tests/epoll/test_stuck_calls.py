"""Calls that never return, in the threads of the pool: neither the loop nor its end waits for them."""

import asyncio
import os
import subprocess
import sys
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


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def let_go(fifo: Path) -> None:
    """Have the opens of the FIFO return: now it has a writer."""
    os.close(os.open(fifo, os.O_RDWR | os.O_NONBLOCK))


async def open_and_cancel(fifo: Path, count: int) -> list[Open]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, uringloop.EventLoop)
    opens = [Open(fifo, os.O_RDONLY) for _ in range(count)]
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
async def test_a_loop_goes_on_beside_them(fifo: Path) -> None:
    opens = await open_and_cancel(fifo, MORE_THAN_THREADS)
    detained = [operation for operation in opens if operation.detained]
    assert detained
    assert all(operation.in_flight for operation in detained)
    other = fifo.with_name("other")
    await files.write_bytes(other, b"written")
    assert await files.read_bytes(other) == b"written"
    while any(operation.in_flight for operation in opens):
        let_go(fifo)
        await asyncio.sleep(0)


@pytest.mark.asyncio(loop_factories=["epoll"])
async def test_long_calls_make_no_other_call_wait(fifo: Path) -> None:
    """More opens wait for a FIFO's writer than there are threads, and none is cancelled."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, uringloop.EventLoop)
    tasks = [asyncio.ensure_future(loop.submit(Open(fifo, os.O_RDONLY))) for _ in range(THREADS_MIN + 2)]
    await asyncio.sleep(0)
    os.close(await loop.submit(Open(__file__, os.O_RDONLY)))
    while not all(task.done() for task in tasks):
        let_go(fifo)
        await asyncio.sleep(0)
    for task in tasks:
        os.close(task.result())


def test_a_closing_loop_does_not_wait(fifo: Path) -> None:
    with asyncio.Runner(loop_factory=lambda: uringloop.EventLoop(backend="epoll")) as runner:
        runner.run(open_and_cancel(fifo, 3))
    before = set(os.listdir("/proc/self/fd"))
    let_go(fifo)
    # What the opens return now has no owner: the pool closes it.
    with asyncio.Runner(loop_factory=lambda: uringloop.EventLoop(backend="epoll")) as runner:
        runner.run(files.read_bytes(__file__))
    assert len(os.listdir("/proc/self/fd")) <= len(before)


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


def test_the_end_of_the_program_does_not_wait(fifo: Path) -> None:
    command = [sys.executable, "-c", _ENDS, str(fifo)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (finished.returncode, finished.stdout) == (0, "over\n"), finished.stderr
