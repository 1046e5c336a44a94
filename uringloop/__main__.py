"""The doctor, `python -m uringloop`, and its commands `top PID`, `trace PID` and `seccomp PROFILE.json`.

The doctor tells which backend a loop gets and why, what that offers, which of it the loop uses, and which obstacles
stand.  `top` shows what the loops of a process do, and `trace` the activity of its rings.  `seccomp` adds io_uring to a
container's seccomp profile.

The exit code is 0 if io_uring can be used, and 1 if it cannot, also where a loop runs on epoll.  The doctor gathers all
facts before it prints them, and no refusal ends in a traceback.  Some sandboxes kill a process that asks for io_uring,
so a child asks first.
"""

import argparse
import contextlib
import dataclasses
import enum
import errno
import json
import os
import platform
import resource
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import __version__, seccomp, top
from .ring import OPTIONAL, Feature, Features, Opcode, Ring, RingUnavailableError, Setup
from .ring.base import BUFFER_COUNT, BUFFER_COUNT_MAX, BUFFER_SIZE_BYTES
from .ring.choosing import BACKEND_VARIABLE, resolve
from .ring.errors import DISABLE_VARIABLE, disabled_by_variable, kernel_switch, unavailable
from .ring.setup import Backend
from .ring.trace import MEANINGS, SUBMITS_OF, TraceUnavailableError, watch
from .tls.making import describe_choice

