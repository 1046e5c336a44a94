"""Handles that have run: whoever kept one has that one, and nothing keeps what nobody refers to."""

import asyncio
import gc
import weakref
from typing import Any

import pytest

import uringloop
from tests.variants import BACKENDS

every_loop = pytest.mark.asyncio(loop_factories=("asyncio", *BACKENDS))


class Callback:
    def __call__(self, *args: Any) -> None:
        self.args = args


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


@every_loop
@pytest.mark.parametrize("schedule", ["call_soon", "call_soon_threadsafe", "call_later"])
async def test_one_that_was_kept_is_never_another_s(schedule: str) -> None:
    loop = asyncio.get_running_loop()
    delay = (0,) if schedule == "call_later" else ()
    first = Callback()
    kept = getattr(loop, schedule)(*delay, first, "first")
    await turn()
    assert first.args == ("first",)
    others = [getattr(loop, schedule)(*delay, Callback()) for _ in range(10)]
    assert kept not in others
    assert "Callback object" in repr(kept)
    kept.cancel()
    assert kept.cancelled()
    assert not any(handle.cancelled() for handle in others)
    await turn()


@every_loop
async def test_one_that_was_kept_weakly_is_gone() -> None:
    loop = asyncio.get_running_loop()
    references = [weakref.ref(loop.call_soon(Callback())), weakref.ref(loop.call_later(0, Callback()))]
    await turn()
    again = [loop.call_soon(Callback()), loop.call_later(0, Callback())]
    gc.collect()
    assert [reference() for reference in references] == [None, None]
    await turn()
    del again


@every_loop
async def test_what_it_called_is_freed_after_the_call() -> None:
    loop = asyncio.get_running_loop()
    callback, argument = Callback(), Callback()
    references = [weakref.ref(callback), weakref.ref(argument)]
    loop.call_soon(callback)
    loop.call_soon(repr, argument)
    loop.call_later(0, repr, argument)
    await turn()
    del callback, argument
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_a_loop_is_freed_with_its_handles() -> None:
    loop = uringloop.new_event_loop()
    loop.call_soon(Callback())
    loop.call_later(0, Callback())
    loop.run_until_complete(turn())
    loop.close()
    reference = weakref.ref(loop)
    del loop
    gc.collect()
    assert reference() is None
