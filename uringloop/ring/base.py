"""`RingBase`: the common part of an event loop's ring and the ring by hand.

The first ring that a thread makes sets its number of workers.  So a ring that only probes has a normal size.

After fork(2) the child drops its copy of each ring.  The ring's memory is not there (MADV_DONTFORK), and the child
closes the descriptor, because it would keep the parent's operations alive.
"""

import os
import threading
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from .abi import Setup
from .core._cffi import ffi, lib
from .dispatcher import Dispatcher, count_fork
from .errors import disabled_by_variable, not_made, unavailable
from .features import Features, check_names, derive
from .register import Registration, check_owner
from .registered import RegisteredBuffers, RegisteredFiles
from .setup import BACKENDS, Backend, SqPoll, opcodes, open_ring
from .statistics import Statistics, read_statistics

SQ_ENTRIES = 256
CQ_ENTRIES = 4096
BUFFER_COUNT = 128
BUFFER_COUNT_MAX = 4096
BUFFER_SIZE_BYTES = 32768

#: By id: a `WeakSet` takes longer than most of a ring's making.
_live: "dict[int, weakref.ref[RingBase]]" = {}

#: Operations in flight on a ring that closed without waiting: the kernel may still use their memory.
_never_freed: list[object] = []


class RingBase(Registration):
    """One io_uring.

    Args:
        entries: the size of the submission queue, rounded up to a power of two.
        cq_entries: the size of the completion queue.
        without: the names of optional features not to use, keys of `features.OPTIONAL`.
        enable: start the ring for this thread now; otherwise `enable()` does, on the thread that will use it.
        io_poll: poll the device for completions (IORING_SETUP_IOPOLL).  Such a ring serves only files with O_DIRECT on
            a device with polled queues.
        sq_poll: let a kernel thread submit (IORING_SETUP_SQPOLL).
        attach: share the kernel workers, and the SQPOLL thread, of this ring (IORING_SETUP_ATTACH_WQ).
        shared: let several threads use the ring, one at a time; otherwise only the thread that enabled it.
        backend: the carrier of the operations: "io_uring", the kernel; "epoll", a ring in user space on epoll(7).

    Raises:
        RingUnavailableError: the backend is io_uring, which cannot be used here; the message names cause and remedy.
        OSError: the backend is epoll: EINVAL, it has no such kind of ring; no descriptor or no memory is left.
        ValueError: a size is below 1, a feature or the backend is unknown, or `attach` is on epoll.
    """

    _handle: Any = None
    _dispatcher: Dispatcher | None = None

    def __init__(
        self,
        entries: int = SQ_ENTRIES,
        *,
        cq_entries: int = CQ_ENTRIES,
        without: frozenset[str] = frozenset(),
        enable: bool = True,
        io_poll: bool = False,
        sq_poll: SqPoll | None = None,
        attach: "RingBase | None" = None,
        shared: bool = False,
        backend: Backend = "io_uring",
    ) -> None:
        self._buffers: RegisteredBuffers | None = None
        self._set_up()
        if entries < 1 or cq_entries < 1:
            raise ValueError("a ring needs at least one entry in each queue")
        if without:
            check_names(without)
        if backend not in BACKENDS:
            raise ValueError(f"backend must be one of {sorted(BACKENDS)}, not {backend!r}")
        if attach is not None and backend == "io_uring" and attach.backend != backend:
            raise ValueError("only a ring of io_uring has kernel workers to share")
        if backend == "io_uring" and disabled_by_variable():
            raise unavailable(0)
        self._handle = open_ring(
            entries,
            max(cq_entries, entries),
            without=without,
            io_poll=io_poll,
            sq_poll=sq_poll,
            attach_fd=None if attach is None else attach.fd,
            shared=shared,
            backend=backend,
        )
        self.backend = backend
        self.forked = False
        self._has_buffers = False
        self._without = without
        self._opcodes = opcodes(backend)
        self._flags = lib.ul_ring_setup_flags(self._handle), lib.ul_ring_features(self._handle)
        self.features = self._features()
        self._ending = threading.RLock()
        _live[id(self)] = weakref.ref(self)
        if enable:
            try:
                self._enable()
            except BaseException:
                self._close(only_watches=True)
                raise

    def _set_up(self) -> None:
        """Make the attributes of a type of ring, before the ring is opened."""

    def enable(self) -> None:
        """Start a ring that was made disabled; it belongs to this thread from now on.

        Raises:
            RingUnavailableError: the kernel refuses, or a filter has come that forbids to enter the ring.
        """
        error = lib.ul_ring_check(check_owner(self.handle))
        if error < 0:
            raise not_made(-error, self.backend)
        self._enable()

    def _enable(self) -> None:
        error = lib.ul_ring_enable(self.handle)
        if error < 0:
            raise not_made(-error, self.backend)

    @property
    def handle(self) -> Any:
        """Return the core's `ul_ring *`, for the other modules of this package."""
        if self._handle is None:
            raise ValueError("operation on a closed ring")
        if self.forked:
            raise RuntimeError("this ring was made before fork(); make a new one in the child")
        return self._handle

    @property
    def fd(self) -> int:
        """Return the ring's file descriptor."""
        return int(lib.ul_ring_fd(self.handle))

    @property
    def unfinished(self) -> int:
        """Return the number of staged SQEs without a last CQE, cancels among them."""
        return int(lib.ul_in_flight(self.handle))

    @property
    def detained(self) -> int:
        """Return the number of calls in flight that a cancel could not interrupt, and that may never return."""
        return int(lib.ul_ring_detained(self.handle))

    @property
    def is_single_issuer(self) -> bool:
        """Return whether the ring belongs to the thread that enabled it."""
        return bool(self.features.setup & Setup.SINGLE_ISSUER)

    @property
    def entries(self) -> tuple[int, int]:
        """Return the sizes of the submission and the completion queue, as the kernel rounded them."""
        return lib.ul_ring_entries(self.handle, 0), lib.ul_ring_entries(self.handle, 1)

    def _features(self) -> Features:
        return derive(*self._flags, self._opcodes, self._has_buffers, self._without, self.backend)

    def open_buffers(self, count: int, size_bytes: int, count_max: int) -> None:
        """Plan the streams' buffer group, which the first need makes, if the kernel offers it and `without` allows it.

        If the kernel refuses it then, for want of memory too, streams receive into memory of their own.

        Args:
            count: the first number of buffers, a power of two.
            size_bytes: the size of a buffer.
            count_max: the largest number, to which the group doubles when it is empty; a power of two, at most 32768.
        """
        if "buffer_rings" in self._without:
            return
        self._has_buffers = bool(lib.ul_buffers_plan(self.handle, count, size_bytes, count_max))
        if self._has_buffers:
            self.features = self._features()

    @property
    def has_buffers(self) -> bool:
        """Return whether the first need makes a buffer group to receive into."""
        return self._has_buffers

    @property
    def address(self) -> int:
        """Return the address of the core's `ul_ring`, for `Dispatcher`."""
        return int(ffi.cast("uintptr_t", self.handle))

    # Registered resources

    def register_buffers(self, buffers: Sequence[Any] | int, tags: Sequence[int] | None = None) -> RegisteredBuffers:
        """Register buffers, which the kernel pins once (io_uring_register_buffers_tags(3)).

        Args:
            buffers: writable buffers, such as those of `allocate`; or a number of places to fill later.
            tags: a number for each buffer, see `RegisteredBuffers`.

        Raises:
            OSError: EBUSY, the ring has such a table; ENOMEM, RLIMIT_MEMLOCK is too small.
        """
        # The ring holds it: a caller who drops the table leaves its memory to the kernel.
        self._buffers = RegisteredBuffers(self, buffers, tags)
        return self._buffers

    def register_files(self, files: Sequence[int] | int, tags: Sequence[int] | None = None) -> RegisteredFiles:
        """Register files (io_uring_register_files_tags(3)).

        Args:
            files: descriptors, with `NO_FILE` for an empty place; or a number of places to fill later.
            tags: a number for each file, see `RegisteredFiles`.

        Raises:
            OSError: EBUSY, the ring has such a table; EMFILE, RLIMIT_NOFILE is too small.
        """
        return RegisteredFiles(self, files, tags)

    def statistics(self) -> Statistics:
        """Return the backend, counters since the start, and numbers of this moment; see `Statistics`."""
        with self._ending:  # another thread may be closing the ring
            return read_statistics(self.handle, self.backend)

    @property
    def closed(self) -> bool:
        """Return whether `close` was called."""
        return self._handle is None

    def close(self, *, only_watches: bool = False) -> None:
        """Close the ring.

        Args:
            only_watches: no operation in flight writes to memory.  Otherwise the memory that one may write to is never
                freed.
        """
        self._close(only_watches)

    def _close(self, only_watches: bool) -> None:
        if self._handle is None:
            return
        handle, self._handle = self._handle, None
        if not only_watches:
            _never_freed.extend(self._in_use())
        if self._dispatcher is not None:
            self._dispatcher.close()
        with self._ending:
            lib.ul_ring_close(handle, only_watches)
        _live.pop(id(self), None)

    def _in_use(self) -> list[object]:
        """Return the objects that hold memory of operations in flight."""
        dispatcher = self._dispatcher
        return [] if dispatcher is None else [*dispatcher.operations.values(), *dispatcher.owners]

    def drop(self) -> None:
        """Drop the parent's ring, in a forked child."""
        self.forked = True
        self._ending = threading.RLock()  # a thread of the parent may have held it
        if self._handle is not None:
            lib.ul_ring_drop(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._close(only_watches=False)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "forked" if self.forked else f"fd={self.fd}"
        return f"<{type(self).__name__} {state}>"


def _drop_all() -> None:
    count_fork()
    for reference in list(_live.values()):
        ring = reference()
        if ring is not None:
            ring.drop()


os.register_at_fork(after_in_child=_drop_all)
