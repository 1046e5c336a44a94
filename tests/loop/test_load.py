"""Much at once: bytes, connections, completions.  All of it right, and the memory given back."""

import asyncio
import contextlib
import gc
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from tests.housekeeping import open_descriptors, resident_bytes, settle
from tests.kernel import room_for_descriptors
from tests.variants import BACKENDS, FACTORIES, RINGS, TINY

from .helpers import Echo, Recorder, connected, pattern, serving, socket_pair

_MIB = 1 << 20


# A hundred megabytes each way

_TRANSFER_BYTES = 100 * 1000 * 1000
_PERIOD = pattern(251)
#: One piece to write: many periods, so that each piece starts where the period does.
_PIECE = _PERIOD * 1000
#: Long enough to check any delivery against, from any place in the period.
_LONG = _PERIOD * 20_000


class BothWays(asyncio.Protocol):
    """Sends the pattern as fast as it may, checks what it receives, and reads slowly: it pauses at every mebibyte."""

    def __init__(self) -> None:
        self.sent_bytes = self.received_bytes = self.queued_max_bytes = self.pauses = 0
        self.is_paused = False
        self.made = asyncio.Event()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pause_at_bytes = _MIB

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.made.set()

    def start(self) -> None:
        while not self.is_paused and self.sent_bytes < _TRANSFER_BYTES:
            piece = _PIECE[: _TRANSFER_BYTES - self.sent_bytes]
            self.transport.write(piece)
            self.sent_bytes += len(piece)
            self.queued_max_bytes = max(self.queued_max_bytes, self.transport.get_write_buffer_size())

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False
        self.start()

    def data_received(self, data: bytes) -> None:
        first = self.received_bytes % len(_PERIOD)
        if data != _LONG[first : first + len(data)]:
            self.done.set_exception(AssertionError(f"wrong bytes after {self.received_bytes}"))
        self.received_bytes += len(data)
        if self.received_bytes >= self._pause_at_bytes:
            self._pause_at_bytes += _MIB
            self.pauses += 1
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(0.0005, self.transport.resume_reading)
        if self.received_bytes == _TRANSFER_BYTES and not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, error: BaseException | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or EOFError(self.received_bytes))


