"""Calls that may block and that io_uring has no operation for: they go to a thread."""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

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
