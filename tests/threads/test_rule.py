"""A loop and all that it has belong to the thread that runs it; a few calls may come from others."""

import asyncio
import collections
import contextlib
import gc
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import uringloop
from tests.kernel import FREE_THREADED
from tests.variants import BACKENDS, FACTORIES
from uringloop.ready import ReadyQueue

from .running import in_threads, loops_in_threads

Loop = uringloop.EventLoop


@pytest.fixture(params=BACKENDS)
def loop(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A loop in debug mode, which another thread runs."""

    def factory() -> asyncio.AbstractEventLoop:
        loop = FACTORIES[request.param]()
        loop.set_debug(True)
        return loop

    with loops_in_threads(1, factory) as running:
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), running[0]).result()
        yield running[0]


@contextlib.contextmanager
def connected(loop: Any) -> Iterator[Any]:
    """A transport of the loop over one end of a socket pair."""
    left, right = socket.socketpair()

    async def open_it() -> Any:
        return (await loop.create_connection(asyncio.Protocol, sock=left))[0]

    async def close_it(transport: asyncio.Transport) -> None:
        transport.abort()
        await asyncio.sleep(0)

    with right:
        transport = asyncio.run_coroutine_threadsafe(open_it(), loop).result()
        yield transport
        asyncio.run_coroutine_threadsafe(close_it(transport), loop).result()


@contextlib.contextmanager
def with_endpoint(loop: Any) -> Iterator[Any]:
    """A datagram transport of the loop."""

    async def open_it() -> Any:
        return (await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)))[0]

    async def close_it(transport: asyncio.DatagramTransport) -> None:
        transport.abort()
        await asyncio.sleep(0)

    transport = asyncio.run_coroutine_threadsafe(open_it(), loop).result()
    yield transport
    asyncio.run_coroutine_threadsafe(close_it(transport), loop).result()


LOOP_CALLS: dict[str, Callable[[Any], object]] = {
    "call_soon": lambda loop: loop.call_soon(int),
    "call_later": lambda loop: loop.call_later(1, int),
    "call_at": lambda loop: loop.call_at(1, int),
    "add_reader": lambda loop: loop.add_reader(0, int),
    "remove_writer": lambda loop: loop.remove_writer(0),
    "submit": lambda loop: loop.submit(uringloop.operations.Nop()).send(None),
}


@pytest.mark.parametrize("call", LOOP_CALLS.values(), ids=LOOP_CALLS)
def test_a_call_of_the_loop_from_another_thread_raises_in_debug_mode(loop: Any, call: Callable[[Any], object]) -> None:
    with pytest.raises(RuntimeError, match="Non-thread-safe"):
        call(loop)


TRANSPORT_CALLS: dict[str, Callable[[Any], object]] = {
    "write": lambda transport: transport.write(b"x"),
    "writelines": lambda transport: transport.writelines([b"x"]),
    "write_eof": lambda transport: transport.write_eof(),
    "pause_reading": lambda transport: transport.pause_reading(),
    "close": lambda transport: transport.close(),
    "abort": lambda transport: transport.abort(),
    "set_protocol": lambda transport: transport.set_protocol(asyncio.Protocol()),
    "get_write_buffer_size": lambda transport: transport.get_write_buffer_size(),
}


def test_a_call_of_a_transport_from_another_thread_raises_in_debug_mode(loop: Any) -> None:
    with connected(loop) as transport:
        for call in TRANSPORT_CALLS.values():
            with pytest.raises(RuntimeError, match="Non-thread-safe"):
                call(transport)
        assert not transport.is_closing()
    with with_endpoint(loop) as endpoint:
        for send in (lambda: endpoint.sendto(b"x", ("127.0.0.1", 9)), endpoint.close, endpoint.abort):
            with pytest.raises(RuntimeError, match="Non-thread-safe"):
                send()


def test_the_calls_that_may_come_from_another_thread(loop: Any) -> None:
    ran = threading.Event()
    loop.call_soon_threadsafe(ran.set)
    assert ran.wait(10)
    assert asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "result"), loop).result(10) == "result"
    loop.call_soon_threadsafe(int).cancel()
    assert loop.is_running()
    assert not loop.is_closed()
    assert loop.time() > 0
    assert loop.get_debug()
    assert "running=True" in repr(loop)
    assert loop.statistics()["backend"] == loop.backend


@pytest.mark.skipif(not FREE_THREADED, reason="this Python is built with the GIL")
@pytest.mark.parametrize("variant", BACKENDS)
def test_the_ready_queue_is_for_the_loop_s_thread_alone(variant: str) -> None:
    async def queue() -> list[object]:
        loop: Any = asyncio.get_running_loop()
        return gc.get_referents(next(each for each in gc.get_referents(loop) if isinstance(each, ReadyQueue)))

    with loops_in_threads(1, FACTORIES[variant]) as (loop,):
        # asyncio made a deque, which has a lock, in the thread that made the loop; nobody has asked for it since.
        held = asyncio.run_coroutine_threadsafe(queue(), loop).result()
        assert not [each for each in held if isinstance(each, collections.deque)]
        with pytest.raises(RuntimeError, match="Non-thread-safe"):
            loop._ready  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("variant", BACKENDS)
@pytest.mark.parametrize("debug", [False, True])
def test_timers_that_other_threads_cancel_are_counted(variant: str, debug: bool) -> None:
    timers: list[asyncio.TimerHandle] = []

    async def make() -> None:
        timers.extend(asyncio.get_running_loop().call_later(3600, int) for _ in range(90))

    async def count() -> tuple[int, int]:
        loop: Any = asyncio.get_running_loop()
        return loop._timer_cancelled_count, sum(timer.cancelled() for timer in loop._scheduled)

    with loops_in_threads(1, FACTORIES[variant]) as (loop,):
        loop.set_debug(debug)
        asyncio.run_coroutine_threadsafe(make(), loop).result()
        # Each is cancelled by three threads, but only once.  The first ones stay, so none is swept out.
        in_threads([lambda: [timer.cancel() for timer in timers[30:]] for _ in range(3)])
        assert asyncio.run_coroutine_threadsafe(count(), loop).result() == (60, 60)


def test_of_two_threads_one_runs_the_loop() -> None:
    loop = uringloop.new_event_loop()
    outcomes: list[str] = []

    def run() -> None:
        try:
            loop.run_forever()
        except RuntimeError as error:
            outcomes.append(str(error))
            loop.call_soon_threadsafe(loop.stop)
        else:
            outcomes.append("ran")

    in_threads([run, run])
    loop.close()
    assert sorted(outcomes) == ["This event loop is already running", "ran"]
