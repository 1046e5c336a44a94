"""Children of a test: how they are doing, and programs whose start takes as long as a test wants."""

import contextlib
import fcntl
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


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
