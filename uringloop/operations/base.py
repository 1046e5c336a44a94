"""The life of an operation.

From `stage` to its last CQE the in-flight table holds the operation, and the operation holds everything that the kernel
may touch: buffers, paths, addresses.  Losing whoever waits for it changes nothing of that: the operation is abandoned,
the kernel is asked once to cancel, and what it reports all the same is disposed of by the operation's class.

A cancelled await returns only when the kernel is done with the caller's memory.  Then that memory is let go of, and not
only when the operation is freed, because the traceback of the cancellation refers to it.
"""

import asyncio
import enum
import os
from typing import Any, ClassVar

from ..ring import Dispatcher, Opcode


class State(enum.Enum):
    """NEW -> IN_FLIGHT -> DONE.  In flight from staging on: the kernel may take a staged SQE at any tick."""

    NEW = "new"
    IN_FLIGHT = "in flight"
    DONE = "done"


class Operation:
    """One SQE and what becomes of it.  Subclasses stage it, and turn its result into what the caller gets.

    Attributes:
        fd: the descriptor that it works on, -1 for none.
        filename: named in the OSError if there is one.
        abandoned: nobody waits for the result any more.
    """

    __slots__ = ("__weakref__", "_completion", "_dispatcher", "_waiter", "abandoned", "fd", "state", "token")

    opcode: ClassVar[Opcode]
    #: It only watches, so it may be staged again on another ring when the loop changes threads.
    may_move: ClassVar[bool] = False
    #: The kernel often ends it while it is submitted.
    may_end_at_once: ClassVar[bool] = False
    filename: ClassVar[Any] = None

    def __init__(self, fd: int = -1) -> None:
        self.fd = fd
        self.state = State.NEW
        self.abandoned = False
        self.token = 0
        self._dispatcher: Dispatcher | None = None
        self._waiter: asyncio.Future[Any] | None = None

    @property
    def in_flight(self) -> bool:
        """Whether the kernel may still touch the operation's memory and descriptor."""
        return self.state is State.IN_FLIGHT

    def stage(self, dispatcher: Dispatcher) -> int:
        """Stage the SQE; returns the token.  Overridden with the operation's fields."""
        return dispatcher.stage(self, self.opcode, self.fd)

    def result(self, res: int, flags: int) -> Any:
        """What the caller gets for a result that is no error."""
        return res

    def dispose(self, res: int, flags: int) -> None:
        """A result that is no error and that nobody awaits: close what was opened, keep what was received."""

    def release(self) -> None:
        """Let go of the caller's memory: nothing is in flight, no result will be looked at."""

    def error(self, res: int) -> BaseException:
        """The exception for a negative result."""
        if self.filename is None:
            return OSError(-res, os.strerror(-res))
        return OSError(-res, os.strerror(-res), self.filename)

    def submit(self, dispatcher: Dispatcher) -> None:
        """Put the operation in flight without waiting for it."""
        assert self.state is not State.IN_FLIGHT
        self.token = self.stage(dispatcher)
        self._dispatcher = dispatcher
        self.state = State.IN_FLIGHT

    def reset(self) -> None:
        """Its ring is gone: it may be submitted again."""
        self.state = State.NEW

    def run_at_once(self, dispatcher: Dispatcher) -> bool:
        """Put the operation in flight and submit it; whether that ended it, and `outcome` tells how."""
        self.submit(dispatcher)
        completion = dispatcher.finish_now(self.token)
        if completion is None:
            return False
        self._completion = self.finish(completion[0]), completion[1]
        return True

    def outcome(self) -> Any:
        """The result of an operation that was over at once.

        Raises:
            OSError: the kernel's errno, with the filename if there is one.
        """
        res, flags = self._completion
        if res < 0:
            raise self.error(res)
        return self.result(res, flags)

    async def run(self, loop: asyncio.AbstractEventLoop, dispatcher: Dispatcher) -> Any:
        """Put the operation in flight, unless it is, and wait for its result.

        Raises:
            OSError: the kernel's errno, with the filename if there is one.
            asyncio.CancelledError: only when the kernel is done with the operation's memory.
        """
        waiter = self._waiter = loop.create_future()
        try:
            if self.state is not State.IN_FLIGHT:
                self.submit(dispatcher)
            res, flags = await waiter
        except asyncio.CancelledError:
            await self._cancelled(loop)
            raise
        except BaseException:
            if self.state is State.DONE and not self.abandoned and not waiter.cancelled():
                # The coroutine is thrown away before it saw the result.  Abandoned, it was disposed of already.
                self._discard(*waiter.result())
            self.abandon()
            raise
        finally:
            if not self.in_flight:
                self.release()
        if res < 0:
            raise self.error(res)
        return self.result(res, flags)

    async def _cancelled(self, loop: asyncio.AbstractEventLoop) -> None:
        waiter = self._waiter
        assert waiter is not None
        if self.state is State.DONE:
            # The result arrived first, but the task never saw it.
            if not waiter.cancelled():
                self._discard(*waiter.result())
            return
        self.abandon()
        while self.in_flight:
            self._waiter = loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError:
                continue

    def abandon(self) -> None:
        """Nobody waits any more: ask the kernel to cancel, once, and dispose of the result."""
        if self.abandoned:
            return
        # Also while its callback runs between two stagings: then it is not staged again.
        self.abandoned = True
        if self.in_flight:
            assert self._dispatcher is not None
            self._dispatcher.cancel(self.token)

    def finish(self, res: int) -> int:
        """The last CQE arrived; returns its result, or what is to be taken for it."""
        self.state = State.DONE
        return res

    def complete(self, res: int, flags: int) -> None:
        """A CQE arrived; called by the dispatch."""
        res = self.finish(res)
        waiter = self._waiter
        if self.abandoned or waiter is None or waiter.done():
            self._discard(res, flags)
        if self.abandoned:
            self.release()
        if waiter is not None and not waiter.done():
            waiter.set_result((res, flags))

    def _discard(self, res: int, flags: int) -> None:
        if res >= 0:
            self.dispose(res, flags)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} fd={self.fd} {self.state.value}{' abandoned' if self.abandoned else ''}>"
