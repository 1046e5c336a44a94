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
from .helpers import Recorder, ending, facing_socket, fill, socket_pair

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)

_SENDERS = 6
_QUESTIONS = 20
#: Of each sender, while a byte of another waits: as much as asyncio reads in two ticks.
_BYTES_MAX = 2 * 256 * 1024
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
