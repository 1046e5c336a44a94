"""`loop._ready`: the queue of ready handles, which tools read, change, and run by hand, as on asyncio's loop."""

import asyncio
import contextvars
import gc
import random
import subprocess
import sys
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

import uringloop
from tests.variants import BACKENDS, FACTORIES

every_loop = pytest.mark.asyncio(loop_factories=("asyncio", *BACKENDS))
# asyncio's loop pops as many as there were, and fails where a callback has taken some.
our_loops = pytest.mark.asyncio(loop_factories=BACKENDS)
on_every_loop = pytest.mark.parametrize("name", ["asyncio", *BACKENDS])


def running() -> Any:
    """Return the running loop, whose private names are no secret here."""
    return asyncio.get_running_loop()


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


@every_loop
async def test_it_is_a_deque_of_the_handles_in_their_order() -> None:
    loop = running()
    handles = [loop.call_soon(int), loop.call_soon_threadsafe(int), loop.call_soon(int)]
    assert type(loop._ready) is deque
    assert [handle for handle in loop._ready if handle in handles] == handles
    assert loop._ready[-1] is handles[-1]
    await turn()
    assert not set(loop._ready) & set(handles)


@every_loop
async def test_one_that_is_held_shows_what_comes_and_goes() -> None:
    loop = running()
    held = loop._ready
    seen: list[bool] = []
    made: list[Any] = []
    made.append(loop.call_soon(lambda: seen.append(made[1] in held)))
    made.append(loop.call_soon(lambda: seen.append(made[0] in held)))
    assert made[0] in held
    made.append(loop.call_later(0, lambda: seen.append(made[2] in held)))
    await turn()
    assert seen == [True, False, False]
    assert held is loop._ready
    held = None
    await turn()
    assert loop.call_soon(int) in loop._ready


@every_loop
async def test_what_a_tool_puts_in_is_run_in_its_place() -> None:
    loop = running()
    ran: list[str] = []
    own = [
        asyncio.Handle(ran.append, (name,), loop, contextvars.copy_context()) for name in ("left", "right", "inserted")
    ]
    loop.call_soon(ran.append, "between")
    loop._ready.append(own[1])
    loop._ready.appendleft(own[0])
    loop._ready.insert(1, own[2])
    loop.call_soon(ran.append, "last")
    await turn()
    assert ran == ["left", "inserted", "between", "right", "last"]


@every_loop
async def test_what_a_tool_takes_out_is_not_run() -> None:
    loop = running()
    ran: list[int] = []
    handles = [loop.call_soon(ran.append, number) for number in range(5)]
    loop._ready.remove(handles[1])
    assert loop._ready.pop() is handles[4]
    handle = loop._ready.popleft()
    assert handle._args == (0,)
    handle._run()
    loop._ready.rotate(1)
    await turn()
    assert ran == [0, 3, 2]


@our_loops
async def test_a_callback_takes_the_others_of_its_turn() -> None:
    loop = running()
    ran: list[str] = []

    def clear() -> None:
        loop._ready.clear()
        loop.call_soon(ran.append, "after")
        loop.call_later(0, done.set_result, None)

    done = loop.create_future()
    loop.call_soon(clear)
    for _ in range(100):
        loop.call_soon(ran.append, "cleared")
    await done
    assert ran == ["after"]


@every_loop
async def test_another_queue_takes_its_place() -> None:
    class Counting(deque[Any]):
        taken = 0

        def popleft(self) -> Any:
            self.taken += 1
            return super().popleft()

    loop = running()
    ran: list[str] = []
    loop.call_soon(ran.append, "moved")
    loop.call_soon(ran.append, "left out")
    loop._ready = mine = Counting([loop._ready[0]])
    loop.call_soon(ran.append, "later")
    await turn()
    assert ran == ["moved", "later"]
    assert mine.taken == len(mine) + mine.taken >= 2
    assert loop._ready is mine
    loop._ready = deque(mine)


@every_loop
@pytest.mark.parametrize("mode", ["plain", "debug", "measuring", "held"])
async def test_however_many_wait_each_runs_once_in_its_turn(mode: str) -> None:
    loop = running()
    if mode == "measuring" and isinstance(loop, uringloop.EventLoop):
        loop.start_measuring()
    loop.set_debug(mode == "debug")
    held = loop._ready if mode == "held" else None
    choices = random.Random(3)
    ran: list[int] = []
    made = 0

    def call(number: int) -> None:
        ran.append(number)
        make(choices.choice((0, 0, 1, 1, 3, 40)) if made < 3000 else 0)

    def make(count: int) -> None:
        nonlocal made
        for _ in range(count):
            schedule = loop.call_soon if choices.random() < 0.8 else loop.call_soon_threadsafe
            schedule(call, made)
            made += 1
            if choices.random() < 0.01:
                assert len(loop._ready) >= made - len(ran)

    while made < 3000:
        make(100)
        await turn()
    await turn()
    loop.set_debug(False)
    assert ran == list(range(made))
    assert held is None or held is loop._ready


class Ring:
    """Refers to itself."""

    def __init__(self) -> None:
        self.own = self


