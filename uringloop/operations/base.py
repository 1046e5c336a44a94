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
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, cast

from ..ring import Dispatcher, Opcode, SqeFlag, operation_error


class State(enum.Enum):
    """NEW -> IN_FLIGHT -> DONE.  In flight from staging on: the kernel may take a staged SQE at any tick."""

    NEW = "new"
    IN_FLIGHT = "in flight"
    DONE = "done"


class Slot(int):
    """A place in the ring's table of registered files, from 0 on, given instead of a descriptor."""

    __slots__ = ()


#: Of an operation that makes a descriptor: put it into the table of registered files, wherever there is room.
ANY_SLOT = Slot(-2)


class Waiter(Protocol):
    """Who waits for a result: a future, or a part of a chain."""

    def done(self) -> bool:
        """Whether it has its result, or wants none any more."""

    def set_result(self, completion: tuple[int, int], /) -> None:
        """The last CQE's result and flags."""


class _Modified:
    """A dispatcher for one SQE that is run in another way than usual."""

    __slots__ = ("_dispatcher", "_modifiers")

    def __init__(self, dispatcher: Dispatcher, modifiers: int) -> None:
        self._dispatcher = dispatcher
        self._modifiers = modifiers

    def stage(
        self,
        operation: Any,
        opcode: int,
        fd: int,
        addr: int = 0,
        length: int = 0,
        offset: int = 0,
        op_flags: int = 0,
        ioprio: int = 0,
        sqe_flags: int = 0,
        *fields: int,
        **named: int,
    ) -> int:
        modified = sqe_flags | self._modifiers
        return self._dispatcher.stage(
            operation, opcode, fd, addr, length, offset, op_flags, ioprio, modified, *fields, **named
        )


class Operation:
    """One SQE and what becomes of it.  Subclasses stage it, and turn its result into what the caller gets.

    Attributes:
        fd: the descriptor that it works on, -1 for none; a `Slot` is a registered file.
        filename: named in the OSError if there is one.
        abandoned: nobody waits for the result any more.
        modifiers: `SqeFlag`s in addition to the class's own, such as ASYNC; to be set before it is submitted.
    """

    __slots__ = (
        "__weakref__",
        "_completion",
        "_dispatcher",
        "_report",
        "_waiter",
        "abandoned",
        "fd",
        "modifiers",
        "state",
        "token",
    )

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
        self.modifiers: int = SqeFlag.FIXED_FILE if type(fd) is Slot else 0
        self._dispatcher: Dispatcher | None = None
        self._report: Callable[[int, int], object] | None = None
        self._waiter: Waiter | None = None

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
        return operation_error(res) if self.filename is None else operation_error(res, self.filename)

    def submit(self, dispatcher: Dispatcher) -> None:
        """Put the operation in flight without waiting for it."""
        assert self.state is not State.IN_FLIGHT
        self.token = self._stage_modified(dispatcher) if self.modifiers else self.stage(dispatcher)
        self._dispatcher = dispatcher
        self.state = State.IN_FLIGHT

    def _stage_modified(self, dispatcher: Dispatcher) -> int:
        return self.stage(cast(Dispatcher, _Modified(dispatcher, self.modifiers)))

    def _begin_again(self) -> bool:
        """Put a receive in flight again that found no buffer, unless it is abandoned or the ring has none at all.

        Others hold all of the group: they are recycled as these are dispatched.
        """
        dispatcher = self._dispatcher
        if self.abandoned or dispatcher is None or not dispatcher.grow_buffers():
            return False
        self.state = State.DONE
        self.submit(dispatcher)
        return True

    def wait_with(self, waiter: Waiter) -> None:
        """Have this hear of the last CQE; for those who submit the operation themselves and do not `run` it."""
        self._waiter = waiter

    def leave(self) -> Waiter | None:
        """Have nobody hear of the last CQE; return who would have."""
        waiter, self._waiter = self._waiter, None
        return waiter

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
        waiter: asyncio.Future[tuple[int, int]] = loop.create_future()
        self._waiter = waiter
        try:
            if self.state is not State.IN_FLIGHT:
                self.submit(dispatcher)
            res, flags = await waiter
        except asyncio.CancelledError:
            await self._cancelled(loop, waiter)
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

    async def _cancelled(self, loop: asyncio.AbstractEventLoop, waiter: "asyncio.Future[tuple[int, int]]") -> None:
        if self.state is State.DONE:
            # The result arrived first, but the task never saw it.
            if not waiter.cancelled():
                self._discard(*waiter.result())
            return
        self.abandon()
        while self.in_flight:
            waiter = loop.create_future()
            self._waiter = waiter
            try:
                await waiter
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


def file_index(slot: Slot | None) -> int:
    """How an operation is told where to put the descriptor that it makes; None is among the process's."""
    return 0 if slot is None else slot + 1


def made(res: int, slot: Slot | None) -> int:
    """The descriptor or slot that an operation made."""
    if slot is None:
        return res
    return Slot(res) if slot == ANY_SLOT else slot


def close_made(dispatcher: Dispatcher | None, descriptor: int) -> None:
    """Close a descriptor, or empty a slot of the dispatcher's ring, that nobody gets."""
    if not isinstance(descriptor, Slot):
        os.close(descriptor)
    elif dispatcher is not None:
        _Emptying(descriptor).submit(dispatcher)


class _Emptying(Operation):
    """Empties a slot, and nobody waits for that."""

    __slots__ = ("_slot",)
    opcode = Opcode.CLOSE

    def __init__(self, slot: Slot) -> None:
        super().__init__()
        self._slot = slot

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, 0, file_index=file_index(self._slot))

    def abandon(self) -> None:
        """Nothing to do: it ends soon."""
