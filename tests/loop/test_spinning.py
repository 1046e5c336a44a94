"""Short waits are spent awake: what ends a sleep ends such a wait too, and waits that are not short are slept."""

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

import uringloop

#: So long that every wait here is a short one, and a wait that misses what it waits for is noticed.
FOR_EVER_NS = 60_000_000_000


def loop_of(spin_ns: int) -> uringloop.EventLoop:
    return uringloop.EventLoop(sleep="ring", spin_ns=spin_ns)


@contextlib.contextmanager
def echoing(sock: socket.socket, messages: int) -> Iterator[None]:
    def echo() -> None:
        for _ in range(messages):
            sock.sendall(sock.recv(1))

    thread = threading.Thread(target=echo)
    thread.start()
    yield
    thread.join()


async def ping_pong(messages: int) -> dict[str, int]:
    """Statistics after as many answers of another thread."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs, echoing(theirs, messages):
        for _ in range(messages):
            await loop.sock_sendall(ours, b"x")
            assert await loop.sock_recv(ours, 1) == b"x"
    counters: dict[str, int] = loop.statistics()  # type: ignore[attr-defined]
    return counters


def run(spin_ns: int, main: Coroutine[Any, Any, dict[str, int]]) -> dict[str, int]:
    with asyncio.Runner(loop_factory=lambda: loop_of(spin_ns)) as runner:
        return runner.run(main)


def test_an_answer_ends_a_spin() -> None:
    counters = run(FOR_EVER_NS, ping_pong(50))
    assert counters["spins"] > 0
    assert counters["spins_in_vain"] == 0


def test_there_are_loops_that_never_spin() -> None:
    assert run(0, ping_pong(50))["spins"] == 0


async def call_from_threads(calls: int) -> dict[str, int]:
    loop = asyncio.get_running_loop()
    for _ in range(calls):
        called = loop.create_future()
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(called.set_result, None))
        thread.start()
        await called
        thread.join()
    counters: dict[str, int] = loop.statistics()  # type: ignore[attr-defined]
    return counters


def test_a_call_from_a_thread_ends_a_spin() -> None:
    assert run(FOR_EVER_NS, call_from_threads(20))["spins_in_vain"] == 0


async def catch_signals(signals: int) -> dict[str, int]:
    loop = asyncio.get_running_loop()
    for _ in range(signals):
        caught = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, caught.set_result, None)
        thread = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGUSR1))
        thread.start()
        await caught
        thread.join()
        loop.remove_signal_handler(signal.SIGUSR1)
    counters: dict[str, int] = loop.statistics()  # type: ignore[attr-defined]
    return counters


def test_a_signal_ends_a_spin() -> None:
    assert run(FOR_EVER_NS, catch_signals(20))["spins_in_vain"] == 0


async def sleep_often(times: int, delay_s: float) -> dict[str, int]:
    loop = asyncio.get_running_loop()
    for _ in range(times):
        begin_s = loop.time()
        await asyncio.sleep(delay_s)
        assert loop.time() - begin_s >= delay_s
    counters: dict[str, int] = loop.statistics()  # type: ignore[attr-defined]
    return counters


def test_a_timer_ends_a_spin_and_each_spin_in_vain_makes_the_next_one_rarer() -> None:
    counters = run(FOR_EVER_NS, sleep_often(50, 0.001))
    # The 2nd, 4th, 8th, 16th and 32nd wait.
    assert counters["spins"] == counters["spins_in_vain"] == 5


def test_long_waits_are_slept() -> None:
    assert run(1, sleep_often(20, 0.0005))["spins"] == 0


def test_a_negative_spin_is_refused() -> None:
    with pytest.raises(ValueError, match="spin_ns"):
        uringloop.EventLoop(spin_ns=-1)
