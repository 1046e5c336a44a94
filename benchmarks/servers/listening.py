"""Where servers listen: a TCP port of 127.0.0.1 (0 is any free one), or the path of a unix socket."""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

BACKLOG = 4096
#: It does not pace what is sent.
CONGESTION_CONTROL = b"cubic"
#: Of localhost, with its key.
CERTIFICATE = Path(__file__).resolve().parents[2] / "tests" / "loop" / "localhost.pem"

_kept: set[object] = set()


def keep(thing: object) -> None:
    """A loop holds neither its servers nor its tasks; tasks are let go when they are done."""
    _kept.add(thing)
    if asyncio.isfuture(thing):
        thing.add_done_callback(_kept.discard)


def tls_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


async def listen(
    factory: Callable[[], asyncio.BaseProtocol],
    address: str,
    tls: ssl.SSLContext | None = None,
    *,
    unpaced: bool = False,
) -> str:
    """The address that it got.

    unpaced: the connections send as fast as they can.  BBR, which is the default of some machines, would pace them by
    what it takes for the link's rate, and measure itself.
    """
    loop = asyncio.get_running_loop()
    if address.isdigit():
        server = await loop.create_server(factory, "127.0.0.1", int(address), backlog=BACKLOG, ssl=tls)
    else:
        try:
            server = await loop.create_unix_server(factory, address, backlog=BACKLOG, ssl=tls)
        except NotImplementedError:  # some of those can do it all the same
            server = await loop.create_server(factory, sock=bound(address), backlog=BACKLOG, ssl=tls)
    keep(server)
    if unpaced:
        with socket.socket(fileno=os.dup(server.sockets[0].fileno())) as listener, contextlib.suppress(OSError):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION_CONTROL)
    return name(server.sockets[0])


def bound(address: str) -> socket.socket:
    if address.isdigit():
        # asyncio sets TCP_NODELAY only where the protocol is named.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", int(address)))
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address)
    listener.setblocking(False)
    return listener


def name(listener: Any) -> str:
    at = listener.getsockname()
    return at if isinstance(at, str) else str(at[1])
