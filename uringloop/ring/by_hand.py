"""`Ring`: an io_uring by hand, as with liburing: `get_sqe()`, one of its `prep_*`, `submit()`, `wait_cqe()`."""

import errno
import os
import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import Any, Protocol, TypeVar

from .abi import Setup
from .base import RingBase
from .closing import drain
from .core._cffi import lib
from .groups import BufferGroup
from .queues import Completion, Queues
from .register import check_errno
from .sqe import Sqe

#: Below are the groups of streams and datagram sockets.
_FIRST_GROUP_ID = 16


class Stageable(Protocol):
    """Name what a ring asks of an operation; see `uringloop.operations.Operation`."""

    token: int

    @property
    def opcode(self) -> int:
        """Return the opcode of its SQE."""

    def submit(self, dispatcher: Any) -> None:
        """Stage it by `dispatcher.stage`."""

    def finish(self, res: int) -> int:
        """Take the result of the last CQE; return that, or what stands for it."""

    def release(self) -> None:
        """Release the memory: the kernel is done with it."""

    def result(self, res: int, flags: int) -> Any:
        """Return the caller's value of a result that is no error."""

    def error(self, res: int) -> BaseException:
        """Return the exception for a negative result."""

    def dispose(self, res: int, flags: int) -> None:
        """Undo a result that is no error and has no taker."""


class Repeatable(Stageable, Protocol):
    """Name what a ring asks of a multishot operation; see `uringloop.operations.Multishot`."""

    def repeat(self) -> None:
        """Take the multishot form."""

    def answer(self, res: int, flags: int) -> int:
        """Return the result of one of many CQEs, or what stands for it."""

    def is_end(self, res: int) -> bool:
        """Return whether this answer, which came without MORE, is the last."""

    def is_result(self, res: int, flags: int) -> bool:
        """Return whether an answer is one of the many results."""


class Linked(Protocol):
    """Name what a ring asks of a chain; see `uringloop.operations.Chain`."""

    @property
    def is_over(self) -> bool:
        """Return whether all parts have ended."""

    def __contains__(self, operation: object) -> bool:
        """Return whether this is one of its operations."""

    def submit(self, dispatcher: Any) -> None:
        """Stage all parts."""

    def hear(self, operation: Any, res: int, flags: int) -> None:
        """Take the completion of one of its operations."""

    def results(self) -> list[Any]:
        """Return the results of the parts."""


OperationType = TypeVar("OperationType", bound=Stageable)


class Ring(RingBase):
    """One io_uring, used by hand; see `RingBase` for the arguments.

    Attributes:
        features: what its kernel offers.
    """

    _dispatcher: Queues | None = None

    def _set_up(self) -> None:
        self._set_aside: deque[Completion] = deque()
        self._groups: list[BufferGroup] = []
        self._next_group_id = _FIRST_GROUP_ID

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

    @property
    def _queues(self) -> Queues:
        """Return the queues of the ring, which must be open and of this process."""
        handle = self.handle
        if self._dispatcher is None:
            self._dispatcher = Queues(self.address, lib.ul_ring_entries(handle, 1), _no_report)
        return self._dispatcher

    @property
    def in_flight(self) -> int:
        """Return how many operations and SQEs were staged and have not completed for the last time."""
        return self._queues.in_flight

    def get_sqe(self) -> Sqe:
        """Return the next free SQE, as io_uring_get_sqe(3); a full queue is submitted first."""
        return self._queues.stage_by_hand(Sqe)

    def prepare(self, operation: OperationType) -> OperationType:
        """Stage an operation and return it; the next `submit` or wait hands it to the kernel.

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
        """Return the next completion, or None if there is none without waiting."""
        return self._set_aside.popleft() if self._set_aside else self._take()

    def wait_cqe(self, timeout_ns: int = -1, *, signal_mask: Collection[int] | None = None) -> Completion:
        """Submit what is staged, wait for the next completion, and return it.

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
        """Yield completions as they come, until nothing is in flight.  Submit and await also what is staged meanwhile.

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
        """Yield the results of a multishot operation; stage it again when the kernel ended it for want of room.

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
                # Without a buffer for the second time: another has to give one back.
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
        """Return the next wanted completion; set others aside."""
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

    def close(self, *, only_watches: bool = False) -> None:
        """Close the ring.  What is in flight is cancelled first, and what cannot be cancelled is waited for.

        Args:
            only_watches: what is still in flight writes to no memory.  Otherwise nothing that it may write to is freed.

        Raises:
            OSError: the kernel refuses to cancel or to wait; the ring is closed all the same.
        """
        try:
            if self._handle is not None and self._dispatcher is not None and not lib.ul_ring_refuses(self._handle):
                drain(self, self._dispatcher, self._set_aside)
        finally:
            self._close(only_watches)

    def _in_use(self) -> list[object]:
        return [*super()._in_use(), *self._groups]

    def __del__(self) -> None:
        if self._handle is not None and self._dispatcher is not None and not self.forked:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        super().__del__()


def _no_report(error: BaseException, operation: Any) -> None:
    """Do nothing: a ring by hand dispatches nothing."""


def _bits(signal_mask: Collection[int] | None) -> int | None:
    """Return a set of signals as the kernel takes it."""
    return None if signal_mask is None else sum(1 << (number - 1) for number in set(signal_mask))
