"""What comes before what where several things happen in one tick: as asyncio, whose socket is looked at once a tick."""

import asyncio
import socket
from typing import Any

import pytest

import uringloop
from tests.variants import EVERY, FACTORIES, RINGS

from .helpers import Recorder, pattern

every_loop = pytest.mark.asyncio(loop_factories=EVERY)


def socket_pair() -> tuple[socket.socket, socket.socket]:
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    peer.setblocking(False)
    return ours, peer


async def connect(protocol: Any, sock: socket.socket) -> Any:
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, sock)
    return transport


@every_loop
async def test_what_the_last_bytes_woke_runs_before_the_end() -> None:
    order: list[str] = []

    class Last(Recorder):
        def data_received(self, data: bytes) -> None:
            asyncio.get_running_loop().call_soon(order.append, "woken")
            super().data_received(data)

        def eof_received(self) -> None:
            order.append("end")

    ours, peer = socket_pair()
    protocol = Last()
    with peer:
        await connect(protocol, ours)
        peer.send(b"last bytes")
        peer.shutdown(socket.SHUT_WR)
        await protocol.until_called("connection_lost")
    assert order == ["woken", "end"]


@every_loop
async def test_a_paused_protocol_may_write_when_it_is_resumed_in_a_closing_connection() -> None:
    """TLS says goodbye there, and `close` may come in the very tick in which the queue empties."""
    loop = asyncio.get_running_loop()

    class Goodbye(Recorder):
        def resume_writing(self) -> None:
            super().resume_writing()
            self.transport.write(b"goodbye")

    ours, peer = socket_pair()
    protocol = Goodbye()
    received = bytearray()

    def drain() -> None:
        try:
            while data := peer.recv(1 << 20):
                received.extend(data)
        except BlockingIOError:
            pass

    with peer:
        transport = await connect(protocol, ours)
        sent = pattern(500_000)
        transport.write(sent)
        assert protocol.count("pause_writing") == 1
        while transport.get_write_buffer_size() > 150_000:
            drain()
            await asyncio.sleep(0)
        drain()
        loop.call_soon(transport.close)
        while protocol.count("connection_lost") == 0:
            await asyncio.sleep(0)
            drain()
        drain()
    assert received == sent + b"goodbye"


@pytest.mark.parametrize("name", RINGS)
def test_closing_a_loop_ends_whatever_is_cancelled_last(name: str) -> None:
    """Completions that only the core hears of must not put the close to sleep."""
    for round_number in range(20):
        loop: Any = FACTORIES[name]()
        assert isinstance(loop, uringloop.EventLoop)

        async def begin(loop: Any = loop, count: int = round_number % 5) -> Any:
            ours, peer = socket_pair()
            transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, ours)
            for _ in range(count):
                transport.write(b"x" * 100)
            return transport, peer

        transport, peer = loop.run_until_complete(begin())
        transport.abort()
        loop.close()
        transport._endpoint.close_file()
        peer.close()
