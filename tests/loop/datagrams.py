"""Datagram protocols that write down what happens to them, and endpoints and sockets to try them on."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from .helpers import LOCALHOST, Observed


class Recorder(Observed, asyncio.DatagramProtocol):
    """Keeps all that it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.datagrams: list[tuple[bytes, Any]] = []
        self.errors: list[Exception] = []

    @property
    def contents(self) -> list[bytes]:
        return [data for data, _ in self.datagrams]

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.datagrams.append((data, addr))
        self._called("datagram_received")

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)
        self._called("error_received")

    async def until_datagrams(self, count: int) -> None:
        await self.until(lambda: len(self.datagrams) >= count)

    async def until_errors(self, count: int) -> None:
        await self.until(lambda: len(self.errors) >= count)


class Echo(Recorder):
    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)
        super().datagram_received(data, addr)


@contextlib.asynccontextmanager
async def endpoint(protocol: Recorder | None = None, **options: Any) -> AsyncIterator[Recorder]:
    """A protocol on some port of this host, unless options say otherwise; closed in the end."""
    protocol = protocol or Recorder()
    if not options:
        options = {"local_addr": (LOCALHOST, 0)}
    await asyncio.get_running_loop().create_datagram_endpoint(lambda: protocol, **options)
    try:
        yield protocol
    finally:
        if "connection_lost" not in protocol.calls:
            protocol.transport.abort()
        await protocol.until_called("connection_lost")


def name_of(protocol: Recorder) -> Any:
    return protocol.transport.get_extra_info("sockname")


def bound_socket(family: int, folder: Path, name: str = "peer") -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    if family == socket.AF_UNIX:
        sock.bind(str(folder / name))
    else:
        sock.bind((LOCALHOST if family == socket.AF_INET else "::1", 0))
    return sock


def on(family: int, folder: Path, name: str = "own") -> dict[str, Any]:
    """Options for an endpoint of this family that has an address."""
    return {"sock": bound_socket(family, folder, name)}


async def a_tick() -> None:
    for _ in range(3):
        await asyncio.sleep(0)
