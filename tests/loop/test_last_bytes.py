"""What a protocol writes just before it closes: this loop sends it together with the end of the stream."""

import asyncio
import socket

import pytest

from tests.variants import EVERY

from .helpers import Recorder, pattern, serving

_MORE_THAN_A_SOCKET_TAKES = 12 << 20

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)


class LastWord(Recorder):
    """Answers what it receives, with so many bytes, and closes; then it takes what the peer has received by the end."""

    def __init__(self, size_bytes: int, writes_on: bool = False) -> None:
        super().__init__()
        self.size_bytes = size_bytes
        self.writes_on = writes_on
        self.peer: socket.socket | None = None
        self.taken = b""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.write(pattern(self.size_bytes))
        self.transport.close()
        if self.writes_on:
            self.transport.write(b"more")

    def connection_lost(self, error: BaseException | None) -> None:
        if self.peer is not None:
            self.taken = self.peer.recv(1 << 20)
            self.transport.write(b"ignored")
        super().connection_lost(error)


@pytest.mark.parametrize("size_bytes", [1, 1000, 20_000])
async def test_they_have_left_when_the_connection_is_lost(size_bytes: int) -> None:
    """Even if the loop is held up from then on."""
    protocol = LastWord(size_bytes)
    async with serving(lambda: protocol) as address:
        with socket.create_connection(address) as peer:
            peer.settimeout(10)
            protocol.peer = peer
            peer.send(b"x")
            await protocol.until_called("connection_lost")
            rest = await asyncio.to_thread(peer.recv, 1 << 20, socket.MSG_WAITALL)
    assert protocol.taken
    assert protocol.taken + rest == pattern(size_bytes)
    assert protocol.lost_with is None


async def test_what_is_written_right_after_close_is_sent_or_ignored_but_no_error() -> None:
    protocol = LastWord(1000, writes_on=True)
    async with serving(lambda: protocol) as address:
        with socket.create_connection(address) as peer:
            peer.send(b"x")
            await protocol.until_called("connection_lost")
            received = await asyncio.to_thread(peer.recv, 1 << 20, socket.MSG_WAITALL)
    assert received in (pattern(1000), pattern(1000) + b"more")
    assert protocol.lost_with is None


class Resuming(LastWord):
    """Is paused by what it writes last, and writes on when it is resumed."""

    def resume_writing(self) -> None:
        super().resume_writing()
        self.transport.write(b"more")


async def test_a_protocol_that_is_paused_may_write_more() -> None:
    protocol = Resuming(_MORE_THAN_A_SOCKET_TAKES)
    async with serving(lambda: protocol) as address:
        with socket.create_connection(address) as peer:
            peer.send(b"x")
            received = await asyncio.to_thread(_receive_all, peer)
            await protocol.until_called("connection_lost")
    assert received == pattern(_MORE_THAN_A_SOCKET_TAKES) + b"more"
    assert protocol.lost_with is None


async def test_who_has_a_copy_of_the_socket_goes_on() -> None:
    protocol = Recorder()
    async with serving(lambda: protocol) as address:
        with socket.create_connection(address) as peer:
            await protocol.until_called("connection_made")
            with protocol.transport.get_extra_info("socket").dup() as copy:
                protocol.transport.write(b"x")
                protocol.transport.close()
                await protocol.until_called("connection_lost")
                copy.send(b"y")
            assert await asyncio.to_thread(_receive_all, peer) == b"xy"


def _receive_all(peer: socket.socket) -> bytes:
    return b"".join(iter(lambda: peer.recv(1 << 20), b""))