@every_loop
async def test_the_collector_leaves_what_the_handles_hold() -> None:
    loop = running()
    ran: list[Ring] = []
    for _ in range(100):
        loop.call_soon(ran.append, Ring())
    gc.collect()
    await turn()
    assert [type(ring) for ring in ran] == [Ring] * 100


def test_the_collector_frees_a_loop_that_its_ready_handles_hold() -> None:
    loop: Any = uringloop.new_event_loop()
    loop.close()
    with pytest.raises(RuntimeError):
        loop._run_once()  # which takes the queue that closing has looked at
    loop._closed = False
    loop.call_soon(print, loop)
    loop._closed = True
    reference = weakref.ref(loop)
    del loop
    gc.collect()
    assert reference() is None


class LooksAgain:
    """Garbage in a cycle whose finalizer asks for the queue."""

    def __init__(self, loop: Any) -> None:
        self.loop, self.cycle = loop, self

    def __del__(self) -> None:
        assert len(self.loop._ready) >= 5


@every_loop
async def test_a_finalizer_that_looks_while_a_tool_does_loses_no_handle() -> None:
    loop = running()
    await turn()
    ran: list[int] = []
    thresholds = gc.get_threshold()
    try:
        for allocations in range(10):
            for number in range(5):
                loop.call_soon(ran.append, number)
            gc.collect()
            LooksAgain(loop)
            gc.set_threshold(allocations + 1)
            queue = loop._ready
            gc.set_threshold(*thresholds)
            gc.collect()
            assert len(queue) >= 5
            del queue
            await turn()
    finally:
        gc.set_threshold(*thresholds)
    assert ran == [*range(5)] * 10


# A process of its own: the collector has to start at one allocation of the sweep.
SWEEP = """
import gc

import uringloop

loop = uringloop.EventLoop(backend="epoll")
made = []


class Schedules:
    def __init__(self):
        self.cycle = self

    def __del__(self):
        made.append(loop.call_later(0, int))


kept = [loop.call_later(1000 + number, print) for number in range(10)]
for allocations in range(20):
    for number in range(300):
        loop.call_later(2000 + number, print).cancel()
    loop.call_soon(loop.stop)
    gc.collect()
    gc.set_threshold(10_000)
    Schedules()
    lists = [[] for _ in range(100)]  # more than Python keeps for reuse: only a new list is counted
    gc.set_threshold(gc.get_count()[0] + allocations)
    loop.run_forever()
    gc.set_threshold(700)
    gc.collect()
    lists = None
    assert all(timer in loop._scheduled for timer in kept), allocations
"""


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the collector runs between two steps of Python alone")
def test_a_finalizer_that_schedules_during_a_sweep_loses_no_timer() -> None:
    subprocess.run([sys.executable, "-c", SWEEP], check=True, timeout=60)


class Arguments(tuple[Any, ...]):
    """Not quite the usual ones."""


class Named(asyncio.Handle):
    """A handle that runs in its own way."""

    __slots__ = ()

    def _run(self) -> None:
        self._callback("named")  # type: ignore[attr-defined]


@every_loop
async def test_odd_handles_run_as_on_asyncio(unexpected: list[dict[str, Any]]) -> None:
    loop = running()
    ran: list[Any] = []
    for args in (None, ["list"], Arguments(("subclass",)), ()):
        loop.call_soon(ran.append, "usual")._args = args
    loop.call_soon(ran.append, "usual")._callback = None
    loop.call_soon(ran.append, "usual")._context = None
    named = Named(ran.append, (), loop, contextvars.copy_context())
    loop._ready.append(named)
    loop._ready.append(Named(ran.append, (), loop, contextvars.copy_context()))
    named.cancel()
    await turn()
    assert ran == ["list", "subclass", "named"]
    errors = [type(context["exception"]) for context in unexpected]
    assert errors == [TypeError, TypeError, TypeError, AttributeError]
    unexpected.clear()


@every_loop
async def test_a_callback_changes_its_own_handle(unexpected: list[dict[str, Any]]) -> None:
    loop = running()
    kept: list[Any] = []

    def change(attribute: str) -> None:
        setattr(kept.pop(), attribute, None)
        raise ZeroDivisionError

    def forget(attribute: str) -> None:
        delattr(kept.pop(), attribute)

    for attribute in ("_callback", "_args", "_context"):
        for function in (change, forget):
            kept.append(loop.call_soon(function, attribute))
            await turn()
    assert [type(context["exception"]) for context in unexpected] == [ZeroDivisionError] * 3
    unexpected.clear()


@on_every_loop
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_an_exit_leaves_runs_in_the_next_run(name: str, error: type[BaseException]) -> None:
    loop = FACTORIES[name]()
    ran: list[str] = []

    def leave() -> None:
        raise error

    def first() -> None:
        ran.append("first")
        loop.call_soon(ran.append, "next turn")

    steps: tuple[Callable[[], Any], ...] = (first, leave, lambda: ran.append("left"), leave)
    for step in steps:
        loop.call_soon(step)
    for _ in range(2):
        with pytest.raises(error):
            loop.run_forever()
    assert ran == ["first", "left"]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == ["first", "left", "next turn"]
    loop.close()
