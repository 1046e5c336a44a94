"""Protocols that write down what they are called with, and connections of every kind to put them on."""

import asyncio
import contextlib
import socket
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from tests.tls import client_context, server_context

from .outcomes import LOCALHOST, described

#: So that a queue is soon full.
_KERNEL_BUFFER_BYTES = 1 << 16


class Notes(asyncio.BaseProtocol):
    """One end of a connection: a log of its callbacks with their arguments, and what it is to do in them.

    Attributes:
        log: the callbacks in order.  Bytes that follow each other are one entry, their number and checksum, because how
            they were cut is the kernel's doing.
        reactions: by the name of a callback, what to call in it.
        keeps_open: what `eof_received` returns.
        counts_turns: whether `mark_turns` marks any.
        compared: whether what it sees is the same on all loops: not if it depends on what was still under way.
    """

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.compared = True
        self.counts_turns = True
        self._seen: set[str] = set()
        self.reactions: dict[str, Callable[[], object]] = {}
        self.keeps_open: bool | None = None
        self.transport: Any = None
        self.received_bytes = 0
        self._waiting: list[tuple[str, int, asyncio.Future[None]]] = []

    def note(self, name: str, *details: Any) -> None:
        self.log.append((name, *details))
        self._told(name)

    def _told(self, name: str) -> None:
        self._seen.add(name)
        for waiting in list(self._waiting):
            expected, size_bytes, waiter = waiting
            if expected == name and self.received_bytes >= size_bytes and not waiter.done():
                waiter.set_result(None)
                self._waiting.remove(waiting)
        if name in self.reactions:
            self.reactions[name]()

    def was_called(self, name: str) -> bool:
        return name in self._seen

    async def until(self, name: str) -> None:
        """Wait until a callback was called, if it was not."""
        if not self.was_called(name):
            await self._wait(name, 0)

    async def until_bytes(self, size_bytes: int) -> None:
        if self.received_bytes < size_bytes:
            await self._wait("data", size_bytes)

    async def _wait(self, name: str, size_bytes: int) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append((name, size_bytes, waiter))
        await waiter

    def mark_turns(self, count: int = 4) -> None:
        """Put the next turns of the loop into the log: what comes between them came in that turn."""
        if count and self.counts_turns:
            self.log.append(("turn",))
            asyncio.get_running_loop().call_soon(self.mark_turns, count - 1)

    def _received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        last = self.log.pop() if self.log and self.log[-1][0] == "data" else ("data", 0, 0)
        self.log.append(("data", last[1] + len(data), zlib.crc32(data, last[2])))
        self._told("data")

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.note("connection_made")

    def connection_lost(self, error: BaseException | None) -> None:
        self.note("connection_lost", described(error))

    def eof_received(self) -> bool | None:
        self.note("eof_received")
        return self.keeps_open

    def pause_writing(self) -> None:
        self.note("pause_writing")

    def resume_writing(self) -> None:
        self.note("resume_writing")


class Plain(Notes, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        self._received(data)


class Buffered(Notes, asyncio.BufferedProtocol):
    def __init__(self) -> None:
        super().__init__()
        self._buffer = bytearray(1 << 16)

    def get_buffer(self, sizehint: int) -> memoryview:
        self._told("get_buffer")
        return memoryview(self._buffer)

    def buffer_updated(self, size_bytes: int) -> None:
        self._received(bytes(self._buffer[:size_bytes]))


PROTOCOLS: dict[str, type[Notes]] = {"Protocol": Plain, "BufferedProtocol": Buffered}


@contextlib.asynccontextmanager
async def connected(kind: str, client: Notes, server: Notes, folder: Path) -> AsyncIterator[None]:
    """Connect the two: over "tcp", "unix" or "tls".  Both are told the end before this ends."""
    loop = asyncio.get_running_loop()
    listening: asyncio.Server
    if kind == "unix":
        path = str(folder / "listening")
        listening = await loop.create_unix_server(lambda: server, path)
        await loop.create_unix_connection(lambda: client, path)
    else:
        tls = kind == "tls"
        listening = await loop.create_server(lambda: server, LOCALHOST, 0, ssl=server_context() if tls else None)
        options = {"ssl": client_context(), "server_hostname": "localhost"} if tls else {}
        await loop.create_connection(lambda: client, *listening.sockets[0].getsockname(), **options)
    await server.until("connection_made")
    listening.close()
    for end in (client, server):
        # TLS says goodbye to the peer first, which takes as many turns as it takes.
        end.counts_turns = kind != "tls"
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            kernel_socket(end).setsockopt(socket.SOL_SOCKET, option, _KERNEL_BUFFER_BYTES)
    try:
        yield
    finally:
        for end in (client, server):
            if not end.was_called("connection_lost"):
                end.transport.abort()
                await end.until("connection_lost")
        await listening.wait_closed()


def kernel_socket(end: Notes) -> socket.socket:
    """The socket below a transport, to see and to do what the transport does not offer."""
    return end.transport.get_extra_info("socket")._sock  # type: ignore[no-any-return]
