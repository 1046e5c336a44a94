"""Several loops in threads, at work with each other: each part runs for a time, and returns a count.

A part that loses a byte, a connection, a child or a signal raises, or hangs until its timeout.
"""

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.variants import LoopFactory
from uringloop import files

from .running import in_threads, loops_in_threads, run_each

_TIMEOUT_S = 60.0
_PIECE = bytes(range(256)) * 8


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
    finally:
        # A part may end while the peer's close is under way.
        writer.close()
        await writer.wait_closed()


async def _ask(address: tuple[str, int], pieces: int) -> None:
    """Connect, have pieces echoed, and compare."""
    reader, writer = await asyncio.open_connection(*address)
    for number in range(pieces):
        piece = number.to_bytes(4) + _PIECE
        writer.write(piece)
        answer = await asyncio.wait_for(reader.readexactly(len(piece)), _TIMEOUT_S)
        if answer != piece:
            raise AssertionError("the echo differs")
    writer.close()
    await writer.wait_closed()


async def _until(end: float, step: Callable[[], Awaitable[None]]) -> int:
    """Repeat a step, at least once, until a time of the monotonic clock; return how often."""
    for count in itertools.count(1):
        await asyncio.wait_for(step(), _TIMEOUT_S)
        if time.monotonic() >= end:
            return count
    raise AssertionError


def shared_listener(seconds: float, loops: int, factory: LoopFactory) -> int:
    """Accept on one socket with all loops, which also connect to it; return the number of connections."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    address = listening.getsockname()
    end = time.monotonic() + seconds
    last = threading.Barrier(loops)

    async def serve(number: int) -> int:
        server = await asyncio.start_server(_echo, sock=listening.dup())
        async with server:
            connections = await _until(end, lambda: _ask(address, 3))
            # None stops accepting before all have asked.
            await asyncio.get_running_loop().run_in_executor(None, last.wait)
            return connections

    with listening:
        return sum(run_each(loops, factory, serve))


def handed_over(seconds: float, loops: int, factory: LoopFactory) -> int:
    """Accept with one loop and serve the connections on the others; return their number."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listening.setblocking(False)
    address = listening.getsockname()
    end = time.monotonic() + seconds
    ended = threading.Event()

    async def serve(connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, _echo, loop=loop)
        await loop.connect_accepted_socket(lambda: protocol, connection)

    async def accept(workers: list[asyncio.AbstractEventLoop]) -> None:
        loop = asyncio.get_running_loop()
        try:
            for worker in itertools.cycle(workers):
                connection, _ = await loop.sock_accept(listening)
                asyncio.run_coroutine_threadsafe(serve(connection), worker)
        finally:
            ended.set()

    async def main(number: int) -> int:
        return await _until(end, lambda: _ask(address, 2))

    with listening, loops_in_threads(loops, factory) as workers:
        accepting = asyncio.run_coroutine_threadsafe(accept(workers[1:] or workers), workers[0])
        count = sum(run_each(2, factory, main))
        accepting.cancel()
        ended.wait(_TIMEOUT_S)
    return count


def cancel_storm(seconds: float, loops: int, factory: LoopFactory) -> int:
    """Cancel handles and timers of loops from other threads; return how many.

    Raises:
        AssertionError: a cancelled one ran, or the count of cancelled timers is wrong.
    """
    end = time.monotonic() + seconds
    wrong: list[str] = []
    cancelled = 0

    def cancel(loop: asyncio.AbstractEventLoop) -> int:
        count = 0
        while count == 0 or time.monotonic() < end:
            timers: list[asyncio.TimerHandle] = []
            made = threading.Event()

            def make(timers: list[asyncio.TimerHandle] = timers, made: threading.Event = made) -> None:
                timers += [loop.call_later(3600, wrong.append, "a timer") for _ in range(150)]
                timers += [loop.call_later(0.001, int) for _ in range(50)]
                made.set()

            loop.call_soon_threadsafe(make)
            if not made.wait(_TIMEOUT_S):
                raise TimeoutError("the loop does not answer")
            for timer in timers:
                timer.cancel()
            handle = loop.call_soon_threadsafe(int)
            handle.cancel()
            count += len(timers) + 1
        return count

    def counted(loop: asyncio.AbstractEventLoop) -> None:
        scheduled = loop._scheduled  # type: ignore[attr-defined]
        exact = sum(handle.cancelled() for handle in scheduled)
        del scheduled
        counted = loop._timer_cancelled_count  # type: ignore[attr-defined]
        if counted != exact:
            wrong.append(f"{counted} cancelled timers for {exact}")

    with loops_in_threads(loops, factory) as running:
        counts: list[int] = []
        in_threads([lambda loop=loop: counts.append(cancel(loop)) for loop in [*running, *running]])  # type: ignore[misc]
        for loop in running:
            checked = threading.Event()
            loop.call_soon_threadsafe(lambda loop=loop, checked=checked: (counted(loop), checked.set()))  # type: ignore[misc]
            checked.wait(_TIMEOUT_S)
        cancelled = sum(counts)
    if wrong:
        raise AssertionError(wrong[:5])
    return cancelled


