"""Calls that may block and that io_uring has no operation for: they go to a thread."""

import asyncio
import contextlib
import functools
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

from .base import surely

_T = TypeVar("_T")


async def in_thread(
    loop: asyncio.AbstractEventLoop, executor: Executor | None, function: Callable[..., _T], *args: Any
) -> _T:
    """Call a function in a thread of the executor, by default the loop's own; returns what it returns.

    Raises:
        asyncio.CancelledError: when the function has returned and not before, because it works on a descriptor or
            on memory.
    """
    future = loop.run_in_executor(executor, function, *args)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait((future,))
        if not future.cancelled():
            # Looked at, so that asyncio does not report it as never retrieved.
            future.exception()
        raise


async def made_in_thread(
    loop: asyncio.AbstractEventLoop | None,
    executor: Executor | None,
    make: Callable[[], _T],
    undo: Callable[[_T], object],
) -> _T:
    """What a function makes in a thread, such as a descriptor; undone, in a thread too, if the call is cancelled."""
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
