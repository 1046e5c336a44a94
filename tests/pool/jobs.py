"""Ports and jobs of the pool for tests.  A job is the address of a `held_job` (jobs.c)."""

import ctypes
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from tests.architecture.test_core import compiler
from uringloop.pool._cffi import ffi, lib

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1] / "uringloop"
_WAIT_SECONDS = 30


@cache
def shim() -> ctypes.CDLL:
    """Compile jobs.c, and load it."""
    with tempfile.TemporaryDirectory() as folder:
        made = f"{folder}/jobs.so"
        flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread"]
        subprocess.run([compiler(), *flags, f"-I{PACKAGE}", "-o", made, str(HERE / "jobs.c")], check=True)
        loaded = ctypes.CDLL(made)
    loaded.job_make.restype = ctypes.c_void_p
    loaded.job_thread_name.restype = ctypes.c_char_p
    loaded.job_signals_blocked.restype = ctypes.c_uint64
    for name in ("job_free", "job_number", "job_turn", "job_thread", "job_thread_name", "job_signals_blocked"):
        getattr(loaded, name).argtypes = [ctypes.c_void_p]
    return loaded


class Gate:
    """Where jobs announce that they have begun, and wait until they are let go, one for each `open`."""

    def __init__(self) -> None:
        self.begun = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_CLOEXEC)
        self.held = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_CLOEXEC)

    def wait_begun(self, count: int) -> None:
        """Wait until that many more jobs have begun."""
        for _ in range(count):
            assert select.select([self.begun], [], [], _WAIT_SECONDS)[0], "a job did not begin"
            os.eventfd_read(self.begun)

    def has_begun(self) -> bool:
        """Return whether another job has begun."""
        return bool(select.select([self.begun], [], [], 0)[0])

    def open(self, count: int) -> None:
        """Let that many jobs return."""
        os.eventfd_write(self.held, count)

    def close(self) -> None:
        os.close(self.begun)
        os.close(self.held)


def make(number: int = 0, gate: Gate | None = None, *, looks_up: bool = False) -> int:
    """Make a job; without a gate it returns at once."""
    begun, held = (gate.begun, gate.held) if gate else (-1, -1)
    return int(shim().job_make(number, begun, held, looks_up))


class Port:
    """A port, with jobs as addresses."""

    def __init__(self, *, with_pipe: bool = False) -> None:
        error = ffi.new("int *")
        self.raw = lib.ul_port_open_pipe(error) if with_pipe else lib.ul_port_open(error)
        assert self.raw, os.strerror(-error[0])
        self.fd = lib.ul_port_fd(self.raw)

    def submit(self, job: int) -> int:
        return int(lib.ul_port_submit(self.raw, ffi.cast("ul_job *", job)))

    def submit_held(self, gate: Gate, count: int, first: int = 0) -> list[int]:
        """Submit jobs that wait at the gate; return them."""
        jobs = [make(first + i, gate) for i in range(count)]
        assert [self.submit(job) for job in jobs] == [0] * count
        return jobs

    def withdraw(self, job: int) -> bool:
        return bool(lib.ul_port_withdraw(self.raw, ffi.cast("ul_job *", job)))

    def abandon(self, job: int) -> None:
        lib.ul_port_abandon(self.raw, ffi.cast("ul_job *", job))

    def take(self) -> list[int]:
        """Return the finished jobs."""
        jobs = []
        job = lib.ul_port_take(self.raw)
        while job:
            jobs.append(int(ffi.cast("uintptr_t", job)))
            job = job.next
        return jobs

    def is_readable(self) -> bool:
        return bool(select.select([self.fd], [], [], 0)[0])

    def wait(self, count: int) -> list[int]:
        """Wait for that many finished jobs; return them."""
        jobs: list[int] = []
        while len(jobs) < count:
            assert select.select([self.fd], [], [], _WAIT_SECONDS)[0], f"{count - len(jobs)} jobs did not finish"
            jobs += self.take()
        return jobs

    def wait_numbers(self, count: int) -> list[int]:
        """Wait for that many finished jobs; return their numbers, and free them."""
        return [free(job) for job in self.wait(count)]

    @property
    def ready(self) -> bool:
        return bool(lib.ul_port_ready(self.raw))

    @property
    def unfinished(self) -> int:
        return int(lib.ul_port_unfinished(self.raw))

    def close(self) -> None:
        if self.raw:
            lib.ul_port_close(self.raw)
            self.raw = None

    def drop(self) -> None:
        lib.ul_port_drop(self.raw)
        self.raw = None


def free(job: int) -> int:
    """Free a job that is the test's; return its number."""
    number = int(shim().job_number(job))
    shim().job_free(job)
    return number


def counts() -> dict[str, int]:
    """Return the pool's numbers: threads, idle, stuck, queued."""
    found = ffi.new("ul_pool_counts *")
    lib.ul_pool_count(found)
    return {name: getattr(found, name) for name in ("threads", "idle", "stuck", "queued")}


def wait_until(holds: Callable[[], Any]) -> None:
    """Wait for a change that no descriptor tells of."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def wait_idle(count: int) -> None:
    """Wait until that many threads have no job."""
    wait_until(lambda: counts()["idle"] == count)
