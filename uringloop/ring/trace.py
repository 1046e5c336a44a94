"""The io_uring tracepoints of a process's rings, counted while it runs.

This module reads them through a tracefs instance of its own, which disturbs no other tracing and is removed afterwards.
It also counts the process's kernel threads: workers and SQPOLL.
"""

import contextlib
import errno
import os
import re
import select
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

#: The usual mount points of tracefs.
PLACES = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))

#: The tracepoints to count, each with its name here.
TRACEPOINTS = {
    "io_uring_submit_req": "submits",
    "io_uring_complete": "completions",
    "io_uring_queue_async_work": "punts",
    "io_uring_poll_arm": "polls",
    "io_uring_cqring_wait": "waits",
    "io_uring_task_add": "task work",
    "io_uring_req_failed": "refused",
    "io_uring_cqe_overflow": "overflows",
}
#: The meaning of each number.
MEANINGS = {
    "submits": "SQEs that the kernel took",
    "completions": "CQEs that it made",
    "punts": "operations handed to a worker thread",
    "polls": "operations that wait for a descriptor to be ready",
    "waits": "sleeps for completions",
    "task work": "operations that went on after they were woken",
    "refused": "SQEs that were wrong",
    "overflows": "CQEs for which the completion queue had no room",
    "lost": "events that were too many to be read",
}
SUBMITS_OF = "submits of "
_LINE = re.compile(r": (io_uring_\w+): (?:ring \S+ req \S+ user_data \S+ opcode (\w+))?")
_LOST = re.compile(r"\[LOST (\d+) EVENTS\]")
_CHUNK_BYTES = 1 << 16
_LOOK_MS = 50
_NS_PER_MS = 1_000_000


class TraceUnavailableError(OSError):
    """The tracepoints cannot be read here.

    Attributes:
        remedy: the way to make them readable, one sentence.
    """

    def __init__(self, error: int, cause: str, remedy: str) -> None:
        super().__init__(error, f"{cause} {remedy}")
        self.remedy = remedy

    def __str__(self) -> str:
        return str(self.strerror)


def find_tracefs(places: tuple[Path, ...] = PLACES) -> Path:
    """Return the folder of the io_uring tracepoints.

    Raises:
        TraceUnavailableError: tracefs is not mounted, may not be read, or has no such tracepoints.
    """
    for place in places:
        try:
            names = os.listdir(place)
        except PermissionError:
            raise TraceUnavailableError(
                errno.EACCES, f"{place} may not be read.", "Run as root, or with CAP_DAC_READ_SEARCH and CAP_SYS_ADMIN."
            ) from None
        except FileNotFoundError:
            continue
        if "instances" not in names:
            continue
        if not (place / "events" / "io_uring").is_dir():
            raise TraceUnavailableError(
                errno.ENOENT,
                "This kernel has no io_uring tracepoints.",
                "Use one that is built with CONFIG_IO_URING and CONFIG_FTRACE.",
            )
        return place
    raise TraceUnavailableError(
        errno.ENOENT, "tracefs is not mounted.", f"Run `mount -t tracefs nodev {places[0]}` as root."
    )


def count(text: str) -> Counter[str]:
    """Count the lines of a trace_pipe by the words of `MEANINGS`, and by `submits of NAME` for each operation."""
    counts: Counter[str] = Counter()
    for (name, opcode), times in Counter(_LINE.findall(text)).items():
        if word := TRACEPOINTS.get(name):
            counts[word] += times
            if opcode and word == "submits":
                counts[SUBMITS_OF + opcode] += times
    counts["lost"] = sum(int(number) for number in _LOST.findall(text))
    return +counts


@contextlib.contextmanager
def _instance(tracefs: Path, pid: int) -> Iterator[Path]:
    """A tracefs instance that traces one process."""
    instance = tracefs / "instances" / f"uringloop-{os.getpid()}"
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), str(pid)) from None
    try:
        instance.mkdir()
    except PermissionError:
        raise TraceUnavailableError(errno.EACCES, f"{instance.parent} may not be written to.", "Run as root.") from None
    try:
        # Also later threads of the process, workers among them.
        (instance / "options" / "event-fork").write_text("1")
        (instance / "set_event_pid").write_text(" ".join(tasks))
        for name in TRACEPOINTS:
            event = instance / "events" / "io_uring" / name / "enable"
            if event.exists():
                event.write_text("1")
        yield instance
    finally:
        instance.rmdir()


def watch(pid: int, interval_ns: int, tracefs: Path | None = None) -> Iterator[Counter[str]]:
    """Yield the counts of a process's rings for each interval, until the process ends.

    Args:
        pid: the process.
        interval_ns: the length of an interval.
        tracefs: its mount point, unless that is a usual one.

    Raises:
        TraceUnavailableError: the tracepoints cannot be read.
        ProcessLookupError: the process does not exist.
    """
    with _instance(tracefs or find_tracefs(), pid) as instance:
        pipe = _Pipe(instance / "trace_pipe", pid)
        try:
            while not pipe.is_over:
                yield pipe.count_for(interval_ns)
        finally:
            pipe.close()


class _Pipe:
    """Reads a trace_pipe at regular times: poll(2) reports it only when it is half full."""

    def __init__(self, path: Path, pid: int) -> None:
        self.is_over = False
        self._begun = b""
        self._process = os.pidfd_open(pid)
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._end = select.poll()
        self._end.register(self._process, select.POLLIN)

    def count_for(self, interval_ns: int) -> Counter[str]:
        """Return the lines that arrive in an interval, or until the process ends."""
        counts: Counter[str] = Counter()
        end_ns = time.monotonic_ns() + interval_ns
        while (left_ms := (end_ns - time.monotonic_ns()) // _NS_PER_MS) > 0 and not self.is_over:
            try:
                lines, _, self._begun = (self._begun + os.read(self._fd, _CHUNK_BYTES)).rpartition(b"\n")
            except BlockingIOError:
                self._is_over_within(min(left_ms, _LOOK_MS))
            else:
                counts += count(lines.decode(errors="replace"))
        self._is_over_within(0)
        return counts

    def _is_over_within(self, wait_ms: int) -> None:
        self.is_over = bool(self._end.poll(wait_ms))

    def close(self) -> None:
        """Close the trace_pipe."""
        os.close(self._fd)
        os.close(self._process)
