"""`Ring`: an io_uring by hand, as with liburing: `get_sqe()`, one of its `prep_*`, `submit()`, `wait_cqe()`."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from .abi import Register
from .base import RingBase
from .by_hand_base import ByHandBase
from .closing import drain
from .core._cffi import lib
from .groups import BufferGroup
from .queues import Completion, Queues
from .register import check_errno
from .sqe import Sqe

#: The groups of streams and datagram sockets come before it.
_FIRST_GROUP_ID = 16


class Stageable(Protocol):
    """The methods of an operation that a ring calls; see `uringloop.operations.Operation`."""

    token: int

    @property
    def opcode(self) -> int:
        """Return the opcode of its SQE."""

    def submit(self, dispatcher: Any) -> None:
        """Stage it by `dispatcher.stage`; return its token."""

    def finish(self, res: int) -> int:
        """Take the last CQE's result; return it, or the result that the class puts in its place."""

    def release(self) -> None:
        """Drop the memory, which the kernel has released."""

    def result(self, res: int, flags: int) -> Any:
        """Convert a result that is no error for the caller."""

    def error(self, res: int) -> BaseException:
        """Return the exception for a negative result."""

    def dispose(self, res: int, flags: int) -> None:
        """Dispose of a result that is no error and that no caller takes."""


class Repeatable(Stageable, Protocol):
    """The methods of a multishot operation that a ring calls; see `uringloop.operations.Multishot`."""

    def repeat(self) -> None:
        """Take the multishot form."""

    def answer(self, res: int, flags: int) -> int:
        """Return the result that one of many CQEs stands for."""

    def is_end(self, res: int) -> bool:
        """Return whether this answer, which came without MORE, is the last."""

    def is_result(self, res: int, flags: int) -> bool:
        """Return whether an answer is one of the many results."""


class Linked(Protocol):
    """The methods of a chain that a ring calls; see `uringloop.operations.Chain`."""

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


class Ring(ByHandBase, RingBase):
    """One io_uring, used by hand; see `RingBase` for the arguments.

    Attributes:
        features: the offer of its kernel.
    """

    _dispatcher: Queues | None = None

    def _set_up(self) -> None:
        self._groups: list[BufferGroup] = []
        self._next_group_id = _FIRST_GROUP_ID

    def open_group(self, count: int, size_bytes: int) -> BufferGroup:
        """Make a group of buffers for receives to pick from.

        Args:
            count: the number of buffers, a power of two, at most 32768.
            size_bytes: the size of a buffer.
        """
        group = BufferGroup(self, self._next_group_id, count, size_bytes)
        self._next_group_id += 1
        self._groups.append(group)
        return group

    def resize(self, entries: int, cq_entries: int) -> None:
        """Submit the staged SQEs, and give the ring other queues (IORING_REGISTER_RESIZE_RINGS).

        It needs Linux 6.13, and a ring with deferred task work (not `shared`, no `sq_poll`).

        Raises:
            OSError: EOVERFLOW, the new queues have no room for the entries of the old ones.
        """
        queues = self._queues
        if entries < 1 or cq_entries < 1:
            raise ValueError("a ring needs at least one entry in each queue")
        self._check_present(Register.RESIZE_RINGS)
        queues.enter_for(0, 0, None)
        check_errno(lib.ul_ring_resize(self.handle, entries, max(cq_entries, entries)))
        queues.grow(self.entries[1])

    @property
    def _queues(self) -> Queues:
        """Return the queues of a ring that is open and of this process."""
        handle = self.handle
        if self._dispatcher is None:
            self._dispatcher = Queues(self.address, lib.ul_ring_entries(handle, 1), _no_report)
            self._dispatcher.features = self.features
        return self._dispatcher

    @property
    def in_flight(self) -> int:
        """Return the number of staged operations and SQEs without a last CQE."""
        return self._queues.in_flight

    def get_sqe(self) -> Sqe:
        """Return the next free SQE, as io_uring_get_sqe(3); submit a full queue first."""
        return self._queues.stage_by_hand(Sqe)

    def iterate(self, operation: Repeatable) -> Iterator[Any]:
        """Yield the results of a multishot operation; stage it again when the kernel ends it for want of room.

        An iteration that is left early cancels the operation and disposes of later results.

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
                # Without a buffer for the second time: the caller has to recycle one.
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
            ChainError: a part failed; the error names it, the cancelled parts, and all results.
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

    def _next_that(self, is_wanted: Callable[[Completion], bool]) -> Completion:
        """Return the next completion of these operations, and set others aside."""
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
        """Cancel the operations in flight, wait for their ends, and close the ring.

        Args:
            only_watches: no operation in flight writes to memory.  Otherwise the memory that one may write to is never
                freed.

        Raises:
            OSError: the kernel refuses to cancel or to wait; the ring closes all the same.
        """
        try:
            if self._handle is not None and self._dispatcher is not None and not lib.ul_ring_refuses(self._handle):
                drain(self, self._dispatcher, self._set_aside)
        finally:
            self._close(only_watches)

    def _in_use(self) -> list[object]:
        return [*([] if self._dispatcher is None else self._dispatcher.in_use()), *self._groups]

    def __del__(self) -> None:
        if self._handle is not None and self._dispatcher is not None and not self.forked:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        super().__del__()


def _no_report(error: BaseException, operation: Any) -> None:
    """Do nothing: a ring by hand dispatches no completion."""
