"""Monitors of slow callbacks, which replace `asyncio.events.Handle._run`, see every callback, as on asyncio's loop."""

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.variants import BACKENDS

from .helpers import socket_pair

pytestmark = pytest.mark.asyncio(loop_factories=("asyncio", *BACKENDS))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What a monitor says of each handle that was run, from now on."""
    shown: list[str] = []
    original: Any = asyncio.Handle._run

    def watched(handle: asyncio.Handle) -> None:
        original(handle)
        shown.append(repr(handle))

    monkeypatch.setattr(asyncio.events.Handle, "_run", watched)
    yield shown
    shown.clear()


def count(seen: list[str], name: str) -> int:
    return sum(name in text for text in seen)


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def told() -> None:
    """A callback that is known by its name."""


async def test_every_kind_of_handle_is_seen(seen: list[str]) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0)
    loop.call_soon(told)
    loop.call_soon_threadsafe(told)
    loop.call_later(0, told)
    await turn()
    assert count(seen, "told()") == 3


async def test_one_that_was_cancelled_is_not_run(seen: list[str]) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0)
    loop.call_soon(told).cancel()
    loop.call_later(0, told).cancel()
    await turn()
    assert count(seen, "told()") == 0


async def test_each_step_of_a_task_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    task: Any = None
    original: Any = asyncio.Handle._run

    def watched(handle: asyncio.Handle) -> None:
        nonlocal steps
        steps += getattr(handle._callback, "__self__", None) is task  # type: ignore[attr-defined]
        original(handle)

    async def work() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    monkeypatch.setattr(asyncio.events.Handle, "_run", watched)
    await asyncio.sleep(0)
    task = asyncio.create_task(work())
    await task
    assert steps == 3


async def test_the_original_serves_again_when_it_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    seen: list[asyncio.Handle] = []
    original: Any = asyncio.Handle._run
    for _ in range(2):
        with monkeypatch.context() as patched:
            patched.setattr(asyncio.events.Handle, "_run", lambda handle: (seen.append(handle), original(handle)))
            await asyncio.sleep(0)
            handle = loop.call_soon(told)
            await turn()
            assert handle in seen
        await asyncio.sleep(0)
        seen.clear()
        loop.call_soon(told)
        await turn()
        assert seen == []


async def test_one_of_timers_alone_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    seen: list[asyncio.Handle] = []
    original: Any = asyncio.Handle._run
    monkeypatch.setattr(
        asyncio.TimerHandle, "_run", lambda handle: (seen.append(handle), original(handle)), raising=False
    )
    await asyncio.sleep(0)
    loop.call_soon(told)
    timer = loop.call_later(0, told)
    await turn()
    assert seen == [timer]


class Receiver(asyncio.Protocol):
    """Notes for each of its callbacks the handle that is being run."""

    def __init__(self, current: list[asyncio.Handle]) -> None:
        self.current = current
        self.during: dict[str, list[str]] = {}
        self.lost = asyncio.get_running_loop().create_future()

    def note(self, name: str) -> None:
        self.during.setdefault(name, []).extend(map(repr, self.current[-1:]))

    def data_received(self, data: bytes) -> None:
        self.note("data_received")

    def eof_received(self) -> None:
        self.note("eof_received")

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.note("datagram_received")
        self.lost.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        self.note("connection_lost")
        if not self.lost.done():
            self.lost.set_result(None)


@pytest.fixture
def current(monkeypatch: pytest.MonkeyPatch) -> list[asyncio.Handle]:
    """The handles that are being run."""
    handles: list[asyncio.Handle] = []
    original: Any = asyncio.Handle._run

    def watched(handle: asyncio.Handle) -> None:
        handles.append(handle)
        try:
            original(handle)
        finally:
            handles.pop()

    monkeypatch.setattr(asyncio.events.Handle, "_run", watched)
    return handles


async def test_what_a_connection_receives_is_seen(current: list[asyncio.Handle]) -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):
        transport, receiver = await loop.create_connection(lambda: Receiver(current), sock=left.dup())
        right.sendall(b"bytes")
        right.shutdown(socket.SHUT_WR)
        await receiver.lost
        transport.close()
    assert receiver.during.keys() == {"data_received", "eof_received", "connection_lost"}
    assert all(len(handles) == 1 for handles in receiver.during.values())
    assert "Transport" in receiver.during["data_received"][0]


async def test_what_a_pipe_and_a_datagram_socket_receive_is_seen(current: list[asyncio.Handle]) -> None:
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    with right:
        transport, receiver = await loop.connect_read_pipe(lambda: Receiver(current), left)
        right.sendall(b"bytes")
        right.close()
        await receiver.lost
        transport.close()
    assert len(receiver.during["data_received"]) == 1
    endpoint, receiver = await loop.create_datagram_endpoint(lambda: Receiver(current), local_addr=("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"bytes", endpoint.get_extra_info("sockname"))
        await receiver.lost
    endpoint.close()
    await turn()
    assert len(receiver.during["datagram_received"]) == 1


async def test_what_a_server_accepts_is_seen(current: list[asyncio.Handle]) -> None:
    loop = asyncio.get_running_loop()
    made = loop.create_future()

    def factory() -> asyncio.Protocol:
        receiver = Receiver(current)
        receiver.note("factory")
        made.set_result(receiver)
        return receiver

    async with await loop.create_server(factory, "127.0.0.1", 0) as server:
        with socket.create_connection(server.sockets[0].getsockname()):
            receiver = await made
        await receiver.lost
    assert len(receiver.during["factory"]) == 1


async def test_an_error_in_a_callback_is_told_once(
    current: list[asyncio.Handle], unexpected: list[dict[str, Any]]
) -> None:
    class Broken(Receiver):
        def data_received(self, data: bytes) -> None:
            raise ZeroDivisionError

    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):
        transport, receiver = await loop.create_connection(lambda: Broken(current), sock=left.dup())
        right.sendall(b"bytes")
        await receiver.lost
        transport.close()
    assert [type(context["exception"]) for context in unexpected] == [ZeroDivisionError]
    unexpected.clear()


async def test_nothing_is_lost_where_a_monitor_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """On asyncio's loop a descriptor that was not read is ready again; a completion comes only once."""
    loop = asyncio.get_running_loop()
    original: Any = asyncio.Handle._run
    skipped: list[str] = []

    def lazy(handle: asyncio.Handle) -> None:
        if "Transport" in repr(handle) and not skipped:
            skipped.append(repr(handle))
        else:
            original(handle)

    with socket_pair() as (left, right):
        transport, receiver = await loop.create_connection(lambda: Receiver([]), sock=left.dup())
        await turn()
        monkeypatch.setattr(asyncio.events.Handle, "_run", lazy)
        await asyncio.sleep(0)
        right.sendall(b"bytes")
        right.shutdown(socket.SHUT_WR)
        await receiver.lost
        transport.close()
    assert receiver.during.keys() == {"data_received", "eof_received", "connection_lost"}
    assert len(skipped) == 1


async def test_debug_mode_says_which_completion_was_slow(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()

    class Slow(Receiver):
        def data_received(self, data: bytes) -> None:
            threading.Event().wait(0.002)

    with caplog.at_level(logging.WARNING, "asyncio"), socket_pair() as (left, right):
        loop.set_debug(True)
        loop.slow_callback_duration = 0.002  # type: ignore[attr-defined]
        transport, receiver = await loop.create_connection(lambda: Slow([]), sock=left.dup())
        await turn()
        caplog.clear()
        right.sendall(b"bytes")
        right.shutdown(socket.SHUT_WR)
        await receiver.lost
        transport.close()
        loop.set_debug(False)
    messages = [record.getMessage() for record in caplog.records]
    assert any(message.startswith("Executing <Handle ") and "Transport" in message for message in messages), messages
