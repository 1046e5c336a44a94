"""`Ring`: one io_uring, by itself or under an event loop.

By hand it goes as with liburing: `get_sqe()`, one of its `prep_*`, `submit()`, `wait_cqe()`.  Under a loop the ring is
driven by its `Dispatcher` instead.  Not both on one ring: each would reap the other's completions.

The worker pool of a thread is sized by the first ring made on it, so even a probing ring has a normal size.

After fork(2) the child's copy is forgotten: its memory is not there (MADV_DONTFORK) and its descriptor is closed, so
that the child cannot keep the parent's operations alive.
"""

import errno
import os
import weakref
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from ._cffi import ffi, lib
from .abi import OP_SUPPORTED, Opcode, Register, Setup
from .errors import disabled_by_variable, unavailable
from .features import Features, check_names, derive
from .hot import BUILD, Dispatcher, Pin
from .memory import Vector

if lib.ul_build() != BUILD:
    raise ImportError(
        "uringloop's extensions _cffi and hot were built from different sources: build them anew, in a checkout with "
        "`python -m pip install -e .`"
    )

SQ_ENTRIES = 256
CQ_ENTRIES = 4096
BUFFER_COUNT = 128
BUFFER_COUNT_MAX = 4096
BUFFER_SIZE_BYTES = 32768

_ALWAYS = Setup.CQSIZE | Setup.CLAMP | Setup.R_DISABLED
#: From the best set of flags to the plainest; a kernel that does not know one answers EINVAL.
_SETUPS = (
    _ALWAYS | Setup.SUBMIT_ALL | Setup.SINGLE_ISSUER | Setup.DEFER_TASKRUN | Setup.TASKRUN_FLAG | Setup.NO_SQARRAY,
    _ALWAYS | Setup.SUBMIT_ALL | Setup.SINGLE_ISSUER | Setup.DEFER_TASKRUN | Setup.TASKRUN_FLAG,
    _ALWAYS | Setup.SUBMIT_ALL | Setup.COOP_TASKRUN | Setup.TASKRUN_FLAG,
    _ALWAYS | Setup.SUBMIT_ALL,
    _ALWAYS,
)

_live: "weakref.WeakSet[Ring]" = weakref.WeakSet()

#: What was in flight on a ring that was closed without waiting: the kernel may still write into its memory, or read it.
_never_freed: list[object] = []


class Completion(NamedTuple):
    """A CQE: which SQE, what became of it, and IORING_CQE_F_* flags."""

    user_data: int
    res: int
    flags: int


