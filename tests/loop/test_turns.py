"""Receiving is first come, first served: fast senders do not keep the bytes of others from being delivered."""

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.variants import EVERY

from . import datagrams
from .helpers import Observed, Recorder, ending, facing_socket, fill, socket_pair

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)

#: With everything at hand: the sizes of the receives are the senders'.
_BULK = ("ring", "selector", "ring-plain", "selector-plain", "ring-interrupting", "selector-interrupting")

_SENDERS = 6
_QUESTIONS = 20
#: Of each sender, while a byte of another waits: as much as asyncio reads in two ticks.
_BYTES_MAX = 2 * 256 * 1024
#: They send so much that a tick which serves all of them is a long one.
_BULK_SENDERS = 40
#: Of them, while a byte of another waits: the turns of a few ticks.
_TURNS_MAX = 20
#: A multishot receive takes up to 32 at once.
_DATAGRAMS_MAX = 4 * 32
#: Rather fail than hang.
_TIMEOUT_S = 20


class Flooded(Recorder):
    """Has always something to receive: whatever is taken is sent anew."""

    def __init__(self, served: Counter[int], number: int, peer: socket.socket) -> None:
        super().__init__()
        self.served, self.number, self.peer = served, number, peer

    def data_received(self, data: bytes) -> None:
        self.served[self.number] += len(data)
        fill(self.peer)


@contextlib.asynccontextmanager
async def flood(served: Counter[int]) -> AsyncIterator[None]:
    """Connections that are never empty; how much each delivers is counted by its number."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as sockets:
        protocols = []
        for number in range(_SENDERS):
            peer, accepted = sockets.enter_context(socket_pair())
            fill(peer)
            protocols.append(Flooded(served, number, peer))
            await loop.connect_accepted_socket(lambda protocol=protocols[-1]: protocol, accepted)  # type: ignore[misc]
        async with ending(*protocols):
            yield


async def test_a_byte_is_delivered_beside_a_flood() -> None:
    served: Counter[int] = Counter()
    async with flood(served), facing_socket(Recorder()) as (protocol, peer):
        for number in range(_QUESTIONS):
            served.clear()
            peer.send(b"?")
            async with asyncio.timeout(_TIMEOUT_S):
                await protocol.until_received(number + 1)
            assert max(served.values(), default=0) <= _BYTES_MAX


async def test_all_senders_of_a_flood_get_their_turn() -> None:
    served: Counter[int] = Counter()
    async with flood(served), asyncio.timeout(_TIMEOUT_S):
        while len(served) < _SENDERS or min(served.values()) < 1 << 20:
            await asyncio.sleep(0)
        assert max(served.values()) < 8 * min(served.values())


class Bulk(Observed, asyncio.Protocol):
    """Has always much to receive, and counts how often it did."""

    def __init__(self, peer: socket.socket) -> None:
        super().__init__()
        self.peer = peer
        self.turns = 0

    def data_received(self, data: bytes) -> None:
        self.turns += 1
        fill(self.peer)


@contextlib.asynccontextmanager
async def bulk() -> AsyncIterator[list[Bulk]]:
    """Connections that have sent much for a while, and go on."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as sockets:
        protocols = []
        for _ in range(_BULK_SENDERS):
            pair = [sockets.enter_context(sock) for sock in socket.socketpair()]
            for sock in pair:
                sock.setblocking(False)
            protocols.append(Bulk(pair[0]))
            await loop.connect_accepted_socket(lambda protocol=protocols[-1]: protocol, pair[1])  # type: ignore[misc]
        async with ending(*protocols), asyncio.timeout(3 * _TIMEOUT_S):
            for protocol in protocols:
                fill(protocol.peer)
            while min(protocol.turns for protocol in protocols) < 24:
                await asyncio.sleep(0)
            for protocol in protocols:
                protocol.turns = 0
            yield protocols


@pytest.mark.asyncio(loop_factories=_BULK)
async def test_a_tick_serves_few_of_many_senders_in_bulk() -> None:
    async with facing_socket(Recorder()) as (asked, peer), bulk() as protocols:
        for number in range(_QUESTIONS):
            for protocol in protocols:
                protocol.turns = 0
            peer.send(b"?")
            await asked.until_received(number + 1)
            assert sum(protocol.turns for protocol in protocols) <= _TURNS_MAX


@pytest.mark.asyncio(loop_factories=("asyncio", *_BULK))
async def test_senders_in_bulk_take_turns() -> None:
    async with bulk() as protocols:
        while min(protocol.turns for protocol in protocols) < 5:
            await asyncio.sleep(0)
            turns = [protocol.turns for protocol in protocols]
            assert max(turns) <= min(turns) + 2


@pytest.mark.asyncio(loop_factories=("asyncio", *_BULK))
async def test_who_pauses_before_its_turn_keeps_quiet_until_it_resumes() -> None:
    async with bulk() as protocols:
        resumed, paused = protocols[::2], protocols[1::2]
        for protocol in protocols:
            protocol.transport.pause_reading()
        for protocol in resumed:
            protocol.transport.resume_reading()
        before = [protocol.turns for protocol in paused]
        while min(protocol.turns for protocol in resumed) < 5:
            await asyncio.sleep(0)
        assert [protocol.turns for protocol in paused] == before
        for protocol in paused:
            protocol.transport.resume_reading()
        while min(protocol.turns for protocol in paused) < 5:
            await asyncio.sleep(0)


@pytest.mark.asyncio(loop_factories=("asyncio", *_BULK))
async def test_who_ends_before_its_turn_is_not_served() -> None:
    async with bulk() as protocols:
        for protocol in protocols[::2]:
            protocol.transport.abort()
        before = [protocol.turns for protocol in protocols[::2]]
        while min(protocol.turns for protocol in protocols[1::2]) < 5:
            await asyncio.sleep(0)
        assert [protocol.turns for protocol in protocols[::2]] == before
        assert all("connection_lost" in protocol.calls for protocol in protocols[::2])


class FloodedDatagrams(datagrams.Recorder):
    def __init__(self, served: Counter[int], number: int, peer: socket.socket) -> None:
        super().__init__()
        self.served, self.number, self.peer = served, number, peer

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.served[self.number] += 1
        with contextlib.suppress(BlockingIOError):
            while True:
                self.peer.send(bytes(100))


async def test_a_datagram_is_delivered_beside_a_flood(folder: Path) -> None:
    served: Counter[int] = Counter()
    async with contextlib.AsyncExitStack() as stack:

        async def facing(protocol: datagrams.Recorder, peer: socket.socket, name: str) -> None:
            await stack.enter_async_context(datagrams.endpoint(protocol, **datagrams.on(socket.AF_UNIX, folder, name)))
            peer.connect(str(folder / name))

        for number in range(_SENDERS):
            peer = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
            await facing(FloodedDatagrams(served, number, peer), peer, str(number))
            peer.send(b"begin")
        asking = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
        protocol = datagrams.Recorder()
        await facing(protocol, asking, "asking")
        async with asyncio.timeout(_TIMEOUT_S):
            for number in range(_QUESTIONS):
                served.clear()
                asking.send(b"?")
                await protocol.until_datagrams(number + 1)
                assert max(served.values(), default=0) <= _DATAGRAMS_MAX
            while len(served) < _SENDERS:
                await asyncio.sleep(0)
