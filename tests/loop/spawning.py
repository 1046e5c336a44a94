"""Children of a test: what they say, how they are doing, and programs whose start takes as long as a test wants."""

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Callable, Coroutine, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.variants import RINGS

#: The loops that start children; in all their shapes it would take long.
SPAWNING = ("asyncio", "ring", "selector", "ring-plain", "ring-tiny", "selector-interrupting")
_SPAWNING_RINGS = tuple(name for name in SPAWNING if name in RINGS)
on_rings = pytest.mark.asyncio(loop_factories=_SPAWNING_RINGS)
#: Where asyncio of 3.11 and 3.12 does worse: its watcher's thread waits for the child, and Popen waits for it too.
not_on_older_asyncio = pytest.mark.asyncio(loop_factories=SPAWNING if sys.version_info >= (3, 13) else _SPAWNING_RINGS)

PIPE = asyncio.subprocess.PIPE
#: An own exit code, to tell it from a shell's.
EXIT_CODE = 43


class Log(asyncio.SubprocessProtocol):
    """Notes what is called, and what comes out of which pipe."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.output: dict[int, bytes] = {1: b"", 2: b""}
        self.lost = asyncio.get_running_loop().create_future()
        self.exited = asyncio.get_running_loop().create_future()
        self.said_something = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.calls.append("connection_made")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.output[fd] += data
        self.calls.append(f"pipe_data_received {fd}")
        self.said_something.set()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.calls.append(f"pipe_connection_lost {fd} {exc!r}")

    def process_exited(self) -> None:
        self.calls.append(f"process_exited {self.transport.get_returncode()}")
        self.exited.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("connection_lost")
        self.lost.set_result(exc)


async def output_of(*command: Any, **options: Any) -> str:
    """What a command prints, both ways together; it must end well."""
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=asyncio.subprocess.STDOUT, **options)
    output, _ = await process.communicate()
    assert process.returncode == 0, output
    return output.decode().strip()


async def shell(command: str, **options: Any) -> str:
    return await output_of("/bin/sh", "-c", command, **options)


async def sleeper(**options: Any) -> asyncio.subprocess.Process:
    """A child that ends only by a signal."""
    return await asyncio.create_subprocess_exec("sleep", "1000", **options)


def died(pid: int) -> None:
    """Wait until a child is dead, and leave it to the loop to notice."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def stopped(pid: int) -> None:
    """Wait until a child is stopped, and leave it to the loop to notice."""
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


def reap(pid: int) -> int:
    """Wait for a child behind the loop's back; its wait status."""
    return os.waitpid(pid, 0)[1]


def has_children() -> bool:
    """Whether any child of this process lives, or is dead and not waited for."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def own_program(folder: Path) -> Path:
    """A shell that no other process runs."""
    return Path(shutil.copy("/bin/sh", folder / "program"))


@contextlib.contextmanager
def delayed(program: Path) -> Iterator[tuple[Callable[[], bool], Callable[[], object]]]:
    """Let the exec of a program wait, as on a file system that answers slowly: until the lease on it is given up.

    Yields a function that tells whether somebody waits, and one that ends the wait.
    """
    # The holder is told by SIGIO, which would end it.
    fd = os.open(program, os.O_RDONLY)
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError:
        os.close(fd)
        pytest.skip("no leases on this file system")
    try:
        yield (
            lambda: fcntl.fcntl(fd, fcntl.F_GETLEASE) != fcntl.F_WRLCK,
            lambda: fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK),
        )
    finally:
        os.close(fd)


@contextlib.contextmanager
def ahead_of_children() -> Iterator[None]:
    """Run before every child, on one CPU: a new child runs no instruction until this thread sleeps.

    A test that does so is marked by `may_go_ahead`.
    """
    cpus = os.sched_getaffinity(0)
    # Children and kernel workers that are made meanwhile are of the usual kind.
    first = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
    os.sched_setaffinity(0, {min(cpus)})
    try:
        os.sched_setscheduler(0, first, os.sched_param(os.sched_get_priority_min(os.SCHED_FIFO)))
        try:
            yield
        finally:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    finally:
        os.sched_setaffinity(0, cpus)


def _may_go_ahead() -> bool:
    # Not to those without CAP_SYS_NICE, and not in a group of processes without a share of such time.
    try:
        with ahead_of_children():
            return True
    except PermissionError:
        return False


may_go_ahead = pytest.mark.skipif(not _may_go_ahead(), reason="may not run before others")


class Looking:
    """Awaits a start, and looks at what is when its first step is done: a child was made, and may not have run.

    Args:
        start: the coroutine, not awaited so far.
        look: called once.
    """

    def __init__(self, start: Coroutine[Any, Any, asyncio.subprocess.Process], look: Callable[[], object]) -> None:
        self._start = start
        self._look = look

    def __await__(self) -> Generator[Any, Any, asyncio.subprocess.Process]:
        steps = self._start.__await__()
        with ahead_of_children():
            waiting = steps.send(None)
            self._look()
        while True:
            yield waiting
            try:
                waiting = steps.send(None)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
