"""`run`: a coroutine on a fresh loop, in each way of sleeping, that must leave nothing behind."""

import asyncio
import gc
import os
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import uringloop

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def open_descriptors() -> set[str]:
    return {name for name in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{name}")}


async def quiet() -> None:
    """Return when nothing is left to do: what was cancelled needs some turns to end, a close of a file to close it."""
    loop = asyncio.get_running_loop()
    for _ in range(10_000):
        if asyncio.all_tasks() == {asyncio.current_task()} and not loop.statistics()["in_flight"]:
            return
        await asyncio.sleep(0.001)
    pytest.fail(f"left: {asyncio.all_tasks()}, {loop.statistics()}")


#: Without deferred completions a cancel meets results that came between the calls of the loop.
VARIANTS: dict[str, dict[str, Any]] = {
    "ring": {"sleep": "ring"},
    "selector": {"sleep": "selector"},
    "interrupting": {"sleep": "ring", "without": ("defer_taskrun",)},
    "tiny": {"sleep": "ring", "sq_entries": 4, "cq_entries": 8},
}


@pytest.fixture(params=VARIANTS)
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine and returns its result; checks descriptors, operations and the loop's exception handler."""

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
        with asyncio.Runner(loop_factory=lambda: uringloop.EventLoop(**VARIANTS[request.param])) as runner:
            result = runner.run(watched())
        assert open_descriptors() == before
        assert reported == []
        return result

    return run
