"""Ticks with ready handles let in signals, bytes and the calls of threads, and mostly make no system call for them."""

import asyncio
import signal
import socket
import threading
from typing import Any

import pytest

from tests.variants import BACKENDS, DEFAULT, EPOLL, FACTORIES

_CONTROL = ("asyncio",) if "asyncio" in FACTORIES else ()
_ON_EPOLL = ("epoll",) if EPOLL else (DEFAULT,)

pytestmark = pytest.mark.asyncio(loop_factories=(*_CONTROL, *BACKENDS))

_TICKS = 1000
#: The poll, its callback, the handler.
_TICKS_OF_A_SIGNAL = 3
#: Rather fail than hang.
_TIMEOUT_S = 20


async def ticks_until(happened: list[str]) -> int:
    """Let a callback follow the other, until something has happened; count them."""
    ticks = 0
    async with asyncio.timeout(_TIMEOUT_S):
        while not happened:
            await asyncio.sleep(0)
            ticks += 1
    return ticks


async def slept() -> Any:
    """Sleep once, so that the loop watches for wakeups from then on."""
    await asyncio.sleep(0.001)
    return asyncio.get_running_loop()


def is_empty(pipe: socket.socket) -> bool:
    try:
        return not pipe.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True


@pytest.mark.asyncio(loop_factories=_ON_EPOLL)
@pytest.mark.parametrize("has_watched", [False, True])
async def test_few_ticks_look_for_wakeups_alone(has_watched: bool) -> None:
    loop = await slept()
    left, right = socket.socketpair()
    with left, right:
        if has_watched:
            loop.add_reader(left, print)
            await asyncio.sleep(0.001)
            loop.remove_reader(left)
        before = loop.statistics()["enters"]
        for _ in range(_TICKS):
            await asyncio.sleep(0)
        # On a slow machine every second tick, at most.
        assert loop.statistics()["enters"] - before <= _TICKS // 2 + 1


async def test_the_self_pipe_is_read_in_the_end() -> None:
    loop = await slept()
    loop._csock.send(b"\0")
    async with asyncio.timeout(_TIMEOUT_S):
        while not is_empty(loop._ssock):
            await asyncio.sleep(0)


async def test_a_signal_is_handled_as_soon_as_by_asyncio() -> None:
    loop = await slept()
    for _ in range(3):  # looks are spared before the handler comes, and after it went
        happened: list[str] = []
        loop.add_signal_handler(signal.SIGUSR1, happened.append, "signal")
        for _ in range(20):
            await asyncio.sleep(0)
        signal.raise_signal(signal.SIGUSR1)
        assert await ticks_until(happened) <= _TICKS_OF_A_SIGNAL
        loop.remove_signal_handler(signal.SIGUSR1)
        for _ in range(20):
            await asyncio.sleep(0)


async def test_a_signal_of_another_thread_gets_its_turn() -> None:
    loop = await slept()
    happened: list[str] = []
    loop.add_signal_handler(signal.SIGUSR1, happened.append, "signal")
    sender = threading.Thread(target=signal.pthread_kill, args=(threading.main_thread().ident, signal.SIGUSR1))
    sender.start()
    await ticks_until(happened)
    sender.join()
    loop.remove_signal_handler(signal.SIGUSR1)


async def test_a_readable_descriptor_gets_its_turn() -> None:
    loop = await slept()
    left, right = socket.socketpair()
    with left, right:
        happened: list[str] = []
        loop.add_reader(left, lambda: happened.append(left.recv(1).decode()))
        await asyncio.sleep(0)
        right.send(b"x")
        await ticks_until(happened)
        loop.remove_reader(left)


async def test_bytes_of_a_connection_get_their_turn() -> None:
    loop = await slept()
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        happened: list[str] = []
        receiving = asyncio.ensure_future(loop.sock_recv(left, 1))
        receiving.add_done_callback(lambda _: happened.append("bytes"))
        await asyncio.sleep(0)
        right.send(b"x")
        await ticks_until(happened)


async def test_a_call_of_another_thread_gets_its_turn() -> None:
    loop = await slept()
    happened: list[str] = []
    caller = threading.Thread(target=loop.call_soon_threadsafe, args=(happened.append, "call"))
    caller.start()
    await ticks_until(happened)
    caller.join()
