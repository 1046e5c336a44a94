"""What a transport tells of its socket, whenever it is asked: this loop looks late, and asyncio early."""

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from uringloop.transports.stream import StreamTransport

from .helpers import LOCALHOST, Recorder, close, reset, serving

pytestmark = pytest.mark.asyncio(loop_factories=("asyncio", "ring", "selector-plain"))

_NAMES = ("sockname", "peername")


class Asking(Recorder):
    """Asks for the first time when the connection is lost."""

    asked: Any = None

    def connection_lost(self, error: BaseException | None) -> None:
        self.asked = [self.transport.get_extra_info(name) for name in _NAMES]
        super().connection_lost(error)


@contextlib.asynccontextmanager
async def accepted(protocol: Recorder, host: str = LOCALHOST) -> AsyncIterator[socket.socket]:
    """The peer of a connection that a server has accepted."""
    server = await asyncio.get_running_loop().create_server(lambda: protocol, host, 0)
    with socket.create_connection(server.sockets[0].getsockname()[:2]) as peer:
        await protocol.until_called("connection_made")
        yield peer
        await close(protocol)
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("host", [LOCALHOST, "::1"])
async def test_names_outlive_a_reset(host: str) -> None:
    protocol = Asking()
    async with accepted(protocol, host) as peer:
        names = [peer.getpeername(), peer.getsockname()]
        reset(peer)
        await protocol.until_called("connection_lost")
    assert protocol.asked == names


async def test_names_outlive_a_reset_of_a_unix_connection(folder: Path) -> None:
    protocol = Asking()
    server = await asyncio.get_running_loop().create_unix_server(lambda: protocol, folder / "server")
    with socket.socket(socket.AF_UNIX) as peer:
        peer.bind(str(folder / "client"))
        peer.connect(str(folder / "server"))
        await protocol.until_called("connection_made")
    await protocol.until_called("connection_lost")
    assert protocol.asked == [str(folder / "server"), str(folder / "client")]
    server.close()
    await server.wait_closed()


async def test_everything_outlives_the_transport() -> None:
    protocol = Recorder()
    async with accepted(protocol) as peer:
        names = [peer.getpeername(), peer.getsockname()]
        protocol.transport.close()
        await protocol.until_called("connection_lost")
        assert await asyncio.to_thread(peer.recv, 1) == b""
        await asyncio.sleep(0)
        assert [protocol.transport.get_extra_info(name) for name in _NAMES] == names
        sock = protocol.transport.get_extra_info("socket")
        assert (sock.fileno(), sock.family, sock.type) == (-1, socket.AF_INET, socket.SOCK_STREAM)
        assert protocol.transport.get_extra_info("nothing", 5) == 5


async def test_the_socket_is_always_the_same_and_the_transport_s_own() -> None:
    protocol = Recorder()
    async with accepted(protocol) as peer:
        sock = protocol.transport.get_extra_info("socket")
        assert sock is protocol.transport.get_extra_info("socket")
        assert sock.getpeername() == peer.getsockname()
        assert sock.proto == socket.IPPROTO_TCP
        assert sock.gettimeout() == 0


async def test_who_looks_at_the_socket_finds_no_delay_of_small_writes() -> None:
    protocol = Recorder()
    async with accepted(protocol):
        sock = protocol.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("writes", [(1, 1), (16384,)])
async def test_writes_are_not_delayed(writes: tuple[int, ...]) -> None:
    """Not where Nagle's algorithm could: from the second on, and the end of a large one."""
    protocol = Recorder()
    async with accepted(protocol) as peer:
        for size_bytes in writes:
            protocol.transport.write(bytes(size_bytes))
            assert len(await asyncio.to_thread(peer.recv, size_bytes, socket.MSG_WAITALL)) == size_bytes
        # Not by the transport's own object, which would set the option itself.
        found = re.search(r"fd=(\d+)", repr(protocol.transport))
        assert found
        with socket.socket(fileno=os.dup(int(found[1]))) as same:
            assert same.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_attributes_may_be_hung_on_a_transport() -> None:
    protocol = Recorder()
    async with accepted(protocol):
        protocol.transport.mine = 1
        assert protocol.transport.mine == 1


async def test_a_client_s_names_outlive_the_transport() -> None:
    async with serving(Recorder) as address:
        client = Recorder()
        await asyncio.get_running_loop().create_connection(lambda: client, *address)
        await close(client)
        assert client.transport.get_extra_info("peername") == address


@pytest.mark.asyncio(loop_factories=("ring",))
async def test_what_nobody_can_ask_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[int] = []
    monkeypatch.setattr(StreamTransport, "keep_answers", lambda transport: looked_up.append(transport._sock_fd))

    class Short(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)
            self.transport.close()

    async with serving(Short) as address:
        for _ in range(3):
            with socket.create_connection(address) as peer:
                peer.send(b"x")
                assert await asyncio.to_thread(peer.recv, 2, socket.MSG_WAITALL) == b"x"
    assert looked_up == []
