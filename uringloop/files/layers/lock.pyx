"""`Lock`: one call on a file at a time, in the order in which the calls were made."""

import asyncio
from collections import deque

from .call cimport LOCK, UNLOCK, CallOwner, FileCall, make_call

from ...call import looks_async


cdef class Lock(CallOwner):
    """A lock for `async with`, as `asyncio.Lock`.

    The holder hands over to the next waiter directly, so that no other task gets in between.  Taking a free lock needs
    no coroutine.

    Attributes:
        locked: whether a task holds it.
    """

    def __aenter__(self):
        return make_call(self, LOCK, None, None)

    def __aexit__(self, kind, value, traceback):
        return make_call(self, UNLOCK, None, None)

    cdef answer(self, FileCall call):
        if call.kind == UNLOCK:
            self.release()
            return None
        if self.locked:
            call.running = self.wait()
            return call
        self.locked = True
        return None

    def acquire(self):
        """Wait for the lock and take it."""
        return make_call(self, LOCK, None, None)

    async def wait(self):
        if self.queue is None:
            self.queue = deque()
        waiter = asyncio.get_running_loop().create_future()
        self.queue.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                # The lock was handed over, but the task never took it.
                self.release()
            elif waiter in self.queue:  # and no release has passed over it
                self.queue.remove(waiter)
            raise

    cpdef release(self):
        """Hand the lock over to the next waiter, or free it."""
        while self.queue:
            waiter = self.queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.locked = False


looks_async(Lock.__aenter__, Lock.__aexit__, Lock.acquire)
