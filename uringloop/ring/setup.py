"""How a ring is made: which setup flags, and what is asked of the kernel before the ring is believed to work.

Nothing is assumed of the kernel's version.  The flags are tried from the best set to the plainest.
"""

import dataclasses
import errno
import functools
import os
import time
from typing import Any

from ._cffi import ffi, lib
from .abi import OP_SUPPORTED, Opcode, Register, Setup
from .errors import unavailable, unavailable_if_refused

_ALWAYS = Setup.CQSIZE | Setup.CLAMP | Setup.R_DISABLED
#: From the best set of flags to the plainest; a kernel that does not know one answers EINVAL.
_INTERRUPT_DRIVEN = (
    _ALWAYS | Setup.SUBMIT_ALL | Setup.SINGLE_ISSUER | Setup.DEFER_TASKRUN | Setup.TASKRUN_FLAG | Setup.NO_SQARRAY,
    _ALWAYS | Setup.SUBMIT_ALL | Setup.SINGLE_ISSUER | Setup.DEFER_TASKRUN | Setup.TASKRUN_FLAG,
    _ALWAYS | Setup.SUBMIT_ALL | Setup.COOP_TASKRUN | Setup.TASKRUN_FLAG,
    _ALWAYS | Setup.SUBMIT_ALL,
    _ALWAYS,
)
#: With a thread of the kernel's that submits, task work interrupts nobody, and these flags are refused.
_SQ_POLLED = (_ALWAYS | Setup.SUBMIT_ALL | Setup.NO_SQARRAY, _ALWAYS | Setup.SUBMIT_ALL, _ALWAYS)
_DEFER_TASKRUN = int(Setup.DEFER_TASKRUN)
_PROBE_BYTES = 16 + 256 * 8
_CHARGE_LATE_NS = 100_000_000
_CHARGE_LOOK_S = 0.002


@dataclasses.dataclass(frozen=True)
class SqPoll:
    """A thread of the kernel's that takes SQEs by itself (IORING_SETUP_SQPOLL); it keeps a CPU busy while it is awake.

    Attributes:
        idle_ms: it falls asleep after so long without an SQE; 0 is the kernel's default, one second.
        cpu: the CPU that it is bound to; None for any.
    """

    idle_ms: int = 0
    cpu: int | None = None


def open_ring(
    entries: int,
    cq_entries: int,
    *,
    without: frozenset[str],
    io_poll: bool,
    sq_poll: SqPoll | None,
    attach_fd: int | None,
    shared: bool,
) -> Any:
    """The core's `ul_ring *` of a new ring, not enabled yet; see `Ring` for the arguments.

    Raises:
        RingUnavailableError: the kernel refuses all sets of flags, or one of the three system calls.
    """
    asked = Setup(0)
    if io_poll:
        asked |= Setup.IOPOLL
    idle_ms = cpu = 0
    if sq_poll is not None:
        asked |= Setup.SQPOLL
        idle_ms = sq_poll.idle_ms
        if sq_poll.cpu is not None:
            asked |= Setup.SQ_AFF
            cpu = sq_poll.cpu
    if attach_fd is not None:
        asked |= Setup.ATTACH_WQ
    error = ffi.new("int *")
    for flags in map(int, _INTERRUPT_DRIVEN if sq_poll is None else _SQ_POLLED):
        if flags & _DEFER_TASKRUN and (shared or "defer_taskrun" in without):
            continue
        handle = _open(entries, cq_entries, flags | int(asked), idle_ms, cpu, attach_fd or 0, error)
        if handle != ffi.NULL:
            return _check_calls(handle)
        if error[0] != -errno.EINVAL:
            break
    raise unavailable(-error[0])


def _open(*arguments: Any) -> Any:
    """Call ul_ring_open; try again for a moment if the memory of rings is used up.

    The kernel gives back what a closed ring was charged for some 30 ms later.
    """
    deadline_ns = 0
    while True:
        handle = lib.ul_ring_open(*arguments)
        if handle != ffi.NULL or arguments[-1][0] != -errno.ENOMEM:
            return handle
        now_ns = time.monotonic_ns()
        deadline_ns = deadline_ns or now_ns + _CHARGE_LATE_NS
        if now_ns >= deadline_ns:
            return handle
        time.sleep(_CHARGE_LOOK_S)


def _check_calls(handle: Any) -> Any:
    """Refuse a ring on which a filter forbids the other two system calls; one that is not enabled yet shows it.

    With an argument, enabling is refused by the kernel itself, so a filter shows here as well.
    """
    fd = lib.ul_ring_fd(handle)
    entered = lib.ul_enter(handle, 0, -1)
    registered = lib.ul_ring_register(fd, Register.PROBE, ffi.new("char[]", _PROBE_BYTES), 256)
    enabled = lib.ul_ring_register(fd, Register.ENABLE_RINGS, ffi.NULL, 1)
    for error, harmless in ((entered, errno.EBADFD), (registered, errno.EINVAL), (enabled, errno.EINVAL)):
        if error < 0 and error != -harmless:
            lib.ul_ring_close(handle, 0)
            raise unavailable(-error)
    return handle


def open_eventfd() -> int:
    """Return a new eventfd, by which a ring wakes a selector.

    Raises:
        RingUnavailableError: it was refused.
    """
    with unavailable_if_refused():
        return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)


def probe(handle: Any) -> frozenset[Opcode]:
    """Return the opcodes that IORING_REGISTER_PROBE reports; empty if the kernel refuses."""
    answer = bytearray(_PROBE_BYTES)
    if lib.ul_ring_register(lib.ul_ring_fd(handle), Register.PROBE, ffi.from_buffer(answer), 256) < 0:
        return frozenset()
    return _supported(bytes(answer))


@functools.cache
def _supported(answer: bytes) -> frozenset[Opcode]:
    """Read a probe: a header of 16 bytes, then 8 bytes for each of 256; the same for all rings of a process."""
    return frozenset(op for op in Opcode if answer[16 + op * 8 + 2] & OP_SUPPORTED)
