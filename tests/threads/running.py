"""Loops that run in threads of their own."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from tests.variants import LoopFactory


@contextlib.contextmanager
def loops_in_threads(count: int, factory: LoopFactory) -> Iterator[list[asyncio.AbstractEventLoop]]:
    """Run loops, each in a thread of its own, until the block ends; then cancel their tasks and close them."""
    loops = [factory() for _ in range(count)]
    threads = [threading.Thread(target=_run, args=(loop,)) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        yield loops
    finally:
        for loop in loops:
            loop.call_soon_threadsafe(loop.stop)
        for thread in threads:
            thread.join()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.get_loop().run_forever()


def in_threads(functions: Sequence[Callable[[], object]]) -> None:
    """Call functions at the same time, each in a thread of its own; raise what they raise."""
    errors: list[BaseException] = []
    start = threading.Barrier(len(functions))

    def call(function: Callable[[], object]) -> None:
        try:
            start.wait()
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise BaseExceptionGroup("in threads", errors)


def run_each(count: int, factory: LoopFactory, main: Callable[[int], Awaitable[Any]]) -> list[Any]:
    """Run `main(number)` on loops of their own, in threads that begin together; return the results in their order."""
    results: list[Any] = [None] * count

    def run(number: int) -> None:
        async def call() -> Any:
            return await main(number)

        with asyncio.Runner(loop_factory=factory) as runner:
            results[number] = runner.run(call())

    in_threads([lambda number=number: run(number) for number in range(count)])  # type: ignore[misc]
    return results
