"""`Spawn`: a child process whose start suspends no other work; spawn.c tells how and why.

The child runs on the memory of its `Spawn` until it has reported.  Only `release` frees that memory, not even the
end of the interpreter.
"""

import dataclasses
import enum
import os
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from ._cffi import ffi, lib

_REPORT = struct.Struct("=ii")
_REPORT_SIZE_BYTES = _REPORT.size
_ID_MAX = (1 << 32) - 1
#: The fields of a plan that are numbers in C too.
_NUMBERS = (
    "input",
    "output",
    "error",
    "report",
    "close_others",
    "restore_signals",
    "new_session",
    "process_group",
    "umask",
    "uid",
    "gid",
)


class Stage(enum.IntEnum):
    """The step at which the start of a program failed."""

    PROGRAM = 0
    PREPARING = 1
    DIRECTORY = 2
    FUNCTION = 3
    #: No failure: the child has its own table of descriptors.
    CLOSED = 4


class Report(NamedTuple):
    """A child's message before it runs its program, or the reason why it cannot.

    Attributes:
        stage: the step that the child has reached.
        error: an errno, 0 for none.
    """

    stage: Stage
    error: int

    @classmethod
    def read(cls, fd: int) -> "Report | None":
        """Read the next report from a non-blocking pipe.

        Returns:
            None at the pipe's end: the program runs.

        Raises:
            BlockingIOError: the child has not written another report so far.
        """
        data = os.read(fd, _REPORT_SIZE_BYTES)
        if not data:
            return None
        stage, error = _REPORT.unpack(data)
        return cls(Stage(stage), error)


@dataclasses.dataclass(frozen=True)
class Plan:
    """The steps of a child before it runs its program.

    Attributes:
        arguments: the program's, its name first.
        programs: the paths to try, one after the other.
        environment: NAME=value; None for this process's.
        directory: the working directory; None for this process's.
        kept: the descriptors that the program inherits beside the first three.
        input: the descriptor that becomes standard input, -1 for this process's; output and error likewise.
        report: the pipe's end that the child reports to, above 2, close-on-exec and non-blocking.
        close_others: close all other descriptors above 2.
        restore_signals: end the ignoring of SIGPIPE and SIGXFSZ, which Python begins.
        new_session: setsid(2).
        process_group: setpgid(2); -1 for this process's.
        umask: -1 for this process's.
        uid: -1 for this process's; gid likewise.
        groups: supplementary groups; None for this process's.
    """

    arguments: Sequence[bytes]
    programs: Sequence[bytes]
    environment: Sequence[bytes] | None
    directory: bytes | None
    kept: Sequence[int]
    input: int
    output: int
    error: int
    report: int
    close_others: bool
    restore_signals: bool
    new_session: bool
    process_group: int
    umask: int
    uid: int
    gid: int
    groups: Sequence[int] | None


class Spawn:
    """A child that is to be started.

    Args:
        plan: its steps.

    Raises:
        ValueError: a string of the plan contains a NUL, or a group is too large.
        TypeError: a field that must be a number is none.
        OverflowError: a number is too large.
        OSError: memory is exhausted.
    """

    def __init__(self, plan: Plan) -> None:
        self._handle: Any = None
        error = ffi.new("int *")
        c_plan = _CPlan(plan)
        handle = lib.ul_spawn_open(c_plan.pointer, error)
        if handle == ffi.NULL:
            raise OSError(-error[0], os.strerror(-error[0]))
        self._handle = handle

    def start(self) -> tuple[int, int]:
        """Start the child.

        A `Report` tells that the child cannot run the program.  The end of file tells that the program runs, or that
        the child was killed.  If this process `holds` descriptors for the child, it first reports `Stage.CLOSED`.

        Returns:
            The process id, and a pidfd that the caller owns; -1 where the kernel has none.

        Raises:
            OSError: processes, descriptors or memory are exhausted.
        """
        pidfd = ffi.new("int *")
        pid = lib.ul_spawn_start(self._handle, pidfd)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid, pidfd[0]

    @property
    def holds(self) -> bool:
        """Return whether this process has duplicates open for the child.

        The pipe has no end of file before `close_duplicates` has closed them.
        """
        return self._handle is not None and bool(lib.ul_spawn_holds(self._handle))

    def close_duplicates(self) -> None:
        """Close the duplicates: the child has reported, or has ended."""
        if self._handle is not None:
            lib.ul_spawn_close_duplicates(self._handle)

    def prepare_here(self) -> None:
        """Take all steps before the caller's function, in a forked child.

        The child keeps its copies of all descriptors for that function.
        """
        lib.ul_spawn_prepare_here(self._handle)

    def run_here(self) -> NoReturn:
        """Take the remaining steps and run the program, in a forked child."""
        lib.ul_spawn_run_here(self._handle)
        raise AssertionError("unreachable")

    def fail_here(self) -> NoReturn:
        """Report the failure of the caller's function and exit, in a forked child."""
        lib.ul_spawn_fail_here(self._handle)
        raise AssertionError("unreachable")

    def release(self) -> None:
        """Free the memory: the child has reported, was not started, or has its own copy."""
        handle, self._handle = self._handle, None
        if handle is not None:
            lib.ul_spawn_free(handle)


def _joined(strings: Sequence[bytes]) -> bytes:
    for string in strings:
        if b"\0" in string:
            raise ValueError("embedded null byte")
    return b"".join(string + b"\0" for string in strings)


class _CPlan:
    """The plan as a C struct, with the memory that the struct points to."""

    def __init__(self, plan: Plan) -> None:
        for name in ("uid", "gid"):
            # To the kernel the largest number means "unchanged".
            if getattr(plan, name) >= _ID_MAX:
                raise OverflowError(f"{name} is greater than maximum")
        if any(group >= _ID_MAX for group in plan.groups or ()):
            raise ValueError("invalid group id")
        self.pointer = ffi.new("ul_spawn_plan *")
        self._pointed_to: list[Any] = []
        self._add_strings("arguments", plan.arguments)
        self._add_strings("programs", plan.programs)
        if plan.environment is not None:
            self._add_strings("environment", plan.environment)
        if plan.directory is not None:
            self.pointer.directory = self._keep(ffi.from_buffer(_joined([plan.directory])))
        kept = sorted({*plan.kept} - {plan.report})
        self.pointer.kept = self._keep(ffi.new("int32_t[]", kept))
        self.pointer.kept_count = len(kept)
        self.pointer.groups = self._keep(ffi.new("uint32_t[]", plan.groups or []))
        self.pointer.group_count = -1 if plan.groups is None else len(plan.groups)
        for name in _NUMBERS:
            setattr(self.pointer, name, getattr(plan, name))

    def _keep(self, memory: Any) -> Any:
        self._pointed_to.append(memory)
        return memory

    def _add_strings(self, name: str, strings: Sequence[bytes]) -> None:
        joined = _joined(strings)
        setattr(self.pointer, name, self._keep(ffi.from_buffer(joined)))
        setattr(self.pointer, f"{name}_size", len(joined))
