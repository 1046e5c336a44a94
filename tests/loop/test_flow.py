"""Flow control both ways: water marks for what is written, pausing for what is read.  No byte is lost."""

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.variants import EVERY

from .helpers import (
    BufferedRecorder,
    Echo,
    Recorder,
    SocketPair,
    connected,
    facing_socket,
    fill,
    pattern,
    reset,
    socket_pair,
    unix_pair,
)

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)


async def fill_kernel(protocol: Recorder) -> int:
    """Leave the kernel no room for what the transport sends; returns the number of zeros sent."""
    sock = protocol.transport.get_extra_info("socket")._sock
    zeros = 0
    while added := fill(sock):
        zeros += added
        # The peer's side may take more once it has acknowledged.
        await a_round_trip_elsewhere()
    return zeros


async def receive_exactly(peer: Any, size_bytes: int) -> bytes:
    received = bytearray()
    while len(received) < size_bytes:
        received += await asyncio.get_running_loop().sock_recv(peer, 1 << 18)
    return bytes(received)


async def a_round_trip_elsewhere() -> None:
    """What the kernel had for the loop when this began has been dispatched when it ends."""
    async with connected(Recorder(), Echo()) as (client, _):
        for size_bytes in (1, 2):
            client.transport.write(b"x")
            await client.until_received(size_bytes)


# Writing


class Marks(Recorder):
    """Looks at the queue whenever it is told to pause or resume."""

    def __init__(self) -> None:
        super().__init__()
        self.paused_at: list[int] = []
        self.resumed_at: list[int] = []

    def pause_writing(self) -> None:
        self.paused_at.append(self.transport.get_write_buffer_size())
        super().pause_writing()

    def resume_writing(self) -> None:
        self.resumed_at.append(self.transport.get_write_buffer_size())
        super().resume_writing()


async def test_writing_pauses_above_the_high_mark_and_resumes_at_the_low() -> None:
    async with facing_socket(Marks()) as (protocol, peer):
        protocol.transport.set_write_buffer_limits(high=300_000, low=100_000)
        zeros = await fill_kernel(protocol)
        protocol.transport.write(pattern(300_000))
        assert not protocol.paused_at
        protocol.transport.write(pattern(700_000, 300_000))
        assert protocol.paused_at == [protocol.transport.get_write_buffer_size()]
        assert protocol.paused_at[0] > 300_000
        received = await receive_exactly(peer, zeros + 1_000_000)
        await protocol.until_called("resume_writing")
        assert len(protocol.paused_at) == len(protocol.resumed_at) == 1
        assert protocol.resumed_at[0] <= 100_000
        assert received[zeros:] == pattern(1_000_000)


async def test_a_high_mark_of_zero_pauses_whenever_something_is_queued() -> None:
    async with facing_socket(Marks()) as (protocol, peer):
        protocol.transport.set_write_buffer_limits(high=0)
        zeros = await fill_kernel(protocol)
        protocol.transport.write(pattern(1_000_000))
        assert protocol.count("pause_writing") == 1
        await receive_exactly(peer, zeros + 1_000_000)
        await protocol.until_called("resume_writing")
        assert protocol.resumed_at == [0]


async def test_lowering_the_marks_under_a_full_queue_pauses() -> None:
    async with facing_socket(Marks()) as (protocol, peer):
        protocol.transport.set_write_buffer_limits(high=10_000_000)
        zeros = await fill_kernel(protocol)
        protocol.transport.write(pattern(1_000_000))
        assert not protocol.paused_at
        protocol.transport.set_write_buffer_limits(high=1000)
        assert protocol.count("pause_writing") == 1
        await receive_exactly(peer, zeros + 1_000_000)
        async with asyncio.timeout(2):
            await protocol.until_called("resume_writing")


async def test_the_marks_have_asyncio_s_defaults_and_rules() -> None:
    async with connected(Recorder(), Recorder()) as (client, _):
        transport = client.transport
        assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
        transport.set_write_buffer_limits(high=1000)
        assert transport.get_write_buffer_limits() == (250, 1000)
        transport.set_write_buffer_limits(low=1000)
        assert transport.get_write_buffer_limits() == (1000, 4000)
        with pytest.raises(ValueError, match="must be >= low"):
            transport.set_write_buffer_limits(high=1, low=2)
        with pytest.raises(ValueError, match="must be >= 0"):
            transport.set_write_buffer_limits(high=1, low=-1)


async def test_the_queue_s_size_is_what_was_not_sent() -> None:
    async with facing_socket(Recorder()) as (protocol, peer):
        zeros = await fill_kernel(protocol)
        protocol.transport.write(pattern(1_000_000))
        assert 0 < protocol.transport.get_write_buffer_size() <= 1_000_000
        await receive_exactly(peer, zeros + 1_000_000)
        await a_round_trip_elsewhere()
        assert protocol.transport.get_write_buffer_size() == 0


