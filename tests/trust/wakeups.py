"""Calls from threads to a loop that sleeps: each must wake it."""

import asyncio
import contextlib
import threading
import time
from random import Random

from .counts import LATE_S, LOST_S, Counts

THREADS = 4
_BURST_MAX = 100
_PAUSE_MAX_S = 0.003


async def calls_of_threads(seconds: float, random: Random) -> Counts:
    """Call from four threads, in bursts with pauses in which the loop falls asleep.

    Args:
        seconds: For how long.
        random: Chooses the bursts and pauses.

    Returns:
        How many calls arrived, how many of them overtook another (`wrong`), came late, or not at all.
    """
    loop = asyncio.get_running_loop()
    counts = Counts()
    sent, expected = [0] * THREADS, [0] * THREADS
    ended = asyncio.Event()
    over = time.monotonic() + seconds

    def arrive(thread: int, number: int, at: float) -> None:
        counts.done += 1
        counts.wrong += number != expected[thread]
        expected[thread] = number + 1
        counts.late += time.monotonic() - at > LATE_S

    def produce(thread: int, own: Random) -> None:
        while time.monotonic() < over:
            for _ in range(own.randrange(1, _BURST_MAX)):
                loop.call_soon_threadsafe(arrive, thread, sent[thread], time.monotonic())
                sent[thread] += 1
            time.sleep(own.random() * _PAUSE_MAX_S)
        loop.call_soon_threadsafe(end, thread)

    def end(thread: int) -> None:
        remaining.discard(thread)
        if not remaining:
            ended.set()

    remaining = set(range(THREADS))
    threads = [threading.Thread(target=produce, args=(one, Random(random.random()))) for one in remaining]
    for thread in threads:
        thread.start()
    # One timer alone: another would wake the loop in the place of a call that did not.
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(ended.wait(), seconds + LOST_S)
    for thread in threads:
        await loop.run_in_executor(None, thread.join)
    counts.lost = sum(sent) - counts.done
    return counts
