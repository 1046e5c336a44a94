"""What ends a sleep from outside the ring: other threads, executors, watched descriptors, signals."""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import functools
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import children
from tests.kernel import needs_gil
from tests.variants import BACKENDS, EVERY

from .helpers import Echo, Recorder, connected, fill, pattern, socket_pair

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)


@contextlib.contextmanager
def thread(target: Callable[[], object]) -> Iterator[threading.Thread]:
    running = threading.Thread(target=target)
    running.start()
    yield running
    running.join()


# Threads


async def test_call_soon_threadsafe_wakes_a_sleeping_loop() -> None:
    loop = asyncio.get_running_loop()
    for _ in range(50):
        # Nothing else could wake the loop, so a lost wakeup hangs.
        woken = loop.create_future()
        with thread(lambda woken=woken: loop.call_soon_threadsafe(woken.set_result, "awake")):  # type: ignore[misc]
            assert await woken == "awake"


@needs_gil
async def test_callbacks_without_bytecode_keep_no_thread_out() -> None:
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    again: Any = functools.partial(loop.call_soon)
    again.__setstate__((loop.call_soon, (again,), {}, None))  # it schedules itself, for ever

    def end() -> None:
        os.stat("/")  # lets go of the GIL, and must get it back
        again.__setstate__((int, (), {}, None))
        loop.call_soon_threadsafe(ended.set_result, None)

    again()
    with thread(end):
        await ended


@needs_gil
@pytest.mark.asyncio(loop_factories=EVERY[:1])
async def test_a_producer_of_single_calls_lets_go_of_the_gil_while_it_wakes_the_loop() -> None:
    # In a process of its own: a producer that keeps the GIL in a write that blocks holds up each of its threads.
    children.script(
        """
        import asyncio, fcntl, os, pathlib, queue, termios, threading, uringloop

        SINGLE_CALLS = 8  # before it lets go

        def is_full():
            return int.from_bytes(fcntl.ioctl(reading, termios.FIONREAD, bytes(4)), "little") == room_bytes

        async def main():
            # The thread's system call, if it sleeps in one, and its first argument (proc(5)).
            state = pathlib.Path(f"/proc/self/task/{producer.native_id}/syscall")
            while not is_full() or state.read_text().split()[1:2] != [hex(fd)]:
                await asyncio.sleep(0.001)

        def call():
            while not loop.is_closed():
                loop.call_soon_threadsafe(answers.put, None)
                answers.get()

        loop = uringloop.EventLoop(spin_ns=0)
        loop.run_until_complete(asyncio.sleep(0.001))
        fd, answers = loop._inbox.fd, queue.SimpleQueue()
        # Timers alone wake this loop: a wakeup writes to a pipe, which has room for a few.
        reading, writing = os.pipe()
        room_bytes = fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        os.write(writing, bytes(room_bytes - 8 * SINGLE_CALLS))
        os.dup2(writing, fd)
        producer = threading.Thread(target=call)
        producer.start()
        loop.run_until_complete(main())
        loop.close()
        os.fstat(fd)  # the producer still writes there
        while producer.is_alive():
            os.read(reading, 1 << 20)
            producer.join(0.01)
        try:
            os.fstat(fd)
        except OSError:
            pass
        else:
            raise AssertionError("the descriptor stayed open")
        """
    )


async def test_a_call_that_comes_while_the_loop_wakes_is_not_the_last() -> None:
    loop = asyncio.get_running_loop()
    for _ in range(4):
        woken = loop.create_future()

        def wake(woken: asyncio.Future[None] = woken) -> None:
            for _ in range(20):
                loop.call_soon_threadsafe(os.sched_yield)  # while the loop wakes from the one before, or runs it
            loop.call_soon_threadsafe(woken.set_result, None)

        # Nothing tells a thread that the loop sleeps; if it does not by then, this tests less, and does not fail.
        later = threading.Timer(0.01, wake)
        later.start()
        await woken
        later.join()


@needs_gil
@pytest.mark.timeout(10)
async def test_a_thread_that_looks_at_the_ready_queue_delays_nothing() -> None:
    loop: Any = asyncio.get_running_loop()
    first = loop.create_future()

    def call_and_look() -> None:
        loop.call_soon_threadsafe(first.set_result, None)
        len(loop._ready)

    def time_after_a_look() -> float:
        """Return the time; the loop asks for it when it has found nothing ready, and is about to sleep."""
        del loop.time
        with thread(call_and_look):
            pass
        now_s: float = loop.time()
        return now_s

    timer = loop.call_later(3600, int)
    loop.time = time_after_a_look
    await first
    timer.cancel()


