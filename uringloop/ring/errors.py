"""The refusals of the kernel, with their likely causes.

`RingUnavailableError` has one meaning: io_uring cannot be used here.  Every other refusal is an OSError with its errno.
"""

import errno
import os
from pathlib import Path

from .variables import variable

DISABLE_VARIABLE = "URINGLOOP_DISABLE"
_SWITCH = Path("/proc/sys/kernel/io_uring_disabled")


class RingUnavailableError(OSError):
    """io_uring cannot be used in this process.

    Attributes:
        errno: the kernel's errno, 0 if it was not asked.
        cause: the likely reason, one sentence.
        remedy: the way to lift the refusal, one sentence.
    """

    def __init__(self, error: int, cause: str, remedy: str) -> None:
        answer = f" ({errno.errorcode.get(error, error)}: {os.strerror(error)})" if error else ""
        super().__init__(error, f"io_uring is not available{answer}: {cause} {remedy}")
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        """Return the text without OSError's "[Errno N]": the text names the errno, if there is one."""
        return str(self.strerror)


def unavailable(error: int) -> RingUnavailableError:
    """Return the error for the errno of a step that makes a ring, with its likely cause and remedy."""
    cause, remedy = _explain(error)
    return RingUnavailableError(error, cause, remedy)


def not_made(error: int, backend: str) -> OSError:
    """Return the error for the errno of a step that makes a ring on a backend.

    On epoll it is the kernel's own, since nothing of io_uring was asked for.
    """
    return unavailable(error) if backend == "io_uring" else OSError(error, os.strerror(error))


def absent(what: str) -> OSError:
    """Return the error for a part of io_uring that the backend epoll does not have.

    Its errno is that of a kernel which lacks the part, so a program that does without it there does so here.
    """
    return OSError(errno.EINVAL, f"{os.strerror(errno.EINVAL)}: the backend epoll has no {what}")


def disabled_by_variable() -> bool:
    """Return whether URINGLOOP_DISABLE forbids even to ask the kernel: some sandboxes kill a process that asks."""
    return variable(DISABLE_VARIABLE) not in ("", "0")


def kernel_switch() -> int | None:
    """Return kernel.io_uring_disabled: 0 allows all, 1 a group, 2 none; None if the kernel has no such switch."""
    try:
        return int(_SWITCH.read_text())
    except (OSError, ValueError):
        return None


def _explain(error: int) -> tuple[str, str]:
    if error == 0:
        return f"{DISABLE_VARIABLE} is set.", f"Unset {DISABLE_VARIABLE} to use io_uring."
    if error == errno.EPERM:
        if kernel_switch():
            return (
                f"kernel.io_uring_disabled is {kernel_switch()}.",
                "Run `sysctl kernel.io_uring_disabled=0` as root, or join kernel.io_uring_group.",
            )
        return (
            "A seccomp filter refuses it, as Docker's and containerd's default profiles do.",
            "Run the container with a seccomp profile that allows io_uring_setup, _enter and _register, and eventfd2; "
            "`python -m uringloop seccomp` writes one.",
        )
    if error == errno.ENOSYS:
        return (
            "The kernel's io_uring is older than Linux 5.11, or a sandbox hides it (gVisor, Podman's default profile).",
            "Use Linux 5.11 or newer outside such a sandbox, at its best from 6.1 on; for Podman, `python -m uringloop "
            "seccomp` writes a profile that allows it.",
        )
    if error == errno.ENOMEM:
        return (
            "The memory for the rings was refused: RLIMIT_MEMLOCK or the cgroup's memory limit is too small, where the "
            "former counts the rings of all processes of a user.",
            "Raise `ulimit -l` or the memory limit, close other loops, or ask for fewer entries.",
        )
    if error == errno.ENOTRECOVERABLE:
        return (
            "Every io_uring_enter has been refused for two seconds, by a seccomp filter or for want of memory.",
            "Allow io_uring_enter for as long as the process runs, or give it more memory; this ring cannot be used.",
        )
    if error in (errno.EMFILE, errno.ENFILE):
        return "The limit of open files is reached.", "Close descriptors or raise `ulimit -n`."
    if error == errno.EINVAL:
        return (
            "The kernel knows none of the setup flags that uringloop can use, or the sizes are out of range.",
            "Use Linux 5.11 or newer, and at most 32768 entries.",
        )
    return "The kernel refused for a reason that uringloop does not know.", "See io_uring_setup(2) for this error."


def refusal(error: int) -> Exception:
    """Return the exception for an errno of the core: of the kernel, or of the ring's rules."""
    if error == errno.EOWNERDEAD:
        return RuntimeError(
            "this io_uring was made before fork() and belongs to the parent; make a new event loop or ring in the child"
        )
    if error == errno.EEXIST:
        return RuntimeError(
            "this io_uring belongs to the thread that enabled it; use it there, or make one for each thread"
        )
    if error == errno.EBADFD:
        return RuntimeError("this io_uring was made disabled and was not enabled yet")
    if error == errno.ENOTRECOVERABLE:
        return unavailable(error)
    return OSError(error, os.strerror(error))
