"""One process a test, several at a time, each with a deadline, a directory and a process group of its own.

The runner imports the test modules once and forks from there: a fresh interpreter for each of 500 tests would
spend most of a run on imports. The parent never makes a loop, a thread or a signal handler, so a child starts
as clean as a new process. A child dies as a group: a test's own children do not outlive it.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import gc
import os
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NoReturn, TypeVar

Task = TypeVar("Task")

# No test of CPython's uses the last real-time signal.
_SHOW_STACKS_SIGNAL = signal.SIGRTMAX
_SHOW_STACKS_SECONDS = 0.5


@dataclass(frozen=True)
class Ended(Generic[Task]):
    """How one child ended: `answer` is what it returned, if it got so far."""

    task: Task
    answer: str | None
    exit_code: int
    timed_out: bool
    seconds: float
    output: str


class _Child(Generic[Task]):
    """A forked process that runs one task in its own directory."""

    def __init__(self, task: Task, run: Callable[[Task], str], directory: Path, sibling_pidfds: Iterable[int]) -> None:
        self.task = task
        self.directory = directory
        self.started = time.monotonic()
        directory.mkdir()
        (directory / "output").touch()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _live(task, run, directory, sibling_pidfds)
        self.pidfd = os.pidfd_open(self.pid)

    def seconds(self) -> float:
        return time.monotonic() - self.started

    def end(self, *, timed_out: bool) -> Ended[Task]:
        if timed_out:
            self._show_stacks()
        seconds = self.seconds()
        self.kill()
        # Reaped only after its group got the signal: until then nobody else can be given this process id.
        _, status = os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        answer_file = self.directory / "answer"
        ended = Ended(
            task=self.task,
            answer=answer_file.read_text() if answer_file.exists() else None,
            exit_code=os.waitstatus_to_exitcode(status),
            timed_out=timed_out,
            seconds=seconds,
            output=(self.directory / "output").read_text(errors="replace"),
        )
        shutil.rmtree(self.directory, ignore_errors=True)
        return ended

    def kill(self) -> None:
        # The child may not have made its group yet, or may have no stragglers left in it.
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError):
                kill(self.pid, signal.SIGKILL)

    def _show_stacks(self) -> None:
        os.kill(self.pid, _SHOW_STACKS_SIGNAL)
        select.select([self.pidfd], [], [], _SHOW_STACKS_SECONDS)


def run_isolated(
    tasks: Sequence[Task], run: Callable[[Task], str], *, jobs: int, timeout_seconds: float
) -> Iterator[Ended[Task]]:
    """Run each task in a child, `jobs` at once, and yield each as it ends."""
    waiting = deque(enumerate(tasks))
    running: dict[int, _Child[Task]] = {}
    base = Path(tempfile.mkdtemp(prefix="compat-"))
    parent = os.getpid()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                number, task = waiting.popleft()
                child = _Child(task, run, base / str(number), running)
                running[child.pidfd] = child
            yield from _wait(running, timeout_seconds)
    finally:
        # A child leaves by os._exit; this only guards the parent's files against a mistake there.
        if os.getpid() == parent:
            for child in running.values():
                child.end(timed_out=False)
            shutil.rmtree(base, ignore_errors=True)


def _wait(running: dict[int, _Child[Task]], timeout_seconds: float) -> Iterator[Ended[Task]]:
    poller = select.poll()
    for pidfd in running:
        poller.register(pidfd, select.POLLIN)
    patience = max(0.0, timeout_seconds - max(child.seconds() for child in running.values()))
    ended = {pidfd for pidfd, _ in poller.poll(patience * 1000 + 1)}
    for pidfd, child in list(running.items()):
        timed_out = pidfd not in ended and child.seconds() >= timeout_seconds
        if timed_out or pidfd in ended:
            del running[pidfd]
            yield child.end(timed_out=timed_out)


def _live(task: Task, run: Callable[[Task], str], directory: Path, sibling_pidfds: Iterable[int]) -> NoReturn:
    """The child's whole life. It must not return into the parent's code."""
    exit_code = 1
    try:
        _settle(directory, sibling_pidfds)
        answer = run(task)
        unfinished = directory / "answer.unfinished"
        unfinished.write_text(answer)
        unfinished.rename(directory / "answer")
        _leave_like_an_interpreter()
        exit_code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(exit_code)


def _settle(directory: Path, sibling_pidfds: Iterable[int]) -> None:
    os.setsid()
    output = os.open(directory / "output", os.O_WRONLY | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for fd, standard in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(fd, standard)
    for fd in (nothing, output, *sibling_pidfds):
        os.close(fd)
    faulthandler.enable(file=2)
    faulthandler.register(_SHOW_STACKS_SIGNAL, file=2)
    os.chdir(directory)
    scratch = directory / "tmp"
    scratch.mkdir()
    tempfile.tempdir = os.environ["TMPDIR"] = str(scratch)


def _leave_like_an_interpreter() -> None:
    """So that remains which crash when collected, and threads that never end, count against the test."""
    gc.collect()
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
