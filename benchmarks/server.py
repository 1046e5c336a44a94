"""The servers that the benchmarks load, each in one process on one loop.

    python -m benchmarks.server --loop uvloop --mode protocol --at 0

They answer what they read and do nothing else, so that what is measured is the loop.  A server listens on a TCP port
of 127.0.0.1 (0: any free one) or on the path of a unix socket, and says where when it is ready.
"""

import argparse
import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks import contenders

BACKLOG = 4096
CHUNK_BYTES = 256 << 10


class Echo(asyncio.Protocol):
    transport: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


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
    _kept.add(transport)
    return str(transport.get_extra_info("sockname")[1])


MODES: dict[str, Callable[[str], Awaitable[str]]] = {
    "protocol": protocol,
    "buffered": buffered,
    "streams": streams,
    "sock": sock,
    "datagrams": datagrams,
}

_kept: set[object] = set()


def keep(task: "asyncio.Task[None]") -> None:
    _kept.add(task)
    task.add_done_callback(_kept.discard)


async def listen(factory: Callable[[], asyncio.BaseProtocol], address: str) -> str:
    """Where it listens."""
    loop = asyncio.get_running_loop()
    if address.isdigit():
        server = await loop.create_server(factory, "127.0.0.1", int(address), backlog=BACKLOG)
    else:
        try:
            server = await loop.create_unix_server(factory, address, backlog=BACKLOG)
        except NotImplementedError:  # some of those can do it all the same
            server = await loop.create_server(factory, sock=bound(address), backlog=BACKLOG)
    _kept.add(server)
    return name(server.sockets[0])


def bound(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_INET if address.isdigit() else socket.AF_UNIX)
    listener.bind(("127.0.0.1", int(address)) if address.isdigit() else address)
    listener.setblocking(False)
    return listener


def name(listener: Any) -> str:
    at = listener.getsockname()
    return at if isinstance(at, str) else str(at[1])


async def serve(mode: str, address: str) -> None:
    print(f"listening at {await MODES[mode](address)}", flush=True)
    await asyncio.get_running_loop().create_future()


def compute() -> None:
    number = 0
    while True:
        number = (number * 1103515245 + 12345) % 2147483648


def main() -> None:
    parser = argparse.ArgumentParser(description="A server to be loaded.")
    parser.add_argument("--loop", choices=contenders.LOOPS, required=True)
    parser.add_argument("--mode", choices=MODES, default="protocol")
    parser.add_argument("--at", default="0", metavar="PORT_OR_PATH")
    parser.add_argument("--busy", action="store_true", help="beside a thread that computes in Python without end")
    options = parser.parse_args()
    if options.busy:
        threading.Thread(target=compute, daemon=True).start()
    contenders.run(options.loop, serve(options.mode, options.at))


if __name__ == "__main__":
    main()
