"""Registration with a ring beside buffers and files: see io_uring_register(2).

This module packs the structs by the layout of the kernel's header; the numbers are `abi.py`'s.
"""

import contextlib
import errno
import os
import struct
import threading
from collections.abc import Collection, Iterable
from typing import Any

from .abi import Opcode, Register, Restriction, Unregister
from .core._cffi import ffi, lib
from .errors import absent, not_made
from .setup import Backend

#: The parts of io_uring that the backend epoll does not have, by the opcode that registers or changes them.
_ABSENT_ON_EPOLL: dict[int, str] = {
    **dict.fromkeys((Register.BUFFERS2, Register.BUFFERS_UPDATE, Unregister.BUFFERS), "registered buffers"),
    **dict.fromkeys(
        (Register.FILES2, Register.FILES_UPDATE2, Register.FILE_ALLOC_RANGE, Unregister.FILES), "registered files"
    ),
    **dict.fromkeys((Register.PERSONALITY, Unregister.PERSONALITY), "personalities"),
    **dict.fromkeys((Register.IOWQ_MAX_WORKERS, Register.IOWQ_AFF, Unregister.IOWQ_AFF), "kernel workers"),
    **dict.fromkeys((Register.NAPI, Unregister.NAPI), "busy polling (NAPI)"),
    Register.RESTRICTIONS: "restrictions",
    Register.CLOCK: "choice of a clock",
    Register.RESIZE_RINGS: "queues that change their size",
    Register.SEND_MSG_RING: "messages between rings",
}
_NO_TIMEOUT = (-1, -1)
_NS_PER_S = 1_000_000_000
_KIND_BITS = 4
_CPUS_MAX = 1024


class _Limited(threading.local):
    """The limits of this thread's workers that `limit_workers` has set; 0 for none."""

    bounded = 0


_limited = _Limited()


def pack(layout: str, *values: int) -> Any:
    """Return a struct without padding, in memory that the kernel may write to."""
    return bytearray(struct.pack("=" + layout, *values))


def check_errno(result: int) -> int:
    """Return a result that is no error.

    Raises:
        RuntimeError: this is another process or thread than the ring's, or the ring is not enabled.
        OSError: any other negative errno.
    """
    if result >= 0:
        return result
    if result == -errno.EOWNERDEAD:
        raise RuntimeError("this ring was made before fork(); make a new one in the child")
    raise OSError(-result, os.strerror(-result))


def check_owner(handle: Any) -> Any:
    """Return a ring of the core that this thread and process may use.

    Raises:
        RuntimeError: they may not use it.
    """
    refused = lib.ul_ring_refuses(handle)
    if refused == -errno.EEXIST:
        raise RuntimeError("this io_uring belongs to the thread that enabled it; use it there")
    check_errno(refused)
    return handle


def message_user_data(number: int) -> int:
    """Return the user_data of a message or tag; a ring tells it from its own tokens (`Completion.number`).

    Raises:
        ValueError: the number has more than 60 bits.
    """
    if not 0 <= number < 1 << 64 - _KIND_BITS:
        raise ValueError("a message's number has 60 bits")
    return number << _KIND_BITS | int(lib.UL_KIND_FOREIGN)