async def test_call_soon_threadsafe_keeps_each_thread_s_order() -> None:
    loop = asyncio.get_running_loop()
    seen: list[tuple[int, int]] = []

    def call(number: int) -> None:
        for count in range(500):
            loop.call_soon_threadsafe(seen.append, (number, count))

    await asyncio.gather(*(asyncio.to_thread(call, number) for number in range(4)))
    await asyncio.sleep(0)
    for number in range(4):
        assert [count for who, count in seen if who == number] == list(range(500))


async def test_calls_of_threads_and_of_the_loop_keep_the_order_in_which_they_were_made() -> None:
    loop = asyncio.get_running_loop()
    seen: list[int] = []
    for first in (0, 4):
        with thread(lambda first=first: loop.call_soon_threadsafe(seen.append, first)):  # type: ignore[misc]
            pass
        loop.call_soon(seen.append, first + 1)
        loop.call_soon_threadsafe(seen.append, first + 2)
        loop.call_soon(seen.append, first + 3)
    await asyncio.sleep(0)
    assert seen == list(range(8))


async def test_call_soon_threadsafe_takes_what_asyncio_s_takes_and_gives_its_kind_of_handle() -> None:
    loop = asyncio.get_running_loop()
    name = contextvars.ContextVar("name", default="nobody")
    context = contextvars.copy_context()
    context.run(name.set, "somebody")
    seen: list[str] = []
    for debug in (False, True):
        loop.set_debug(debug)
        handle = loop.call_soon_threadsafe(lambda: seen.append(name.get()), context=context)
        dropped = loop.call_soon_threadsafe(seen.append, "cancelled")
        assert isinstance(handle, getattr(asyncio.events, "_ThreadSafeHandle", asyncio.Handle))
        if debug:
            assert handle._source_traceback[-1].filename == __file__
        dropped.cancel()
        assert (handle.cancelled(), dropped.cancelled()) == (False, True)
        await asyncio.sleep(0)
    loop.set_debug(False)
    assert seen == ["somebody"] * 2


async def test_run_in_executor_returns_the_result_and_the_error() -> None:
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(None, sum, [1, 2, 3]) == 6
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(None, lambda: 1 // 0)
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        assert await loop.run_in_executor(executor, threading.get_ident) != threading.get_ident()


async def test_run_coroutine_threadsafe_answers_another_thread() -> None:
    loop = asyncio.get_running_loop()

    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    def ask() -> int:
        return asyncio.run_coroutine_threadsafe(answer(), loop).result()

    assert await asyncio.to_thread(ask) == 42


async def test_getaddrinfo_and_getnameinfo_do_not_block() -> None:
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo("localhost", 80, family=socket.AF_INET, type=socket.SOCK_STREAM)
    assert ("127.0.0.1", 80) in [info[4] for info in infos]
    assert (await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)) == (
        "127.0.0.1",
        "80",
    )
    with pytest.raises(socket.gaierror):
        await loop.getaddrinfo("no such host", 80, flags=socket.AI_NUMERICHOST)


# Descriptors


async def test_add_reader_is_called_as_long_as_there_is_something_to_read() -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):
        calls = 0
        called_three_times = asyncio.Event()

        def readable() -> None:
            nonlocal calls
            calls += 1
            if calls == 3:
                # What is not read is told again.
                assert left.recv(10) == b"unread"
                called_three_times.set()

        loop.add_reader(left, readable)
        right.send(b"unread")
        await called_three_times.wait()
        assert loop.remove_reader(left)
        assert not loop.remove_reader(left)
        right.send(b"nobody looks")
        await asyncio.sleep(0.001)
        assert calls == 3


@pytest.mark.asyncio(loop_factories=[name for name in BACKENDS if name != "selector"])
async def test_busy_ticks_beside_an_idle_reader_enter_no_ring() -> None:
    loop: Any = asyncio.get_running_loop()
    with socket_pair() as (near, far):
        came = loop.create_future()
        loop.add_reader(near, lambda: came.done() or came.set_result(near.recv(100)))
        far.send(b"x")
        assert await came == b"x"
        came = loop.create_future()
        await asyncio.sleep(0)
        before = loop.statistics()["enters"]
        for _ in range(100):
            await asyncio.sleep(0)
        assert loop.statistics()["enters"] == before
        far.send(b"y")  # which the ticks see all the same
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert came.result() == b"y"
        loop.remove_reader(near)


