"""Starting child processes: what it does to the loop, and what becomes of a start that is cancelled."""

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.housekeeping import open_descriptors

from .spawning import (
    EXIT_CODE,
    PIPE,
    SPAWNING,
    delayed,
    has_children,
    on_rings,
    own_program,
    shell,
    sleeper,
)

pytestmark = [pytest.mark.asyncio(loop_factories=SPAWNING), pytest.mark.usefixtures("no_child_left")]


# Cancelling the start


@pytest.mark.parametrize("steps", range(8))
async def test_a_start_that_is_cancelled_leaves_nothing(steps: int) -> None:
    start = asyncio.ensure_future(sleeper(stdin=PIPE, stdout=PIPE, stderr=PIPE))
    for _ in range(steps):
        await asyncio.sleep(0)
    if start.done():
        (await start).kill()
        await (await start).wait()
        return
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start


# What starting does to the loop


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return own_program(tmp_path)


@on_rings
async def test_the_loop_runs_on_while_exec_waits(program: Path) -> None:
    with delayed(program) as (is_waited_for, let_go):
        start = asyncio.ensure_future(asyncio.create_subprocess_exec(program, "-c", f"exit {EXIT_CODE}", stdin=PIPE))
        while not is_waited_for():
            await asyncio.sleep(0.001)
        # Also a second child does not wait for the first.
        assert await shell("echo meanwhile") == "meanwhile"
        assert not start.done()
        let_go()
        assert await (await start).wait() == EXIT_CODE


@on_rings
async def test_a_start_cancelled_while_exec_waits(program: Path) -> None:
    with delayed(program) as (is_waited_for, _):
        start = asyncio.ensure_future(asyncio.create_subprocess_exec(program, "-c", "exit 0", stdin=PIPE, stdout=PIPE))
        while not is_waited_for():
            await asyncio.sleep(0.001)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start


@on_rings
async def test_the_loop_runs_on_during_a_function_before_exec() -> None:
    read_fd, write_fd = os.pipe()
    ready_fd, tell_fd = os.pipe()

    def wait() -> None:
        os.write(tell_fd, b"x")
        os.read(read_fd, 1)

    try:
        start = asyncio.ensure_future(asyncio.create_subprocess_exec("true", preexec_fn=wait))
        os.set_blocking(ready_fd, False)
        while True:
            await asyncio.sleep(0.001)
            with contextlib.suppress(BlockingIOError):
                os.read(ready_fd, 1)
                break
        assert not start.done()
        os.write(write_fd, b"x")
        assert await (await start).wait() == 0
    finally:
        for fd in (read_fd, write_fd, ready_fd, tell_fd):
            os.close(fd)


@on_rings
async def test_no_thread_is_started() -> None:
    before = set(os.listdir("/proc/self/task"))
    await asyncio.gather(*(shell("echo") for _ in range(10)))
    process = await sleeper()
    assert set(os.listdir("/proc/self/task")) <= before  # those of the pool may end meanwhile
    process.kill()
    await process.wait()


@on_rings
async def test_no_child_watcher_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise AssertionError("asked for a child watcher")

    monkeypatch.setattr(asyncio.events, "get_child_watcher", refuse, raising=False)
    assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
    assert await shell("echo fine") == "fine"
    assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL


@pytest.mark.asyncio(loop_factories=("asyncio", "ring", "selector"))
async def test_hundreds_of_children() -> None:
    before = open_descriptors()
    limit = asyncio.Semaphore(20)
    loop = asyncio.get_running_loop()

    async def one(number: int) -> None:
        async with limit:
            process = await asyncio.create_subprocess_exec(
                "/bin/sh", "-c", f"cat; exit {number % 50}", stdin=PIPE, stdout=PIPE
            )
            assert await process.communicate(b"%d" % number) == (b"%d" % number, None)
            assert process.returncode == number % 50

    for _ in range(3):
        await asyncio.gather(*(one(number) for number in range(100)))
        if hasattr(loop, "statistics"):
            assert loop.statistics()["streams"] <= 2
    # A pipe may be closed one turn after its connection was lost.
    for _ in range(5):
        await asyncio.sleep(0)
    assert open_descriptors() == before


# A Popen of somebody else's


class SlowPopen(subprocess.Popen):  # type: ignore[type-arg]
    """As a tool may put it in the place of the standard one."""

    started = threading.Event()
    may_go_on = threading.Event()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.started.set()
        assert self.may_go_on.wait(60)
        super().__init__(*arguments, **options)


@pytest.fixture
def slow_popen(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[SlowPopen]]:
    SlowPopen.started.clear()
    SlowPopen.may_go_on.clear()
    monkeypatch.setattr(subprocess, "Popen", SlowPopen)
    yield SlowPopen
    SlowPopen.may_go_on.set()


@on_rings
async def test_a_replaced_popen_is_used_and_not_waited_for(slow_popen: type[SlowPopen]) -> None:
    start = asyncio.ensure_future(asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE))
    while not slow_popen.started.is_set():
        await asyncio.sleep(0.001)
    assert not start.done()
    slow_popen.may_go_on.set()
    process = await start
    assert isinstance(process._transport.get_extra_info("subprocess"), slow_popen)  # type: ignore[attr-defined]
    assert await process.communicate(b"x") == (b"x", None)
    assert process.returncode == 0


@on_rings
async def test_a_replaced_popen_gets_the_environment_as_of_the_call(slow_popen: type[SlowPopen]) -> None:
    environment = {"NAME": "before"}
    start = asyncio.ensure_future(shell("echo $NAME", env=environment))
    while not slow_popen.started.is_set():
        await asyncio.sleep(0.001)
    environment["NAME"] = "after"
    slow_popen.may_go_on.set()
    assert await start == "before"


async def cancel_before_popen(slow_popen: type[SlowPopen], starting: Coroutine[Any, Any, object]) -> None:
    """Cancel a start whose Popen then goes on to its end."""
    start = asyncio.ensure_future(starting)
    while not slow_popen.started.is_set():
        await asyncio.sleep(0.001)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    slow_popen.may_go_on.set()
    await asyncio.get_running_loop().shutdown_default_executor()


@on_rings
async def test_a_replaced_popen_that_comes_too_late(slow_popen: type[SlowPopen]) -> None:
    await cancel_before_popen(slow_popen, sleeper(stdin=PIPE))
    # It is killed when it turns up.
    while has_children():
        await asyncio.sleep(0.001)


@on_rings
async def test_a_replaced_popen_that_fails_too_late_is_not_reported(slow_popen: type[SlowPopen]) -> None:
    await cancel_before_popen(slow_popen, asyncio.create_subprocess_exec("/nonexistent"))
