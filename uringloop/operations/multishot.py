"""Multishot operations, armed once for many results: accept, receive, read, poll, timeout.

The kernel may end such an operation at any time, for example when the completion queue overflows: a CQE without MORE.
The operation is then armed again, unless its class takes that CQE for the end.

Results that have arrived wait in a `Results`.  Sources that can be held back are bounded: a full `Results` cancels
the operation, and an empty one arms it again.  An iterator that is dropped ends the operation, whose class disposes of
the results that are left.  A caller who wants those calls `cancel` and goes on iterating.
"""

import asyncio
import errno
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar

from ..ring import CqeFlag, Dispatcher
from .operation import Operation

Result = TypeVar("Result")
#: So many results are held for a slow iteration, before the source is held back.
HELD_MAX = 256
# A plain number: an enum's operator would double the time of a completion.
_MORE = int(CqeFlag.MORE)


class Multishot(Operation):
    """An operation with one result, or with many in its multishot form."""

    __slots__ = ()
    #: A cancelled operation leaves its source untouched, so it may be paused.
    may_pause: ClassVar[bool] = True
    #: A last result of 0 is the end of the source, not a result.
    ends_with_zero: ClassVar[bool] = False

    @property
    def is_multishot(self) -> bool:
        """Return whether it is staged in its multishot form."""
        return self._report is not None

    def repeat(self, report: Callable[[int, int], object] | None = None) -> None:
        """Take the multishot form; on a loop's ring, call report(result, flags) for each CQE."""
        self._report = report or _report_nothing

    def answer(self, res: int, flags: int) -> int:
        """Return the result that one of many CQEs stands for."""
        return res

    def is_end(self, res: int) -> bool:
        """Return whether this answer, which came without MORE, is the last."""
        if self.ends_with_zero and res == -errno.ENOBUFS:
            # All buffers of the group are lent.
            return False
        return res < 0 or (res == 0 and self.ends_with_zero)

    def is_result(self, res: int, flags: int) -> bool:
        """Return whether an answer is one of the many results."""
        return res > 0 or (res == 0 and (not self.ends_with_zero or bool(flags & _MORE)))

    def complete(self, res: int, flags: int) -> None:
        if self._report is None:
            super().complete(res, flags)
            return
        if not flags & _MORE:
            res = self.finish(res)
        self._report(self.answer(res, flags), flags)

    def dispose_of(self, result: Any) -> None:
        """Dispose of a result that no caller took."""


def _report_nothing(res: int, flags: int) -> None:
    """Do nothing: a ring by hand hands its completions out itself."""


class Results(Generic[Result]):
    """The results of a multishot operation that no caller has taken yet.

    Args:
        operation: not submitted yet.
        dispatcher: stages it.
    """

    def __init__(self, operation: Multishot, dispatcher: Dispatcher) -> None:
        self._operation = operation
        self._dispatcher = dispatcher
        self._ready: deque[Result] = deque()
        self._error: BaseException | None = None
        self._is_paused = False
        self.is_over = False
        self.wake: Callable[[], object] | None = None
        operation.repeat(self._hear)
        operation.submit(dispatcher)

    @property
    def in_flight(self) -> bool:
        """Return whether the last CQE is still to come."""
        return self._operation.in_flight

    def _hear(self, res: int, flags: int) -> None:
        operation = self._operation
        more = flags & _MORE
        if operation.is_result(res, flags):
            if operation.abandoned and self.is_over:
                operation.dispose(res, flags)
            else:
                self._ready.append(operation.result(res, flags))
        if more:
            if len(self._ready) >= HELD_MAX and operation.may_pause and not self._is_paused:
                self._is_paused = True
                self._dispatcher.cancel(operation.token)
        elif operation.abandoned:
            self.is_over = True
        elif operation.is_end(res) and not (self._is_paused and res == -errno.ECANCELED):
            self.is_over = True
            if res < 0:
                self._error = operation.error(res)
        elif not self._is_paused:
            operation.submit(self._dispatcher)
        if self.wake is not None:
            self.wake()

    def take(self) -> Result | None:
        """Return the next result, or None if there is none now; `is_over` tells whether more may come.

        Raises:
            OSError: the kernel's errno, once, after all earlier results.
        """
        if self._ready:
            result = self._ready.popleft()
            if self._is_paused and not self._ready and not self._operation.in_flight:
                self._resume()
            return result
        if self._is_paused and not self._operation.in_flight:
            self._resume()
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return None

    def _resume(self) -> None:
        self._is_paused = False
        if not self._operation.abandoned:
            self._operation.submit(self._dispatcher)

    def cancel(self) -> None:
        """Ask the kernel to end the operation; results that arrive before the end still count."""
        self._operation.abandon()
        if not self._operation.in_flight:
            self.is_over = True

    def close(self) -> None:
        """Ask the kernel to end the operation, and dispose of the results that no caller took."""
        self.is_over = True
        self._operation.abandon()
        while self._ready:
            self._operation.dispose_of(self._ready.popleft())


class MultishotIterator(Generic[Result]):
    """An async iterator over the results of a multishot operation; `loop.submit_multishot` makes it.

    The operation is armed until `aclose`, the end of `async with`, or the end of the last reference.  Leaving an
    `async for` early does not close it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, results: Results[Result]) -> None:
        self._loop = loop
        self._results = results
        self._waiter: asyncio.Future[None] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Result:
        """Return the next result.  A cancelled await loses none.

        Raises:
            OSError: the errno with which the kernel ended the operation; the iteration is then over.
            RuntimeError: another task waits for the next result.
        """
        while True:
            result = self._results.take()
            if result is not None:
                return result
            if self._results.is_over:
                raise StopAsyncIteration
            await self._wait()

    async def _wait(self) -> None:
        if self._waiter is not None:
            raise RuntimeError("another task waits for the next result")
        self._waiter = self._loop.create_future()
        self._results.wake = self._wake
        try:
            await self._waiter
        finally:
            self._waiter = self._results.wake = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def cancel(self) -> None:
        """Ask the kernel to end the operation: the iteration yields the results that have arrived, and then ends."""
        self._results.cancel()

    async def aclose(self) -> None:
        """End the operation, wait for its last CQE, and dispose of the results that no caller took.

        Descriptors are closed.  Bytes go to the operation's `keep` if it has one.
        """
        self._results.close()
        cancelled = None
        while self._results.in_flight:
            try:
                await self._wait()
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        self._results.close()
