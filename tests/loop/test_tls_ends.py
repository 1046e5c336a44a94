"""TLS: how it begins and ends beside the usual way: inside another, over other sockets, too late, broken off."""

import asyncio
import contextlib
import functools
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.tls import CERTIFICATE, client_context, server_context
from tests.variants import BACKENDS, EVERY

from .helpers import Echo, Recorder, close, ending, listening_socket, pattern, serving, socket_pair
from .test_tls import connect

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)


@functools.cache
def mutual_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For a server that wants a certificate of its client, and chooses a protocol; and its client."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(CERTIFICATE)
    server.load_verify_locations(CERTIFICATE)
    server.verify_mode = ssl.CERT_REQUIRED
    server.set_alpn_protocols(["h2", "http/1.1"])
    client = ssl.create_default_context(cafile=CERTIFICATE)
    client.load_cert_chain(CERTIFICATE)
    client.set_alpn_protocols(["http/1.1"])
    return server, client


@contextlib.asynccontextmanager
async def tls_pair(client: Recorder, server: Recorder, **options: Any) -> AsyncIterator[None]:
    async with serving(lambda: server, ssl=server_context()) as address:
        await connect(client, address, **options)
        await server.until_called("connection_made")
        async with ending(client, server):
            yield


# Beginnings


async def test_tls_in_tls() -> None:
    loop = asyncio.get_running_loop()
    client, server = Recorder(), Recorder()
    async with tls_pair(client, server):
        server.transport, client.transport = await asyncio.gather(
            loop.start_tls(server.transport, server, server_context(), server_side=True),
            loop.start_tls(client.transport, client, client_context(), server_hostname="localhost"),
        )
        client.transport.write(pattern(200_000))
        server.transport.write(pattern(200_000, 7))
        await server.until_received(200_000)
        await client.until_received(200_000)
        assert (server.received, client.received) == (pattern(200_000), pattern(200_000, 7))
        client.transport.close()
        await client.until_called("connection_lost")
        await server.until_called("connection_lost")
        assert (client.lost_with, server.lost_with) == (None, None)


async def test_a_failed_upgrade_raises_and_ends_the_connection() -> None:
    loop = asyncio.get_running_loop()
    client, server = Recorder(), Recorder()
    async with serving(lambda: server) as address:
        await loop.create_connection(lambda: client, *address)
        await server.until_called("connection_made")
        upgrading = loop.create_task(loop.start_tls(client.transport, client, client_context(), server_hostname="x"))
        await server.until_received(1)
        server.transport.write(b"no TLS here\n")
        with pytest.raises(ssl.SSLError):
            await upgrading
        await server.until_called("connection_lost")


async def test_an_upgrade_that_takes_too_long_is_given_up() -> None:
    loop = asyncio.get_running_loop()
    client, server = Recorder(), Recorder()
    async with serving(lambda: server) as address:
        await loop.create_connection(lambda: client, *address)
        with pytest.raises(ConnectionAbortedError, match="handshake is taking longer"):
            await loop.start_tls(
                client.transport, client, client_context(), server_hostname="x", ssl_handshake_timeout=0.01
            )
        await server.until_called("connection_lost")


async def test_a_cancelled_connect_ends_in_the_handshake() -> None:
    listener = listening_socket()
    listener.setblocking(False)
    loop = asyncio.get_running_loop()
    connecting = loop.create_task(connect(Recorder(), listener.getsockname()))
    peer, _ = await loop.sock_accept(listener)
    with peer, listener:
        # The client's hello is here: it is in the handshake.
        assert await loop.sock_recv(peer, 1)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        while await loop.sock_recv(peer, 1 << 16):
            pass


async def test_a_server_gives_up_on_a_client_that_says_nothing() -> None:
    loop = asyncio.get_running_loop()
    server = Recorder()
    async with serving(lambda: server, ssl=server_context(), ssl_handshake_timeout=0.01) as address:
        with socket.socket() as peer:
            peer.setblocking(False)
            await loop.sock_connect(peer, address)
            assert await loop.sock_recv(peer, 1) == b""
    assert server.calls == []


async def test_a_server_in_debug_mode_tells_of_a_failed_handshake(unexpected: list[dict[str, Any]]) -> None:
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    async with serving(Recorder, ssl=server_context()) as address:
        with socket.socket() as peer:
            peer.setblocking(False)
            await loop.sock_connect(peer, address)
            await loop.sock_sendall(peer, b"GET / HTTP/1.1\r\n\r\n")
            while True:
                try:
                    if not await loop.sock_recv(peer, 100):
                        break
                except ConnectionResetError:
                    break
        while not unexpected:
            await asyncio.sleep(0)
    loop.set_debug(False)
    assert [context["message"] for context in unexpected] == ["Error on transport creation for incoming connection"]
    assert isinstance(unexpected.pop()["exception"], ssl.SSLError)