class Ring:
    """One io_uring.

    Args:
        entries: of the submission queue; rounded up to a power of two.
        cq_entries: of the completion queue.
        without: optional features to do without, as named in `features.OPTIONAL`.
        enable: start it for this thread now; otherwise `enable()` does, on the thread that will use it.

    Raises:
        RingUnavailableError: io_uring cannot be used here; it says why and what to do.
        ValueError: a size below 1, or an unknown feature.
    """

    def __init__(
        self,
        entries: int = SQ_ENTRIES,
        *,
        cq_entries: int = CQ_ENTRIES,
        without: frozenset[str] = frozenset(),
        enable: bool = True,
    ) -> None:
        self._handle: Any = None
        self._dispatcher: Dispatcher | None = None
        if entries < 1 or cq_entries < 1:
            raise ValueError("a ring needs at least one entry in each queue")
        check_names(without)
        if disabled_by_variable():
            raise unavailable(0)
        self._handle = _open(entries, max(cq_entries, entries), without)
        self.forked = False
        self._pins: dict[int, list[Pin | Vector]] = {}
        self._next_user_data = 1
        self._has_buffers = False
        self._without = without
        self.features = self._features()
        _live.add(self)
        if enable:
            self.enable()

    def enable(self) -> None:
        """Start a ring that was made disabled; from now on it belongs to this thread."""
        _check(lib.ul_ring_enable(self.handle))

    @property
    def handle(self) -> Any:
        """The core's `ul_ring *`, for the other modules of this package."""
        if self._handle is None:
            raise ValueError("operation on a closed ring")
        if self.forked:
            raise RuntimeError("this ring was made before fork(); make a new one in the child")
        return self._handle

    @property
    def fd(self) -> int:
        """The ring's file descriptor."""
        return int(lib.ul_ring_fd(self.handle))

    @property
    def is_single_issuer(self) -> bool:
        """Whether the ring belongs to the thread that enabled it."""
        return bool(self.features.setup & Setup.SINGLE_ISSUER)

    @property
    def entries(self) -> tuple[int, int]:
        """Entries of the submission and of the completion queue, as the kernel rounded them."""
        return lib.ul_ring_entries(self.handle, 0), lib.ul_ring_entries(self.handle, 1)

    def _features(self) -> Features:
        return derive(
            lib.ul_ring_setup_flags(self.handle),
            lib.ul_ring_features(self.handle),
            _probe(self.fd),
            self._has_buffers,
            self._without,
        )

    def open_buffers(self, count: int, size_bytes: int, count_max: int) -> None:
        """Make the buffer group of the streams, if the kernel has buffer rings and they are not masked off.

        Args:
            count: buffers at first, a power of two.
            size_bytes: of one buffer.
            count_max: the group doubles up to this many when the kernel runs out; a power of two, at most 32768.
        """
        if "buffer_rings" in self._without:
            return
        self._has_buffers = self._open_group(lib.UL_GROUP_STREAM, count, size_bytes, count_max)
        self.features = self._features()

    def open_datagram_buffers(self, count: int, count_max: int) -> bool:
        """Make the buffer group of datagram sockets, unless it is there; whether it is.

        A buffer has room for the largest datagram, so this is left until there is a socket that needs it.

        Args:
            count: buffers at first, a power of two.
            count_max: the group doubles up to this many when the kernel runs out; a power of two, at most 32768.
        """
        if "multishot_receive" not in self.features.enabled:
            return False
        return self._open_group(lib.UL_GROUP_DATAGRAM, count, lib.UL_DATAGRAM_BUFFER_SIZE, count_max)

    def _open_group(self, group_id: int, count: int, size_bytes: int, count_max: int) -> bool:
        result = lib.ul_buffers_open(self.handle, group_id, count, size_bytes, count_max)
        if result == -errno.ENOMEM:
            _check(result)
        return bool(result == 0)

    @property
    def has_buffers(self) -> bool:
        """Whether there is a buffer group to receive into."""
        return self._has_buffers

    def set_worker_limits(self, bounded: int, unbounded: int) -> None:
        """Limit this thread's kernel workers (IORING_REGISTER_IOWQ_MAX_WORKERS); 0 leaves a limit as it is."""
        limits = ffi.new("uint32_t[2]", [bounded, unbounded])
        _check(lib.ul_ring_register(self.fd, Register.IOWQ_MAX_WORKERS, limits, 2))

    def register_eventfd(self, fd: int) -> None:
        """Have completions signalled on an eventfd (IORING_REGISTER_EVENTFD)."""
        _check(lib.ul_ring_eventfd(self.handle, fd))

    @property
    def address(self) -> int:
        """Of the core's `ul_ring`, for `Dispatcher`."""
        return int(ffi.cast("uintptr_t", self.handle))

    def dispatcher(
        self, report: Callable[[BaseException, Any], object], kind: type[Dispatcher] = Dispatcher
    ) -> Dispatcher:
        """The tick of an event loop on this ring; report(exception, operation) hears what no one else does."""
        self._dispatcher = kind(self.address, self.entries[1], report)
        return self._dispatcher

    def take_dispatcher(self, other: "Ring") -> None:
        """Let the dispatcher of another ring go on with this one."""
        assert other._dispatcher is not None
        self._dispatcher, other._dispatcher = other._dispatcher, None
        self._dispatcher.move(self.address)

    def statistics(self) -> dict[str, int]:
        """Counters since the start, and what is in flight now.

        submitted, completed, enters, overflows, rearms, no_buffers, batches_max, bytes_received and bytes_sent (of
        streams and datagrams) only grow; in_flight, streams, datagrams (sockets), buffers and buffers_lent are of this
        moment.
        """
        counters = ffi.new("ul_statistics *")
        lib.ul_ring_statistics(self.handle, counters)
        return {name: getattr(counters, name) for name, _ in ffi.typeof("ul_statistics").fields}

    def get_sqe(self) -> "Sqe":
        """The next free SQE, as io_uring_get_sqe(3); a full queue is submitted first."""
        error = ffi.new("int *")
        sqe = lib.ul_next_sqe(self.handle, error)
        if sqe == ffi.NULL:
            _check(error[0])
        sqe.user_data = self._next_user_data
        self._next_user_data += 1
        return Sqe(self, sqe)

    def pin(self, user_data: int, memory: Pin | Vector) -> None:
        """Hold memory still until the completion of the SQE with this user_data is seen."""
        self._pins.setdefault(user_data, []).append(memory)

    def submit(self, wait_for: int = 0) -> int:
        """Hand the staged SQEs to the kernel, as io_uring_submit_and_wait(3); returns how many it took."""
        return _check(lib.ul_enter(self.handle, wait_for, -1))

    def peek_cqe(self) -> Completion | None:
        """The next completion if there is one."""
        cqe = ffi.new("struct io_uring_cqe *")
        if not lib.ul_next_cqe(self.handle, cqe):
            return None
        if not cqe.flags & lib.IORING_CQE_F_MORE:
            self._pins.pop(cqe.user_data, None)
        return Completion(cqe.user_data, cqe.res, cqe.flags)

    def wait_cqe(self, timeout_ns: int = -1) -> Completion:
        """The next completion, waited for; submits what is staged.

        Raises:
            TimeoutError: none came within timeout_ns.
            InterruptedError: a signal came first.
        """
        completion = self.peek_cqe()
        if completion is None:
            result = lib.ul_enter(self.handle, 1, timeout_ns)
            completion = self.peek_cqe()
            if completion is None:
                _check(-errno.ETIMEDOUT if result == -errno.ETIME else result if result < 0 else -errno.EINTR)
                raise AssertionError("unreachable")
        return completion

    def close(self, *, only_watches: bool = False) -> None:
        """Close the ring.

        Args:
            only_watches: what is still in flight writes to no memory.  Otherwise nothing that it may write to is freed.
        """
        if self._handle is None:
            return
        handle, self._handle = self._handle, None
        if self._dispatcher is not None:
            if not only_watches:
                _never_freed.extend((*self._dispatcher.operations.values(), *self._dispatcher.endpoints))
            self._dispatcher.detach()
        lib.ul_ring_close(handle, only_watches)
        _live.discard(self)

    def forget(self) -> None:
        """In a forked child: let go of the parent's ring."""
        self.forked = True
        if self._handle is not None:
            lib.ul_ring_forget(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class Sqe:
    """A staged SQE.  Its `user_data` is unique on this ring; set it before submitting to use one of your own."""

    def __init__(self, ring: Ring, sqe: Any) -> None:
        self._ring = ring
        self._sqe = sqe

    @property
    def user_data(self) -> int:
        return int(self._sqe.user_data)

    def prep(self, opcode: Opcode, fd: int, addr: int = 0, length: int = 0, offset: int = 0, op_flags: int = 0) -> int:
        """Fill in the common fields, as io_uring_prep_rw(3) does; returns the user_data."""
        sqe = self._sqe
        sqe.opcode, sqe.fd, sqe.addr, sqe.len, sqe.off, sqe.op_flags = opcode, fd, addr, length, offset, op_flags
        return self.user_data

    def prep_nop(self) -> int:
        """Do nothing, and complete."""
        return self.prep(Opcode.NOP, -1)

    def prep_readv(self, fd: int, buffers: Sequence[bytearray | memoryview], offset: int) -> int:
        """readv(2) at an offset in bytes; -1 reads at the file's own position."""
        return self._prep_vector(Opcode.READV, fd, Vector(buffers, writable=True), offset)

    def prep_writev(self, fd: int, buffers: Sequence[bytes | bytearray | memoryview], offset: int) -> int:
        """writev(2) at an offset in bytes; -1 writes at the file's own position."""
        return self._prep_vector(Opcode.WRITEV, fd, Vector(buffers), offset)

    def _prep_vector(self, opcode: Opcode, fd: int, vector: Vector, offset: int) -> int:
        self._ring.pin(self.user_data, vector)
        return self.prep(opcode, fd, vector.address, vector.count, offset & 0xFFFFFFFFFFFFFFFF)


def is_available() -> bool:
    """Whether io_uring may be used in this process; asks the kernel, unless URINGLOOP_DISABLE is set."""
    try:
        Ring().close()
    except OSError:
        return False
    return True


def _open(entries: int, cq_entries: int, without: frozenset[str]) -> Any:
    error = ffi.new("int *")
    for flags in _SETUPS:
        if flags & Setup.DEFER_TASKRUN and "defer_taskrun" in without:
            continue
        handle = lib.ul_ring_open(entries, cq_entries, flags, 0, error)
        if handle != ffi.NULL:
            return _check_calls(handle)
        if error[0] != -errno.EINVAL:
            break
    raise unavailable(-error[0])


def _check_calls(handle: Any) -> Any:
    """Refuse a ring on which a filter forbids the other two system calls; one that is not enabled yet shows it."""
    entered = lib.ul_enter(handle, 0, -1)
    registered = lib.ul_ring_register(lib.ul_ring_fd(handle), Register.PROBE, ffi.new("char[]", 16 + 256 * 8), 256)
    for error, harmless in ((entered, errno.EBADFD), (registered, errno.EINVAL)):
        if error < 0 and error != -harmless:
            lib.ul_ring_close(handle, 0)
            raise unavailable(-error)
    return handle


def _probe(fd: int) -> frozenset[Opcode]:
    """The opcodes that IORING_REGISTER_PROBE reports: a header of 16 bytes, then 8 bytes for each of 256."""
    answer = bytearray(16 + 256 * 8)
    if lib.ul_ring_register(fd, Register.PROBE, ffi.from_buffer(answer), 256) < 0:
        return frozenset()
    return frozenset(op for op in Opcode if answer[16 + op * 8 + 2] & OP_SUPPORTED)


def _check(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def _forget_all() -> None:
    for ring in list(_live):
        ring.forget()


os.register_at_fork(after_in_child=_forget_all)
