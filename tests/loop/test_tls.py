"""TLS: asyncio's own protocol over the transports."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.tls import client_context, server_context
from tests.variants import EVERY

from .helpers import (
    LOCALHOST,
    BufferedRecorder,
    Echo,
    Recorder,
    close,
    ending,
    listening_socket,
    pattern,
    reset,
    serving,
)

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)


async def connect(protocol: Recorder, address: tuple[str, int], **options: Any) -> None:
    options = {"ssl": client_context(), "server_hostname": "localhost"} | options
    await asyncio.get_running_loop().create_connection(lambda: protocol, *address, **options)


async def test_what_is_sent_comes_back() -> None:
    client, server = Recorder(), Echo()
    async with serving(lambda: server, ssl=server_context()) as address:
        await connect(client, address)
        client.transport.write(b"hello")
        await client.until_received(5)
        assert client.received == b"hello"
        client.transport.close()
        await client.until_called("connection_lost")
        await server.until_called("connection_lost")
    assert (client.lost_with, server.lost_with) == (None, None)


async def test_a_megabyte_each_way_at_once() -> None:
    client, server = Recorder(), BufferedRecorder(5000)
    async with serving(lambda: server, ssl=server_context()) as address:
        await connect(client, address)
        await server.until_called("connection_made")
        async with ending(client, server):
            client.transport.write(pattern(1_000_000))
            server.transport.write(pattern(1_000_000, 5))
            await server.until_received(1_000_000)
            await client.until_received(1_000_000)
            assert server.received == pattern(1_000_000)
            assert client.received == pattern(1_000_000, 5)


async def test_close_sends_what_is_queued() -> None:
    client, server = Recorder(), Recorder()
    async with serving(lambda: server, ssl=server_context()) as address:
        await connect(client, address)
        client.transport.write(pattern(2_000_000))
        client.transport.close()
        await server.until_called("connection_lost")
        await client.until_called("connection_lost")
    assert server.received == pattern(2_000_000)


async def test_a_paused_reader_stops_the_writer() -> None:
    client, server = Recorder(), Recorder()
    async with serving(lambda: server, ssl=server_context()) as address:
        await connect(client, address)
        await server.until_called("connection_made")
        async with ending(client, server):
            server.transport.pause_reading()
            sent_bytes = 0
            while not client.count("pause_writing"):
                assert sent_bytes < 50_000_000
                client.transport.write(pattern(1_000_000, sent_bytes))
                sent_bytes += 1_000_000
            server.transport.resume_reading()
            await server.until_received(sent_bytes)
            await client.until_called("resume_writing")
            assert server.received == pattern(sent_bytes)


async def test_extra_info_tells_of_tls_and_of_the_socket() -> None:
    client, server = Recorder(), Recorder()
    async with serving(lambda: server, ssl=server_context()) as address:
        await connect(client, address)
        transport = client.transport
        assert transport.get_extra_info("peername") == address
        assert transport.get_extra_info("peercert")["subject"] == ((("commonName", "localhost"),),)
        assert transport.get_extra_info("ssl_object").version().startswith("TLS")
        assert transport.get_extra_info("cipher")
        await server.until_called("connection_made")
        await close(client, server)


async def test_an_unknown_certificate_is_refused_at_both_ends() -> None:
    async with serving(Recorder, ssl=server_context()) as address:
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(Recorder(), address, ssl=ssl.create_default_context())


async def test_a_server_that_does_not_speak_tls_is_an_error() -> None:
    server = Echo()
    async with serving(lambda: server) as address:
        with pytest.raises(ssl.SSLError):
            await connect(Recorder(), address)
        await server.until_called("connection_lost")


async def test_a_reset_in_the_handshake_is_an_error() -> None:
    listener = listening_socket()
    connecting = asyncio.create_task(connect(Recorder(), listener.getsockname()))
    listener.setblocking(False)
    peer, _ = await asyncio.get_running_loop().sock_accept(listener)
    reset(peer)
    listener.close()
    with pytest.raises(ConnectionError):
        await connecting


async def test_a_handshake_that_takes_too_long_is_given_up() -> None:
    listener = listening_socket()
    with pytest.raises(ConnectionAbortedError, match="handshake is taking longer"):
        await connect(Recorder(), listener.getsockname(), ssl_handshake_timeout=0.01)
    listener.close()


async def test_start_tls_upgrades_a_connection() -> None:
    loop = asyncio.get_running_loop()

    class Upgrading(Recorder):
        """Echoes in the clear, answers STARTTLS, and echoes in TLS from then on."""

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.write(data)
            if data == b"STARTTLS":
                self.upgrade = loop.create_task(self.start_tls())

        async def start_tls(self) -> None:
            self.transport = await loop.start_tls(self.transport, self, server_context(), server_side=True)
            self._called("upgraded")

    client, server = Recorder(), Upgrading()
    async with serving(lambda: server) as address:
        await loop.create_connection(lambda: client, *address)
        client.transport.write(b"clear")
        await client.until_received(5)
        client.transport.write(b"STARTTLS")
        await client.until_received(13)
        client.transport = await loop.start_tls(client.transport, client, client_context(), server_hostname="localhost")
        await server.until_called("upgraded")
        client.transport.write(pattern(100_000))
        await client.until_received(13 + 100_000)
        assert client.received == b"clearSTARTTLS" + pattern(100_000)
        client.transport.close()
        await client.until_called("connection_lost")
        await server.until_called("connection_lost")


async def test_streams_speak_tls() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(echo, LOCALHOST, 0, ssl=server_context())
    reader, writer = await asyncio.open_connection(
        *server.sockets[0].getsockname(), ssl=client_context(), server_hostname="localhost"
    )
    writer.write(b"over TLS\n")
    assert await reader.readline() == b"over TLS\n"
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def converse_over_tls(upgrade: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
    """Have a client go over to TLS and send a line, which `upgrade`, the server's half, sends back."""
    server = await asyncio.start_server(upgrade, LOCALHOST, 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    await writer.start_tls(client_context(), server_hostname="localhost")
    writer.write(b"over TLS\n")
    assert await reader.readline() == b"over TLS\n"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_streams_upgrade_with_start_tls() -> None:
    async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await writer.start_tls(server_context())
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    await converse_over_tls(upgrade)
