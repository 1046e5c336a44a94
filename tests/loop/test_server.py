"""Listening sockets: what `create_server` gives, and how it lets go."""

import asyncio
import contextlib
import errno
import os
import resource
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.variants import EVERY, RINGS
from uringloop.transports import server as uringloop_server

from .helpers import LOCALHOST, Echo, Recorder, close, connected, facing_socket, pattern, serving

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)


async def echo_once(address: tuple[str, int]) -> None:
    client = Recorder()
    await asyncio.get_running_loop().create_connection(lambda: client, *address)
    client.transport.write(b"hello")
    await client.until_received(5)
    client.transport.close()
    await client.until_called("connection_lost")


async def test_many_connections_arrive_at_once() -> None:
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Echo())
        return made[-1]

    async with serving(factory, backlog=200) as address:
        peers = [socket.create_connection(address) for _ in range(100)]
        for number, peer in enumerate(peers):
            peer.setblocking(False)
            peer.send(b"%03d" % number)
        loop = asyncio.get_running_loop()
        assert [await loop.sock_recv(peer, 10) for peer in peers] == [b"%03d" % number for number in range(100)]
        for peer in peers:
            peer.close()
        for protocol in made:
            await protocol.until_called("connection_lost")


async def test_a_closed_server_refuses_and_keeps_what_it_accepted() -> None:
    server_side = Echo()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: server_side, LOCALHOST, 0)
    address = server.sockets[0].getsockname()
    client = Recorder()
    await loop.create_connection(lambda: client, *address)
    await server_side.until_called("connection_made")
    server.close()
    assert not server.is_serving()
    assert server.sockets == ()
    with pytest.raises(ConnectionRefusedError):
        await loop.create_connection(Recorder, *address)
    client.transport.write(pattern(1000))
    await client.until_received(1000)
    await close(client, server_side)
    await server.wait_closed()


async def test_the_address_is_free_as_soon_as_the_server_is_closed() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Recorder, LOCALHOST, 0, reuse_address=False)
    address = server.sockets[0].getsockname()
    for _ in range(20):
        server.close()
        server = await loop.create_server(Recorder, *address, reuse_address=False)
    server.close()
    await server.wait_closed()


async def test_a_server_may_start_later() -> None:
    server = await asyncio.get_running_loop().create_server(Echo, LOCALHOST, 0, start_serving=False)
    assert not server.is_serving()
    await server.start_serving()
    assert server.is_serving()
    await echo_once(server.sockets[0].getsockname())
    server.close()
    await server.wait_closed()


async def test_a_server_that_never_started_closes() -> None:
    server = await asyncio.get_running_loop().create_server(Echo, LOCALHOST, 0, start_serving=False)
    server.close()
    await server.wait_closed()


async def test_serve_forever_ends_with_its_cancellation() -> None:
    server = await asyncio.get_running_loop().create_server(Echo, LOCALHOST, 0)
    address = server.sockets[0].getsockname()
    task = asyncio.create_task(server.serve_forever())
    await echo_once(address)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not server.is_serving()


async def test_a_server_listens_on_several_sockets() -> None:
    server = await asyncio.get_running_loop().create_server(Echo, [LOCALHOST, "127.0.0.2"], 0)
    assert len(server.sockets) == 2
    for sock in server.sockets:
        await echo_once(sock.getsockname())
    server.close()
    await server.wait_closed()


async def test_a_server_takes_a_socket_that_is_already_bound() -> None:
    sock = socket.create_server((LOCALHOST, 0))
    server = await asyncio.get_running_loop().create_server(Echo, sock=sock)
    await echo_once(server.sockets[0].getsockname())
    server.close()
    await server.wait_closed()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Server.close_clients is new in 3.13")
@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
async def test_a_server_can_end_its_connections(method: str) -> None:
    server_side, client = Recorder(), Recorder()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: server_side, LOCALHOST, 0)
    await loop.create_connection(lambda: client, *server.sockets[0].getsockname())
    await server_side.until_called("connection_made")
    server.close()
    getattr(server, method)()
    await server.wait_closed()
    await client.until_called("connection_lost")
    assert server_side.calls[-1] == "connection_lost"


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Server.close_clients is new in 3.13")
async def test_a_server_ends_its_own_connections_alone() -> None:
    loop = asyncio.get_running_loop()
    servers: list[Any] = []
    clients, accepted = [], []
    for _ in range(2):
        accepted.append([Echo() for _ in range(3)])
        made = iter(accepted[-1])
        servers.append(await loop.create_server(lambda made=made: next(made), LOCALHOST, 0))  # type: ignore[misc]
        for protocol in accepted[-1]:
            clients.append(Recorder())
            await loop.create_connection(lambda: clients[-1], *servers[-1].sockets[0].getsockname())
            await protocol.until_called("connection_made")
    accepted[0][1].transport.close()
    await accepted[0][1].until_called("connection_lost")
    assert set(servers[0]._clients) == {accepted[0][0].transport, accepted[0][2].transport}
    servers[0].close()
    servers[0].close_clients()
    await servers[0].wait_closed()
    assert not servers[0]._clients
    clients[3].transport.write(b"hello")
    await clients[3].until_received(5)
    servers[1].close()
    waiting = loop.create_task(servers[1].wait_closed())
    for protocol in reversed(accepted[1]):
        await asyncio.sleep(0)
        assert not waiting.done()
        protocol.transport.abort()
    await waiting
    for client in clients:
        await client.until_called("connection_lost")