_GROUP = Path("/proc/sys/kernel/io_uring_group")
_LIMITS = {"memlock_bytes": resource.RLIMIT_MEMLOCK, "nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
_WIDTH = 100
_LINES_BETWEEN_HEADS = 20


@dataclasses.dataclass
class Report:
    """The facts that the doctor found.

    Attributes:
        backend: the backend that a loop gets, if its maker leaves the choice open; None if no loop can be made so.
        backend_reason: the reason for that.
        usable: whether a ring of io_uring could be made and completed an operation.
        error: the errno of a refusal, such as "EPERM".
        cause: the reason of a refusal.
        remedy: the way to lift it.
        setup: the IORING_SETUP_* flags of a ring on the backend.
        features: the IORING_FEAT_* flags of the backend.
        features_missing: the flags that it lacks.
        operations: the IORING_OP_* that it supports.
        operations_missing: the IORING_OP_* that it lacks.
        optional: for each optional feature of the loop, whether the loop uses it.
        tls: which protocol TLS connections have, and why.
        limits: soft and hard limits, None for unlimited, and the kernel's switch for io_uring.
    """

    uringloop: str
    python: str
    kernel: str
    machine: str
    backend: Backend | None = None
    backend_reason: str = ""
    usable: bool = False
    error: str | None = None
    cause: str | None = None
    remedy: str | None = None
    setup: list[str] = dataclasses.field(default_factory=list)
    features: list[str] = dataclasses.field(default_factory=list)
    features_missing: list[str] = dataclasses.field(default_factory=list)
    operations: list[str] = dataclasses.field(default_factory=list)
    operations_missing: list[str] = dataclasses.field(default_factory=list)
    optional: dict[str, bool] = dataclasses.field(default_factory=dict)
    tls: str = ""
    limits: dict[str, Any] = dataclasses.field(default_factory=dict)


def examine() -> Report:
    """Gather all facts; a refusal raises nothing."""
    report = Report(
        uringloop=__version__,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        kernel=f"{platform.system()} {platform.release()}",
        machine=platform.machine(),
        tls=describe_choice(),
        limits=_limits(),
    )
    features, kills = None, False
    try:
        kills = True
        _survive()
        kills = False
        features = _features("io_uring")
    except RingUnavailableError as error:
        _refuse(report, error)
    except OSError as error:
        # A filter may let io_uring_setup pass and refuse the other two system calls.
        _refuse(report, unavailable(error.errno or errno.EIO))
    else:
        report.usable = True
        report.limits |= _workers()
    _choose(report, kills)
    if report.backend == "epoll":
        with contextlib.suppress(OSError):
            features = _features("epoll")
    if features is not None:
        _describe(report, features)
    return report


def _choose(report: Report, kills: bool) -> None:
    """Tell which backend a loop gets.

    Args:
        report: says whether io_uring can be used.
        kills: whether asking for io_uring kills the process.
    """
    try:
        asked, reason = resolve("auto")
    except ValueError as error:
        report.backend_reason = f"{error}."
        return
    if asked == "epoll":
        report.backend, report.backend_reason = "epoll", f"{reason}."
    elif report.usable:
        report.backend, report.backend_reason = "io_uring", "it works." if asked == "auto" else f"{reason}."
    elif kills:
        report.backend_reason = (
            f"asking kills the process; {DISABLE_VARIABLE}=1 or {BACKEND_VARIABLE}=epoll gives epoll."
        )
    elif asked == "auto":
        report.backend, report.backend_reason = "epoll", "io_uring cannot be used."
    else:
        report.backend_reason = f"{reason}, and it cannot be used."


def _survive() -> None:
    """Let a child ask for a ring first.

    Raises:
        RingUnavailableError: the kernel killed the child.
    """
    if disabled_by_variable():
        return
    try:
        child = os.fork()
    except OSError:
        # No process is left for a child: this process asks.
        return
    if child == 0:
        with contextlib.suppress(BaseException):
            _features("io_uring")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        raise RingUnavailableError(
            0,
            f"A sandbox kills the process that asks for it (signal {os.WTERMSIG(status)}).",
            f"Allow the system calls io_uring_setup, io_uring_enter and io_uring_register, or set {DISABLE_VARIABLE}=1 "
            "so that uringloop never asks.",
        )


def _features(backend: Backend) -> Features:
    """Make a ring as the loop does, and run a nop on it."""
    with Ring(backend=backend) as ring:
        os.close(ring.open_descriptor())
        ring.open_buffers(BUFFER_COUNT, BUFFER_SIZE_BYTES, BUFFER_COUNT_MAX)
        ring.get_sqe().prep_nop()
        ring.submit(wait_for=1)
        return ring.features


def _workers() -> dict[str, int | None]:
    """Return the kernel's default limits of workers for one thread's operations."""
    bounded = unbounded = None
    with contextlib.suppress(OSError), Ring() as ring:  # Linux before 5.15 has no such limits
        bounded, unbounded = ring.set_worker_limits(0, 0)
    return {"bounded_workers": bounded, "unbounded_workers": unbounded}


def _refuse(report: Report, error: RingUnavailableError) -> None:
    report.error = errno.errorcode.get(error.errno or 0)
    report.cause = error.cause
    report.remedy = error.remedy


def _describe(report: Report, features: Features) -> None:
    report.setup, _ = _split(Setup, features.setup)
    report.features, report.features_missing = _split(Feature, features.kernel)
    report.operations = [op.name for op in Opcode if op in features.opcodes]
    report.operations_missing = [op.name for op in Opcode if op not in features.opcodes]
    report.optional = {name: name in features.enabled for name in OPTIONAL}


def _split(kind: type[enum.IntFlag], flags: enum.IntFlag) -> tuple[list[str], list[str]]:
    """Return the names of the flags that are set, and of those that are not."""
    names = [(str(flag.name), bool(flags & flag)) for flag in kind]
    return [name for name, there in names if there], [name for name, there in names if not there]


def _limits() -> dict[str, Any]:
    limits: dict[str, Any] = {name: _or_none(_limit, which) for name, which in _LIMITS.items()}
    limits["kernel.io_uring_disabled"] = kernel_switch()
    limits["kernel.io_uring_group"] = _or_none(_number, _GROUP)
    limits[DISABLE_VARIABLE] = disabled_by_variable()
    return limits


def _limit(which: int) -> list[int | None]:
    return [None if value == resource.RLIM_INFINITY else value for value in resource.getrlimit(which)]


def _number(path: Path) -> int:
    return int(path.read_text())


def _or_none(read: Callable[[Any], Any], what: Any) -> Any:
    try:
        return read(what)
    except (OSError, ValueError):
        return None


def write_text(report: Report) -> str:
    """Return the report as text."""
    lines = [
        f"uringloop {report.uringloop} on {report.python}, {report.kernel}, {report.machine}",
        "",
        f"io_uring can{'' if report.usable else 'not'} be used here.",
        *textwrap.wrap(
            f"{f'A loop gets the backend {report.backend}' if report.backend else 'A loop gets no backend'}: "
            f"{report.backend_reason}",
            _WIDTH,
        ),
    ]
    if not report.usable:
        lines += _entry("why", f"{report.cause}{f' ({report.error})' if report.error else ''}")
        lines += _entry("what to do", str(report.remedy))
        if report.backend:
            lines += _entry("until then", "nothing needs to be done: a loop on epoll(7) has the same behaviour")
        lines += _entry("read", "docs/containers.md: which containers and sandboxes refuse it, and how each allows it")
    if report.optional:
        lines += ["", "The loop"]
        for name, used in report.optional.items():
            lines += _entry(f"{'uses' if used else 'lacks'} {name}", OPTIONAL[name], 26)
    lines += _entry("TLS", report.tls, 26)
    if report.operations:
        lines += ["", "The backend"]
        lines += _entry("setup flags", " ".join(report.setup) or "none")
        lines += _entry("features", " ".join(report.features))
        lines += _entry("... missing", " ".join(report.features_missing) or "none")
        lines += _entry("operations", " ".join(report.operations))
        lines += _entry("... missing", " ".join(report.operations_missing) or "none")
    lines += ["", "Limits"]
    for name, value in report.limits.items():
        lines += _entry(name, _limit_text(name, value), 26)
    return "\n".join(lines)


def _entry(name: str, text: str, column: int = 14) -> list[str]:
    """Return a name with a text beside it, on as many lines as the text needs."""
    head = f"  {name:{column}}"
    return textwrap.wrap(
        text, _WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False
    ) or [head.rstrip()]


_SWITCH_TEXTS = {0: "0, everyone may", 1: "1, only root and kernel.io_uring_group may", 2: "2, nobody may"}


def _limit_text(name: str, value: Any) -> str:
    if name == "kernel.io_uring_disabled":
        return _SWITCH_TEXTS.get(value, "this kernel has no such switch" if value is None else str(value))
    if name == DISABLE_VARIABLE:
        return "set" if value else "not set"
    if isinstance(value, list):
        soft, hard = ("unlimited" if limit is None else str(limit) for limit in value)
        return f"{soft} (hard limit {hard})"
    return "not known" if value is None else str(value)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m uringloop", description="What this kernel offers to uringloop, and what is in the way."
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    commands = parser.add_subparsers(dest="command", metavar="top | trace | seccomp")
    tops = commands.add_parser("top", help="what the loops of a live process do, refreshed until q or Ctrl-C")
    top.add_arguments(tops)
    trace = commands.add_parser("trace", help="what the rings of a process do, as the kernel's tracepoints tell it")
    trace.add_argument("pid", type=int, help="the process; its threads and kernel workers are counted with it")
    trace.add_argument("--interval", type=float, default=1, metavar="SECONDS", help="how long to count for a line")
    trace.add_argument("--lines", type=int, help="end after so many; otherwise with the process, or Ctrl-C")
    profiles = commands.add_parser("seccomp", help="write a container runtime's seccomp profile with io_uring allowed")
    seccomp.add_arguments(profiles)
    options = parser.parse_args(arguments)
    if options.command == "seccomp":
        return seccomp.run(profiles, options)
    if options.command == "top":
        return top.run(options)
    if options.command:
        return _trace(options.pid, round(options.interval * 1e9), options.lines)
    report = examine()
    print(json.dumps(dataclasses.asdict(report), indent=2) if options.json else write_text(report))
    return 0 if report.usable else 1


def _trace(pid: int, interval_ns: int, lines: int | None) -> int:
    """Print a line for each interval: rates a second, and the submitted operations."""
    words = list(MEANINGS)
    try:
        for number, counts in enumerate(watch(pid, interval_ns)):
            if number == 0:
                print("\n".join(f"{word:12}{meaning}" for word, meaning in MEANINGS.items()) + "\n\na second:")
            if number % _LINES_BETWEEN_HEADS == 0:
                print(" ".join(f"{word:>11}" for word in words))
            rates = {word: round(count * 1e9 / interval_ns) for word, count in counts.most_common()}
            operations = [
                f"{word.removeprefix(SUBMITS_OF)} {rate}" for word, rate in rates.items() if SUBMITS_OF in word
            ]
            print(" ".join(f"{rates.get(word, 0):11}" for word in words), " ".join(operations), flush=True)
            if number + 1 == lines:
                break
    except (TraceUnavailableError, ProcessLookupError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