async def test_both_ends_show_a_certificate_and_agree_on_a_protocol() -> None:
    server_tls, client_tls = mutual_contexts()
    client, server = Recorder(), Recorder()
    async with serving(lambda: server, ssl=server_tls) as address:
        await connect(client, address, ssl=client_tls)
        await server.until_called("connection_made")
        async with ending(client, server):
            for end in (client, server):
                assert end.transport.get_extra_info("peercert")["subject"] == ((("commonName", "localhost"),),)
                assert end.transport.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"


async def test_a_client_without_a_certificate_loses_the_connection() -> None:
    server_tls, _ = mutual_contexts()
    client, server = Recorder(), Recorder()
    async with serving(lambda: server, ssl=server_tls) as address:
        # In TLS 1.3 the client is done with the handshake before the server refuses.
        await connect(client, address)
        await client.until_called("connection_lost")
    assert client.received == b""
    assert server.calls == []


async def test_tls_over_a_unix_socket(folder: Path) -> None:
    loop = asyncio.get_running_loop()
    client, server = Recorder(), Echo()
    path = str(folder / "socket")
    listening = await loop.create_unix_server(lambda: server, path, ssl=server_context())
    await loop.create_unix_connection(lambda: client, path, ssl=client_context(), server_hostname="localhost")
    client.transport.write(pattern(100_000))
    await client.until_received(100_000)
    assert client.received == pattern(100_000)
    await close(client, server)
    listening.close()
    await listening.wait_closed()


async def test_tls_over_connected_sockets() -> None:
    loop = asyncio.get_running_loop()
    client, server = Recorder(), Echo()
    with socket_pair() as (left, right):
        await asyncio.gather(
            loop.create_connection(lambda: client, sock=left, ssl=client_context(), server_hostname="localhost"),
            loop.connect_accepted_socket(lambda: server, right, ssl=server_context()),
        )
        client.transport.write(pattern(100_000))
        await client.until_received(100_000)
        await close(client, server)
    assert client.received == pattern(100_000)


# Ends


async def test_a_goodbye_that_is_not_answered_is_waited_for_no_longer_than_allowed() -> None:
    client, server = Recorder(), Recorder()
    async with tls_pair(client, server, ssl_shutdown_timeout=0.01):
        server.transport.pause_reading()
        client.transport.write(b"x")
        client.transport.close()
        await client.until_called("connection_lost")
        assert isinstance(client.lost_with, TimeoutError)
        assert str(client.lost_with) == "SSL shutdown timed out"


async def test_abort_drops_what_is_queued() -> None:
    client, server = Recorder(), Recorder()
    async with tls_pair(client, server):
        server.transport.pause_reading()
        # More than the sockets and the receive buffers take.
        client.transport.write(pattern(20_000_000))
        client.transport.abort()
        await client.until_called("connection_lost")
        assert client.lost_with is None
        server.transport.resume_reading()
        await server.until_called("connection_lost")
        assert server.received == pattern(len(server.received))
        assert len(server.received) < 20_000_000


async def test_there_is_no_half_closing() -> None:
    client, server = Recorder(), Recorder()
    server.keep_open_at_eof = True
    async with tls_pair(client, server):
        assert not client.transport.can_write_eof()
        with pytest.raises(NotImplementedError):
            client.transport.write_eof()
        client.transport.close()
        await client.until_called("connection_lost")
        await server.until_called("connection_lost")
        assert server.calls == ["connection_made", "eof_received", "connection_lost"]


async def test_closing_while_the_peer_still_sends() -> None:
    client, server = Recorder(), Recorder()
    async with tls_pair(client, server):
        server.transport.write(pattern(3_000_000))
        await client.until_received(1)
        client.transport.close()
        await client.until_called("connection_lost")
        await server.until_called("connection_lost")
    assert client.received == pattern(len(client.received))


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Server.close_clients is new in 3.13")
@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
async def test_a_server_can_end_its_tls_connections(method: str) -> None:
    client, server = Recorder(), Recorder()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: server, "127.0.0.1", 0, ssl=server_context())
    await connect(client, listening.sockets[0].getsockname())
    await server.until_called("connection_made")
    listening.close()
    getattr(listening, method)()
    await listening.wait_closed()
    await client.until_called("connection_lost")
    assert server.count("connection_lost") == 1


@pytest.mark.asyncio(loop_factories=("asyncio", *BACKENDS))
async def test_ten_megabytes_pass_two_layers() -> None:
    loop = asyncio.get_running_loop()
    client, server = Recorder(), Recorder()
    async with tls_pair(client, server):
        server.transport, client.transport = await asyncio.gather(
            loop.start_tls(server.transport, server, server_context(), server_side=True),
            loop.start_tls(client.transport, client, client_context(), server_hostname="localhost"),
        )
        for start in range(0, 10_000_000, 1_000_000):
            client.transport.write(pattern(1_000_000, start))
        await server.until_received(10_000_000)
        assert server.received == pattern(10_000_000)
