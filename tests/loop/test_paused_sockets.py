"""Bytes that arrive while reading is paused stay in the kernel: for a copy of the socket, or for the reset."""

import asyncio
import socket
from collections.abc import Callable

import pytest

from tests.variants import EVERY

from .helpers import BufferedRecorder, Observed, Recorder, facing_socket, fill, pattern
from .test_flow import a_round_trip_elsewhere

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)

PROTOCOLS = pytest.mark.parametrize("protocol", [Recorder, BufferedRecorder])


def copy_of(protocol: Observed) -> socket.socket:
    copy: socket.socket = protocol.transport.get_extra_info("socket").dup()
    copy.setblocking(False)
    return copy


@PROTOCOLS
async def test_a_copy_reads_what_came_after_the_pause(protocol: Callable[[], Observed]) -> None:
    async with facing_socket(protocol()) as (ours, peer):
        for start in range(0, 300, 100):
            peer.send(pattern(60, start))
            await ours.until_received(start + 60)
            ours.transport.pause_reading()
            with copy_of(ours) as copy:
                peer.send(pattern(40, start + 60))
                await a_round_trip_elsewhere()
                assert copy.recv(100) == pattern(40, start + 60)
            ours.received += pattern(40, start + 60)
            ours.transport.resume_reading()
        assert ours.received == pattern(300)


async def test_a_copy_reads_on_when_the_callback_pauses() -> None:
    class Head(Recorder):
        def data_received(self, data: bytes) -> None:
            self.transport.pause_reading()
            self.copy = copy_of(self)
            peer.send(b"body")
            super().data_received(data)

    async with facing_socket(Head()) as (protocol, peer):
        peer.send(b"head")
        await protocol.until_received(4)
        await a_round_trip_elsewhere()
        with protocol.copy as copy:
            assert copy.recv(100) == b"body"
        assert protocol.received == b"head"


async def test_a_paused_connection_takes_nothing() -> None:
    async with facing_socket(Recorder()) as (protocol, peer):
        peer.send(b"x")
        await protocol.until_received(1)
        protocol.transport.pause_reading()
        # Enough rounds for the kernel to move what it holds from one end to the other.
        for _ in range(5):
            fill(peer)
            await a_round_trip_elsewhere()
        assert fill(peer) == 0
        protocol.transport.resume_reading()
        await protocol.until_received(2)


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("before", [b"", b"delivered"])
async def test_an_end_with_unread_input_resets_the_connection(end: str, before: bytes) -> None:
    async with facing_socket(Recorder()) as (protocol, peer):
        peer.send(before)
        await protocol.until_received(len(before))
        protocol.transport.pause_reading()
        peer.send(b"never read")
        await a_round_trip_elsewhere()
        getattr(protocol.transport, end)()
        await protocol.until_called("connection_lost")
        with pytest.raises(ConnectionResetError):
            await asyncio.get_running_loop().sock_recv(peer, 10)


async def test_what_came_before_the_pause_is_delivered_after_it() -> None:
    async with facing_socket(Recorder()) as (protocol, peer):
        sent_bytes = fill(peer)
        await protocol.until_received(1)
        protocol.transport.pause_reading()
        taken_bytes = len(protocol.received)
        await a_round_trip_elsewhere()
        assert len(protocol.received) == taken_bytes
        protocol.transport.resume_reading()
        await protocol.until_received(sent_bytes)
        assert len(protocol.received) == sent_bytes
