"""What a loop tells of itself: reprs, extra info, and the messages of debug mode, word for word asyncio's.

Only names differ: of classes, files and numbers.  They are made alike by `outcomes.general`.
"""

import asyncio
import functools
import gc
import logging
import re
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.variants import BACKENDS, FACTORIES

from .outcomes import LOCALHOST, described, general
from .recorder import Notes, Plain, connected, kernel_socket

Loop = asyncio.AbstractEventLoop
Told = list[Any]
Script = Callable[[Loop, Told], Awaitable[None]]

SCRIPTS: dict[str, Script] = {}


def script(function: Script) -> Script:
    SCRIPTS[function.__name__] = function
    return function


def alike(text: object) -> str:
    """Also without times, sizes of queues, and lines of code."""
    text = general(text)
    for pattern, replacement in (
        (r"127\.0\.0\.1:\d+", "PEER"),
        (r"\d+\.\d+( ms| seconds)?", "TIME"),
        (r"bufsize=[1-9]\d*", "bufsize=MANY"),
        (r"Task-\d+", "Task"),
        (r"\w+\.py:\d+", "FILE"),
        (r"(, [lr]addr=(\([^)]*\)|[^,>]*))+", "ADDRESS"),
    ):
        text = re.sub(pattern, replacement, text)
    return text


# Reprs


@script
async def the_loop(loop: Loop, told: Told) -> None:
    told.append(alike(loop))
    loop.set_debug(True)
    told.append(alike(loop))


@script
async def handles(loop: Loop, told: Told) -> None:
    for debug in (False, True):
        loop.set_debug(debug)
        for handle in (
            loop.call_soon(print, 1, "two"),
            loop.call_later(5, print),
            loop.call_at(5, functools.partial(print, 1, end="")),
            loop.call_soon_threadsafe(print),
        ):
            told.append(alike(handle))
            handle.cancel()
            told.append(alike(handle))


@script
async def servers(loop: Loop, told: Told) -> None:
    server = await loop.create_server(Plain, LOCALHOST, 0)
    told.append(alike(server))
    server.close()
    told.append(alike(server))
    await server.wait_closed()


def _add_transport_scripts() -> None:
    def add(kind: str) -> None:
        async def run(loop: Loop, told: Told) -> None:
            client, server = Plain(), Plain()
            with tempfile.TemporaryDirectory() as folder:
                async with connected(kind, client, server, Path(folder)):
                    for end in (client, server):
                        await _tell_of(end, told)
                    if kind != "tls":
                        client.transport.pause_reading()
                        told.append(alike(client.transport))
                        server.transport.pause_reading()
                        client.transport.write(bytes(6 << 20))
                        told.append(alike(client.transport))
                        client.transport.close()
                        told.append(alike(client.transport))
                        client.transport.abort()
                        await client.until("connection_lost")
                        told.append(alike(client.transport))

        SCRIPTS[f"transports_over_{kind}"] = run

    for kind in ("tcp", "unix", "tls"):
        add(kind)


async def _tell_of(end: Notes, told: Told) -> None:
    # The reader may be armed a turn later.
    await asyncio.sleep(0)
    transport = end.transport
    told.append(alike(transport))
    for name in ("socket", "sockname", "peername", "ssl_object", "sslcontext", "peercert", "cipher", "compression"):
        told.append((name, alike(transport.get_extra_info(name))))
    told.append(type(transport.get_extra_info("socket")))


_add_transport_scripts()


@script
async def datagram_transports(loop: Loop, told: Told) -> None:
    for options in ({"local_addr": (LOCALHOST, 0)}, {"remote_addr": (LOCALHOST, 9)}):
        transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, **options)  # type: ignore[arg-type]
        await asyncio.sleep(0)
        told.append(alike(transport))
        for name in ("socket", "sockname", "peername"):
            told.append((name, alike(transport.get_extra_info(name))))
        transport.close()
        told.append(alike(transport))
        await asyncio.sleep(0)
        told.append(alike(transport))


# Debug mode


@script
async def a_connection_s_life(loop: Loop, told: Told) -> None:
    loop.set_debug(True)
    client, server = Plain(), Plain()
    async with connected("tcp", client, server, Path()):
        await asyncio.sleep(0)
        client.transport.pause_reading()
        client.transport.resume_reading()
        client.transport.write(b"x")
        await server.until_bytes(1)
        client.transport.close()
        await server.until("connection_lost")


@script
async def a_reset(loop: Loop, told: Told) -> None:
    loop.set_debug(True)
    client, server = Plain(), Plain()
    async with connected("tcp", client, server, Path()):
        kernel_socket(server).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        server.transport.abort()
        await client.until("connection_lost")


@script
async def slow_callbacks(loop: Loop, told: Told) -> None:
    def slow() -> None:
        time.sleep(0.002)

    async def slow_task() -> None:
        time.sleep(0.002)  # noqa: ASYNC251  # which is what is to be told

    loop.slow_callback_duration = 0.001  # type: ignore[attr-defined]  # of all of asyncio's loops
    for debug in (False, True):
        loop.set_debug(debug)
        loop.call_soon(slow)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        fired = loop.create_future()
        loop.call_later(0, lambda: (slow(), fired.set_result(None)))  # noqa: B023
        await fired
        await asyncio.sleep(0)
    await loop.create_task(slow_task())
    loop.slow_callback_duration = 60  # type: ignore[attr-defined]
    # What took a whole turn of its own by chance is not to be told.
    mine = re.compile(r"Executing <(Handle|TimerHandle|Task finished)\b.*(slow\(\)|lambda|slow_task\(\))")
    told[:] = [entry for entry in told if mine.search(str(entry))]


