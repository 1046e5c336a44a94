"""Servers for much in one direction.  What is sent and expected is the content of a file, over and over."""

import asyncio
import ssl
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from benchmarks.servers.listening import keep, listen, tls_context

#: One chunk in so many is compared: comparing all would be much of what is measured.
COMPARED = 16
#: What aiohttp reads at a time.
READ = 256 << 10


class Sink(asyncio.Protocol):
    """Says at the end how many bytes there were, unless some were wrong."""

    transport: Any

    def __init__(self, content: bytes) -> None:
        self.content, self.size = content + content, len(content)
        self.total = self.chunks = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.chunks % COMPARED == 0 and len(data) <= self.size:
            start = self.total % self.size
            if memoryview(self.content)[start : start + len(data)] != data:
                self.transport.abort()
        self.chunks += 1
        self.total += len(data)

    def eof_received(self) -> None:
        self.transport.write(self.total.to_bytes(8, "big"))


class Flooded(asyncio.Protocol):
    """The first byte tells what comes: "f" much that nobody wants, "q" what is to be sent back."""

    transport: Any
    asked = begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if not self.begun:
            self.begun, self.asked, data = True, data[:1] == b"q", data[1:]
        if self.asked:
            self.transport.write(data)


class Source(asyncio.Protocol):
    """One write a turn of the loop, as long as it takes more: some loops tell to pause only after a while."""

    transport: Any

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.paused = self.due = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.resume_writing()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.go_on()

    def go_on(self) -> None:
        if not self.due and not self.transport.is_closing():
            self.due = True
            asyncio.get_running_loop().call_soon(self.write)

    def write(self) -> None:
        self.due = False
        if not self.paused:
            self.transport.write(self.content)
            self.go_on()


class Files(asyncio.Protocol):
    """One file for each byte that comes."""

    transport: Any

    def __init__(self, path: Path) -> None:
        self.file = path.open("rb")
        self.may_write = asyncio.Event()
        self.may_write.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        keep(asyncio.get_running_loop().create_task(self.send_file()))

    async def send_file(self) -> None:
        try:
            await asyncio.get_running_loop().sendfile(self.transport, self.file)
        except NotImplementedError:
            await self.send_without_sendfile()
        except BaseException:
            self.transport.abort()
            raise

    async def send_without_sendfile(self) -> None:
        """Reads in a thread and writes, as aiohttp does where a loop has no sendfile."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self.file.seek, 0)
        while data := await loop.run_in_executor(None, self.file.read, READ):
            self.transport.write(data)
            await self.may_write.wait()

    def pause_writing(self) -> None:
        self.may_write.clear()

    def resume_writing(self) -> None:
        self.may_write.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.may_write.set()
        self.file.close()


def sink(address: str, path: Path, tls: ssl.SSLContext | None = None) -> Awaitable[str]:
    content = path.read_bytes()
    return listen(lambda: Sink(content), address, tls, unpaced=True)


def tls_sink(address: str, path: Path) -> Awaitable[str]:
    return sink(address, path, tls_context())


def flood(address: str) -> Awaitable[str]:
    return listen(Flooded, address)


def source(address: str, path: Path, tls: ssl.SSLContext | None = None) -> Awaitable[str]:
    content = path.read_bytes()
    return listen(lambda: Source(content), address, tls, unpaced=True)


def tls_source(address: str, path: Path) -> Awaitable[str]:
    return source(address, path, tls_context())


def sendfile(address: str, path: Path) -> Awaitable[str]:
    return listen(lambda: Files(path), address, unpaced=True)
