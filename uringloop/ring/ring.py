"""`Ring`: one io_uring, by itself or under an event loop.

By hand it goes as with liburing: `get_sqe()`, one of its `prep_*`, `submit()`, `wait_cqe()`.  Under a loop the ring is
driven by its `Dispatcher` instead.  Not both on one ring: each would reap the other's completions.

The worker pool of a thread is sized by the first ring made on it, so even a probing ring has a normal size.

After fork(2) the child's copy is forgotten: its memory is not there (MADV_DONTFORK) and its descriptor is closed, so
that the child cannot keep the parent's operations alive.
"""

import errno
import os
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from .abi import Setup
from .closing import drain
from .core._cffi import ffi, lib
from .dispatcher import Dispatcher
from .errors import disabled_by_variable, unavailable
from .features import Features, check_names, derive
from .groups import BufferGroup
from .queues import Completion, Queues
from .register import Registration, check_errno, check_owner
from .registered import RegisteredBuffers, RegisteredFiles
from .setup import SqPoll, opcodes, open_ring
from .sqe import Sqe

SQ_ENTRIES = 256
CQ_ENTRIES = 4096
BUFFER_COUNT = 128
BUFFER_COUNT_MAX = 4096
BUFFER_SIZE_BYTES = 32768

#: Below are those of streams and datagram sockets.
_FIRST_GROUP_ID = 16

_live: "weakref.WeakSet[Ring]" = weakref.WeakSet()

#: What was in flight on a ring that was closed without waiting: the kernel may still write into its memory, or read it.
_never_freed: list[object] = []


class Stageable(Protocol):
    """What a ring asks of an operation; see `uringloop.operations.Operation`."""

    token: int

    @property
    def opcode(self) -> int:
        """What its SQE asks for."""

    def submit(self, dispatcher: Any) -> None:
        """Stage it by `dispatcher.stage`."""

    def finish(self, res: int) -> int:
        """Its last CQE arrived; returns the result, or what is to be taken for it."""

    def release(self) -> None:
        """Let go of the memory: the kernel is done with it."""

    def result(self, res: int, flags: int) -> Any:
        """What the caller gets for a result that is no error."""

    def error(self, res: int) -> BaseException:
        """The exception for a negative result."""

    def dispose(self, res: int, flags: int) -> None:
        """A result that is no error and that nobody looks at."""


class Repeatable(Stageable, Protocol):
    """What a ring asks of a multishot operation; see `uringloop.operations.Multishot`."""

    def repeat(self) -> None:
        """Take the multishot form."""

    def answer(self, res: int, flags: int) -> int:
        """What is to be taken for the result of one of many CQEs."""

    def is_end(self, res: int) -> bool:
        """Whether there is nothing more to come after this answer, which came without MORE."""

    def is_result(self, res: int, flags: int) -> bool:
        """Whether an answer is one of the many results."""


class Linked(Protocol):
    """What a ring asks of a chain; see `uringloop.operations.Chain`."""

    @property
    def is_over(self) -> bool:
        """Whether all parts have ended."""

    def __contains__(self, operation: object) -> bool:
        """Whether this is one of its operations."""

    def submit(self, dispatcher: Any) -> None:
        """Stage all parts."""

    def hear(self, operation: Any, res: int, flags: int) -> None:
        """One of its operations completed."""

    def results(self) -> list[Any]:
        """The results of the parts."""


OperationType = TypeVar("OperationType", bound=Stageable)


