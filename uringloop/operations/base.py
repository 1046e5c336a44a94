"""`Operation`: one SQE, from staging to its last CQE.

The in-flight table holds the operation until its last CQE.  The operation holds the memory that the kernel may touch:
buffers, paths, addresses.  An operation that loses its waiter is abandoned: the kernel is asked once to cancel it.
If it completes all the same, its class disposes of the result.

A cancelled await returns only when the kernel has released the caller's memory.  The operation then drops its
references to that memory at once, because the traceback of the cancellation refers to the operation.
"""

import asyncio
import enum
import errno
import os
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, cast

from ..ring import CqeFlag, Dispatcher, Opcode, SqeFlag, operation_error

# An int: Python spends microseconds on the operators of a flag.
_MORE = int(CqeFlag.MORE)


class State(enum.Enum):
    """NEW -> IN_FLIGHT -> DONE.  Staging puts an operation in flight: the kernel may take a staged SQE at any tick."""

    NEW = "new"
    IN_FLIGHT = "in flight"
    DONE = "done"


class Slot(int):
    """A slot in the ring's table of registered files, counted from 0; it stands for a descriptor."""

    __slots__ = ()


#: Has an operation put its new descriptor into any free slot of the table of registered files.
ANY_SLOT = Slot(-2)


class Waiter(Protocol):
    """Waits for a result: a future, or a member of a group."""

    def done(self) -> bool:
        """Return whether it has its result, or wants none any more."""

    def set_result(self, completion: tuple[int, int], /) -> None:
        """Take the result and the flags of the last CQE."""


class _Modified:
    """Adds SQE flags to one SQE on its way to the dispatcher."""

    __slots__ = ("_dispatcher", "_modifiers")

    def __init__(self, dispatcher: Dispatcher, modifiers: int) -> None:
        self._dispatcher = dispatcher
        self._modifiers = modifiers

    def stage(self, *fields: Any, sqe_flags: int = 0, **named: int) -> int:
        return self._dispatcher.stage(*fields, sqe_flags=sqe_flags | self._modifiers, **named)


