"""`loop._scheduled`: the list of the timers, which tools read, cancel, pop from and push to, as on asyncio's loop."""

import asyncio
import contextvars
import heapq
import math
import random
from typing import Any

import pytest

from tests.variants import BACKENDS

pytestmark = pytest.mark.asyncio(loop_factories=("asyncio", *BACKENDS))


def running() -> Any:
    """Return the running loop, whose private names are no secret here."""
    return asyncio.get_running_loop()


def nothing() -> None:
    pass


async def until(when: float) -> None:
    """Wait until all timers of before `when` have fired."""
    await asyncio.sleep(max(when - running().time(), 0) + 0.001)


async def test_it_holds_the_live_timers_in_the_order_of_a_heap() -> None:
    loop = running()
    choices = random.Random(2)
    handles = [loop.call_later(100 + choices.random(), nothing) for _ in range(300)]
    assert type(loop._scheduled) is list
    assert set(map(id, loop._scheduled)) >= set(map(id, handles))
    timers = list(loop._scheduled)
    assert all(timers[(place - 1) // 2].when() <= timers[place].when() for place in range(1, len(timers)))
    for handle in handles:
        handle.cancel()


async def test_what_shutdown_cancels_there_does_not_fire() -> None:
    loop = running()
    fired: list[int] = []
    for number in range(5):
        loop.call_later(0.001, fired.append, number)
    for handle in loop._scheduled:
        if handle._callback == fired.append:
            handle.cancel()
    await until(loop.time() + 0.002)
    assert fired == []


async def test_a_list_that_is_held_shows_what_comes_and_goes() -> None:
    loop = running()
    scheduled = loop._scheduled
    first = loop.call_later(0.001, nothing)
    second = loop.call_later(100, nothing)
    assert first in scheduled
    assert second in scheduled
    await until(first.when())
    assert first not in scheduled
    assert scheduled is loop._scheduled
    second.cancel()


async def test_a_popped_timer_is_not_fired_by_the_loop() -> None:
    loop = running()
    fired: list[str] = []
    loop.call_later(0.0001, fired.append, "popped")
    kept = loop.call_later(0.001, fired.append, "kept")
    assert heapq.heappop(loop._scheduled)._args == ("popped",)
    await until(kept.when())
    assert fired == ["kept"]


async def test_a_pushed_timer_fires_once() -> None:
    loop = running()
    fired: list[str] = []
    far = loop.call_later(100, nothing)
    pushed = asyncio.TimerHandle(loop.time() + 0.001, fired.append, ("pushed",), loop, contextvars.copy_context())
    pushed._scheduled = True
    heapq.heappush(loop._scheduled, pushed)
    loop.call_later(0.0005, fired.append, "earlier")
    loop.call_later(0.0015, fired.append, "later")
    await until(loop.time() + 0.002)
    assert fired == ["earlier", "pushed", "later"]
    assert loop._scheduled == [far]
    far.cancel()


@pytest.mark.parametrize("holds", [False, True])
async def test_each_timer_fires_once_whatever_heapq_does(holds: bool) -> None:
    loop = running()
    choices = random.Random(5)
    held = loop._scheduled if holds else None
    fired: list[int] = []
    start = loop.time()
    for number in range(600):
        loop.call_at(start + choices.random() * 0.02, fired.append, number)
        if choices.random() < 0.1:
            heapq.heappush(loop._scheduled, heapq.heappop(loop._scheduled))
        if choices.random() < 0.02:
            await asyncio.sleep(0)
    await until(start + 0.02)
    assert sorted(fired) == list(range(600))
    assert loop._scheduled == []
    assert held is None or held is loop._scheduled


async def test_timers_are_fired_by_hand_as_by_a_frozen_clock() -> None:
    loop = running()
    fired: list[str] = []
    loop.call_later(3600, fired.append, "an hour")
    loop.call_later(60, fired.append, "a minute")
    for handle in sorted(loop._scheduled, key=asyncio.TimerHandle.when):
        if not handle.cancelled() and handle._callback == fired.append:
            handle._run()
            handle.cancel()
    await asyncio.sleep(0)
    assert fired == ["a minute", "an hour"]


async def test_a_list_without_some_timers_may_take_its_place() -> None:
    loop = running()
    fired: list[str] = []
    loop.call_later(0.0005, fired.append, "left out")
    kept = loop.call_later(0.001, fired.append, "kept")
    loop._scheduled = [handle for handle in loop._scheduled if handle is kept]
    await until(kept.when())
    assert fired == ["kept"]


async def test_a_cleared_list_takes_new_timers() -> None:
    loop = running()
    fired: list[str] = []
    loop.call_later(0.0001, fired.append, "cleared")
    loop._scheduled.clear()
    kept = loop.call_later(0.001, fired.append, "kept")
    await until(kept.when())
    assert fired == ["kept"]


async def test_the_cancelled_are_counted() -> None:
    loop = running()
    assert loop._timer_cancelled_count == 0
    handles = [loop.call_later(100 + number, nothing) for number in range(10)]
    for handle in handles[3:6]:
        handle.cancel()
    assert loop._timer_cancelled_count == 3
    handles[5].cancel()
    assert loop._timer_cancelled_count == 3
    for handle in handles:
        handle.cancel()
    await asyncio.sleep(0)
    assert loop._timer_cancelled_count == 0
    assert loop._scheduled == []


# asyncio's heap has no order among these.
@pytest.mark.asyncio(loop_factories=BACKENDS)
async def test_timers_of_the_same_time_fire_in_the_order_they_were_made_also_after_a_look() -> None:
    loop = running()
    fired: list[int] = []
    when = loop.time() + 0.001
    for number in range(50):
        loop.call_at(when, fired.append, number)
        # A busy machine may come to the time before the last timer is made.
        due = [handle for handle in loop._ready if isinstance(handle, asyncio.TimerHandle)]
        assert len(loop._scheduled) + len(due) + len(fired) == number + 1
        await asyncio.sleep(0)
    await until(when)
    assert fired == list(range(50))


@pytest.mark.parametrize("holds", [False, True])
async def test_many_cancelled_are_swept_out_of_the_list(holds: bool) -> None:
    loop = running()
    held = loop._scheduled if holds else None
    handles = [loop.call_later(100 + number, nothing) for number in range(400)]
    for number, handle in enumerate(handles):
        if number % 4:
            handle.cancel()
    await asyncio.sleep(0)
    assert [handle for handle in loop._scheduled if handle.cancelled()] == []
    assert sorted(handle.when() for handle in loop._scheduled) == [handle.when() for handle in handles[::4]]
    for handle in handles:
        handle.cancel()
    del held


# asyncio takes it, and its heap is no heap any more.
@pytest.mark.asyncio(loop_factories=BACKENDS)
async def test_not_a_number_is_refused_and_the_other_timers_are_kept() -> None:
    loop = running()
    fired: list[str] = []
    for schedule in (loop.call_later, loop.call_at):
        with pytest.raises(ValueError, match="NaN"):
            schedule(math.nan, fired.append, "never")
    loop.call_later(0.001, fired.append, "kept")
    with pytest.raises(ValueError, match="NaN"):
        loop.call_later(math.nan, fired.append, "never")
    assert len(loop._scheduled) == 1
    await until(loop.time() + 0.001)
    assert fired == ["kept"]


async def test_other_numbers_are_as_on_asyncio() -> None:
    loop = running()
    fired: list[str] = []
    never = [loop.call_later(delay, fired.append, "never") for delay in (math.inf, 1e300, 1e12, 2**70)]
    loop.call_later(-math.inf, fired.append, "long ago")
    loop.call_later(-1, fired.append, "a second ago")
    loop.call_at(-5, fired.append, "before the clock")
    await until(loop.time() + 0.001)
    assert fired == ["long ago", "before the clock", "a second ago"]
    for handle in never:
        handle.cancel()
    with pytest.raises(OverflowError):
        loop.call_later(10**400, fired.append, "too large")
    with pytest.raises(TypeError):
        loop.call_later("1", fired.append, "no number")
