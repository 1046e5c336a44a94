"""An echo server, in the three ways that asyncio offers: protocols, streams, and plain sockets.

    python examples/echo_server.py --mode protocol --loop uringloop --port 9000

The event loop is chosen in one place, `asyncio.Runner(loop_factory=...)`; nothing else knows which one it is.
"""

import argparse
import asyncio
import contextlib
import importlib
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast

LOOPS = {
    "uringloop": "uringloop:new_event_loop",
    "uvloop": "uvloop:new_event_loop",
    "asyncio": "asyncio:SelectorEventLoop",
}
BACKLOG = 4096
CHUNK_BYTES = 65536


@dataclass
class Served:
    connections: int = 0
    chunks: int = 0
    open: set[asyncio.Transport] = field(default_factory=set)


class Echo(asyncio.Protocol):
    def __init__(self, served: Served) -> None:
        self.served = served

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.served.connections += 1
        self.served.open.add(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.served.open.remove(self.transport)

    def data_received(self, data: bytes) -> None:
        self.served.chunks += 1
        self.transport.write(data)


async def serve_protocol(listener: socket.socket, served: Served) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Echo(served), sock=listener, backlog=BACKLOG)
    try:
        await loop.create_future()
    finally:
        server.close()  # which leaves open connections alone
        for transport in tuple(served.open):
            transport.abort()


async def serve_streams(listener: socket.socket, served: Served) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.connections += 1
        try:
            while chunk := await reader.read(CHUNK_BYTES):
                served.chunks += 1
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            pass  # the peer is gone, which ends its own connection only
        finally:
            writer.close()

    # A task that the server starts by itself would be left behind when the server is closed.
    async with asyncio.TaskGroup() as tasks:
        server = await asyncio.start_server(
            lambda reader, writer: tasks.create_task(echo(reader, writer)), sock=listener, backlog=BACKLOG
        )
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            server.close()


async def serve_sock(listener: socket.socket, served: Served) -> None:
    loop = asyncio.get_running_loop()

    async def echo(connection: socket.socket) -> None:
        served.connections += 1
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                while chunk := await loop.sock_recv(connection, CHUNK_BYTES):
                    served.chunks += 1
                    await loop.sock_sendall(connection, chunk)
            except ConnectionError:
                pass

    async with asyncio.TaskGroup() as tasks:
        while True:
            connection, _ = await loop.sock_accept(listener)
            tasks.create_task(echo(connection))


MODES: dict[str, Callable[[socket.socket, Served], Awaitable[None]]] = {
    "protocol": serve_protocol,
    "streams": serve_streams,
    "sock": serve_sock,
}


async def serve(mode: str, loop_name: str, host: str, port: int) -> Served:
    """Serves until a signal cancels it."""
    served = Served()
    this = cast("asyncio.Task[Served]", asyncio.current_task())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, this.cancel)
    with socket.create_server((host, port), backlog=BACKLOG) as listener:
        listener.setblocking(False)
        host, port = listener.getsockname()
        print(f"listening on {host}:{port} ({mode}, {loop_name})", flush=True)
        with contextlib.suppress(asyncio.CancelledError):
            await MODES[mode](listener, served)
    return served


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    module, _, attribute = LOOPS.get(name, name).partition(":")
    return cast(Callable[[], asyncio.AbstractEventLoop], getattr(importlib.import_module(module), attribute))


def main() -> None:
    parser = argparse.ArgumentParser(description="An asyncio echo server.")
    parser.add_argument("--mode", choices=MODES, default="protocol")
    parser.add_argument("--loop", default="uringloop", help=f"{', '.join(LOOPS)} or MODULE:FACTORY")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000, help="0 takes any free port")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=loop_factory(options.loop)) as runner:
        served = runner.run(serve(options.mode, options.loop, options.host, options.port))
    print(f"served {served.connections} connections, {served.chunks} chunks")


if __name__ == "__main__":
    main()
