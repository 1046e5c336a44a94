"""`Lock`: one call on a file at a time, in the order in which they were made.

As `asyncio.Lock`, but the holder hands over to the next one directly, so that nobody gets in between, and taking it
when it is free costs one coroutine, not two.
"""

import asyncio
from collections import deque


class Lock:
    """To be held with `async with`.

    Attributes:
        locked: somebody holds it.
    """

    __slots__ = ("_queue", "locked")

    def __init__(self) -> None:
        self.locked = False
        self._queue: deque[asyncio.Future[None]] | None = None

    async def __aenter__(self) -> None:
        if self.locked:
            await self._wait()
        self.locked = True

    async def __aexit__(self, *exception: object) -> None:
        self.release()

    async def acquire(self) -> None:
        """Wait for one's turn."""
        if self.locked:
            await self._wait()
        self.locked = True

    async def _wait(self) -> None:
        if self._queue is None:
            self._queue = deque()
        waiter = asyncio.get_running_loop().create_future()
        self._queue.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                # It was handed over, but never taken.
                self.release()
            else:
                self._queue.remove(waiter)
            raise

    def release(self) -> None:
        """Hand over to the next one, if there is one."""
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.locked = False