class Registration:
    """The registering methods of a ring.  Their errors are those that io_uring_register(2) lists.

    Attributes:
        backend: the carrier of the operations.
    """

    backend: Backend

    @property
    def handle(self) -> Any:
        """Return the core's `ul_ring *`."""
        raise NotImplementedError

    def _register(self, opcode: int, argument: Any = None, count: int = 0) -> int:
        handle = check_owner(self.handle)
        self._check_present(opcode)
        memory = ffi.NULL if argument is None else ffi.from_buffer(argument)
        return check_errno(lib.ul_ring_register(handle, opcode, memory, count))

    def _check_present(self, opcode: int) -> None:
        """Refuse a part of io_uring that the backend does not have."""
        if self.backend == "epoll" and opcode in _ABSENT_ON_EPOLL:
            raise absent(_ABSENT_ON_EPOLL[opcode])

    # Waking

    def open_descriptor(self) -> int:
        """Return a new descriptor that is readable when there are completions; the caller closes it.

        It is silent until `Dispatcher.arm_descriptor`.  It is an eventfd, or on epoll a copy of the set.

        Raises:
            RingUnavailableError: the kernel refused it to io_uring.
            OSError: the kernel refused it to epoll.
        """
        descriptor = int(lib.ul_descriptor_open(self.handle))
        if descriptor < 0:
            raise not_made(-descriptor, self.backend)
        return descriptor

    def clear_descriptor(self, descriptor: int) -> None:
        """Make a descriptor of `open_descriptor` silent until the next completion, for a level-triggered set."""
        if self.backend == "io_uring":
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(descriptor)

    def register_eventfd(self, fd: int, *, only_async: bool = False) -> None:
        """Signal completions on an eventfd (IORING_REGISTER_EVENTFD).

        Args:
            fd: a descriptor of os.eventfd.
            only_async: leave out those that complete during the submit (IORING_REGISTER_EVENTFD_ASYNC).
        """
        self._register(Register.EVENTFD_ASYNC if only_async else Register.EVENTFD, pack("i", fd), 1)

    def unregister_eventfd(self) -> None:
        """Stop signalling the eventfd."""
        self._register(Unregister.EVENTFD)

    def pause_eventfd(self, paused: bool = True) -> None:
        """Pause the eventfd without a system call (IORING_CQ_EVENTFD_DISABLED)."""
        (lib.ul_descriptor_disarm if paused else lib.ul_descriptor_arm)(self.handle)

    def register_napi(self, busy_poll_us: int, *, prefer_busy_poll: bool = False) -> None:
        """Poll network devices for up to so long before a sleep (IORING_REGISTER_NAPI); needs Linux 6.9."""
        self._register(Register.NAPI, pack("IBB2xII", busy_poll_us, prefer_busy_poll, 0, 0, 0), 1)

    def unregister_napi(self) -> None:
        """Stop polling network devices."""
        self._register(Unregister.NAPI, bytearray(16), 1)

    def register_clock(self, clock_id: int) -> None:
        """Set the clock of waits' timeouts: time.CLOCK_MONOTONIC, the default, or CLOCK_BOOTTIME; needs Linux 6.12."""
        self._register(Register.CLOCK, pack("I12x", clock_id), 0)

    # Rights

    def register_personality(self) -> int:
        """Register this thread's credentials; return the `personality` for SQEs that run with them."""
        return self._register(Register.PERSONALITY)

    def unregister_personality(self, personality: int) -> None:
        """Unregister credentials."""
        self._register(Unregister.PERSONALITY, None, personality)

    def restrict(
        self,
        opcodes: Iterable[Opcode] = (),
        registers: Iterable[int] = (),
        *,
        flags_allowed: int = 0,
        flags_required: int = 0,
    ) -> None:
        """Restrict the ring to these from now on; call it once, before the ring is enabled.

        Args:
            opcodes: the opcodes that SQEs may have.
            registers: the `Register` and `Unregister` opcodes.
            flags_allowed: the `SqeFlag`s that SQEs may have.
            flags_required: the `SqeFlag`s that SQEs must have.
        """
        entries: list[tuple[int, int]] = [(Restriction.SQE_OP, opcode) for opcode in opcodes]
        entries += [(Restriction.REGISTER_OP, register) for register in registers]
        if flags_allowed:
            entries.append((Restriction.SQE_FLAGS_ALLOWED, flags_allowed))
        if flags_required:
            entries.append((Restriction.SQE_FLAGS_REQUIRED, flags_required))
        packed = b"".join(pack("HB13x", kind, value) for kind, value in entries)
        self._register(Register.RESTRICTIONS, bytearray(packed), len(entries))

    # Workers

    def set_worker_limits(self, bounded: int, unbounded: int) -> tuple[int, int]:
        """Limit this thread's kernel workers (IORING_REGISTER_IOWQ_MAX_WORKERS); 0 leaves a limit unchanged.

        Args:
            bounded: the limit for operations that end by themselves, such as reads of files.
            unbounded: the limit for operations that may wait for ever.

        Returns:
            The limits until now.
        """
        _limited.bounded = 0
        limits = pack("II", bounded, unbounded)
        self._register(Register.IOWQ_MAX_WORKERS, limits, 2)
        before = struct.unpack("=II", limits)
        return before[0], before[1]

    def limit_workers(self, bounded: int) -> None:
        """Limit this thread's bounded kernel workers, unless an earlier ring has set the same limit.

        It does nothing on a kernel without such limits (before Linux 5.15), nor on epoll.
        """
        if _limited.bounded == bounded or self.backend == "epoll":
            return
        with contextlib.suppress(OSError):
            self.set_worker_limits(bounded, 0)
            _limited.bounded = bounded

    def register_worker_affinity(self, cpus: Collection[int]) -> None:
        """Run kernel workers on these CPUs only."""
        if not cpus or not all(0 <= cpu < _CPUS_MAX for cpu in cpus):
            raise ValueError("give at least one CPU, by its number")
        mask = sum(1 << cpu for cpu in set(cpus)).to_bytes(_CPUS_MAX // 8, "little")
        self._register(Register.IOWQ_AFF, bytearray(mask), len(mask))

    def unregister_worker_affinity(self) -> None:
        """Run kernel workers on any CPU."""
        self._register(Unregister.IOWQ_AFF)

    # Other calls

    def register_ring_fd(self) -> None:
        """Enter the ring by its place in this thread's table, which saves a look-up at each enter (Linux 5.18).

        Raises:
            RuntimeError: other threads, whose tables lack it, may enter the ring too (`shared`).
        """
        if not self.is_single_issuer:
            raise RuntimeError("the ring is not bound to one thread, so it cannot be in the table of one")
        check_errno(lib.ul_ring_register_fd(check_owner(self.handle)))

    def unregister_ring_fd(self) -> None:
        """Enter the ring by its descriptor."""
        check_errno(lib.ul_ring_unregister_fd(check_owner(self.handle)))

    @property
    def is_single_issuer(self) -> bool:
        """Return whether the ring belongs to the thread that enabled it."""
        raise NotImplementedError

    def cancel_now(self, token: int = 0, *, fd: int = -1, flags: int = 0, timeout_ns: int | None = None) -> None:
        """Cancel operations and wait for their ends, as io_uring_register_sync_cancel(3); needs Linux 6.0.

        Args:
            token: the operation's token.
            fd: the descriptor of the operations, with `CancelFlag.FD`.
            flags: the criterion, see `CancelFlag`.
            timeout_ns: the longest wait.

        Raises:
            FileNotFoundError: no operation matched.
            OSError: ETIME, an operation did not end in time.
        """
        timeout = _NO_TIMEOUT if timeout_ns is None else divmod(timeout_ns, _NS_PER_S)
        self._register(Register.SYNC_CANCEL, pack("QiIqq32x", token, fd, flags, *timeout), 1)

    def post(self, number: int, res: int = 0) -> None:
        """Put a completion with this `number` and result into this ring, from any thread, without a ring there.

        It needs Linux 6.13; on older kernels the operation `MessageRing` does the same from another ring.

        Args:
            number: a number of 60 bits.
            res: a result of 32 bits.

        Raises:
            ValueError: the number or the result does not fit.
        """
        if not -(1 << 31) <= res < 1 << 31:
            raise ValueError(f"the result of a completion has 32 bits, not {res}")
        self._check_present(Register.SEND_MSG_RING)
        sqe = bytearray(64)
        # opcode, fd, off (the user_data there), len (the result there)
        fields = struct.pack(
            "=B3xiQQI", Opcode.MSG_RING, lib.ul_ring_fd(self.handle), message_user_data(number), 0, res % (1 << 32)
        )
        sqe[: len(fields)] = fields
        check_errno(lib.ul_send_message(ffi.from_buffer(sqe)))


def _drop_limits() -> None:
    _limited.bounded = 0


# The thread of a forked child has workers of its own.
os.register_at_fork(after_in_child=_drop_limits)
