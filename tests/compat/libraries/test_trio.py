"""Trio's guest mode: Trio runs on the loop that hosts it, beside the loop's own tasks."""

import asyncio
import functools
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.variants import BOTH_SLEEPS, FACTORIES

from .needs import library

trio = library("trio")
library("trio.testing")

pytestmark = [
    pytest.mark.compat,
    pytest.mark.parametrize("loop_name", ["asyncio", "auto", *BOTH_SLEEPS]),
]


def run(loop_name: str, guest: Callable[[], Awaitable[Any]], beside: Callable[[], Awaitable[Any]]) -> Any:
    """Run Trio's guest until it is done, beside a task of the host; returns the guest's result."""
    loop: Any = FACTORIES[loop_name]()

    async def host() -> Any:
        done = asyncio.get_running_loop().create_future()
        trio.lowlevel.start_guest_run(
            guest,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            run_sync_soon_not_threadsafe=loop.call_soon,
            done_callback=done.set_result,
            host_uses_signal_set_wakeup_fd=True,
        )
        task = asyncio.ensure_future(beside())
        outcome = await done
        task.cancel()
        await asyncio.wait([task])
        return outcome.unwrap()

    try:
        return loop.run_until_complete(host())
    finally:
        loop.close()


async def echo(stream: Any) -> None:
    async for piece in stream:
        await stream.send_all(piece)


serve = functools.partial(trio.serve_tcp, host="127.0.0.1")


async def for_ever() -> None:
    while True:
        await asyncio.sleep(0.0005)


def test_sockets_timers_and_threads(loop_name: str) -> None:
    body = os.urandom(300_000)

    async def guest() -> bytes:
        received = bytearray()
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(serve, echo, 0)
            stream = await trio.testing.open_stream_to_socket_listener(listener)
            nursery.start_soon(stream.send_all, body)
            async with stream:
                while len(received) < len(body):
                    received += await stream.receive_some()
                start = trio.current_time()
                await trio.sleep(0.002)
                assert trio.current_time() >= start + 0.002
            assert await trio.to_thread.run_sync(os.getpid) == os.getpid()
            nursery.cancel_scope.cancel()
        return bytes(received)

    assert run(loop_name, guest, for_ever) == body


def test_while_the_host_sleeps(loop_name: str) -> None:
    async def guest() -> int:
        for _ in range(20):
            await trio.sleep(0.0005)
        process = await trio.run_process(["cat"], stdin=b"child", capture_stdout=True)
        assert process.stdout == b"child"
        return 20

    assert run(loop_name, guest, asyncio.Event().wait) == 20


def test_signals_of_guest_and_host(loop_name: str) -> None:
    heard: list[str] = []

    async def guest() -> None:
        with trio.open_signal_receiver(signal.SIGUSR1) as received:
            for _ in range(5):
                os.kill(os.getpid(), signal.SIGUSR1)
                async for number in received:
                    assert number == signal.SIGUSR1
                    heard.append("guest")
                    break
            os.kill(os.getpid(), signal.SIGUSR2)
            while "host" not in heard:
                await trio.sleep(0.0005)

    async def beside() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, heard.append, "host")
        try:
            await asyncio.Event().wait()
        finally:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR2)

    run(loop_name, guest, beside)
    assert heard == ["guest"] * 5 + ["host"]


def test_an_error_of_the_guest_is_the_host_s_to_hear(loop_name: str) -> None:
    async def guest() -> None:
        await trio.sleep(0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(loop_name, guest, for_ever)
