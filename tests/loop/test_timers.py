"""Timers and callbacks: their order, and that no timer is early.  How late one is depends on the machine."""

import asyncio
import contextvars
import random
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from tests.variants import EVERY, RINGS

from .helpers import socket_pair

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)


async def called(*schedule: Callable[[Callable[[], None]], Any]) -> list[int]:
    """The order in which callbacks run that are scheduled in the order of the arguments."""
    order: list[int] = []
    done = asyncio.Event()

    def note(number: int) -> None:
        order.append(number)
        if len(order) == len(schedule):
            done.set()

    for number, method in enumerate(schedule):
        method(lambda number=number: note(number))  # type: ignore[misc]
    await done.wait()
    return order


async def test_call_soon_runs_in_order() -> None:
    loop = asyncio.get_running_loop()
    assert await called(*[loop.call_soon] * 100) == list(range(100))


async def test_a_callback_scheduled_by_a_callback_runs_in_the_next_turn() -> None:
    loop = asyncio.get_running_loop()
    order: list[str] = []

    def first() -> None:
        order.append("first")
        loop.call_soon(order.append, "scheduled by the first")

    loop.call_soon(first)
    loop.call_soon(order.append, "second")
    await asyncio.sleep(0)
    assert order == ["first", "second"]
    await asyncio.sleep(0)
    assert order == ["first", "second", "scheduled by the first"]


async def test_call_at_runs_in_the_order_of_time() -> None:
    loop = asyncio.get_running_loop()
    now = loop.time()
    delays = [0.003, 0.001, 0.002, 0.0005, 0.0]
    schedule = [lambda callback, delay=delay: loop.call_at(now + delay, callback) for delay in delays]
    assert await called(*schedule) == [4, 3, 1, 2, 0]


async def test_what_is_due_already_runs_after_what_was_ready() -> None:
    loop = asyncio.get_running_loop()
    order = await called(
        lambda callback: loop.call_later(-1, callback), loop.call_soon, lambda callback: loop.call_at(0, callback)
    )
    assert order == [1, 2, 0]


async def test_timers_of_the_same_time_all_run() -> None:
    loop = asyncio.get_running_loop()
    when = loop.time() + 0.001
    assert sorted(await called(*[lambda callback: loop.call_at(when, callback)] * 50)) == list(range(50))


@pytest.mark.parametrize("delay_s", [0.00005, 0.0002, 0.0009, 0.001, 0.0013])
async def test_a_timer_is_never_early(delay_s: float) -> None:
    loop = asyncio.get_running_loop()
    early = []
    for _ in range(20):
        start = loop.time()
        await asyncio.sleep(delay_s)
        if (elapsed := loop.time() - start) < delay_s:
            early.append(elapsed)
    assert not early


async def test_many_timers_are_never_early_and_all_fire() -> None:
    loop = asyncio.get_running_loop()
    choices = random.Random(3)
    start = loop.time()
    early: list[float] = []
    left = 2000
    done = asyncio.Event()

    def fire(when: float) -> None:
        nonlocal left
        if loop.time() < when:
            early.append(when - loop.time())
        left -= 1
        if not left:
            done.set()

    for _ in range(left):
        when = start + choices.random() * 0.05
        loop.call_at(when, fire, when)
    await done.wait()
    assert not early


async def test_a_cancelled_timer_does_not_fire() -> None:
    loop = asyncio.get_running_loop()
    fired: list[str] = []
    handle = loop.call_later(0.001, fired.append, "cancelled")
    loop.call_later(0.001, fired.append, "kept")
    handle.cancel()
    assert handle.cancelled()
    await asyncio.sleep(0.002)
    assert fired == ["kept"]


async def test_ten_thousand_cancelled_timers_leave_nothing() -> None:
    loop = asyncio.get_running_loop()
    fired: list[str] = []
    handles = weakref.WeakSet(loop.call_later(3600 + number, fired.append, "far away") for number in range(10_000))
    assert len(handles) == 10_000
    loop.call_later(0.001, fired.append, "near")
    for handle in list(handles):
        handle.cancel()
    del handle
    await asyncio.sleep(0.002)
    assert fired == ["near"]
    assert len(handles) == 0


