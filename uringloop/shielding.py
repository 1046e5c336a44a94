"""How a task waits for a future that its own cancel does not reach."""

import asyncio
from typing import Any


async def until_done(future: "asyncio.Future[Any]") -> None:
    """Wait until a future is done; a cancel ends the wait alone.

    From Python 3.14 on asyncio.shield reports a failure after the cancel.  There the frame of asyncio.wait holds the
    task, which holds its cancel, which holds the frame.

    Args:
        future: one that is done in the end, cancelled or not.

    Raises:
        asyncio.CancelledError: the task was cancelled; the future may not be done.
    """
    waiter: asyncio.Future[None] = future.get_loop().create_future()

    def release(_: object) -> None:
        if not waiter.done():
            waiter.set_result(None)

    future.add_done_callback(release)
    try:
        await waiter
    finally:
        future.remove_done_callback(release)
