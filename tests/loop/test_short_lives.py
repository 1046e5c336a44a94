"""Loops that live for a moment, as in a test suite: they make little, hear of signals, and leave nothing behind."""

import asyncio
import gc
import signal
import threading
import weakref
from collections.abc import Iterator

import pytest

import uringloop
from tests.variants import EVERY, FACTORIES, RINGS, LoopFactory

every_loop = pytest.mark.parametrize("factory", [pytest.param(FACTORIES[name], id=name) for name in EVERY])
every_ring = pytest.mark.parametrize("factory", [pytest.param(FACTORIES[name], id=name) for name in RINGS])
SIGNAL = signal.SIGUSR1
#: A signal is heard of within a tick or two.
TICKS_MAX = 100


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def spin_until(event: asyncio.Event) -> None:
    """Let the loop run without a sleep; fail if the event is not set after `TICKS_MAX` ticks."""
    for _ in range(TICKS_MAX):
        if event.is_set():
            return
        await asyncio.sleep(0)
    assert event.is_set()


@every_ring
def test_a_loop_that_waits_for_nothing_never_enters_its_ring(factory: LoopFactory) -> None:
    loop = factory()
    assert isinstance(loop, uringloop.EventLoop)
    # The first run asks once more whether the ring may be entered.
    loop.run_until_complete(asyncio.sleep(0))
    before = loop.statistics()["enters"]
    for _ in range(3):
        loop.run_until_complete(asyncio.sleep(0))
    entered = loop.statistics()["enters"] - before
    loop.close()
    assert entered == 0


@every_ring
def test_a_loop_has_slots_for_its_attributes(factory: LoopFactory) -> None:
    """With a dict its methods would be searched for at each call."""
    loop = factory()

    async def converse() -> None:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        writer.close()
        server.close()

    loop.run_until_complete(converse())
    attributes = vars(loop)
    loop.close()
    assert attributes == {}


@every_loop
@pytest.mark.parametrize("delay_s", [0, 0.001])
def test_a_closed_loop_is_freed_at_once(factory: LoopFactory, delay_s: float, no_collector: None) -> None:
    loop = factory()
    loop.run_until_complete(asyncio.sleep(delay_s))
    loop.close()
    freed = weakref.ref(loop)
    del loop
    assert freed() is None


@every_loop
def test_a_closed_loop_still_makes_futures(factory: LoopFactory) -> None:
    loop = factory()
    loop.close()
    assert loop.create_future().get_loop() is loop


@every_loop
@pytest.mark.parametrize("running", [False, True], ids=["before", "while it runs"])
def test_a_loop_that_never_sleeps_hears_of_signals(factory: LoopFactory, running: bool) -> None:
    loop = factory()
    heard = asyncio.Event()

    async def hear() -> None:
        if running:
            loop.add_signal_handler(SIGNAL, heard.set)
            await asyncio.sleep(0)
        signal.raise_signal(SIGNAL)
        await spin_until(heard)

    if not running:
        loop.add_signal_handler(SIGNAL, heard.set)
    loop.run_until_complete(hear())
    loop.remove_signal_handler(SIGNAL)
    loop.close()


@every_loop
def test_a_loop_in_a_thread_that_never_sleeps_hears_of_signals(factory: LoopFactory) -> None:
    loop = factory()
    heard, done = asyncio.Event(), threading.Event()

    async def spin() -> None:
        while not done.is_set():
            await asyncio.sleep(0)
        await spin_until(heard)

    thread = threading.Thread(target=loop.run_until_complete, args=(spin(),))
    thread.start()
    loop.add_signal_handler(SIGNAL, heard.set)
    signal.raise_signal(SIGNAL)
    done.set()
    thread.join()
    assert heard.is_set()
    loop.remove_signal_handler(SIGNAL)
    loop.close()


@every_loop
def test_a_thread_ends_the_first_sleep(factory: LoopFactory) -> None:
    loop = factory()
    loop.run_until_complete(asyncio.sleep(0))
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,))
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    loop.close()