async def test_cancelling_half_of_the_timers_keeps_the_others_in_order() -> None:
    loop = asyncio.get_running_loop()
    fired: list[int] = []
    now = loop.time()
    handles = [loop.call_at(now + 0.0001 + number / 1_000_000, fired.append, number) for number in range(1000)]
    for number, handle in enumerate(handles):
        if number % 3:
            handle.cancel()
    await asyncio.sleep(0.003)
    assert fired == list(range(0, 1000, 3))


async def test_a_callback_may_be_cancelled_by_the_one_before() -> None:
    loop = asyncio.get_running_loop()
    ran: list[str] = []
    loop.call_soon(lambda: later.cancel())
    later = loop.call_soon(ran.append, "cancelled")
    await asyncio.sleep(0)
    assert not ran


async def test_a_callback_runs_in_its_context() -> None:
    loop = asyncio.get_running_loop()
    number = contextvars.ContextVar("number", default=0)
    context = contextvars.copy_context()
    context.run(number.set, 5)
    seen: list[int] = []
    loop.call_soon(lambda: seen.append(number.get()), context=context)
    loop.call_later(0, lambda: seen.append(number.get()))
    await asyncio.sleep(0.001)
    assert seen == [5, 0]


async def test_an_error_in_a_callback_is_told_and_the_loop_goes_on(unexpected: list[dict[str, Any]]) -> None:
    loop = asyncio.get_running_loop()
    ran: list[str] = []

    def broken() -> None:
        raise ValueError("in a callback")

    loop.call_soon(broken)
    loop.call_later(0, broken)
    loop.call_soon(ran.append, "after it")
    await asyncio.sleep(0.001)
    assert ran == ["after it"]
    messages = [context["message"] for context in unexpected]
    unexpected.clear()
    assert len(messages) == 2
    assert all(message.startswith("Exception in callback ") and "broken" in message for message in messages)


async def test_timers_fire_while_bytes_keep_coming() -> None:
    loop = asyncio.get_running_loop()
    fired = asyncio.Event()
    loop.call_later(0.005, fired.set)
    with socket_pair() as (left, right):
        while not fired.is_set():
            await loop.sock_sendall(left, b"x" * 100)
            assert await loop.sock_recv(right, 100)
            # asyncio's own has not waited for anything so far.
            await asyncio.sleep(0)


async def test_bytes_arrive_while_callbacks_keep_coming() -> None:
    loop = asyncio.get_running_loop()

    def again() -> None:
        nonlocal handle
        handle = loop.call_soon(again)

    handle = loop.call_soon(again)
    with socket_pair() as (left, right):
        for _ in range(20):
            receiving = asyncio.create_task(loop.sock_recv(right, 10))
            await loop.sock_sendall(left, b"x")
            assert await receiving == b"x"
    handle.cancel()


async def test_wait_for_gives_up_in_time_and_not_before() -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, _):
        start = loop.time()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(loop.sock_recv(left, 1), 0.002)
        assert loop.time() - start >= 0.002


@pytest.mark.asyncio(loop_factories=RINGS)
async def test_a_sleeping_loop_makes_one_system_call_a_timer() -> None:
    """Of several tries one has to: on a busy machine others wake the loop early.

    On epoll(7) a loop that sleeps in the selector looks at the ring before the sleep and after it: two more calls.
    """
    loop: Any = asyncio.get_running_loop()
    looks = loop.backend == "epoll" and loop._options.sleep == "selector"
    counts = []
    for _ in range(5):
        await asyncio.sleep(0.001)
        before = loop.statistics()["enters"]
        for _ in range(10):
            await asyncio.sleep(0.0005)
        counts.append(loop.statistics()["enters"] - before)
    assert min(counts) <= (40 if looks else 20)
