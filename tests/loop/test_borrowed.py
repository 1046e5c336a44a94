"""Python that runs in the middle of compiled code, and takes away what that code is working on.

A `__buffer__` in Python, a property, `__class__`, `__del__`: each may close the transport or the loop, replace the
protocol, or send something else.
"""

import asyncio
import contextlib
import gc
import socket
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import uringloop
from tests.kernel import needs_gil
from tests.tls import client_context, server_context
from tests.variants import BACKENDS
from uringloop import files

from .helpers import Observed, Recorder, facing_socket, socket_pair

each_sleep = pytest.mark.asyncio(loop_factories=BACKENDS)
usual = pytest.mark.asyncio
buffers_in_python = pytest.mark.skipif(sys.version_info < (3, 12), reason="no __buffer__ in Python")


class Trap(bytearray):
    """Bytes whose buffer calls a function when it is asked for."""

    def __init__(self, data: bytes, called: Callable[[], object]) -> None:
        super().__init__(data)
        self.called = called

    def __buffer__(self, flags: int) -> memoryview:
        self.called()
        return super().__buffer__(flags)  # type: ignore[misc]


async def both_ends(protocol: Any) -> tuple[Any, socket.socket]:
    ours, peer = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, ours)
    return transport, peer


@buffers_in_python
@usual
@pytest.mark.parametrize("size_bytes", [3, 100_000])
@pytest.mark.parametrize("method", ["close", "abort"])
async def test_written_data_closes_its_transport(method: str, size_bytes: int) -> None:
    """Nothing is sent after an abort; what the closing transport still takes arrives whole."""
    async with facing_socket(Recorder()) as (protocol, peer):
        transport = protocol.transport
        data = bytes(size_bytes)
        transport.write(Trap(data, lambda: getattr(transport, method)()))
        await protocol.until_called("connection_lost")
        received = bytearray()
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while piece := peer.recv(1 << 20):
                received += piece
        assert received in (b"", data)