async def test_pause_writing_is_not_called_again_while_paused() -> None:
    async with facing_socket(Marks()) as (protocol, _):
        await fill_kernel(protocol)
        for _ in range(5):
            protocol.transport.write(pattern(1_000_000))
        protocol.transport.writelines([pattern(1_000_000)] * 2)
        assert protocol.count("pause_writing") == 1


async def test_a_reader_that_pauses_stops_the_writer() -> None:
    class Sender(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.sent_bytes = 0

        def send(self) -> None:
            while self.count("pause_writing") == self.count("resume_writing") and self.sent_bytes < 20_000_000:
                self.transport.write(pattern(50_000, self.sent_bytes))
                self.sent_bytes += 50_000

        def resume_writing(self) -> None:
            super().resume_writing()
            self.send()

    async with connected(Sender(), Recorder()) as (client, server):
        server.transport.pause_reading()
        client.send()
        await a_round_trip_elsewhere()
        assert client.sent_bytes < 20_000_000
        assert not server.received
        assert client.transport.get_write_buffer_size() <= 64 * 1024 + 50_000
        server.transport.resume_reading()
        await server.until_received(1_000_000)
        assert server.received == pattern(len(server.received))


# Reading


async def test_nothing_is_delivered_while_reading_is_paused() -> None:
    async with facing_socket(Recorder()) as (protocol, peer):
        protocol.transport.pause_reading()
        peer.send(pattern(1000))
        await a_round_trip_elsewhere()
        peer.send(pattern(1000, 1000))
        await a_round_trip_elsewhere()
        assert protocol.calls == ["connection_made"]
        protocol.transport.resume_reading()
        await protocol.until_received(2000)
        assert protocol.received == pattern(2000)


async def test_pausing_in_connection_made_holds_the_first_byte() -> None:
    class Paused(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.pause_reading()

    async with facing_socket(Paused()) as (protocol, peer):
        peer.send(b"x")
        await a_round_trip_elsewhere()
        assert not protocol.received
        protocol.transport.resume_reading()
        await protocol.until_received(1)


async def test_pausing_or_resuming_twice_changes_nothing() -> None:
    async with facing_socket(Recorder()) as (protocol, peer):
        protocol.transport.resume_reading()
        protocol.transport.pause_reading()
        protocol.transport.pause_reading()
        peer.send(b"abc")
        await a_round_trip_elsewhere()
        protocol.transport.resume_reading()
        protocol.transport.resume_reading()
        await protocol.until_received(3)
        assert protocol.received == b"abc"


class PausesEachTime:
    """Pauses with every delivery, and resumes a turn of the loop later."""

    transport: Any
    is_paused = False

    def pause_for_a_turn(self) -> None:
        assert not self.is_paused, "delivered while paused"
        self.is_paused = True
        self.transport.pause_reading()
        asyncio.get_running_loop().call_soon(self.resume)

    def resume(self) -> None:
        self.is_paused = False
        self.transport.resume_reading()


async def test_pausing_at_every_delivery_loses_nothing() -> None:
    class Pausing(Recorder, PausesEachTime):
        def data_received(self, data: bytes) -> None:
            self.pause_for_a_turn()
            super().data_received(data)

    async with connected(Recorder(), Pausing()) as (client, server):
        client.transport.write(pattern(200_000))
        await server.until_received(200_000)
        assert server.received == pattern(200_000)


async def test_a_buffered_protocol_may_pause_in_the_middle_of_what_arrived() -> None:
    class Pausing(BufferedRecorder, PausesEachTime):
        def buffer_updated(self, nbytes: int) -> None:
            self.pause_for_a_turn()
            super().buffer_updated(nbytes)

    async with connected(Recorder(), Pausing(50)) as (client, server):
        client.transport.write(pattern(50_000))
        await server.until_received(50_000)
        assert server.received == pattern(50_000)


async def test_pausing_at_random_loses_nothing() -> None:
    choices = random.Random(2)
    async with connected(Recorder(), Recorder()) as (client, server):
        for start in range(0, 300_000, 3000):
            client.transport.write(pattern(3000, start))
            for _ in range(choices.randrange(4)):
                choices.choice((server.transport.pause_reading, server.transport.resume_reading))()
                await asyncio.sleep(0)
        server.transport.resume_reading()
        await server.until_received(300_000)
        assert server.received == pattern(300_000)


async def test_what_a_pause_held_goes_to_the_protocol_that_resumes() -> None:
    async with facing_socket(Recorder()) as (first, peer):
        first.transport.pause_reading()
        peer.send(b"for the second")
        await a_round_trip_elsewhere()
        second = BufferedRecorder(5)
        first.transport.set_protocol(second)
        first.transport.resume_reading()
        await second.until_received(14)
        assert (first.received, second.received) == (b"", b"for the second")
        first.transport.set_protocol(first)


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_a_protocol_may_end_the_connection_when_it_is_paused(end: str) -> None:
    class Ending(Recorder):
        def pause_writing(self) -> None:
            super().pause_writing()
            getattr(self.transport, end)()

    async with facing_socket(Ending()) as (protocol, peer):
        zeros = await fill_kernel(protocol)
        protocol.transport.write(pattern(1_000_000))
        assert protocol.transport.is_closing()
        received = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while data := await asyncio.get_running_loop().sock_recv(peer, 1 << 20):
                received += data
        await protocol.until_called("connection_lost")
        assert received[zeros:] == pattern(max(0, len(received) - zeros))
        assert end == "abort" or len(received) == zeros + 1_000_000


async def test_closing_while_paused_ends_the_connection() -> None:
    async with facing_socket(Recorder()) as (protocol, peer):
        protocol.transport.pause_reading()
        peer.send(b"never seen")
        await a_round_trip_elsewhere()
        protocol.transport.close()
        await protocol.until_called("connection_lost")
        assert protocol.calls == ["connection_made", "connection_lost"]


# The end of a file, and errors, behind a pause


async def test_the_end_of_file_waits_behind_the_bytes_of_a_pause() -> None:
    async with facing_socket(Recorder()) as (protocol, peer):
        protocol.transport.pause_reading()
        peer.send(pattern(5000))
        peer.shutdown(1)
        await a_round_trip_elsewhere()
        assert protocol.calls == ["connection_made"]
        protocol.transport.resume_reading()
        await protocol.until_called("connection_lost")
        assert protocol.received == pattern(5000)
        assert protocol.calls[-2:] == ["eof_received", "connection_lost"]


async def test_a_held_end_of_file_is_told_once() -> None:
    async with facing_socket(Recorder()) as (protocol, peer):
        protocol.keep_open_at_eof = True
        protocol.transport.pause_reading()
        peer.send(b"x")
        peer.shutdown(1)
        await a_round_trip_elsewhere()
        protocol.transport.resume_reading()
        await protocol.until_called("eof_received")
        await a_round_trip_elsewhere()
        assert protocol.calls == ["connection_made", "data_received", "eof_received"]


async def test_resuming_from_another_connection_keeps_the_bytes_before_the_end_of_file() -> None:
    class Resuming(Recorder):
        def data_received(self, data: bytes) -> None:
            first.transport.resume_reading()
            super().data_received(data)

    async with facing_socket(Recorder()) as (first, first_peer), facing_socket(Resuming()) as (_, second_peer):
        first.transport.pause_reading()
        await a_round_trip_elsewhere()
        # All of this is there when the loop looks next; the first one's bytes may come before and after the second's.
        first_peer.send(pattern(64 * 40))
        second_peer.send(b"x")
        first_peer.shutdown(1)
        await first.until_called("connection_lost")
        assert first.received == pattern(64 * 40)


async def test_a_reset_waits_for_a_paused_reader() -> None:
    async with facing_socket(Recorder()) as (protocol, peer):
        protocol.transport.pause_reading()
        await a_round_trip_elsewhere()
        reset(peer)
        await a_round_trip_elsewhere()
        assert protocol.calls == ["connection_made"]
        protocol.transport.resume_reading()
        await protocol.until_called("connection_lost")
        assert isinstance(protocol.lost_with, ConnectionResetError)


async def test_a_failed_write_ends_the_connection_also_while_reading_is_paused() -> None:
    async with facing_socket(Recorder()) as (protocol, peer):
        protocol.transport.pause_reading()
        reset(peer)
        await a_round_trip_elsewhere()
        protocol.transport.write(b"x")
        async with asyncio.timeout(2):
            await protocol.until_called("connection_lost")
        assert isinstance(protocol.lost_with, ConnectionError)


# TCP takes a few bytes more when the peer acknowledges, which may come 40 ms late.
@pytest.mark.parametrize(("pair", "size_bytes"), [(unix_pair, 100), (unix_pair, 1_000_000), (socket_pair, 1_000_000)])
async def test_resume_writing_is_not_called_when_the_connection_fails(
    pair: Callable[[], SocketPair], size_bytes: int
) -> None:
    async with facing_socket(Marks(), pair) as (protocol, peer):
        await fill_kernel(protocol)
        protocol.transport.set_write_buffer_limits(high=10)
        protocol.transport.write(bytes(size_bytes))
        await a_round_trip_elsewhere()
        reset(peer)
        await protocol.until_called("connection_lost")
        assert isinstance(protocol.lost_with, ConnectionError)
        assert protocol.calls == ["connection_made", "pause_writing", "connection_lost"]
