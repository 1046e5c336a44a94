"""`run`: a coroutine on a fresh loop, in each way of sleeping, that must leave nothing behind."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.housekeeping import open_descriptors
from tests.variants import EPOLL, EPOLL_ONCE, FACTORIES, KERNELS, LoopFactory
from uringloop.companion import _ATTRIBUTE, submitter

Run = Callable[[Coroutine[Any, Any, Any]], Any]


async def quiet() -> None:
    """Return when nothing is left to do: what was cancelled needs some turns to end, a close of a file to close it."""
    ring: Any = submitter(asyncio.get_running_loop())
    for _ in range(10_000):
        in_flight = ring.statistics()["in_flight"] if ring else 0
        if asyncio.all_tasks() == {asyncio.current_task()} and not in_flight:
            return
        await asyncio.sleep(0.001)
    pytest.fail(f"left: {asyncio.all_tasks()}, {ring and ring.statistics()}")


#: Without deferred completions a cancel meets results that came between the calls of the loop.
VARIANTS: dict[str, LoopFactory] = {
    "ring": FACTORIES["ring"],
    "selector": FACTORIES["selector"],
    **({"interrupting": FACTORIES["ring-interrupting"]} if KERNELS else {}),
    "tiny": FACTORIES["ring-tiny"],
    **{name: FACTORIES[name] for name in (("epoll",) if EPOLL_ONCE else ("epoll", "epoll-tiny")) if EPOLL},
}
#: For tests that are worth it also beside a loop that is not uringloop's: parametrize `run` with this, indirectly.
WITH_ASYNCIO = [*VARIANTS, "asyncio", *(["epoll-companion"] if EPOLL else [])]
#: And for tests of what a user sees beside a loop that can have no companion.
WITH_THREADS = [*WITH_ASYNCIO, "threads"]


def do_without(loop: asyncio.AbstractEventLoop) -> None:
    """Let a loop have no companion, as one that offers no hook for its close."""
    setattr(loop, _ATTRIBUTE, None)


def without_companion() -> asyncio.AbstractEventLoop:
    loop = FACTORIES["asyncio"]()
    do_without(loop)
    return loop


@pytest.fixture(params=VARIANTS)
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine and returns its result; checks descriptors, operations and the loop's exception handler."""
    make_loop = without_companion if request.param == "threads" else {**FACTORIES, **VARIANTS}[request.param]

    def run(main: Coroutine[Any, Any, Any]) -> Any:
        reported: list[dict[str, Any]] = []

        async def watched() -> Any:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda loop, context: reported.append(context))
            result = await main
            await quiet()
            gc.collect()
            return result

        gc.collect()
        before = open_descriptors()
        with asyncio.Runner(loop_factory=make_loop) as runner:
            result = runner.run(watched())
        assert open_descriptors() == before
        assert reported == []
        return result

    return run
