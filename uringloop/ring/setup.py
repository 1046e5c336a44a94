"""The making of a ring: the setup flags, and the checks before the ring counts as working.

This module assumes nothing of the kernel's version.  It tries the flags from the best set to the plainest.
"""

import dataclasses
import errno
import time
from typing import Any, Literal

from .abi import OP_SUPPORTED, Opcode, Register, Setup
from .core._cffi import ffi, lib
from .errors import absent, not_made

_ALWAYS = Setup.CQSIZE | Setup.CLAMP | Setup.R_DISABLED
_DEFERRED = Setup.SINGLE_ISSUER | Setup.DEFER_TASKRUN
#: The sets of flags from the best to the plainest; a kernel that does not know a flag gives EINVAL.
_INTERRUPT_DRIVEN = (
    int(_ALWAYS | Setup.SUBMIT_ALL | _DEFERRED | Setup.TASKRUN_FLAG | Setup.NO_SQARRAY),
    int(_ALWAYS | Setup.SUBMIT_ALL | _DEFERRED | Setup.TASKRUN_FLAG),
    int(_ALWAYS | Setup.SUBMIT_ALL | Setup.COOP_TASKRUN | Setup.TASKRUN_FLAG),
    int(_ALWAYS | Setup.SUBMIT_ALL),
    int(_ALWAYS),
)
#: The kernel refuses these flags with a submitting thread: its task work interrupts no other thread.
_SQ_POLLED = (int(_ALWAYS | Setup.SUBMIT_ALL | Setup.NO_SQARRAY), int(_ALWAYS | Setup.SUBMIT_ALL), int(_ALWAYS))
# Plain numbers: an enum's operators take longer than the rest of this module.
_DEFER_TASKRUN = int(Setup.DEFER_TASKRUN)
_IOPOLL, _SQPOLL = int(Setup.IOPOLL), int(Setup.SQPOLL)
_SQ_AFF, _ATTACH_WQ = int(Setup.SQ_AFF), int(Setup.ATTACH_WQ)
_PROBE_BYTES = 16 + 256 * 8
_CHARGE_LATE_NS = 100_000_000
_CHARGE_LOOK_S = 0.002

Backend = Literal["io_uring", "epoll"]
BACKENDS: dict[Backend, int] = {"io_uring": lib.UL_BACKEND_IO_URING, "epoll": lib.UL_BACKEND_EPOLL}
#: The opcodes that IORING_REGISTER_PROBE reported, by backend; absent before the first ring.
_opcodes: dict[Backend, frozenset[Opcode]] = {}


@dataclasses.dataclass(frozen=True)
class SqPoll:
    """A kernel thread that takes SQEs by itself (IORING_SETUP_SQPOLL); awake, it keeps a CPU busy.

    Attributes:
        idle_ms: the time without an SQE after which it sleeps; 0 is the kernel's default, one second.
        cpu: the CPU to bind it to; None for any.
    """

    idle_ms: int = 0
    cpu: int | None = None


def open_ring(
    entries: int,
    cq_entries: int,
    *,
    backend: Backend,
    without: frozenset[str],
    io_poll: bool,
    sq_poll: SqPoll | None,
    attach_fd: int | None,
    shared: bool,
) -> Any:
    """Return the core's `ul_ring *` of a new ring that is not enabled yet; see `RingBase` for the arguments.

    Raises:
        RingUnavailableError: the kernel refuses all sets of flags, or one of the three system calls.
        OSError: the backend is epoll, and has no such kind of ring, or no memory or descriptor is left.
    """
    if backend == "epoll":
        _check_kind(io_poll, sq_poll, attach_fd)
    asked = idle_ms = cpu = 0
    if io_poll:
        asked |= _IOPOLL
    if sq_poll is not None:
        asked |= _SQPOLL
        idle_ms = sq_poll.idle_ms
        if sq_poll.cpu is not None:
            asked |= _SQ_AFF
            cpu = sq_poll.cpu
    if attach_fd is not None:
        asked |= _ATTACH_WQ
    error = ffi.new("int *")
    for flags in _sets_of_flags(backend, sq_poll):
        if flags & _DEFER_TASKRUN and (shared or "defer_taskrun" in without):
            continue
        handle = _open(BACKENDS[backend], entries, cq_entries, flags | asked, idle_ms, cpu, attach_fd or 0, error)
        if handle:
            return _check_calls(handle, backend)
        if error[0] != -errno.EINVAL:
            break
    raise not_made(-error[0], backend)


def _check_kind(io_poll: bool, sq_poll: SqPoll | None, attach_fd: int | None) -> None:
    """Refuse the kinds of rings that only the kernel can make."""
    if io_poll:
        raise absent("polling of devices (io_poll)")
    if sq_poll is not None:
        raise absent("thread that submits (sq_poll)")
    if attach_fd is not None:
        raise absent("kernel workers to share (attach)")


def _sets_of_flags(backend: Backend, sq_poll: SqPoll | None) -> tuple[int, ...]:
    if backend == "epoll":
        return (int(_ALWAYS),)
    return _INTERRUPT_DRIVEN if sq_poll is None else _SQ_POLLED


def _open(*arguments: Any) -> Any:
    """Call ul_ring_open; try again for a moment if the memory for rings is used up.

    The kernel gives the charge of a closed ring back some 30 ms later.
    """
    deadline_ns = 0
    while True:
        handle = lib.ul_ring_open(*arguments)
        if handle or arguments[-1][0] != -errno.ENOMEM:
            return handle
        now_ns = time.monotonic_ns()
        deadline_ns = deadline_ns or now_ns + _CHARGE_LATE_NS
        if now_ns >= deadline_ns:
            return handle
        time.sleep(_CHARGE_LOOK_S)


def _check_calls(handle: Any, backend: Backend) -> Any:
    """Refuse a ring if a filter forbids the other two system calls; a ring that is not enabled shows it."""
    error = lib.ul_ring_check(handle)
    if error == 0 and backend not in _opcodes:
        error = _probe(handle, backend)
    if error < 0 and error != -errno.EINVAL:
        lib.ul_ring_close(handle, 0)
        raise not_made(-error, backend)
    return handle


def opcodes(backend: Backend) -> frozenset[Opcode]:
    """Return the opcodes that IORING_REGISTER_PROBE reported; empty before the first ring."""
    return _opcodes.get(backend, frozenset())


def _probe(handle: Any, backend: Backend) -> int:
    """Ask for the opcodes, which are the same for all rings of a backend; return 0 or a negative errno."""
    answer = bytearray(_PROBE_BYTES)
    error = lib.ul_ring_register(handle, Register.PROBE, ffi.from_buffer(answer), 256)
    if error == 0:
        # A header of 16 bytes, then 8 bytes for each of 256.
        _opcodes[backend] = frozenset(op for op in Opcode if answer[16 + op * 8 + 2] & OP_SUPPORTED)
    return int(error)
