"""The order and the arguments of a datagram protocol's callbacks, in every path, as with asyncio."""

import asyncio
import functools
import os
import socket
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.variants import BACKENDS, FACTORIES

from .outcomes import LOCALHOST, described, general, hearing
from .recorder import Notes

FAMILIES = {"udp": socket.AF_INET, "udp6": socket.AF_INET6, "unix": socket.AF_UNIX}


class Endpoint(Notes, asyncio.DatagramProtocol):
    """Logs what it is told; addresses only by whether they are the expected one."""

    expected_source: Any = None

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received_bytes += len(data)
        self.note("datagram_received", data, addr == self.expected_source or general(addr))

    def error_received(self, exc: Exception) -> None:
        self.note("error_received", described(exc))

    async def until_datagrams(self, count: int) -> None:
        while sum(entry[0] == "datagram_received" for entry in self.log) < count:
            await self._wait("datagram_received", 0)


Script = Callable[[Endpoint, socket.socket, Any], Awaitable[None]]
SCRIPTS: dict[str, Script] = {}


def script(function: Script) -> Script:
    SCRIPTS[function.__name__] = function
    return function


@script
async def datagrams_both_ways(near: Endpoint, peer: socket.socket, address: Any) -> None:
    for data in (b"one", b"", b"x" * 9000):
        peer.sendto(data, address)
    await near.until_datagrams(3)
    near.transport.sendto(b"answer", peer.getsockname())
    near.note("answered", peer.recv(100))


@script
async def close(near: Endpoint, peer: socket.socket, address: Any) -> None:
    near.transport.close()
    near.note("closing", near.transport.is_closing())
    near.mark_turns()
    await near.until("connection_lost")


@script
async def abort(near: Endpoint, peer: socket.socket, address: Any) -> None:
    near.transport.abort()
    near.mark_turns()
    await near.until("connection_lost")


@script
async def every_end_after_another(near: Endpoint, peer: socket.socket, address: Any) -> None:
    for end in ("close", "close", "abort", "abort", "close"):
        getattr(near.transport, end)()
    near.mark_turns()
    await near.until("connection_lost")


@script
async def nothing_comes_after_close(near: Endpoint, peer: socket.socket, address: Any) -> None:
    peer.sendto(b"too late", address)
    near.transport.close()
    await near.until("connection_lost")


@script
async def too_large(near: Endpoint, peer: socket.socket, address: Any) -> None:
    near.transport.sendto(bytes(1 << 20), peer.getsockname())
    near.mark_turns()
    await near.until("error_received")


@script
async def nobody_there(near: Endpoint, peer: socket.socket, address: Any) -> None:
    name = peer.getsockname()
    peer.close()
    if isinstance(name, str):
        os.unlink(name)
        near.transport.sendto(b"x", name)
        await near.until("error_received")


@script
async def nonsense_as_data(near: Endpoint, peer: socket.socket, address: Any) -> None:
    for data in (None, "text", 5, [b"list"]):
        try:
            near.transport.sendto(data, peer.getsockname())
        except TypeError as error:
            near.note("refused", described(error))


@script
async def nonsense_as_address(near: Endpoint, peer: socket.socket, address: Any) -> None:
    near.transport.sendto(b"x", 5)
    near.mark_turns()
    await near.until("connection_lost")
    near.log = [entry[:1] for entry in near.log]


def _add_reactions() -> None:
    def add(callback: str, act: str) -> None:
        async def run(near: Endpoint, peer: socket.socket, address: Any) -> None:
            def react() -> None:
                if act == "raise":
                    raise ZeroDivisionError("in a callback")
                getattr(near.transport, act)()

            near.reactions[callback] = react
            if callback == "datagram_received":
                peer.sendto(b"one", address)
                peer.sendto(b"two", address)
                await near.until_datagrams(2 if act == "raise" else 1)
            elif callback == "error_received":
                near.transport.sendto(bytes(1 << 20), peer.getsockname())
            if act != "raise" or callback == "connection_lost":
                near.transport.close()
                await near.until("connection_lost")
            await asyncio.sleep(0)

        SCRIPTS[f"{act}_in_{callback}"] = run

    for callback in ("datagram_received", "error_received", "connection_lost"):
        for act in ("raise", "close", "abort"):
            add(callback, act)


_add_reactions()


def bound(family: int, folder: str, name: str) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    addresses = {socket.AF_INET: (LOCALHOST, 0), socket.AF_INET6: ("::1", 0), socket.AF_UNIX: f"{folder}/{name}"}
    sock.bind(addresses[socket.AddressFamily(family)])
    return sock


def play(name: str, kind: str, variant: str) -> list[Any]:
    loop = FACTORIES[variant]()
    near = Endpoint()
    raised: list[Any] = []

    async def run() -> None:
        with bound(FAMILIES[kind], folder, "peer") as peer:
            near.expected_source = peer.getsockname()
            sock = bound(FAMILIES[kind], folder, "near")
            await loop.create_datagram_endpoint(lambda: near, sock=sock)
            try:
                await SCRIPTS[name](near, peer, sock.getsockname())
            except ZeroDivisionError as error:
                raised.append(described(error))
            if not near.was_called("connection_lost"):
                near.transport.abort()
                await near.until("connection_lost")

    with tempfile.TemporaryDirectory() as folder, hearing(loop) as told:
        try:
            loop.run_until_complete(run())
        finally:
            loop.close()
    # asyncio calls a datagram callback as a callback of the loop, and says so; the name of that is its own.
    return [near.log, raised, [entry[1] for entry in told]]


expected = functools.cache(functools.partial(play, variant="asyncio"))


@pytest.mark.parametrize("variant", BACKENDS)
@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("name", SCRIPTS)
def test_callbacks_come_as_with_asyncio(name: str, kind: str, variant: str) -> None:
    for mine, theirs in zip(play(name, kind, variant), expected(name, kind), strict=True):
        assert mine == theirs
