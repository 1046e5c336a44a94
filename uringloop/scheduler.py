"""The timer heap: when the next timer is due, and which are.

Handles and the ready queue are asyncio's own (`BaseEventLoop._ready`, `_scheduled`).  Nothing here knows of I/O.  Time
is the loop's clock in seconds, as `loop.time()` gives it; what leaves for the kernel is in nanoseconds.
"""

import heapq
from asyncio import Handle, TimerHandle
from collections import deque

NS_PER_S = 1_000_000_000

#: Cancelled timers are swept out of the heap when there are more than this many and they are more than this part of it.
_SWEEP_FROM = 100
_SWEEP_PART = 0.5


def sweep(scheduled: list[TimerHandle], cancelled_count: int) -> int:
    """Drop cancelled timers from the heap: all of them if they are many, else those on top.

    Returns:
        How many cancelled timers are left in the heap.
    """
    if len(scheduled) > _SWEEP_FROM and cancelled_count > len(scheduled) * _SWEEP_PART:
        for handle in scheduled:
            if handle.cancelled():
                handle._scheduled = False  # type: ignore[attr-defined]
        scheduled[:] = [handle for handle in scheduled if not handle.cancelled()]
        heapq.heapify(scheduled)
        return 0
    while scheduled and scheduled[0].cancelled():
        cancelled_count -= 1
        heapq.heappop(scheduled)._scheduled = False  # type: ignore[attr-defined]
    return cancelled_count


def timeout_ns(scheduled: list[TimerHandle], now: float) -> int:
    """Nanoseconds until the first timer is due, -1 if there is none."""
    if not scheduled:
        return -1
    delay = scheduled[0].when() - now
    # Never early: a timer that is a fraction of a nanosecond away is waited for.
    return int(delay * NS_PER_S) + 1 if delay > 0 else 0


def pop_due(scheduled: list[TimerHandle], end_time: float, ready: "deque[Handle]") -> None:
    """Move the timers that are due from the heap to the ready queue, in their order."""
    while scheduled and scheduled[0].when() < end_time:
        handle = heapq.heappop(scheduled)
        handle._scheduled = False  # type: ignore[attr-defined]
        ready.append(handle)
