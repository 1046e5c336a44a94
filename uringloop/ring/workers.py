"""Operations that need a kernel worker and get none.

The kernel runs operations that must wait in workers, which count as the user's threads.  If RLIMIT_NPROC or the
cgroup's pids.max leaves none, it gives ECANCELED, as if the operation had been cancelled.
"""

import _thread
import errno
import os
import time
from typing import Any

#: The time for which an answer of the system holds: many operations may fail at once.
_ANSWER_HOLDS_S = 0.05
_REMEDY = (
    "the kernel could not start a worker for this operation: the limit of processes and threads is reached; raise "
    "`ulimit -u` or the cgroup's pids.max, or run fewer"
)

_answer = (0.0, True)


class NoWorkerError(OSError):
    """Tells that no thread was left for a kernel worker; errno is EAGAIN, as of clone(2)."""


def _can_start_thread() -> bool:
    """Ask the system, which counts threads and workers together, for a thread; return whether it has one."""
    global _answer
    asked_at, can = _answer
    if time.monotonic() - asked_at > _ANSWER_HOLDS_S:
        try:
            _thread.start_new_thread(_nothing, ())
            can = True
        except RuntimeError:
            can = False
        _answer = time.monotonic(), can
    return can


def _nothing() -> None:
    """End a thread that only had to start."""


def operation_error(res: int, *filenames: Any) -> OSError:
    """Return the exception for an operation's result that no cancel explains.

    Args:
        res: a negative errno.
        filenames: the error's filenames, at most two.
    """
    named = filenames if len(filenames) < 2 else (filenames[0], None, filenames[1])
    if res == -errno.ECANCELED and not _can_start_thread():
        return NoWorkerError(errno.EAGAIN, _REMEDY, *named)
    return OSError(-res, os.strerror(-res), *named)
