"""A socket that is closed while a task waits on it is closed for its peer, and for those who want its address."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests.variants import EVERY, RINGS

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)

Begin = Callable[[Any, socket.socket], Awaitable[Any]]

RECEIVING: dict[str, Begin] = {
    "sock_recv": lambda loop, sock: loop.sock_recv(sock, 100),
    "sock_recv_into": lambda loop, sock: loop.sock_recv_into(sock, bytearray(100)),
    "sock_recvfrom": lambda loop, sock: loop.sock_recvfrom(sock, 100),
    "sock_recvfrom_into": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(100)),
}


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    one.setblocking(False)
    other.setblocking(False)
    with one, other:
        yield one, other


async def until_in_flight() -> None:
    """Let the loop sleep: what waits is in the kernel's hands then."""
    await asyncio.sleep(0)
    await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def closed_under(waiting: Awaitable[Any], *socks: socket.socket) -> Any:
    """Close sockets under a task that waits on them.  It waits on, as with asyncio's loop, and is cancelled then."""
    task = asyncio.ensure_future(waiting)
    await until_in_flight()
    for sock in socks:
        sock.close()
    await asyncio.sleep(0)
    try:
        yield task
        assert not task.done()
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("name", RECEIVING)
async def test_the_peer_of_a_receiving_socket_sees_the_end(
    pair: tuple[socket.socket, socket.socket], name: str
) -> None:
    loop = asyncio.get_running_loop()
    async with closed_under(RECEIVING[name](loop, pair[0]), pair[0]):
        assert await loop.sock_recv(pair[1], 100) == b""


async def test_the_peer_of_a_sending_socket_sees_the_end(pair: tuple[socket.socket, socket.socket]) -> None:
    loop = asyncio.get_running_loop()
    async with closed_under(loop.sock_sendall(pair[0], bytes(10_000_000)), pair[0]):
        while await loop.sock_recv(pair[1], 1 << 20):
            pass


async def test_an_address_is_free_after_its_listener_was_closed() -> None:
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0), reuse_port=False)
    listener.setblocking(False)
    address = listener.getsockname()
    async with closed_under(loop.sock_accept(listener), listener):
        with socket.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect(address)
        socket.create_server(address).close()


async def test_a_server_on_a_socket_that_was_closed_accepts_no_more() -> None:
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    server = await loop.create_server(asyncio.Protocol, sock=listener)
    await until_in_flight()
    listener.close()
    await asyncio.sleep(0)
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(address)
    with contextlib.suppress(ValueError):  # asyncio's selector does not know the descriptor -1
        server.close()


async def test_a_datagram_port_is_free_after_its_socket_was_closed() -> None:
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    address = sock.getsockname()
    async with closed_under(loop.sock_recvfrom(sock, 100), sock):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(address)


async def test_a_connecting_socket_goes_away() -> None:
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as kept:
        listener = kept.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(2):
            filler = kept.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        client = socket.socket()
        client.setblocking(False)
        client.bind(("127.0.0.1", 0))
        address = client.getsockname()
        async with closed_under(loop.sock_connect(client, listener.getsockname()), client):
            kept.enter_context(socket.socket()).bind(address)


@pytest.mark.asyncio(loop_factories=RINGS)
async def test_many_waits_are_looked_through_too() -> None:
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as kept:
        pairs = [socket.socketpair() for _ in range(300)]
        for one, other in pairs:
            kept.enter_context(other)
            one.setblocking(False)
            other.setblocking(False)
        tasks = [loop.create_task(loop.sock_recv(one, 100)) for one, _ in pairs]
        await until_in_flight()
        for one, _ in pairs:
            one.close()
        assert await asyncio.gather(*(loop.sock_recv(other, 100) for _, other in pairs)) == [b""] * 300
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_takes_the_number_of_a_closed_socket_is_not_received_from(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    loop = asyncio.get_running_loop()
    fd = pair[0].fileno()
    task = loop.create_task(loop.sock_recv(pair[0], 100))
    # In the tick in which the receive was asked for.
    loop.call_soon(pair[0].close)
    one, other = socket.socketpair()
    with one, other:
        other.send(b"not for the old one")
        loop.call_soon(lambda: os.dup2(one.fileno(), fd))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        try:
            assert one.recv(100) == b"not for the old one"
        finally:
            os.close(fd)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("name", RECEIVING)
async def test_a_wait_that_is_cancelled_as_its_socket_is_closed_ends(
    pair: tuple[socket.socket, socket.socket], name: str
) -> None:
    loop = asyncio.get_running_loop()
    for turns in range(3):
        one, other = socket.socketpair()
        with one, other:
            one.setblocking(False)
            task = asyncio.ensure_future(RECEIVING[name](loop, one))
            await asyncio.sleep(0)
            one.close()
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert other.recv(100) == b""
