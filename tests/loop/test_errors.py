"""Errors land where asyncio puts them: in `connection_lost`, in the exception handler, in whoever waits."""

import asyncio
import gc
import socket
import weakref
from typing import Any

import pytest

from tests.variants import EVERY, RINGS
from uringloop.operations import Nop

from .helpers import BufferedRecorder, Observed, Recorder, connected, facing_socket, fill, pattern, reset, serving

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)

Contexts = list[dict[str, Any]]


class CallbackError(Exception):
    """What the protocols below raise."""


def raising(base: type[Observed], callback: str) -> Any:
    """A protocol that notes every callback, and raises in one of them."""

    def fail(self: Observed, *arguments: Any) -> None:
        getattr(base, callback)(self, *arguments)
        raise CallbackError(callback)

    return type("Raising", (base,), {callback: fail})()


def take_one(unexpected: Contexts) -> dict[str, Any]:
    (context,) = unexpected
    unexpected.clear()
    assert isinstance(context["exception"], CallbackError)
    return context


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# A protocol that raises


@pytest.mark.parametrize(
    ("base", "callback"),
    [
        (Recorder, "data_received"),
        (Recorder, "eof_received"),
        (BufferedRecorder, "get_buffer"),
        (BufferedRecorder, "buffer_updated"),
        (BufferedRecorder, "eof_received"),
    ],
)
async def test_an_error_while_receiving_is_told_and_ends_the_connection(
    base: type[Observed], callback: str, unexpected: Contexts
) -> None:
    async with facing_socket(raising(base, callback)) as (protocol, peer):
        peer.send(b"x")
        peer.shutdown(socket.SHUT_WR)
        await protocol.until_called("connection_lost")
        context = take_one(unexpected)
        assert context["message"] == f"Fatal error: protocol.{callback}() call failed."
        assert context["protocol"] is protocol
        assert context["transport"] is protocol.transport
        assert protocol.lost_with is context["exception"]
        assert protocol.count("connection_lost") == 1


# asyncio keeps it until the collector comes, in some versions.
@pytest.mark.asyncio(loop_factories=RINGS)
async def test_the_error_that_ended_a_connection_keeps_nothing_alive() -> None:
    class Failing(Recorder):
        def data_received(self, data: bytes) -> None:
            # The traceback has this frame, and with it the transport.
            transport = self.transport
            raise ConnectionAbortedError(transport.is_closing())

    gc.collect()
    gc.disable()
    try:
        async with facing_socket(Failing()) as (protocol, peer):
            peer.send(b"x")
            await protocol.until_called("connection_lost")
            transport = weakref.ref(protocol.transport)
            del protocol.transport
            protocol.lost_with = None
            await turns()
            assert transport() is None
    finally:
        gc.enable()


async def test_an_empty_buffer_is_told_and_ends_the_connection(unexpected: Contexts) -> None:
    async with facing_socket(BufferedRecorder(0)) as (protocol, peer):
        peer.send(b"x")
        await protocol.until_called("connection_lost")
        (context,) = unexpected
        unexpected.clear()
        assert context["message"] == "Fatal error: protocol.get_buffer() call failed."
        assert isinstance(context["exception"], RuntimeError)
        assert str(context["exception"]) == "get_buffer() returned an empty buffer"
        assert protocol.lost_with is context["exception"]


async def test_an_error_in_connection_made_is_told_and_the_connection_lives(unexpected: Contexts) -> None:
    async with facing_socket(raising(Recorder, "connection_made")) as (protocol, peer):
        assert take_one(unexpected)["message"].startswith("Exception in callback ")
        peer.send(b"goes on")
        await protocol.until_received(7)


async def test_an_error_in_connection_lost_is_told_and_the_socket_is_closed(unexpected: Contexts) -> None:
    for how in ("close", "abort"):
        async with facing_socket(raising(Recorder, "connection_lost")) as (protocol, peer):
            getattr(protocol.transport, how)()
            await protocol.until_called("connection_lost")
            await turns()
            assert take_one(unexpected)["message"].startswith("Exception in callback ")
            assert await asyncio.get_running_loop().sock_recv(peer, 1) == b""


async def test_an_error_in_connection_lost_after_a_flush_is_told(unexpected: Contexts) -> None:
    async with facing_socket(raising(Recorder, "connection_lost")) as (protocol, peer):
        fill(protocol.transport.get_extra_info("socket")._sock)
        protocol.transport.write(pattern(1_000_000))
        protocol.transport.close()
        while await asyncio.get_running_loop().sock_recv(peer, 1 << 20):
            pass
        await protocol.until_called("connection_lost")
        await turns()
        assert take_one(unexpected)["message"].startswith("Exception in callback ")


async def test_an_error_in_connection_lost_does_not_keep_the_server_open(unexpected: Contexts) -> None:
    protocol = raising(Recorder, "connection_lost")
    async with serving(lambda: protocol) as address:
        socket.create_connection(address).close()
        await protocol.until_called("connection_lost")
        await turns()
        take_one(unexpected)


async def test_an_error_in_pause_or_resume_writing_is_told_and_the_connection_lives(unexpected: Contexts) -> None:
    for callback in ("pause_writing", "resume_writing"):
        async with facing_socket(raising(Recorder, callback)) as (protocol, peer):
            left_bytes = fill(protocol.transport.get_extra_info("socket")._sock) + 500_000
            protocol.transport.write(pattern(500_000))
            while left_bytes:
                left_bytes -= len(await asyncio.get_running_loop().sock_recv(peer, 1 << 20))
            await protocol.until_called("resume_writing")
            context = take_one(unexpected)
            assert context["message"] == f"protocol.{callback}() failed"
            assert context["protocol"] is protocol
            assert context["transport"] is protocol.transport
            peer.send(b"goes on")
            await protocol.until_received(7)


