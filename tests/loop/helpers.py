"""Protocols that write down what happens to them, and connections to try them on.  Everything waits for events."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

LOCALHOST = "127.0.0.1"

_KERNEL_BUFFER_BYTES = 64 * 1024

SocketPair = contextlib.AbstractContextManager[tuple[socket.socket, socket.socket]]


class Observed(asyncio.BaseProtocol):
    """The part that the protocols below share: what was called, in order, and who waits for what."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._names: set[str] = set()
        self.received = bytearray()
        self.transport: Any = None
        self.lost_with: BaseException | None = None
        self.keep_open_at_eof = False
        self._waiters: list[tuple[Callable[[], object], asyncio.Future[None]]] = []

    def _called(self, name: str) -> None:
        self.calls.append(name)
        self._names.add(name)
        for predicate, waiter in self._waiters:
            if not waiter.done() and predicate():
                waiter.set_result(None)

    async def until(self, predicate: Callable[[], object]) -> None:
        """Wait until something is true; it is looked at after every callback."""
        if predicate():
            return
        entry = predicate, asyncio.get_running_loop().create_future()
        self._waiters.append(entry)
        try:
            await entry[1]
        finally:
            self._waiters.remove(entry)

    async def until_called(self, name: str) -> None:
        await self.until(lambda: name in self._names)

    async def until_received(self, size_bytes: int) -> None:
        await self.until(lambda: len(self.received) >= size_bytes)

    def count(self, name: str) -> int:
        return self.calls.count(name)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._called("connection_made")

    def connection_lost(self, error: BaseException | None) -> None:
        self.lost_with = error
        self._called("connection_lost")

    def pause_writing(self) -> None:
        self._called("pause_writing")

    def resume_writing(self) -> None:
        self._called("resume_writing")

    def eof_received(self) -> bool:
        self._called("eof_received")
        return self.keep_open_at_eof


class Recorder(Observed, asyncio.Protocol):
    """Keeps all that it receives."""

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._called("data_received")


class BufferedRecorder(Observed, asyncio.BufferedProtocol):
    """The same through a buffer of its own, of any size."""

    def __init__(self, size_bytes: int = 100) -> None:
        super().__init__()
        self._buffer = bytearray(size_bytes)

    def get_buffer(self, sizehint: int) -> memoryview:
        # Not the bytearray: asyncio's TLS protocol slices it, and then fills the copy.
        return memoryview(self._buffer)

    def buffer_updated(self, nbytes: int) -> None:
        self.received += self._buffer[:nbytes]
        self._called("buffer_updated")


class Echo(Recorder):
    """Sends everything back."""

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        super().data_received(data)


@contextlib.asynccontextmanager
async def serving(factory: Callable[[], asyncio.BaseProtocol], **options: Any) -> AsyncIterator[tuple[str, int]]:
    """A server on some port of this host; gives its address."""
    server = await asyncio.get_running_loop().create_server(factory, LOCALHOST, 0, **options)
    try:
        yield server.sockets[0].getsockname()
    except BaseException:
        # A test that has failed does not wait for connections that may never end.
        server.close()
        raise
    server.close()
    await server.wait_closed()


Client = TypeVar("Client", bound=Observed)
Server = TypeVar("Server", bound=Observed)


@contextlib.asynccontextmanager
async def connected(client: Client, server: Server) -> AsyncIterator[tuple[Client, Server]]:
    """Two protocols at the ends of one TCP connection, which is gone afterwards."""
    loop = asyncio.get_running_loop()
    async with serving(lambda: server) as address:
        await loop.create_connection(lambda: client, *address)
        await server.until_called("connection_made")
        async with ending(client, server):
            yield client, server


@contextlib.asynccontextmanager
async def facing_socket(
    protocol: Server, pair: Callable[[], SocketPair] | None = None
) -> AsyncIterator[tuple[Server, socket.socket]]:
    """A protocol at one end, a bare non-blocking socket at the other: for peers that behave badly."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as sockets:
        peer, accepted = sockets.enter_context((pair or socket_pair)())
        await loop.connect_accepted_socket(lambda: protocol, accepted)
        async with ending(protocol):
            yield protocol, peer


@contextlib.asynccontextmanager
async def ending(*protocols: Observed) -> AsyncIterator[None]:
    """Close connections at the end, and wait until their protocols were told, unless the test has failed anyway."""
    try:
        yield
    except BaseException:
        for protocol in protocols:
            protocol.transport.abort()
        raise
    await close(*protocols)


async def close(*protocols: Observed) -> None:
    """End connections without further ado, and wait until they are told."""
    for protocol in protocols:
        # asyncio's transport does not always bear an abort after that.
        if not protocol.count("connection_lost"):
            protocol.transport.abort()
    for protocol in protocols:
        await protocol.until_called("connection_lost")


def listening_socket() -> socket.socket:
    listener = socket.socket()
    listener.bind((LOCALHOST, 0))
    listener.listen()
    return listener


@contextlib.contextmanager
def unix_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected non-blocking sockets of this host: a full one stays so until its peer receives."""
    left, right = socket.socketpair()
    with left, right:
        for sock in (left, right):
            sock.setblocking(False)
        yield left, right


@contextlib.contextmanager
def socket_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected non-blocking TCP sockets, for which the kernel holds little: they are soon full."""
    with contextlib.closing(listening_socket()) as listener:
        left = socket.create_connection(listener.getsockname())
        right, _ = listener.accept()
    with left, right:
        for sock in (left, right):
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BUFFER_BYTES)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _KERNEL_BUFFER_BYTES)
        yield left, right


def reset(sock: socket.socket) -> None:
    """Close a TCP socket so that its peer sees a reset (SO_LINGER with no time to linger)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def fill(sock: socket.socket) -> int:
    """Write to a non-blocking socket until the kernel takes no more; returns how many bytes that were."""
    sent_bytes = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent_bytes += sock.send(bytes(65536))
    return sent_bytes


def pattern(size_bytes: int, start: int = 0) -> bytes:
    """Bytes whose period, a prime, divides no buffer size: any loss, swap or repetition shows."""
    period = bytes(number * 7 % 256 for number in range(251))
    first = start % len(period)
    repeated = period * ((first + size_bytes) // len(period) + 1)
    return repeated[first : first + size_bytes]
