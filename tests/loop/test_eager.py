"""Operations that a callback finishes at once, while other completions wait to be dispatched.

Each callback drives a coroutine by hand, as an eager task does: it writes to a file, which submits and reaps in the
middle of a dispatch.  Before that, more bytes arrive for other connections, so that there is something to reap.  Each
connection has bytes of its own: bytes of another one show.
"""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import pytest_asyncio

import uringloop
from tests.housekeeping import settle
from tests.tls import client_context, server_context
from uringloop.operations import Write

every_ring = pytest.mark.asyncio(loop_factories=("auto", "selector", "ring-plain", "ring-small", "ring-tiny"))

COUNT = 8
TURNS = 100
SIZE_BYTES = 50
_TIMEOUT_S = 30


def start_now(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Run a coroutine as far as it goes, and on from there when its future is done: an eager task, also on 3.11."""
    try:
        future = coroutine.send(None)
    except StopIteration:
        return
    if future is None:
        asyncio.get_running_loop().call_soon(start_now, coroutine)
    else:
        future._asyncio_future_blocking = False
        future.add_done_callback(lambda _: start_now(coroutine))


@pytest_asyncio.fixture
async def log() -> AsyncIterator[int]:
    """A file to write to, until no write is in flight."""
    fd = os.memfd_create("log")
    yield fd
    await settle()
    os.close(fd)


class Circle:
    """Connections that pass each other the turn: the callback of one has others receive something.

    Args:
        log: the descriptor of a file, written to in each callback.

    Attributes:
        send: one function a connection, which has it receive bytes.
    """

    def __init__(self, log: int) -> None:
        self.log = log
        self.send: list[Callable[[bytes], object]] = []
        self.sent = [bytearray() for _ in range(COUNT)]
        self.received = [bytearray() for _ in range(COUNT)]
        self.begun = self.written = self.turns = 0
        self.done = asyncio.get_running_loop().create_future()

    def feed(self, number: int) -> None:
        """Have a connection receive bytes that no other one gets."""
        data = bytes([65 + number]) * SIZE_BYTES
        self.sent[number] += data
        self.send[number](data)

    def took(self, number: int, data: bytes) -> None:
        """Bytes arrived in a callback of a connection."""
        self.received[number] += data
        if self.turns < TURNS:
            self.turns += 1
            # Also for the connection whose callback this is.
            self.feed(number)
            self.feed((number + 1) % COUNT)
        self.write_now()
        if self.turns == TURNS and self.received == self.sent and not self.done.done():
            self.done.set_result(None)

    def write_now(self) -> None:
        """Write to the file, at once if the kernel can."""
        self.begun += 1
        start_now(self._write())

    async def _write(self) -> None:
        await asyncio.get_running_loop().submit(Write(self.log, b"line\n", 0))  # type: ignore[attr-defined]
        self.written += 1

    async def run(self) -> None:
        for number in range(COUNT):
            self.feed(number)
        async with asyncio.timeout(_TIMEOUT_S):
            await self.done
            while self.written < self.begun:
                await asyncio.sleep(0)
        assert self.received == self.sent


class Each(asyncio.BaseProtocol):
    """One connection of a circle; writes in all callbacks."""

    def __init__(self, circle: Circle, number: int) -> None:
        self.circle, self.number = circle, number
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.circle.write_now()

    def connection_lost(self, error: BaseException | None) -> None:
        self.circle.write_now()
        self.lost.set_result(error)

    def pause_writing(self) -> None:
        self.circle.write_now()

    def resume_writing(self) -> None:
        self.circle.write_now()

    def eof_received(self) -> None:
        self.circle.write_now()


class Plain(Each, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        self.circle.took(self.number, data)


class Buffered(Each, asyncio.BufferedProtocol):
    """Its buffer is shorter than what arrives at once."""

    buffer = b""

    def get_buffer(self, sizehint: int) -> memoryview:
        self.circle.write_now()
        self.buffer = bytearray(SIZE_BYTES - 10)  # type: ignore[assignment]
        return memoryview(self.buffer)

    def buffer_updated(self, nbytes: int) -> None:
        self.circle.took(self.number, bytes(self.buffer[:nbytes]))


class Datagrams(Each, asyncio.DatagramProtocol):
    def datagram_received(self, data: bytes, address: Any) -> None:
        self.circle.took(self.number, data)


async def close(protocols: list[Any]) -> None:
    for protocol in protocols:
        protocol.transport.close()
    for protocol in protocols:
        await protocol.lost


@every_ring
@pytest.mark.parametrize("kind", [Plain, Buffered])
async def test_in_callbacks_of_a_connection(kind: Any, log: int) -> None:
    loop = asyncio.get_running_loop()
    circle, protocols, ends = Circle(log), [], []
    for number in range(COUNT):
        ours, end = socket.socketpair()
        ends.append(end)
        protocol = kind(circle, number)
        protocols.append((await loop.connect_accepted_socket(lambda protocol=protocol: protocol, ours))[1])
        circle.send.append(end.sendall)
    await circle.run()
    for end in ends:
        end.close()
    await close(protocols)


@every_ring
async def test_in_callbacks_of_a_pipe(log: int) -> None:
    loop = asyncio.get_running_loop()
    circle, protocols, ends = Circle(log), [], []
    for number in range(COUNT):
        read, write = os.pipe()
        ends.append(os.fdopen(write, "wb", 0))
        protocol = Plain(circle, number)
        await loop.connect_read_pipe(lambda protocol=protocol: protocol, os.fdopen(read, "rb", 0))
        protocols.append(protocol)
        circle.send.append(ends[-1].write)
    await circle.run()
    for end in ends:
        end.close()
    await close(protocols)


@every_ring
async def test_in_callbacks_of_a_datagram_socket(log: int) -> None:
    """A unix one, which loses nothing."""
    loop = asyncio.get_running_loop()
    circle, protocols, ends = Circle(log), [], []
    for number in range(COUNT):
        ours, end = socket.socketpair(type=socket.SOCK_DGRAM)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        end.setblocking(False)
        ours.setblocking(False)
        ends.append(end)
        protocol = Datagrams(circle, number)
        await loop.create_datagram_endpoint(lambda protocol=protocol: protocol, sock=ours)
        protocols.append(protocol)
        waiting: list[bytes] = []
        circle.send.append(lambda data, end=end, waiting=waiting: send_in_order(end, waiting, data))
    await circle.run()
    for end in ends:
        end.close()
    await close(protocols)


def send_in_order(end: socket.socket, waiting: list[bytes], *data: bytes) -> None:
    """Send datagrams behind those that the socket has not taken yet."""
    retries = bool(waiting)
    waiting += data
    if data and retries:
        return
    try:
        while waiting:
            end.send(waiting[0])
            del waiting[0]
    except BlockingIOError:
        asyncio.get_running_loop().call_soon(send_in_order, end, waiting)


@every_ring
@pytest.mark.parametrize("kind", [Plain, Buffered])
async def test_in_callbacks_of_a_tls_connection(kind: Any, log: int) -> None:
    loop = asyncio.get_running_loop()
    circle, protocols, peers = Circle(log), [], []
    made: list[Any] = []

    def accept() -> Any:
        made.append(kind(circle, len(made)))
        return made[-1]

    server = await loop.create_server(accept, "127.0.0.1", 0, ssl=server_context())
    for number in range(COUNT):
        address = server.sockets[0].getsockname()
        _, writer = await asyncio.open_connection(*address, ssl=client_context(), server_hostname="localhost")
        while len(made) <= number or not hasattr(made[number], "transport"):
            await asyncio.sleep(0)
        protocols.append(made[number])
        peers.append(writer)
        circle.send.append(writer.write)
    await circle.run()
    for peer in peers:
        peer.transport.abort()
    await close(protocols)
    server.close()
    await server.wait_closed()


@every_ring
async def test_in_callbacks_of_futures(log: int) -> None:
    """Receives of `sock_recv`, each finished in the dispatch, whose futures' callbacks run eager tasks."""
    loop = asyncio.get_running_loop()
    circle, pairs = Circle(log), []

    async def receive(number: int, sock: socket.socket) -> None:
        while data := await loop.sock_recv(sock, 1000):
            circle.took(number, data)

    for number in range(COUNT):
        ours, end = socket.socketpair()
        ours.setblocking(False)
        pairs.append((ours, end))
        circle.send.append(end.sendall)
        start_now(receive(number, ours))
    await circle.run()
    for _, end in pairs:
        end.shutdown(socket.SHUT_WR)
    for _ in range(5):
        await asyncio.sleep(0.001)
    for ours, end in pairs:
        ours.close()
        end.close()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no eager tasks")
@every_ring
async def test_in_an_eager_task(log: int) -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[arg-type]
    circle, protocols, ends = Circle(log), [], []
    tasks: set[asyncio.Task[None]] = set()

    class Tasks(Plain):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            tasks.add(asyncio.create_task(circle._write()))

    for number in range(COUNT):
        ours, end = socket.socketpair()
        ends.append(end)
        protocol = Tasks(circle, number)
        await loop.connect_accepted_socket(lambda protocol=protocol: protocol, ours)
        protocols.append(protocol)
        circle.send.append(end.sendall)
    await circle.run()
    await asyncio.gather(*tasks)
    for end in ends:
        end.close()
    await close(protocols)


@every_ring
async def test_in_a_dispatch_within_a_dispatch(log: int) -> None:
    """A callback that runs the loop has the events dispatched that its own dispatch has not reached, several deep."""
    loop: Any = asyncio.get_running_loop()
    circle, protocols, ends = Circle(log), [], []
    depths = []

    class Nested(Plain):
        depth = 0

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            Nested.depth += 1
            depths.append(Nested.depth)
            if Nested.depth < 4:
                loop._dispatcher.wait(0)
                loop._dispatcher.dispatch()
            Nested.depth -= 1

    for number in range(COUNT):
        ours, end = socket.socketpair()
        ends.append(end)
        protocol = Nested(circle, number)
        await loop.connect_accepted_socket(lambda protocol=protocol: protocol, ours)
        protocols.append(protocol)
        circle.send.append(end.sendall)
    await circle.run()
    assert max(depths) > 1
    for end in ends:
        end.close()
    await close(protocols)


def test_an_endpoint_that_ends_before_its_event_is_told() -> None:
    """An operation that finished at once has reaped the end; then the transport is aborted, and freed a tick later."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        fd = os.memfd_create("log")
        for _ in range(20):
            ours, end = socket.socketpair()
            lost = loop.create_future()

            class Lost(asyncio.Protocol):
                def connection_lost(self, error: BaseException | None, lost: Any = lost) -> None:
                    lost.set_result(error)

            transport, protocol = await loop.connect_accepted_socket(Lost, ours)
            end.close()
            # In a callback of its own: nothing else is ready, so the write is finished at once.
            loop.call_soon(lambda: start_now(loop.submit(Write(fd, b"line\n", 0))))
            await asyncio.sleep(0)
            start_now(loop.submit(Write(fd, b"line\n", 0)))
            transport.abort()
            del transport, protocol
            await lost
        os.close(fd)

    uringloop.run(main())
