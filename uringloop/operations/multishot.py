"""Operations that are armed once and report many times: multishot accept, receive, read, poll, timeout.

The kernel ends one whenever it likes, for example when the completion queue overflows: a CQE without MORE.  Then it is
armed again, unless its class says that it was the end.

What arrives and is not taken yet waits in a `Results`.  For sources that can be held back that is bounded: a full one
cancels the operation, and an empty one arms it again.  Losing the iterator ends the operation, and what nobody took is
disposed of as the operation's class says; who wants the rest calls `cancel` and goes on iterating.
"""

import asyncio
import errno
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar

from ..ring import CqeFlag, Dispatcher
from .base import Operation

Result = TypeVar("Result")
#: So many results are held for whoever iterates slowly, before the source is held back.
HELD_MAX = 256
# As a number: with an enum's operator a completion takes twice as long.
_MORE = int(CqeFlag.MORE)


class Multishot(Operation):
    """An operation that gives one result, or in its multishot form one after the other."""

    __slots__ = ()
    #: What it takes stays where it is while it is cancelled, so it may be paused.
    may_pause: ClassVar[bool] = True
    #: A last result of 0 is no result, but the end of what is read.
    ends_with_zero: ClassVar[bool] = False

    @property
    def is_multishot(self) -> bool:
        """Whether it is staged in its multishot form."""
        return self._report is not None

    def repeat(self, report: Callable[[int, int], object] | None = None) -> None:
        """Take the multishot form; in a loop report(result, flags) is called for each CQE."""
        self._report = report or _report_nothing

    def answer(self, res: int, flags: int) -> int:
        """What is to be taken for the result of one of many CQEs."""
        return res

    def is_end(self, res: int) -> bool:
        """Whether there is nothing more to come after this answer, which came without MORE."""
        if self.ends_with_zero and res == -errno.ENOBUFS:
            # All buffers of the group are in use.
            return False
        return res < 0 or (res == 0 and self.ends_with_zero)

    def is_result(self, res: int, flags: int) -> bool:
        """Whether an answer is one of the many results."""
        return res > 0 or (res == 0 and (not self.ends_with_zero or bool(flags & _MORE)))

    def complete(self, res: int, flags: int) -> None:
        if self._report is None:
            super().complete(res, flags)
            return
        if not flags & _MORE:
            res = self.finish(res)
        self._report(self.answer(res, flags), flags)

    def dispose_of(self, result: Any) -> None:
        """A result that nobody took."""


def _report_nothing(res: int, flags: int) -> None:
    """Whoever takes the completions knows."""


class Results(Generic[Result]):
    """What a multishot operation gave and nobody has taken yet.

    Args:
        operation: not submitted yet.
        dispatcher: where to submit it.
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
        """Whether the kernel has not reported the end yet."""
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
        """The next result; None if there is none now, and maybe never: see `is_over`.

        Raises:
            OSError: the kernel's, once, after all results before it.
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
        """Have the kernel end it; what it reports before that is still a result."""
        self._operation.abandon()
        if not self._operation.in_flight:
            self.is_over = True

    def close(self) -> None:
        """Have the kernel end it, and dispose of what nobody took."""
        self.is_over = True
        self._operation.abandon()
        while self._ready:
            self._operation.dispose_of(self._ready.popleft())


class Shots(Generic[Result]):
    """An async iterator over the results of a multishot operation; `loop.submit_multishot` makes it.

    It is armed from the beginning, and until `aclose`, `async with`'s end, or its last reference is gone: leaving an
    `async for` early does not close it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, results: Results[Result]) -> None:
        self._loop = loop
        self._results = results
        self._waiter: asyncio.Future[None] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Result:
        """The next result.  Cancelling the await loses none.

        Raises:
            OSError: what the kernel ended it with; after that it is over.
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
        """Have the kernel end it: iterating goes on with what had arrived, and then ends."""
        self._results.cancel()

    async def aclose(self) -> None:
        """End it, and wait until the kernel has; results that nobody took are disposed of.

        Descriptors are closed; bytes go to the operation's `keep` if it has one.
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