# Closing a server at awkward moments


async def test_closing_the_server_in_data_received_calls_nobody_else_meanwhile() -> None:
    inside: list[object] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Recorder, LOCALHOST, 0)

    class Closing(Recorder):
        def data_received(self, data: bytes) -> None:
            assert not inside
            inside.append(self)
            if data.startswith(b"close"):
                # Both of them have more to read by the time the server is closed.
                other_peer.send(b"for the other")
                peer.send(pattern(1000))
                server.close()
            super().data_received(data)
            inside.clear()

    async with facing_socket(Closing()) as (protocol, peer), facing_socket(Closing()) as (other, other_peer):
        peer.send(b"close")
        await protocol.until_received(1005)
        await other.until_received(13)
        assert protocol.received == b"close" + pattern(1000)
        assert other.received == b"for the other"
    await server.wait_closed()


# asyncio fails an assertion in `Server._attach` there as well, but leaves the socket to the garbage collector.
@pytest.mark.asyncio(loop_factories=RINGS)
async def test_closing_the_server_in_its_factory_ends_that_connection() -> None:
    loop = asyncio.get_running_loop()

    def factory() -> Recorder:
        server.close()
        return Recorder()

    server = await loop.create_server(factory, LOCALHOST, 0)
    with socket.create_connection(server.sockets[0].getsockname()) as peer:
        peer.setblocking(False)
        async with asyncio.timeout(2):
            assert await loop.sock_recv(peer, 1) == b""
    await server.wait_closed()


async def test_closing_the_server_in_connection_made_keeps_that_connection() -> None:
    class Last(Echo):
        def connection_made(self, transport: Any) -> None:
            server.close()
            super().connection_made(transport)

    protocol = Last()
    server = await asyncio.get_running_loop().create_server(lambda: protocol, LOCALHOST, 0)
    await echo_once(server.sockets[0].getsockname())
    await protocol.until_called("connection_lost")
    await server.wait_closed()


async def test_connections_nobody_accepted_are_reset_when_the_server_closes() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Recorder, LOCALHOST, 0, start_serving=False)
    server.sockets[0]._sock.listen(5)  # type: ignore[attr-defined]
    with socket.create_connection(server.sockets[0].getsockname()) as peer:
        peer.setblocking(False)
        server.close()
        with contextlib.suppress(ConnectionResetError):
            assert await loop.sock_recv(peer, 1) == b""


# What goes wrong while accepting


# asyncio leaves this socket, too, to the garbage collector.
@pytest.mark.asyncio(loop_factories=RINGS)
async def test_an_error_in_the_factory_costs_only_that_connection(unexpected: list[dict[str, Any]]) -> None:
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    broken = [ValueError("no protocol for you")]

    def factory() -> Recorder:
        if broken:
            raise broken.pop()
        return Echo()

    async with serving(factory) as address:
        with socket.create_connection(address) as peer:
            peer.setblocking(False)
            assert await loop.sock_recv(peer, 1) == b""
        await echo_once(address)
    (context,) = unexpected
    unexpected.clear()
    assert context["message"] == "Error on transport creation for incoming connection"
    assert isinstance(context["exception"], ValueError)


@pytest.fixture
def few_descriptors() -> Iterator[Callable[[], list[int]]]:
    """Lower the limit of open descriptors; gives a function that uses up the rest and returns them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))

    def use_up() -> list[int]:
        descriptors = []
        with contextlib.suppress(OSError):
            while True:
                descriptors.append(os.dup(0))
        return descriptors

    yield use_up
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_running_out_of_descriptors_is_told_and_tried_again(
    few_descriptors: Callable[[], list[int]], unexpected: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()

    def tell(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        unexpected.append(context)
        told.set()

    loop.set_exception_handler(tell)
    monkeypatch.setattr("asyncio.constants.ACCEPT_RETRY_DELAY", 0.01)
    monkeypatch.setattr(uringloop_server, "_RETRY_DELAY_S", 0.01)
    server = Echo()
    async with serving(lambda: server, backlog=1) as address:
        with socket.socket() as client:
            client.setblocking(False)
            descriptors = few_descriptors()
            try:
                await loop.sock_connect(client, address)
                await told.wait()
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
            await loop.sock_sendall(client, b"hello")
            assert await loop.sock_recv(client, 5) == b"hello"
        await server.until_called("connection_lost")
    assert {context["message"] for context in unexpected} == {"socket.accept() out of system resource"}
    assert {context["exception"].errno for context in unexpected} == {errno.EMFILE}
    unexpected.clear()


@pytest.mark.asyncio(loop_factories=RINGS)
async def test_a_listening_server_counts_as_one_operation_in_flight() -> None:
    loop = asyncio.get_running_loop()
    async with serving(Recorder):
        await asyncio.sleep(0)
        assert loop.statistics()["in_flight"] == 1  # type: ignore[attr-defined]
    async with connected(Recorder(), Recorder()):
        pass
