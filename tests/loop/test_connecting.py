"""Connecting to names with several addresses: happy eyeballs, the order of families, all errors; options of servers."""

import asyncio
import contextlib
import errno
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.variants import EVERY

from .helpers import LOCALHOST, Recorder, close, listening_socket, serving

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)


def resolving_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """Have every name stand for these addresses, in this order."""

    async def getaddrinfo(host: Any, port: Any, **options: Any) -> list[Any]:
        return [
            (
                socket.AF_INET6 if ":" in address[0] else socket.AF_INET,
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,
                "",
                address,
            )
            for address in addresses
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


def noting_connects(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The addresses that are tried, in order."""
    loop = asyncio.get_running_loop()
    tried: list[Any] = []
    connect = loop.sock_connect

    async def sock_connect(sock: socket.socket, address: Any) -> None:
        tried.append(address)
        await connect(sock, address)

    monkeypatch.setattr(loop, "sock_connect", sock_connect)
    return tried


@contextlib.contextmanager
def silent_address() -> Iterator[tuple[str, int]]:
    """An address that neither accepts nor refuses: its backlog is full, so the kernel drops what asks for more."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(listening_socket())
        listener.listen(0)
        for _ in range(4):
            filler = sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()


def refusing_address() -> tuple[str, int]:
    with listening_socket() as listener:
        address: tuple[str, int] = listener.getsockname()
        return address


async def test_an_address_that_does_not_answer_is_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    client, server = Recorder(), Recorder()
    async with serving(lambda: server) as answering:
        with silent_address() as silent:
            resolving_to(monkeypatch, silent, answering)
            await loop.create_connection(lambda: client, "name", 1, happy_eyeballs_delay=0.01)
            assert client.transport.get_extra_info("peername") == answering
        await server.until_called("connection_made")
        await close(client, server)


async def test_addresses_take_turns_by_family(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    tried = noting_connects(monkeypatch)
    port = refusing_address()[1]
    hosts = ["::1", "::ffff:127.0.0.1", "127.0.0.1", "127.0.0.2"]
    for interleave, order in ((None, [0, 1, 2, 3]), (0, [0, 1, 2, 3]), (1, [0, 2, 1, 3]), (2, [0, 1, 2, 3])):
        tried.clear()
        resolving_to(monkeypatch, *((host, port) for host in hosts))
        with pytest.raises(OSError, match=r"Multiple exceptions|Connect call failed"):
            await loop.create_connection(Recorder, "name", 1, interleave=interleave)
        assert [address[0] for address in tried] == [hosts[number] for number in order], interleave


@pytest.mark.parametrize("delay_s", [None, 0.01])
async def test_every_error_is_told_if_asked_for(monkeypatch: pytest.MonkeyPatch, delay_s: float | None) -> None:
    loop = asyncio.get_running_loop()
    addresses = [refusing_address(), refusing_address()]
    resolving_to(monkeypatch, *addresses)
    options = {} if sys.version_info < (3, 12) else {"all_errors": True}
    expected = OSError if sys.version_info < (3, 12) else ExceptionGroup
    with pytest.raises(expected) as raised:
        await loop.create_connection(Recorder, "name", 1, happy_eyeballs_delay=delay_s, **options)
    if isinstance(raised.value, ExceptionGroup):
        assert [error.errno for error in raised.value.exceptions] == [errno.ECONNREFUSED] * 2
        assert [str(error) for error in raised.value.exceptions] == [
            f"[Errno {errno.ECONNREFUSED}] Connect call failed {address}" for address in addresses
        ]


async def test_a_cancelled_race_leaves_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    tried = noting_connects(monkeypatch)
    with silent_address() as one, silent_address() as two:
        resolving_to(monkeypatch, one, two)
        racing = loop.create_task(loop.create_connection(Recorder, "name", 1, happy_eyeballs_delay=0.001))
        while len(tried) < 2:
            await asyncio.sleep(0)
        racing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await racing


@pytest.mark.skipif(sys.version_info < (3, 13), reason="keep_alive is new in 3.13")
@pytest.mark.parametrize("keep_alive", [True, False, None])
async def test_a_server_keeps_connections_alive_if_told(keep_alive: bool | None) -> None:
    loop = asyncio.get_running_loop()
    client, server = Recorder(), Recorder()
    async with serving(lambda: server, keep_alive=keep_alive) as address:
        await loop.create_connection(lambda: client, *address)
        await server.until_called("connection_made")
        sock = server.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == bool(keep_alive)
        await close(client, server)


async def test_two_servers_share_a_port_if_told() -> None:
    loop = asyncio.get_running_loop()
    one = await loop.create_server(Recorder, LOCALHOST, 0, reuse_port=True)
    two = await loop.create_server(Recorder, *one.sockets[0].getsockname(), reuse_port=True)
    with pytest.raises(OSError, match="address already in use") as raised:
        await loop.create_server(Recorder, *one.sockets[0].getsockname())
    assert raised.value.errno == errno.EADDRINUSE
    for server in (one, two):
        server.close()
        await server.wait_closed()