async def test_add_writer_is_called_when_there_is_room() -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):
        unread_bytes = fill(left)
        writable = asyncio.Event()
        loop.add_writer(left, writable.set)
        while unread_bytes:
            unread_bytes -= len(await loop.sock_recv(right, 1 << 20))
        await writable.wait()
        assert loop.remove_writer(left)


async def test_a_descriptor_may_be_watched_both_ways() -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):
        readable, writable = asyncio.Event(), asyncio.Event()
        loop.add_reader(left, readable.set)
        loop.add_writer(left, writable.set)
        await writable.wait()
        assert not readable.is_set()
        loop.remove_writer(left)
        right.send(b"x")
        await readable.wait()
        loop.remove_reader(left)


async def test_watching_again_replaces_the_callback() -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):
        first, second = asyncio.Event(), asyncio.Event()
        loop.add_reader(left, first.set)
        loop.add_reader(left, second.set)
        right.send(b"x")
        await second.wait()
        loop.remove_reader(left)
        assert not first.is_set()


async def test_a_pipe_can_be_watched_while_connections_work() -> None:
    loop = asyncio.get_running_loop()
    reading_end, writing_end = os.pipe()
    try:
        async with connected(Recorder(), Echo()) as (client, _):
            for round_ in range(20):
                # The loop moves between its two places to sleep.
                readable = asyncio.Event()
                loop.add_reader(reading_end, readable.set)
                client.transport.write(b"x")
                await client.until_received(round_ + 1)
                os.write(writing_end, b"y")
                await readable.wait()
                loop.remove_reader(reading_end)
                assert os.read(reading_end, 10) == b"y"
    finally:
        os.close(reading_end)
        os.close(writing_end)


async def test_three_hundred_watched_descriptors_ready_at_once_are_all_told() -> None:
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as sockets:
        pairs = [sockets.enter_context(socket_pair()) for _ in range(300)]
        left_over = set(range(300))
        done = asyncio.Event()

        def readable(number: int) -> None:
            loop.remove_reader(pairs[number][0])
            left_over.discard(number)
            if not left_over:
                done.set()

        for number, (left, right) in enumerate(pairs):
            loop.add_reader(left, readable, number)
            right.send(b"x")
        await done.wait()


# Signals


async def test_a_signal_handler_runs_in_the_loop() -> None:
    loop = asyncio.get_running_loop()
    for _ in range(20):
        caught = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, caught.set_result, None)
        with thread(lambda: os.kill(os.getpid(), signal.SIGUSR1)):
            await caught
    assert loop.remove_signal_handler(signal.SIGUSR1)
    assert not loop.remove_signal_handler(signal.SIGUSR1)


async def test_a_python_signal_handler_runs_while_the_loop_sleeps() -> None:
    loop = asyncio.get_running_loop()
    caught = loop.create_future()
    previous = signal.signal(signal.SIGUSR1, lambda number, frame: loop.call_soon(caught.set_result, number))
    try:
        with thread(lambda: os.kill(os.getpid(), signal.SIGUSR1)):
            # No wakeup from asyncio: the signal itself must end the sleep.
            assert await caught == signal.SIGUSR1
    finally:
        signal.signal(signal.SIGUSR1, previous)


@pytest.fixture
def alarms() -> Iterator[list[int]]:
    """SIGALRM four thousand times a second, as long as the test runs."""
    caught: list[int] = []
    previous = signal.signal(signal.SIGALRM, lambda number, frame: caught.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.00025, 0.00025)
    yield caught
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)


# pytest-timeout's other way is SIGALRM.
@pytest.mark.timeout(method="thread")
async def test_a_storm_of_signals_disturbs_no_transfer(alarms: list[int]) -> None:
    async with connected(Recorder(), Echo()) as (client, _):
        for number in range(20):
            client.transport.write(pattern(50_000, number * 50_000))
            await client.until_received((number + 1) * 50_000)
            await asyncio.sleep(0.001)
        assert client.received == pattern(1_000_000)
    assert alarms


@pytest.mark.timeout(method="thread")
async def test_a_storm_of_signals_makes_no_timer_early(alarms: list[int]) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(10):
        start = loop.time()
        await asyncio.sleep(0.003)
        assert loop.time() - start >= 0.003
    assert alarms
