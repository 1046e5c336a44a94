"""A wait for a future that a cancel does not reach."""

import asyncio
import gc
import weakref

import pytest

from tests.variants import BACKENDS
from uringloop.shielding import until_done

pytestmark = pytest.mark.asyncio(loop_factories=BACKENDS)


class Memory:
    """What a call holds."""


async def test_a_cancel_ends_the_wait_and_not_the_future() -> None:
    future = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(until_done(future))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not future.done()
    future.set_exception(ValueError())
    await until_done(future)
    assert isinstance(future.exception(), ValueError)


async def test_a_cancelled_future_ends_the_wait() -> None:
    future = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(until_done(future))
    await asyncio.sleep(0)
    future.cancel()
    await waiting


async def test_a_cancelled_wait_holds_nothing() -> None:
    future = asyncio.get_running_loop().create_future()
    memory = Memory()
    freed = weakref.ref(memory)

    async def call(memory: Memory) -> Memory:
        await until_done(future)
        return memory

    waiting = asyncio.ensure_future(call(memory))
    del memory
    await asyncio.sleep(0)
    gc.disable()
    try:
        waiting.cancel()
        await asyncio.wait((waiting,))
        del waiting
        await asyncio.sleep(0)
        assert freed() is None
    finally:
        gc.enable()