class Operation:
    """One SQE and its result.  A subclass stages the SQE and converts the result for the caller.

    Attributes:
        fd: the descriptor, -1 for none; a `Slot` is a registered file.
        filename: a name for the OSError, or None.
        abandoned: the operation has lost its waiter.
        detained: a thread makes its call, and no cancel interrupted that; its memory stays in use without a waiter.
        modifiers: `SqeFlag`s beside those of the class, such as ASYNC; set them before `submit`.
    """

    __slots__ = (
        "__weakref__",
        "_completion",
        "_dispatcher",
        "_report",
        "_waiter",
        "abandoned",
        "detained",
        "fd",
        "modifiers",
        "state",
        "token",
    )

    opcode: ClassVar[Opcode]
    #: It only watches, so a loop that changes threads may stage it again on another ring.
    may_move: ClassVar[bool] = False
    #: The kernel often completes it during the submitting enter.
    may_end_at_once: ClassVar[bool] = False
    filename: ClassVar[Any] = None

    def __init__(self, fd: int = -1) -> None:
        self.fd = fd
        self.state = State.NEW
        self.abandoned = self.detained = False
        self.token = 0
        self.modifiers: int = SqeFlag.FIXED_FILE if type(fd) is Slot else 0
        self._dispatcher: Dispatcher | None = None
        self._report: Callable[[int, int], object] | None = None
        self._waiter: Waiter | None = None

    @property
    def in_flight(self) -> bool:
        """Return whether the kernel may still touch the operation's memory and descriptor."""
        return self.state is State.IN_FLIGHT

    def stage(self, dispatcher: Dispatcher) -> int:
        """Stage the SQE and return its token.  A subclass fills in its own fields."""
        return dispatcher.stage(self, self.opcode, self.fd)

    def result(self, res: int, flags: int) -> Any:
        """Convert a result that is no error for the caller."""
        return res

    def dispose(self, res: int, flags: int) -> None:
        """Dispose of a result without a waiter: close the new descriptor, keep the received bytes."""

    def release(self) -> None:
        """Drop the caller's memory.  Nothing is in flight, and the result is read no more."""

    def error(self, res: int) -> BaseException:
        """Return the exception for a negative result."""
        if res == -errno.EINVAL and self._dispatcher is not None:
            absence = self._dispatcher.features.absence(self.opcode)
            if absence is not None:
                return OSError(errno.EINVAL, f"{os.strerror(errno.EINVAL)}: {absence}")
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
        """Stage a receive again that found no buffer; return False if it is abandoned or the ring has no group.

        Other receives hold all buffers of the group.  The dispatch of those recycles them.
        """
        dispatcher = self._dispatcher
        if self.abandoned or dispatcher is None or not dispatcher.grow_buffers():
            return False
        self.state = State.DONE
        self.submit(dispatcher)
        return True

    def wait_with(self, waiter: Waiter) -> None:
        """Give the last CQE to this waiter, for a caller that uses `submit` instead of `run`."""
        self._waiter = waiter

    def take_waiter(self) -> Waiter | None:
        """Remove the waiter and return it."""
        waiter, self._waiter = self._waiter, None
        return waiter

    def reset(self) -> None:
        """Make the operation new again: its ring is closed."""
        self.state = State.NEW

    def run_at_once(self, dispatcher: Dispatcher) -> bool:
        """Stage and submit the operation; return whether that completed it, so that `result_at_once` has its result."""
        self.submit(dispatcher)
        completion = dispatcher.finish_now(self.token)
        if completion is None:
            return False
        self._completion = self.finish(completion[0]), completion[1]
        return True

    def result_at_once(self) -> Any:
        """Return the result of an operation that `run_at_once` completed.

        Raises:
            OSError: the kernel's errno, with the filename if the operation has one.
        """
        res, flags = self._completion
        if res < 0:
            raise self.error(res)
        return self.result(res, flags)

    async def run(self, loop: asyncio.AbstractEventLoop, dispatcher: Dispatcher) -> Any:
        """Stage the operation, unless it is in flight, and wait for its result.

        Args:
            loop: makes the future that is awaited.
            dispatcher: stages the SQE.

        Raises:
            OSError: the kernel's errno, with the filename if the operation has one.
            asyncio.CancelledError: raised only when the kernel has released the operation's memory.
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
                # The coroutine is closed before it saw the result.  `abandon` has disposed of it otherwise.
                self._dispose(*waiter.result())
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
            # The result arrived before the cancel, but the task never saw it.
            if not waiter.cancelled():
                self._dispose(*waiter.result())
            return
        self.abandon()
        while self.in_flight and not self.detained:
            waiter = loop.create_future()
            self._waiter = waiter
            try:
                await waiter
            except asyncio.CancelledError:
                continue

    def abandon(self) -> None:
        """Ask the kernel once to cancel, and dispose of the result: the waiter is gone."""
        if self.abandoned:
            return
        # Between two stagings, while its callback runs, this prevents the second one.
        self.abandoned = True
        if self.in_flight:
            assert self._dispatcher is not None
            self._dispatcher.cancel(self.token)

    def finish(self, res: int) -> int:
        """Take the last CQE's result; return it, or the result that the class puts in its place."""
        self.state = State.DONE
        return res

    def complete(self, res: int, flags: int) -> None:
        """Take a CQE; called by the dispatcher."""
        waiter = self._waiter
        if flags & _MORE and res == -errno.ECANCELED:
            self.detained = True
        else:
            res = self.finish(res)
            if self.abandoned or waiter is None or waiter.done():
                self._dispose(res, flags)
            if self.abandoned or self.detained:
                self.release()
        if waiter is not None and not waiter.done():
            waiter.set_result((res, flags))

    def _dispose(self, res: int, flags: int) -> None:
        if res >= 0:
            self.dispose(res, flags)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} fd={self.fd} {self.state.value}{' abandoned' if self.abandoned else ''}>"


def file_index(slot: Slot | None) -> int:
    """Return the SQE's file_index for a new descriptor; None puts it into the process's table."""
    return 0 if slot is None else slot + 1


def made(res: int, slot: Slot | None) -> int:
    """Return the descriptor or the slot that an operation made."""
    if slot is None:
        return res
    return Slot(res) if slot == ANY_SLOT else slot


def close_made(dispatcher: Dispatcher | None, descriptor: int) -> None:
    """Close a descriptor that has no owner, or empty such a slot of the dispatcher's ring."""
    if not isinstance(descriptor, Slot):
        os.close(descriptor)
    elif dispatcher is not None:
        _Emptying(descriptor).submit(dispatcher)


class _Emptying(Operation):
    """Empties a slot, without a waiter."""

    __slots__ = ("_slot",)
    opcode = Opcode.CLOSE

    def __init__(self, slot: Slot) -> None:
        super().__init__()
        self._slot = slot

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, 0, file_index=file_index(self._slot))

    def abandon(self) -> None:
        """Do nothing: the kernel completes it soon."""
