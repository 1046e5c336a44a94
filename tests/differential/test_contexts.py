"""Every callback runs in the context that asyncio gives it: that in which it was scheduled, watched or connected."""

import asyncio
import contextvars
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.loop.helpers import LOCALHOST, socket_pair
from tests.variants import EVERY

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)

place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="nowhere")

#: From 3.15 on asyncio calls a protocol in the context of its connection too, whoever closes or writes.
_IN_CALLERS_CONTEXT = sys.version_info < (3, 15)


class Seen:
    """Where callbacks ran, by name."""

    def __init__(self) -> None:
        self.places: dict[str, set[str]] = {}
        self._waiters: dict[str, asyncio.Future[None]] = {}

    def here(self, name: str) -> None:
        self.places.setdefault(name, set()).add(place.get())
        waiter = self._waiters.pop(name, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        # What a callback sets stays in its own context, or that of its connection.
        place.set(place.get())

    async def until(self, *names: str) -> None:
        for name in names:
            if name not in self.places:
                waiter = self._waiters[name] = asyncio.get_running_loop().create_future()
                await waiter


class Connection(asyncio.Protocol):
    def __init__(self, seen: Seen, end: str) -> None:
        self.seen, self.end = seen, end
        self.transport: Any = None
        seen.here(f"{end} factory")

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.seen.here(f"{self.end} connection_made")

    def data_received(self, data: bytes) -> None:
        self.seen.here(f"{self.end} data_received")

    def eof_received(self) -> None:
        self.seen.here(f"{self.end} eof_received")

    def pause_writing(self) -> None:
        self.seen.here(f"{self.end} pause_writing")

    def resume_writing(self) -> None:
        self.seen.here(f"{self.end} resume_writing")

    def connection_lost(self, error: Exception | None) -> None:
        self.seen.here(f"{self.end} connection_lost")


class BufferedConnection(Connection, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint: int) -> memoryview:
        self.seen.here(f"{self.end} get_buffer")
        return memoryview(bytearray(100))

    def buffer_updated(self, nbytes: int) -> None:
        self.seen.here(f"{self.end} buffer_updated")


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.seen.here("connection_made")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.seen.here("datagram_received")

    def error_received(self, exc: Exception) -> None:
        self.seen.here("error_received")

    def connection_lost(self, error: Exception | None) -> None:
        self.seen.here("connection_lost")


@pytest.mark.parametrize("kind", [Connection, BufferedConnection])
async def test_protocols_run_where_their_connection_was_made(kind: type[Connection]) -> None:
    loop, seen = asyncio.get_running_loop(), Seen()
    place.set("server")
    protocols: list[Connection] = []

    def accepted() -> Connection:
        protocols.append(kind(seen, "server"))
        return protocols[-1]

    server = await loop.create_server(accepted, LOCALHOST, 0)
    place.set("client")
    transport, client = await loop.create_connection(lambda: kind(seen, "client"), *server.sockets[0].getsockname())
    await seen.until("server connection_made")
    place.set("elsewhere")
    received = "buffer_updated" if kind is BufferedConnection else "data_received"
    for protocol, peer in ((client, protocols[0]), (protocols[0], client)):
        sock = protocol.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
        protocol.transport.write(b"x")
        await seen.until(f"{peer.end} {received}")
        # Until the kernel takes no more, which the peer can not read meanwhile.
        while f"{protocol.end} pause_writing" not in seen.places:
            protocol.transport.write(bytes(1 << 18))
        await seen.until(f"{protocol.end} resume_writing")
    transport.close()
    await seen.until("client connection_lost", "server connection_lost")
    server.close()
    await server.wait_closed()
    for end in ("client", "server"):
        # Pausing happens within write(), which is here.
        assert seen.places.pop(f"{end} pause_writing") == {"elsewhere"}
        # asyncio before 3.15 resumes in the context of that write; this loop in the connection's, as it calls all else.
        resumed = {"elsewhere"} if type(loop) is asyncio.SelectorEventLoop and _IN_CALLERS_CONTEXT else {end}
        assert seen.places.pop(f"{end} resume_writing") == resumed
    assert seen.places.pop("client connection_lost") == {"elsewhere" if _IN_CALLERS_CONTEXT else "client"}
    for name, places in seen.places.items():
        assert places == {name.split()[0]}, name


async def test_datagram_protocols_run_where_their_endpoint_was_made() -> None:
    loop, seen = asyncio.get_running_loop(), Seen()
    place.set("endpoint")
    transport, _ = await loop.create_datagram_endpoint(lambda: Datagrams(seen), local_addr=(LOCALHOST, 0))
    place.set("elsewhere")
    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.sendto(b"x", transport.get_extra_info("sockname"))
        await seen.until("datagram_received")
    assert seen.places == {"connection_made": {"endpoint"}, "datagram_received": {"endpoint"}}
    transport.sendto(bytes(1 << 20), (LOCALHOST, 9))
    assert seen.places["error_received"] == {"elsewhere"}
    transport.close()
    await seen.until("connection_lost")
    assert seen.places["connection_lost"] == {"elsewhere"}


async def _scheduled(name: str, loop: asyncio.AbstractEventLoop, callback: Callable[..., Any], **how: Any) -> None:
    """Schedule a callback in one of the ways that take a context, and wait for what it tells."""
    if name == "call_soon":
        loop.call_soon(callback, **how)
    elif name == "call_soon_threadsafe":
        await loop.run_in_executor(None, lambda: loop.call_soon_threadsafe(callback, **how))
    elif name == "call_later":
        loop.call_later(0.001, callback, **how)
    elif name == "call_at":
        loop.call_at(loop.time() + 0.001, callback, **how)
    elif name == "done callback":
        future = loop.create_future()
        future.add_done_callback(lambda _: callback(), **how)
        future.set_result(None)
    elif name == "task":

        async def run() -> None:
            callback()

        loop.create_task(run(), **how)


SCHEDULED = ("call_soon", "call_soon_threadsafe", "call_later", "call_at", "done callback", "task")


@pytest.mark.parametrize("name", SCHEDULED)
async def test_a_callback_runs_in_the_context_of_its_scheduling(name: str) -> None:
    loop, seen = asyncio.get_running_loop(), Seen()

    def callback() -> None:
        seen.here(name)
        place.set("nobody else's")

    place.set("scheduled")
    if name == "call_soon_threadsafe":
        # The context is the thread's, unless it is handed over.
        context = contextvars.copy_context()
        await loop.run_in_executor(None, lambda: context.run(loop.call_soon_threadsafe, callback))
    else:
        await _scheduled(name, loop, callback)
    place.set("afterwards")
    await seen.until(name)
    assert seen.places == {name: {"scheduled"}}
    assert place.get() == "afterwards"


@pytest.mark.parametrize("name", SCHEDULED)
async def test_a_callback_runs_in_the_context_that_is_given(name: str) -> None:
    loop, seen = asyncio.get_running_loop(), Seen()
    given = contextvars.copy_context()
    given.run(place.set, "given")

    def callback() -> None:
        seen.here(name)
        place.set("changed")

    await _scheduled(name, loop, callback, context=given)
    await seen.until(name)
    assert seen.places == {name: {"given"}}
    assert given[place] == "changed"


@pytest.mark.parametrize("direction", ["reader", "writer"])
async def test_a_watched_descriptor_s_callback_runs_where_it_was_watched(direction: str) -> None:
    loop, seen = asyncio.get_running_loop(), Seen()
    with socket_pair() as (left, right):
        place.set("watched")
        getattr(loop, f"add_{direction}")(left, seen.here, direction)
        place.set("elsewhere")
        right.send(b"x")
        await seen.until(direction)
        getattr(loop, f"remove_{direction}")(left)
    assert seen.places == {direction: {"watched"}}


async def test_a_signal_handler_runs_where_it_was_added() -> None:
    loop, seen = asyncio.get_running_loop(), Seen()
    place.set("added")
    loop.add_signal_handler(signal.SIGUSR1, seen.here, "signal")
    place.set("elsewhere")
    os.kill(os.getpid(), signal.SIGUSR1)
    await seen.until("signal")
    loop.remove_signal_handler(signal.SIGUSR1)
    assert seen.places == {"signal": {"added"}}


async def test_the_exception_handler_runs_in_the_context_of_the_callback_that_failed() -> None:
    loop, seen = asyncio.get_running_loop(), Seen()
    previous = loop.get_exception_handler()
    loop.set_exception_handler(lambda loop, context: seen.here("handler"))
    place.set("failing")
    loop.call_soon(lambda: 1 / 0)
    place.set("elsewhere")
    await seen.until("handler")
    loop.set_exception_handler(previous)
    # Since 3.12 asyncio goes back into the context of the callback.
    assert seen.places == {"handler": {"failing" if sys.version_info >= (3, 12) else "nowhere"}}


async def test_what_a_callback_sets_is_seen_in_no_other_connection(folder: Path) -> None:
    loop, seen = asyncio.get_running_loop(), Seen()

    class Setting(Connection):
        def data_received(self, data: bytes) -> None:
            self.seen.here(data.decode())
            place.set("set by a connection")

    place.set("server")
    server = await loop.create_unix_server(lambda: Setting(seen, "server"), str(folder / "socket"))
    peers = []
    for number in ("1", "2"):
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(str(folder / "socket"))
        peer.send(number.encode())
        await seen.until(number)
        peers.append(peer)
    assert {number: seen.places[number] for number in ("1", "2")} == {"1": {"server"}, "2": {"server"}}
    assert place.get() == "server"
    for peer in peers:
        peer.close()
    server.close()
    await server.wait_closed()
