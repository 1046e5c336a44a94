"""How a call waits: for one turn of the loop, for a thread, or to its end in spite of cancels.

io_uring has no operation for some calls that may block.  These calls run in a thread.
"""

import asyncio
import contextlib
import functools
import types
from collections.abc import Callable, Generator
from concurrent.futures import Executor
from typing import Any, TypeVar

from ...shielding import until_done

_T = TypeVar("_T")


@types.coroutine
def yield_once() -> Generator[None, None, None]:
    """Suspend the task for one turn of the loop, in which every other ready callback runs."""
    yield


async def surely(function: Callable[[], Any]) -> asyncio.CancelledError | None:
    """Await a coroutine function to its end, and call it again after each cancel.

    Args:
        function: takes no arguments.

    Returns:
        The last cancel, None without one.

    Raises:
        BaseException: the function's own exceptions, but not its cancels.
    """
    cancelled = None
    while True:
        try:
            await function()
        except asyncio.CancelledError as error:
            # Its traceback would hold this frame, which holds it.
            cancelled = error.with_traceback(None)
        else:
            return cancelled


async def in_thread(
    loop: asyncio.AbstractEventLoop, executor: Executor | None, function: Callable[..., _T], *args: Any
) -> _T:
    """Call a function in a thread.

    Args:
        loop: the running event loop.
        executor: provides the thread; None means the loop's own executor.
        function: works on a descriptor or on memory of the caller.
        args: the function's arguments.

    Returns:
        The function's result.

    Raises:
        asyncio.CancelledError: only after the function has returned, because it uses the descriptor or the memory.
        BaseException: the function's own exceptions.
    """
    future = loop.run_in_executor(executor, function, *args)
    try:
        await until_done(future)
    except asyncio.CancelledError:
        while not future.done():
            with contextlib.suppress(asyncio.CancelledError):
                await until_done(future)
        if not future.cancelled():
            # Retrieve the exception, so that asyncio does not report it.
            future.exception()
        raise
    return future.result()


async def made_in_thread(
    loop: asyncio.AbstractEventLoop | None,
    executor: Executor | None,
    make: Callable[[], _T],
    undo: Callable[[_T], object],
) -> _T:
    """Make an object in a thread, such as a descriptor.

    Args:
        loop: an event loop, None for the running one.
        executor: provides the thread; None means the loop's own executor.
        make: returns the object.
        undo: takes the object back, in a thread too, if the call is cancelled.

    Returns:
        The object.

    Raises:
        asyncio.CancelledError: after the object was taken back.
        BaseException: the exceptions of make.
    """
    thread = functools.partial(in_thread, loop or asyncio.get_running_loop(), executor)
    made: list[_T] = []

    def undo_once() -> None:
        if made:
            undo(made.pop())

    try:
        await thread(lambda: made.append(make()))
    except BaseException:
        await surely(functools.partial(thread, undo_once))
        raise
    return made[0]
