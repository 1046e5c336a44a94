"""What became of a test, as the child process reports it and as the runner hands it on."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Status(enum.Enum):
    PASSED = "passed"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    CRASHED = "crashed"
    SKIPPED_BY_CPYTHON = "skipped by CPython"
    SKIPPED_BY_LIST = "skipped by list"

    @property
    def is_bad(self) -> bool:
        return self in (Status.FAILED, Status.TIMED_OUT, Status.CRASHED)


@dataclass(frozen=True)
class Outcome:
    """One test's end. `reason` is one line; `output` all that its process printed."""

    test_id: str
    status: Status
    reason: str = ""
    seconds: float = 0.0
    # Loops made by the factory, and CPython's simulated-clock loops beside them.
    loops_given: int = 0
    loops_simulated: int = 0
    output: str = ""