def made_and_closed(seconds: float, loops: int, factory: LoopFactory) -> int:
    """Make, use and close loops in several threads, while other threads call them; return their number."""
    end = time.monotonic() + seconds
    counts: list[int] = []
    lives: list[asyncio.AbstractEventLoop | None] = [None] * loops
    over = threading.Event()

    async def use() -> None:
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.setblocking(False)
            await loop.sock_sendall(left, b"x")
            assert await loop.sock_recv(right, 10) == b"x"
        await asyncio.sleep(0.0005)

    def live(place: int) -> None:
        count = 0
        while count == 0 or time.monotonic() < end:
            with asyncio.Runner(loop_factory=factory) as runner:
                lives[place] = runner.get_loop()
                runner.run(use())
            count += 1
        counts.append(count)

    def disturb() -> None:
        while not over.is_set():
            for loop in lives:
                if loop is not None:
                    with contextlib.suppress(RuntimeError):  # it is closed
                        loop.call_soon_threadsafe(int)
                    repr(loop), loop.is_running(), loop.is_closed(), loop.time(), loop.get_debug()
                    statistics = getattr(loop, "statistics", None)
                    if statistics is not None:
                        with contextlib.suppress(ValueError):  # its ring is closed
                            statistics()

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    try:
        in_threads([lambda place=place: live(place) for place in range(loops)])  # type: ignore[misc]
    finally:
        over.set()
        disturbing.join()
    return sum(counts)


def children(seconds: float, loops: int, factory: LoopFactory) -> int:
    """Start children from all loops; return their number."""
    end = time.monotonic() + seconds

    async def start() -> None:
        child = await asyncio.create_subprocess_exec("/bin/cat", stdin=-1, stdout=-1)
        output, _ = await child.communicate(_PIECE)
        assert output == _PIECE
        assert child.returncode == 0

    async def main(number: int) -> int:
        return await _until(end, start)

    return sum(run_each(loops, factory, main))


def threads_and_files(seconds: float, loops: int, factory: LoopFactory) -> int:
    """Write and read files, look names up and share an executor from all loops; return the number of rounds."""
    end = time.monotonic() + seconds

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(4) as executor:

        async def main(number: int) -> int:
            path = Path(folder, str(number))
            loop = asyncio.get_running_loop()

            async def work() -> None:
                async with files.open(path, "wb") as file:
                    await file.write(_PIECE * 64)
                async with files.open(path, "rb") as file:
                    assert await file.read() == _PIECE * 64
                assert await loop.run_in_executor(executor, sum, range(100)) == 4950
                await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)

            return await _until(end, work)

        return sum(run_each(loops, factory, main))


def signals(seconds: float, loops: int, factory: LoopFactory) -> int:
    """Send signals to the main thread's loop while other loops run; return how many.  Only for the main thread."""
    end = time.monotonic() + seconds

    async def busy(number: int) -> int:
        return await _until(end, lambda: asyncio.sleep(0))

    async def main() -> int:
        loop = asyncio.get_running_loop()
        came = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, came.set)
        others = loop.run_in_executor(None, run_each, loops, factory, busy)

        async def receive() -> None:
            came.clear()
            await loop.run_in_executor(None, os.kill, os.getpid(), signal.SIGUSR1)
            await came.wait()

        count = await _until(end, receive)
        await others
        loop.remove_signal_handler(signal.SIGUSR1)
        return count

    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())


PARTS: dict[str, Callable[[float, int, LoopFactory], int]] = {
    "shared_listener": shared_listener,
    "handed_over": handed_over,
    "cancel_storm": cancel_storm,
    "made_and_closed": made_and_closed,
    "children": children,
    "threads_and_files": threads_and_files,
    "signals": signals,
}