@pytest.mark.asyncio(
    loop_factories=("asyncio", "ring", "selector", "ring-plain", "selector-plain", "ring-interrupting")
)
async def test_a_hundred_megabytes_each_way_through_a_slow_reader() -> None:
    loop = asyncio.get_running_loop()
    ends = [BothWays(), BothWays()]
    async with serving(lambda: ends[1]) as address:
        await loop.create_connection(lambda: ends[0], *address)
        await ends[1].made.wait()
        before_bytes = resident_bytes()
        for end in ends:
            end.start()
        peak_bytes = before_bytes
        while not all(end.done.done() for end in ends):
            peak_bytes = max(peak_bytes, resident_bytes())
            await asyncio.wait([end.done for end in ends], timeout=0.02, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            await end.done
            # One piece more than the high-water mark is what a writer may queue that obeys.
            assert end.queued_max_bytes <= 64 * 1024 + len(_PIECE)
            assert end.pauses > 90
            end.transport.close()
    # Both ends are in this process: the receive buffers in use, and allocators that keep a little.
    assert peak_bytes - before_bytes < 32 * _MIB


# Five thousand connections

_CONNECTIONS = 5000
_MESSAGE = struct.Struct("!I60x")


class Counting(asyncio.Protocol):
    """Echoes, and counts what is open."""

    open_count = 0
    all_closed: asyncio.Event

    def connection_made(self, transport: Any) -> None:
        Counting.open_count += 1
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def connection_lost(self, error: BaseException | None) -> None:
        Counting.open_count -= 1
        if not Counting.open_count:
            Counting.all_closed.set()


class Client(asyncio.Protocol):
    """Waits for one reply at a time."""

    reply: "asyncio.Future[bytes]"

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.reply.set_result(data)


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Room for both ends of every connection."""
    with room_for_descriptors(2 * _CONNECTIONS + 200):
        yield


async def open_echo_and_close() -> None:
    loop = asyncio.get_running_loop()
    Counting.all_closed = asyncio.Event()
    async with serving(Counting, backlog=_CONNECTIONS) as address:
        clients = []
        for _ in range(_CONNECTIONS):
            _, client = await loop.create_connection(Client, *address)
            clients.append(client)
        for number, client in enumerate(clients):
            client.reply = loop.create_future()
            client.transport.write(_MESSAGE.pack(number))
        for number, client in enumerate(clients):
            assert _MESSAGE.unpack(await client.reply) == (number,)
        assert Counting.open_count == _CONNECTIONS
        if hasattr(loop, "statistics"):
            assert loop.statistics()["streams"] == 2 * _CONNECTIONS
        # Half of the connections end at one side, half at the other.
        for client in clients[::2]:
            client.transport.close()
        for client in clients[1::2]:
            client.transport.abort()
        await Counting.all_closed.wait()


@pytest.mark.asyncio(loop_factories=("asyncio", "ring", "selector", "selector-plain"))
async def test_five_thousand_connections_leave_nothing_behind(many_descriptors: None) -> None:
    descriptors = open_descriptors()
    resident: list[int] = []
    # The first round fills what is kept for the next one: spare chunks, receive buffers, the allocator's arenas.
    for _ in range(3):
        await open_echo_and_close()
        assert await settle() == {}
        assert open_descriptors() == descriptors
        gc.collect()
        resident.append(resident_bytes())
    assert resident[2] <= resident[1] * 1.1
    assert resident[1] <= resident[0] * 1.1


# Many completions at once


@pytest.mark.asyncio(loop_factories=RINGS)
async def test_two_hundred_connections_readable_in_one_wakeup_are_all_served() -> None:
    loop = asyncio.get_running_loop()
    async with serving(Echo, backlog=200) as address:
        with contextlib.ExitStack() as sockets:
            peers = [sockets.enter_context(socket.create_connection(address)) for _ in range(200)]
            for round_ in range(3):
                # The loop is not running meanwhile; it finds all of them together, and must not sleep on a part.
                for number, peer in enumerate(peers):
                    peer.setblocking(True)
                    peer.send(b"%d %d" % (round_, number))
                for number, peer in enumerate(peers):
                    peer.setblocking(False)
                    assert await loop.sock_recv(peer, 100) == b"%d %d" % (round_, number)
            for peer in peers:
                peer.close()


@pytest.mark.asyncio(loop_factories=RINGS)
async def test_two_hundred_operations_completing_in_one_wakeup_are_all_told() -> None:
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as sockets:
        pairs = [sockets.enter_context(socket_pair()) for _ in range(200)]
        receiving = [asyncio.create_task(loop.sock_recv(left, 10)) for left, _ in pairs]
        await asyncio.sleep(0)
        for number, (_, right) in enumerate(pairs):
            right.send(b"%d" % number)
        assert await asyncio.gather(*receiving) == [b"%d" % number for number in range(200)]


@pytest.mark.asyncio(loop_factories=TINY)
async def test_tiny_queues_and_buffers_do_overflow_and_run_out() -> None:
    """The variants that the other tests run on are what they claim to be."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as sockets:
        pairs = [sockets.enter_context(socket_pair()) for _ in range(50)]
        receiving = [asyncio.create_task(loop.sock_recv(left, 10)) for left, _ in pairs]
        await asyncio.sleep(0)
        for _, right in pairs:
            right.send(b"x")
        assert await asyncio.gather(*receiving) == [b"x"] * 50
    async with connected(Recorder(), Recorder()) as (client, server):
        client.transport.write(pattern(10_000))
        await server.until_received(10_000)
        assert server.received == pattern(10_000)
    statistics = loop.statistics()  # type: ignore[attr-defined]
    assert statistics["buffers"] == 2
    assert statistics["overflows"] > 0
    # On the backend epoll a stream takes a buffer for each recv(2), and gives it back before the next.
    assert (statistics["no_buffers"] > 0) == (statistics["backend"] == "io_uring")


@pytest.mark.asyncio(loop_factories=("ring-small",))
async def test_the_buffers_grow_up_to_their_limit() -> None:
    loop = asyncio.get_running_loop()
    before = loop.statistics()["buffers"]  # type: ignore[attr-defined]
    async with connected(Recorder(), Recorder()) as (client, server):
        client.transport.write(pattern(2_000_000))
        await server.until_received(2_000_000)
        assert server.received == pattern(2_000_000)
    assert before <= loop.statistics()["buffers"] <= 4096  # type: ignore[attr-defined]


@pytest.mark.parametrize("variant", BACKENDS)
def test_a_loop_that_was_closed_gives_its_memory_back(variant: str) -> None:
    def round_() -> int:
        for _ in range(30):
            loop = FACTORIES[variant]()
            loop.run_until_complete(one_echo())
            loop.close()
        gc.collect()
        return resident_bytes()

    async def one_echo() -> None:
        async with connected(Recorder(), Echo()) as (client, _):
            client.transport.write(pattern(100_000))
            await client.until_received(100_000)

    round_()
    first = round_()
    assert round_() <= first + 2 * _MIB