@buffers_in_python
@pytest.mark.parametrize("kind", ["stream", "datagram", "pipe"])
def test_written_data_closes_the_loop(kind: str) -> None:
    """Outside of a run; the write has no effect then."""
    loop = uringloop.EventLoop()
    ours, peer = socket.socketpair(type=socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM)
    ours.setblocking(False)
    with peer:
        peer.setblocking(False)
        make: Any
        if kind == "stream":
            make = loop.connect_accepted_socket(asyncio.Protocol, ours)
        elif kind == "pipe":
            make = loop.connect_write_pipe(asyncio.BaseProtocol, ours)
        else:
            make = loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=ours)
        transport, _ = loop.run_until_complete(make)
        data = Trap(b"abc", loop.close)
        if kind == "datagram":
            transport.sendto(data)
        else:
            transport.write(data)
        assert loop.is_closed()
        with pytest.raises(BlockingIOError):
            peer.recv(10)
        del make
        if kind == "pipe":
            # The owner of the file, which closes it.
            ours.close()
        del transport
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@buffers_in_python
@usual
async def test_sent_data_sends_to_another_address() -> None:
    """Each datagram goes to the address that it was sent to."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
    with socket.socket(type=socket.SOCK_DGRAM) as first, socket.socket(type=socket.SOCK_DGRAM) as second:
        for peer in (first, second):
            peer.bind(("127.0.0.1", 0))
            peer.settimeout(10)
        inner = second.getsockname()
        transport.sendto(Trap(b"to the first", lambda: transport.sendto(b"to the second", inner)), first.getsockname())
        assert first.recv(100) == b"to the first"
        assert second.recv(100) == b"to the second"
    transport.close()
    await asyncio.sleep(0)


@usual
async def test_a_buffer_whose_getting_closes_the_transport() -> None:
    class Closing(Observed, asyncio.BufferedProtocol):
        def get_buffer(self, sizehint: int) -> bytearray:
            self.transport.abort()
            return bytearray(2)

        def buffer_updated(self, nbytes: int) -> None:
            self._called("buffer_updated")

    async with facing_socket(Closing()) as (protocol, peer):
        peer.send(b"abcdef")
        await protocol.until_called("connection_lost")
        assert protocol.count("buffer_updated") <= 1


@usual
async def test_a_protocol_whose_class_sets_another_one() -> None:
    """`isinstance` asks for `__class__`: what is set last gets the bytes, in its own way."""

    class Strange:
        transport: Any = None

        @property
        def __class__(self) -> type:
            if self.transport is not None:
                transport, self.transport = self.transport, None
                transport.set_protocol(last)
            return Strange

        def data_received(self, data: bytes) -> None:
            first.received += data

        def connection_lost(self, error: Any) -> None: ...

    first = Recorder()
    last = Recorder()
    async with facing_socket(first) as (_, peer):
        transport = first.transport
        strange: Any = Strange()
        strange.transport = transport
        transport.set_protocol(strange)
        peer.send(b"abc")
        while not first.received and not last.received:
            await asyncio.sleep(0)
        transport.set_protocol(first)
        assert bytes(first.received + last.received) == b"abc"


@usual
async def test_a_dropped_protocol_looks_at_its_transport() -> None:
    seen = []

    class Dropped(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def __del__(self) -> None:
            seen.append(self.transport.get_protocol())

    ours, peer = socket.socketpair()
    with peer:
        transport, protocol = await asyncio.get_running_loop().connect_accepted_socket(Dropped, ours)
        last = Recorder()
        del protocol
        transport.set_protocol(last)
        gc.collect()
        assert seen == [last]
        last.transport = transport
        peer.send(b"abc")
        await last.until_received(3)
        transport.close()
        await last.until_called("connection_lost")


@usual
@pytest.mark.parametrize("replaced", ["the same", "another"])
async def test_the_protocol_below_tls_is_replaced_during_a_message(replaced: str) -> None:
    """What comes later goes to the new protocol of the raw transport, be it the same one."""
    loop = asyncio.get_running_loop()
    raw_received = Recorder()

    class Replacing(Recorder):
        def data_received(self, data: bytes) -> None:
            below = self.transport._ssl_protocol
            raw = below._transport
            raw_received.transport = raw
            raw.set_protocol(raw_received)
            gc.collect()
            if replaced == "the same":
                raw.set_protocol(below)
            super().data_received(data)

    protocol = Replacing()
    server = await loop.create_server(lambda: protocol, "127.0.0.1", 0, ssl=server_context())
    address = server.sockets[0].getsockname()
    client = Recorder()
    await loop.create_connection(lambda: client, *address, ssl=client_context(), server_hostname="localhost")
    client.transport.write(b"first")
    await protocol.until_received(5)
    client.transport.write(b"second")
    if replaced == "the same":
        await protocol.until_received(11)
        assert protocol.received == b"firstsecond"
    else:
        await raw_received.until(lambda: raw_received.received)
        assert protocol.received == b"first"
    client.transport.abort()
    await client.until_called("connection_lost")
    protocol.transport.abort()
    await (protocol if replaced == "the same" else raw_received).until_called("connection_lost")
    server.close()
    await server.wait_closed()


@each_sleep
async def test_a_number_of_bytes_that_closes_its_socket() -> None:
    """Nothing is received from whatever has the descriptor's number then."""
    loop = asyncio.get_running_loop()
    with socket_pair() as (ours, peer):
        peer.send(b"own")

        class Number:
            def __index__(self) -> int:
                ours.close()
                return 10

        with pytest.raises((OSError, ValueError)):
            await loop.sock_recv(ours, Number())  # type: ignore[arg-type]


@buffers_in_python
@each_sleep
async def test_sent_data_closes_its_socket() -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (ours, peer):
        with pytest.raises((OSError, ValueError)):
            await loop.sock_sendall(ours, Trap(b"abc", ours.close))
        assert peer.recv(10) == b""


@buffers_in_python
@usual
async def test_written_data_closes_its_call(tmp_path: Path) -> None:
    """A coroutine that is running cannot be closed, and goes on."""
    refused = []

    def close() -> None:
        try:
            call.close()
        except ValueError as error:
            refused.append(str(error))
        gc.collect()

    async with files.open(tmp_path / "file", "wb") as file:
        call = file.write(Trap(b"abc", close))
        assert await call == 3
    assert set(refused) == {"coroutine already executing"}
    assert (tmp_path / "file").read_bytes() == b"abc"


@needs_gil
@usual
async def test_what_a_call_gives_while_another_one_is_dropped(tmp_path: Path) -> None:
    """The exception that brings a call's value is kept for the next; dropping its traceback may end other calls."""
    path = tmp_path / "file"
    path.write_bytes(b"first\nsecond\nthird\nfourth\n")
    async with files.open(path, "rb") as file:
        assert await file.readline() == b"first\n"
        lines = []

        class Nosy:
            def __del__(self) -> None:
                try:
                    file.readline().send(None)
                except StopIteration as stop:
                    lines.append(stop.value)

        def catch() -> Any:
            _nosy = Nosy()  # dropped with the traceback
            try:
                file.readline().send(None)
            except StopIteration as stop:
                return stop.value

        assert catch() == b"second\n"
        assert await file.readline() == b"third\n"
        assert lines == [b"fourth\n"]
