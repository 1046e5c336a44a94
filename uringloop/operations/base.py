"""The words of an operation's life, and the coroutine that awaits one; see operation.pyx for the operation itself."""

import asyncio
import enum
from typing import Any, Protocol

from ..ring import Dispatcher


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


async def run(operation: Any, loop: asyncio.AbstractEventLoop, dispatcher: Dispatcher) -> Any:
    """Stage an operation, unless it is in flight, and wait for its result; see `Operation.run`."""
    waiter: asyncio.Future[tuple[int, int]] = loop.create_future()
    operation.wait_with(waiter)
    try:
        if not operation.in_flight:
            operation.submit(dispatcher)
        res, flags = await waiter
    except asyncio.CancelledError:
        await _cancelled(operation, loop, waiter)
        raise
    except BaseException:
        seen = waiter.done() and not waiter.cancelled()
        if operation.state is State.DONE and not operation.abandoned and seen:
            # The coroutine is closed before it saw the result.  `abandon` has disposed of it otherwise.
            _dispose(operation, *waiter.result())
        operation.abandon()
        raise
    finally:
        if not operation.in_flight:
            operation.release()
    if res < 0:
        raise operation.error(res)
    return operation.result(res, flags)


async def _cancelled(
    operation: Any, loop: asyncio.AbstractEventLoop, waiter: "asyncio.Future[tuple[int, int]]"
) -> None:
    if operation.state is State.DONE:
        # The result arrived before the cancel, but the task never saw it.
        if not waiter.cancelled():
            _dispose(operation, *waiter.result())
        return
    operation.abandon()
    while operation.in_flight and not operation.detained:
        waiter = loop.create_future()
        operation.wait_with(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            continue


def _dispose(operation: Any, res: int, flags: int) -> None:
    if res >= 0:
        operation.dispose(res, flags)


def file_index(slot: Slot | None) -> int:
    """Return the SQE's file_index for a new descriptor; None puts it into the process's table."""
    return 0 if slot is None else slot + 1


def made(res: int, slot: Slot | None) -> int:
    """Return the descriptor or the slot that an operation made."""
    if slot is None:
        return res
    return Slot(res) if slot == ANY_SLOT else slot