@script
async def calls_from_another_thread(loop: Loop, told: Told) -> None:
    loop.set_debug(True)
    future = loop.create_future()
    future.add_done_callback(print)
    calls: list[Callable[[], object]] = [
        lambda: loop.call_soon(print),
        lambda: loop.call_later(1, print),
        lambda: loop.call_at(1, print),
        lambda: future.set_result(None),
    ]

    def elsewhere() -> None:
        for call in calls:
            try:
                call()
            except RuntimeError as error:
                told.append(described(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert len(told) >= len(calls)


@script
async def what_nobody_heard(loop: Loop, told: Told) -> None:
    async def fail() -> None:
        raise ValueError("task")

    for debug in (False, True):
        loop.set_debug(debug)
        future = loop.create_future()
        future.set_exception(ValueError("future"))
        del future
        gc.collect()
        task: Any = loop.create_task(fail())
        await asyncio.wait([task])
        del task
        gc.collect()
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(0)
        fired = loop.create_future()
        loop.call_later(0, lambda: (fired.set_result(None), 1 / 0))  # noqa: B023
        await fired
        await asyncio.sleep(0)


@script
async def coroutines_where_callbacks_belong(loop: Loop, told: Told) -> None:
    async def coroutine() -> None: ...

    for debug in (False, True):
        loop.set_debug(debug)
        calls: list[Callable[[], object]] = [
            lambda: loop.call_soon_threadsafe(coroutine),  # type: ignore[arg-type]
            lambda: loop.call_later(1, coroutine),
            lambda: loop.call_at(1, coroutine),
            lambda: loop.call_soon(5),  # type: ignore[arg-type]
        ]
        for call in calls:
            try:
                handle: Any = call()
                told.append("taken")
                handle.cancel()
            except TypeError as error:
                told.append(described(error))


@script
async def things_nobody_closed(loop: Loop, told: Told) -> None:
    left, right = socket.socketpair()
    with right, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        datagram = socket.socket(type=socket.SOCK_DGRAM)
        left.setblocking(False)
        datagram.setblocking(False)
        made: list[Any] = [
            await loop.connect_accepted_socket(asyncio.Protocol, left),
            await loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=datagram),
        ]
        for transport, _ in made:
            # What its __del__ would say, without waiting for the cycle of loop and transport to end.
            transport.__del__()
            transport.abort()
        await asyncio.sleep(0)
    told += [(warning.category, alike(warning.message)) for warning in warned if warning.source is not None]


@script
async def debug_mode_comes_and_goes(loop: Loop, told: Told) -> None:
    for debug in (False, True, True, False):
        loop.set_debug(debug)
        handles = [loop.call_soon(print), loop.call_later(5, print), loop.call_at(5, print)]
        for handle in handles:
            traceback = handle._source_traceback  # type: ignore[attr-defined]  # what debug mode is about
            told.append((debug, loop.get_debug(), None if traceback is None else traceback[-1].name))
            handle.cancel()
        async for _ in _numbers():
            pass
        fired = loop.create_future()
        loop.call_later(0, fired.set_result, None)
        await fired
        # What a coroutine that is never awaited will say about where it was made.
        told.append(sys.get_coroutine_origin_tracking_depth())


async def _numbers() -> Any:
    yield 1


class _Log(logging.Handler):
    def __init__(self, told: Told) -> None:
        super().__init__(logging.DEBUG)
        self.told = told

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.told.append((record.levelname, alike(record.getMessage().partition("\n")[0]), described(error)))


def play(name: str, variant: str) -> Told:
    """What a script tells, with all of asyncio's log and what goes to the exception handler."""
    told: Told = []

    def handle(loop: Loop, context: dict[str, Any]) -> None:
        # asyncio's own create_future is in it.
        frames = [frame.name for frame in context.get("source_traceback", []) if frame.name != "create_future"]
        told.append((alike(context["message"]), described(context.get("exception")), sorted(context), frames[-1:]))

    loop = FACTORIES[variant]()
    loop.slow_callback_duration = 60  # type: ignore[attr-defined]
    loop.set_exception_handler(handle)
    logger, handler = logging.getLogger("asyncio"), _Log(told)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        loop.run_until_complete(SCRIPTS[name](loop, told))
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        loop.close()
    told.append(alike(loop))
    return told


@pytest.mark.parametrize("variant", BACKENDS)
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_loop_tells_what_asyncio_tells(name: str, variant: str) -> None:
    expected = play(name, "asyncio")
    actual = play(name, variant)
    assert actual == expected
    assert expected


def test_the_variable_puts_every_loop_into_debug_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    for variant in ("asyncio", *BACKENDS):
        loop = FACTORIES[variant]()
        # Python with -E or -I looks at no variables.
        assert loop.get_debug() == (not sys.flags.ignore_environment)
        loop.close()
