"""Servers that answer what they read and do nothing else, so that what is measured is the loop."""

import asyncio
import contextlib
import socket
from typing import Any

from benchmarks.servers.listening import BACKLOG, bound, keep, listen, name, tls_context

CHUNK_BYTES = 256 << 10


class Echo(asyncio.Protocol):
    transport: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Short(Echo):
    """One message, then it closes."""

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        self.transport.close()


class Greeting(asyncio.Protocol):
    """One byte as soon as the connection is made, then it closes."""

    def connection_made(self, transport: Any) -> None:
        transport.write(b"!")
        transport.close()


class BufferedEcho(asyncio.BufferedProtocol):
    """Into one buffer of its own; what is written is a copy, for a transport may keep it until it is sent."""

    transport: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = memoryview(bytearray(CHUNK_BYTES))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self.buffer[:nbytes]))


class DatagramEcho(asyncio.DatagramProtocol):
    transport: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


async def protocol(address: str) -> str:
    return await listen(Echo, address)


async def short(address: str) -> str:
    return await listen(Short, address)


async def short_given(address: str) -> str:
    listener = bound(address)
    keep(await asyncio.get_running_loop().create_server(Short, sock=listener, backlog=BACKLOG))
    return name(listener)


async def tls(address: str) -> str:
    return await listen(Echo, address, tls_context())


async def tls_short(address: str) -> str:
    return await listen(Greeting, address, tls_context())


async def buffered(address: str) -> str:
    return await listen(BufferedEcho, address)


async def streams(address: str) -> str:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(CHUNK_BYTES):
                writer.write(chunk)
                await writer.drain()
        writer.close()

    return await listen(lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader(), echo), address)


async def sock(address: str) -> str:
    loop = asyncio.get_running_loop()
    listener = bound(address)
    listener.listen(BACKLOG)

    async def echo(connection: socket.socket) -> None:
        with connection, contextlib.suppress(ConnectionError):
            if address.isdigit():
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while chunk := await loop.sock_recv(connection, CHUNK_BYTES):
                await loop.sock_sendall(connection, chunk)

    async def accept() -> None:
        while True:
            connection, _ = await loop.sock_accept(listener)
            keep(loop.create_task(echo(connection)))

    keep(loop.create_task(accept()))
    return name(listener)


async def datagrams(address: str) -> str:
    endpoint = ("127.0.0.1", int(address))
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(DatagramEcho, local_addr=endpoint)
    keep(transport)
    return str(transport.get_extra_info("sockname")[1])