async def test_an_error_for_one_connection_leaves_the_others_alone(unexpected: Contexts) -> None:
    async with (
        facing_socket(raising(Recorder, "data_received")) as (broken, broken_peer),
        facing_socket(Recorder()) as (healthy, healthy_peer),
    ):
        broken_peer.send(b"x")
        healthy_peer.send(b"y")
        await healthy.until_received(1)
        await broken.until_called("connection_lost")
        take_one(unexpected)
        healthy_peer.send(b"z")
        await healthy.until_received(2)


# A peer that resets


async def test_a_reset_of_an_idle_connection() -> None:
    async with facing_socket(Recorder()) as (protocol, peer):
        await turns()
        reset(peer)
        await protocol.until_called("connection_lost")
        assert protocol.calls == ["connection_made", "connection_lost"]
        assert isinstance(protocol.lost_with, ConnectionResetError)


async def test_a_reset_before_the_connection_is_made() -> None:
    protocol = Recorder()
    async with serving(lambda: protocol) as address:
        reset(socket.create_connection(address))
        await protocol.until_called("connection_lost")
    assert protocol.calls == ["connection_made", "connection_lost"]
    assert isinstance(protocol.lost_with, ConnectionResetError)


async def test_a_reset_behind_bytes_that_were_not_read_yet() -> None:
    async with facing_socket(Recorder()) as (protocol, peer):
        peer.send(b"last words")
        reset(peer)
        await protocol.until_called("connection_lost")
        assert protocol.calls[-1] == "connection_lost"
        assert isinstance(protocol.lost_with, ConnectionResetError)
        assert protocol.received in (b"", b"last words")


async def test_a_reset_while_writing() -> None:
    async with facing_socket(Recorder()) as (protocol, peer):
        protocol.transport.write(bytes(20_000_000))
        await turns()
        reset(peer)
        await protocol.until_called("connection_lost")
        assert isinstance(protocol.lost_with, ConnectionError)
        assert protocol.transport.get_write_buffer_size() == 0


async def test_a_reset_after_our_write_eof() -> None:
    async with facing_socket(Recorder()) as (protocol, peer):
        protocol.transport.write(b"x")
        protocol.transport.write_eof()
        await turns()
        reset(peer)
        await protocol.until_called("connection_lost")
        assert isinstance(protocol.lost_with, ConnectionResetError)


async def test_a_reset_after_the_peer_s_end_shows_at_the_next_write() -> None:
    async with facing_socket(Recorder()) as (protocol, peer):
        protocol.keep_open_at_eof = True
        peer.shutdown(socket.SHUT_WR)
        await protocol.until_called("eof_received")
        reset(peer)
        await turns()
        assert "connection_lost" not in protocol.calls
        protocol.transport.write(b"x")
        await protocol.until_called("connection_lost")
        assert isinstance(protocol.lost_with, ConnectionError)


async def test_a_reset_while_closing_with_bytes_queued() -> None:
    async with facing_socket(Recorder()) as (protocol, peer):
        protocol.transport.write(bytes(20_000_000))
        protocol.transport.close()
        await turns()
        reset(peer)
        await protocol.until_called("connection_lost")
        assert protocol.calls.count("connection_lost") == 1
        assert isinstance(protocol.lost_with, ConnectionError)


async def test_a_reset_between_close_and_connection_lost() -> None:
    async with facing_socket(Recorder()) as (protocol, peer):
        await turns()
        protocol.transport.close()
        reset(peer)
        await protocol.until_called("connection_lost")
        assert protocol.lost_with is None


async def test_a_reset_and_an_abort_at_once() -> None:
    async with facing_socket(Recorder()) as (protocol, peer):
        reset(peer)
        protocol.transport.abort()
        await protocol.until_called("connection_lost")
        await turns()
        assert protocol.calls == ["connection_made", "connection_lost"]
        assert protocol.lost_with is None


async def test_hundred_resets_at_once() -> None:
    protocols: list[Recorder] = []
    all_there = asyncio.Event()

    def factory() -> Recorder:
        protocols.append(Recorder())
        if len(protocols) == 100:
            all_there.set()
        return protocols[-1]

    async with serving(factory, backlog=100) as address:
        peers = [socket.create_connection(address) for _ in range(100)]
        await all_there.wait()
        for peer in peers:
            reset(peer)
        for protocol in protocols:
            await protocol.until_called("connection_lost")
            assert isinstance(protocol.lost_with, ConnectionResetError)


async def test_write_eof_on_a_connection_that_was_reset_raises_or_ends_it() -> None:
    async with connected(Recorder(), Recorder()) as (client, server):
        server.transport.set_write_buffer_limits(high=0)
        client.transport.abort()
        server.transport.write(b"x")
        await server.until_called("connection_lost")
        # Nothing is left to be ended: ignored, as `close` is.
        server.transport.write_eof()
        server.transport.close()
        server.transport.abort()


# An operation that raises


@pytest.mark.asyncio(loop_factories=RINGS)
async def test_operations_that_raise_in_one_tick_are_told_and_the_others_complete(unexpected: Contexts) -> None:
    class Raising(Nop):
        def complete(self, res: int, flags: int) -> None:
            super().complete(res, flags)
            raise CallbackError(self)

    loop: Any = asyncio.get_running_loop()
    operations = [Nop(), Raising(), Raising(), Nop(), Raising(), Nop()]
    await asyncio.gather(*map(loop.submit, operations))
    await turns()
    assert not any(operation.in_flight for operation in operations)
    raised = [context["exception"].args[0] for context in unexpected]
    unexpected.clear()
    assert raised == [operation for operation in operations if isinstance(operation, Raising)]