class Ring(Registration):
    """One io_uring.

    Args:
        entries: of the submission queue; rounded up to a power of two.
        cq_entries: of the completion queue.
        without: optional features to do without, as named in `features.OPTIONAL`.
        enable: start it for this thread now; otherwise `enable()` does, on the thread that will use it.
        io_poll: completions are polled for on the device (IORING_SETUP_IOPOLL): for files opened with O_DIRECT on a
            device with polled queues, and for nothing else.
        sq_poll: a thread of the kernel's submits (IORING_SETUP_SQPOLL).
        attach: a ring whose kernel workers, and SQPOLL thread, this one shares (IORING_SETUP_ATTACH_WQ).
        shared: several threads may use the ring, one at a time; otherwise only the one that enabled it.

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
        io_poll: bool = False,
        sq_poll: SqPoll | None = None,
        attach: "Ring | None" = None,
        shared: bool = False,
    ) -> None:
        self._handle: Any = None
        self._dispatcher: Dispatcher | None = None
        self._by_hand: Queues | None = None
        self._set_aside: deque[Completion] = deque()
        self._groups: list[BufferGroup] = []
        self._buffers: RegisteredBuffers | None = None
        self._next_group_id = _FIRST_GROUP_ID
        if entries < 1 or cq_entries < 1:
            raise ValueError("a ring needs at least one entry in each queue")
        if without:
            check_names(without)
        if disabled_by_variable():
            raise unavailable(0)
        self._handle = open_ring(
            entries,
            max(cq_entries, entries),
            without=without,
            io_poll=io_poll,
            sq_poll=sq_poll,
            attach_fd=None if attach is None else attach.fd,
            shared=shared,
        )
        self.forked = False
        self._has_buffers = False
        self._without = without
        self._opcodes = opcodes()
        self._flags = lib.ul_ring_setup_flags(self._handle), lib.ul_ring_features(self._handle)
        self.features = self._features()
        _live.add(self)
        if enable:
            try:
                self.enable()
            except BaseException:
                self._close(only_watches=True)
                raise

    def enable(self) -> None:
        """Start a ring that was made disabled; from now on it belongs to this thread.

        Raises:
            RingUnavailableError: the kernel refuses.
        """
        error = lib.ul_ring_enable(check_owner(self.handle))
        if error < 0:
            raise unavailable(-error)

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
    def unfinished(self) -> int:
        """How many SQEs were staged and have not completed for the last time, cancels among them."""
        return int(lib.ul_in_flight(self.handle))

    @property
    def is_single_issuer(self) -> bool:
        """Whether the ring belongs to the thread that enabled it."""
        return bool(self.features.setup & Setup.SINGLE_ISSUER)

    @property
    def entries(self) -> tuple[int, int]:
        """Entries of the submission and of the completion queue, as the kernel rounded them."""
        return lib.ul_ring_entries(self.handle, 0), lib.ul_ring_entries(self.handle, 1)

    def _features(self) -> Features:
        return derive(*self._flags, self._opcodes, self._has_buffers, self._without)

    def open_buffers(self, count: int, size_bytes: int, count_max: int, bulk_count_max: int = 0) -> None:
        """Have the streams' buffer group made when it is needed, if the kernel has such and it is not masked off.

        Where it is refused then, for want of memory too, streams receive into memory of their own.

        Args:
            count: buffers at first, a power of two.
            size_bytes: of one buffer.
            count_max: the group doubles up to this many when the kernel runs out; a power of two, at most 32768.
            bulk_count_max: streams at a time that may receive by readiness, in large pieces, because much comes.
        """
        if "buffer_rings" in self._without:
            return
        check_errno(lib.ul_streams_allow_bulk(self.handle, bulk_count_max))
        self._has_buffers = bool(lib.ul_buffers_plan(self.handle, count, size_bytes, count_max))
        if self._has_buffers:
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
        size_bytes = lib.UL_DATAGRAM_BUFFER_SIZE
        return bool(lib.ul_buffers_open(self.handle, lib.UL_GROUP_DATAGRAM, count, size_bytes, count_max, 1) == 0)

    def allow_growth(self, cq_entries: int) -> bool:
        """Let a loop's completion queue grow to so many entries once it has overflowed; whether the kernel can."""
        return bool(lib.ul_ring_allow_growth(self.handle, cq_entries))

    @property
    def has_buffers(self) -> bool:
        """Whether a buffer group to receive into is made when it is needed."""
        return self._has_buffers

    @property
    def address(self) -> int:
        """Of the core's `ul_ring`, for `Dispatcher`."""
        return int(ffi.cast("uintptr_t", self.handle))

    def dispatcher(
        self, report: Callable[[BaseException, Any], object], kind: type[Dispatcher] = Dispatcher
    ) -> Dispatcher:
        """The tick of an event loop on this ring; report(exception, operation) hears what no one else does."""
        self._dispatcher = kind(self.address, lib.ul_ring_entries(self.handle, 1), report)
        return self._dispatcher

    def take_dispatcher(self, other: "Ring") -> None:
        """Let the dispatcher of another ring go on with this one."""
        assert other._dispatcher is not None
        self._dispatcher, other._dispatcher = other._dispatcher, None
        self._dispatcher.move(self.address)

    # What is registered

    def register_buffers(self, buffers: Sequence[Any] | int, tags: Sequence[int] | None = None) -> RegisteredBuffers:
        """Register buffers, which the kernel pins once (io_uring_register_buffers_tags(3)).

        Args:
            buffers: writable, such as `allocate` gives; or a number of places to be filled later.
            tags: a number for each, see `RegisteredBuffers`.

        Raises:
            OSError: EBUSY if the ring has such a table; ENOMEM if RLIMIT_MEMLOCK is too small.
        """
        # Held here: who drops the table leaves its memory to the kernel.
        self._buffers = RegisteredBuffers(self, buffers, tags)
        return self._buffers

    def register_files(self, files: Sequence[int] | int, tags: Sequence[int] | None = None) -> RegisteredFiles:
        """Register files (io_uring_register_files_tags(3)).

        Args:
            files: descriptors, `NO_FILE` for an empty place; or a number of places to be filled later.
            tags: a number for each, see `RegisteredFiles`.

        Raises:
            OSError: EBUSY if the ring has such a table; EMFILE if RLIMIT_NOFILE is too small.
        """
        return RegisteredFiles(self, files, tags)

    def open_group(self, count: int, size_bytes: int) -> BufferGroup:
        """Make a group of buffers for receives to pick from.

        Args:
            count: of buffers, a power of two, at most 32768.
            size_bytes: of one.
        """
        group = BufferGroup(self, self._next_group_id, count, size_bytes)
        self._next_group_id += 1
        self._groups.append(group)
        return group

    def resize(self, entries: int, cq_entries: int) -> None:
        """Give the ring other queues (IORING_REGISTER_RESIZE_RINGS); what is staged is submitted first.

        Linux 6.13 and newer, and only a ring with deferred task work (not `shared`, no `sq_poll`).

        Raises:
            OSError: EOVERFLOW if the new queues have no room for what is in the old ones.
        """
        queues = self._queues
        if entries < 1 or cq_entries < 1:
            raise ValueError("a ring needs at least one entry in each queue")
        queues.enter_for(0, 0, None)
        check_errno(lib.ul_ring_resize(self.handle, entries, max(cq_entries, entries)))
        queues.grow(self.entries[1])

    def statistics(self) -> dict[str, int]:
        """Counters since the start, and what is in flight now.

        submitted, completed, enters, overflows, rearms, no_buffers, batches_max, bytes_received and bytes_sent (of
        streams and datagrams), spins and spins_in_vain (waits begun awake), cancels_lost (asked again because they
        found nothing) only grow; in_flight, streams, bulk_streams, datagrams (sockets), buffers and buffers_lent are of
        this moment.
        """
        counters = ffi.new("ul_statistics *")
        lib.ul_ring_statistics(self.handle, counters)
        return {name: getattr(counters, name) for name, _ in ffi.typeof("ul_statistics").fields}

    # By hand

    @property
    def _queues(self) -> Queues:
        """The queues, as long as no loop drives them."""
        handle = self.handle
        if self._by_hand is None:
            if self._dispatcher is not None:
                raise RuntimeError("this ring is driven by an event loop; make one of your own")
            self._by_hand = Queues(self.address, lib.ul_ring_entries(handle, 1), _no_report)
        return self._by_hand

    @property
    def in_flight(self) -> int:
        """How many operations and SQEs were staged and have not completed for the last time."""
        return self._queues.in_flight

    def get_sqe(self) -> Sqe:
        """The next free SQE, as io_uring_get_sqe(3); a full queue is submitted first."""
        return self._queues.next_sqe(Sqe)

    def prepare(self, operation: OperationType) -> OperationType:
        """Stage an operation; the next `submit` or wait hands it to the kernel.  Returns it.

        Raises:
            RuntimeError: the ring is another thread's or process's, or is not enabled, and the queue is full.
            ValueError: the ring is closed.
        """
        operation.submit(self._queues)
        return operation

    def submit(self, wait_for: int = 0, *, timeout_ns: int = -1, signal_mask: Collection[int] | None = None) -> int:
        """Hand what is staged to the kernel, and wait, as io_uring_submit_and_wait_timeout(3) does.

        Args:
            wait_for: until so many completions can be taken.
            timeout_ns: at most this long; -1 waits for ever.
            signal_mask: the signals that are blocked while waiting, instead of those that are now; see pselect(2).

        Returns:
            How many SQEs the kernel took.

        Raises:
            ValueError: wait_for is more than the completion queue holds.
        """
        if wait_for > self.entries[1]:
            raise ValueError(f"the completion queue holds {self.entries[1]}, so {wait_for} cannot be waited for")
        if wait_for <= 0:
            return self._queues.enter_for(0, 0, None)
        return self._queues.enter_for(max(wait_for - len(self._set_aside), 0), timeout_ns, _bits(signal_mask))

    def peek_cqe(self) -> Completion | None:
        """The next completion if there is one, without waiting."""
        return self._set_aside.popleft() if self._set_aside else self._take()

    def wait_cqe(self, timeout_ns: int = -1, *, signal_mask: Collection[int] | None = None) -> Completion:
        """The next completion, waited for; submits what is staged.

        Raises:
            TimeoutError: none came within timeout_ns.
        """
        completion = self.peek_cqe()
        if completion is None:
            self.submit(1, timeout_ns=timeout_ns, signal_mask=signal_mask)
            completion = self.peek_cqe()
            if completion is None:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        return completion

    def completions(self, timeout_ns: int = -1) -> Iterator[Completion]:
        """Completions as they come, until nothing is in flight.  What is staged meanwhile is submitted, and waited for.

        Raises:
            TimeoutError: none came within timeout_ns of the last.
        """
        while (completion := self.peek_cqe()) is not None or self.in_flight:
            yield completion or self.wait_cqe(timeout_ns)

    def run(self, operation: Stageable) -> Any:
        """Stage an operation, submit it, and wait for its result; what else completes is left for later.

        Raises:
            OSError: the kernel's errno, with the filename if there is one.
        """
        self.prepare(operation)
        completion = answer = self._next_of(operation)
        while completion.more:
            # Memory that a zero-copy send still reads.
            completion = self._next_of(operation)
        return answer.result()

    def iterate(self, operation: Repeatable) -> Iterator[Any]:
        """The results of a multishot operation, which is staged again when the kernel ended it for want of room.

        Left early, it cancels the operation and disposes of what came too late.

        Raises:
            OSError: the kernel's errno.
        """
        operation.repeat()
        more, is_over, starved = False, False, False
        try:
            while not is_over:
                if not more:
                    self.prepare(operation)
                completion = self._next_of(operation)
                more = completion.more
                res = operation.answer(completion.res, completion.flags)
                # Without a buffer for the second time: somebody else has to give one back.
                is_over = not more and (operation.is_end(res) or (starved and res < 0))
                starved = res < 0
                if operation.is_result(res, completion.flags):
                    yield operation.result(res, completion.flags)
                elif res < 0 and is_over:
                    raise operation.error(res)
        finally:
            if more and not self.closed:
                self.cancel(operation)
                while more:
                    completion = self._next_of(operation)
                    more = completion.more
                    if completion.res >= 0:
                        operation.dispose(completion.res, completion.flags)

    def chain(self, chain: Linked) -> list[Any]:
        """Run a `uringloop.operations.Chain`, and return the results of its parts.

        Raises:
            ChainError: a part failed; says which, what was cancelled, and the results of all.
            ValueError: the chain is empty, or longer than the submission queue.
        """
        chain.submit(self._queues)
        while not chain.is_over:
            completion = self._next_that(lambda taken: taken.operation in chain)
            chain.hear(completion.operation, completion.res, completion.flags)
        return chain.results()

    def cancel(self, operation: Stageable) -> None:
        """Ask the kernel to cancel an operation.  It still completes, with ECANCELED or its result."""
        self._queues.cancel(operation.token)

    def _take(self) -> Completion | None:
        queues = self._queues
        completion = queues.take()
        if completion is None and self.features.setup & Setup.IOPOLL and queues.in_flight:
            queues.enter_for(0, 0, None)
            completion = queues.take()
        return completion

    def _next_of(self, operation: Stageable) -> Completion:
        return self._next_that(lambda completion: completion.operation is operation)

    def _next_that(self, is_wanted: Callable[[Completion], bool]) -> Completion:
        """The next completion of some; others are set aside."""
        for place, completion in enumerate(self._set_aside):
            if is_wanted(completion):
                del self._set_aside[place]
                return completion
        while True:
            taken = self._take()
            if taken is None:
                self._queues.enter_for(1, -1, None)
            elif is_wanted(taken):
                return taken
            else:
                self._set_aside.append(taken)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._handle is None

    def close(self, *, only_watches: bool = False) -> None:
        """Close the ring.  Used by hand, what is in flight is cancelled first, and what cannot be is waited for.

        Args:
            only_watches: what is still in flight writes to no memory.  Otherwise nothing that it may write to is freed.

        Raises:
            OSError: the kernel refuses to cancel or to wait; the ring is closed all the same.
        """
        try:
            if self._handle is not None and self._by_hand is not None and not lib.ul_ring_refuses(self._handle):
                drain(self, self._by_hand, self._set_aside)
        finally:
            self._close(only_watches)

    def _close(self, only_watches: bool) -> None:
        if self._handle is None:
            return
        handle, self._handle = self._handle, None
        dispatcher = self._dispatcher or self._by_hand
        if dispatcher is not None:
            if not only_watches:
                _never_freed.extend((*dispatcher.operations.values(), *dispatcher.owners, *self._groups))
            dispatcher.detach()
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
        if self._handle is not None and self._by_hand is not None and not self.forked:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        self._close(only_watches=False)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "forked" if self.forked else f"fd={self.fd}"
        return f"<Ring {state}>"


def _no_report(error: BaseException, operation: Any) -> None:
    """Nothing is dispatched on a ring by hand."""


def _bits(signal_mask: Collection[int] | None) -> int | None:
    """A set of signals as the kernel takes it."""
    return None if signal_mask is None else sum(1 << (number - 1) for number in set(signal_mask))


def _forget_all() -> None:
    for ring in list(_live):
        ring.forget()


os.register_at_fork(after_in_child=_forget_all)
