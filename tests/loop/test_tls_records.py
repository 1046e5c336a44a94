"""TLS, record by record: what goes the straight way of the engine comes out as when asyncio's Python carries it."""

import asyncio
import contextlib
import gc
import shutil
import socket
import ssl
import weakref
from asyncio import sslproto
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.tls import CERTIFICATE, client_context, server_context
from tests.variants import BACKENDS, RINGS

from .helpers import LOCALHOST, BufferedRecorder, Echo, Recorder, ending, pattern, serving, socket_pair
from .test_tls import connect
from .test_tls_ends import mutual_contexts, tls_pair

pytestmark = pytest.mark.asyncio(loop_factories=("asyncio", *BACKENDS))


class Peer:
    """A client by hand over a bare socket, which says when each of its bytes is sent."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = client_context().wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    async def shake_hands(self, more: Callable[[], bytes] = bytes) -> None:
        """Do the handshake, and send more records together with its end."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.send(self._outgoing.read())
                await self._receive()
            else:
                await self.send(self._outgoing.read() + more())
                return

    async def send(self, records: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, records)

    def end(self) -> None:
        """Send the end of the connection's bytes, without a goodbye."""
        self._sock.shutdown(socket.SHUT_WR)

    async def receive(self, size_bytes: int) -> bytes:
        received = b""
        while len(received) < size_bytes:
            try:
                received += self._tls.read(size_bytes - len(received))
            except ssl.SSLWantReadError:
                await self._receive()
        return received

    async def _receive(self) -> None:
        self._incoming.write(await asyncio.get_running_loop().sock_recv(self._sock, 1 << 16))

    def record(self, data: bytes) -> bytes:
        self._tls.write(data)
        return self._outgoing.read()

    def goodbye(self) -> bytes:
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        return self._outgoing.read()


@contextlib.asynccontextmanager
async def facing_peer(server: Any, **options: Any) -> AsyncIterator[Peer]:
    loop = asyncio.get_running_loop()
    with socket_pair() as (near, accepted):
        peer = Peer(near)
        accepting = loop.connect_accepted_socket(lambda: server, accepted, ssl=server_context(), **options)
        await asyncio.gather(accepting, peer.shake_hands())
        async with ending(server):
            yield peer


# Records


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
async def test_records_that_come_together_are_received_together(kind: Any) -> None:
    server = kind()
    async with facing_peer(server) as peer:
        await peer.send(peer.record(b"one ") + peer.record(b"two ") + peer.record(b"three"))
        await server.until_received(13)
        assert server.received == b"one two three"
        assert len(server.calls) == 2


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
async def test_a_record_in_pieces_is_received_when_it_is_whole(kind: Any) -> None:
    server = kind()
    async with facing_peer(server) as peer:
        first, second = peer.record(b"first"), peer.record(b"second")
        await peer.send(first + second[:3])
        await server.until_received(5)
        await peer.send(second[3:10])
        await peer.send(second[10:])
        await server.until_received(11)
        assert server.received == b"firstsecond"
        assert len(server.calls) == 3


class CountingReads:
    """A session of OpenSSL that counts how often it is read."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.count = 0

    def read(self, *arguments: Any) -> Any:
        self.count += 1
        return self.session.read(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)


async def test_a_record_takes_few_reads_with_a_byte_of_the_next_behind_it() -> None:
    """OpenSSL has taken most of the record by then, so the bytes that have come are not those to be read."""
    server = Recorder()
    made: list[CountingReads] = []

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    wrap = context.wrap_bio

    def wrap_bio(*arguments: Any, **options: Any) -> Any:
        wrapped: Any = wrap(*arguments, **options)
        made.append(CountingReads(wrapped._sslobj))
        wrapped._sslobj = made[0]
        return wrapped

    context.wrap_bio = wrap_bio  # type: ignore[method-assign]
    with socket_pair() as (near, accepted):
        peer = Peer(near)
        accepting = asyncio.get_running_loop().connect_accepted_socket(lambda: server, accepted, ssl=context)
        await asyncio.gather(accepting, peer.shake_hands())
        async with ending(server):
            await peer.send(peer.record(b"before"))
            first, second = peer.record(pattern(16384)), peer.record(b"second")
            await server.until_received(6)
            before = made[0].count
            await peer.send(first[:-1000])
            while made[0].count == before:
                await asyncio.sleep(0)
            await peer.send(first[-1000:] + second[:1])
            await server.until_received(6 + 16384)
            assert made[0].count - before < 10
            await peer.send(second[1:])
            await server.until_received(6 + 16384 + 6)
            assert server.received == b"before" + pattern(16384) + b"second"


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
async def test_bytes_and_a_goodbye_that_come_together(kind: Any) -> None:
    server = kind()
    async with facing_peer(server) as peer:
        await peer.send(peer.record(b"the last ") + peer.record(b"word") + peer.goodbye())
        await server.until_called("connection_lost")
        assert server.received == b"the last word"
        assert server.calls[2:] == ["eof_received", "connection_lost"]
        assert server.lost_with is None


async def test_a_record_that_was_tampered_with_ends_the_connection(unexpected: list[dict[str, Any]]) -> None:
    server = Recorder()
    async with facing_peer(server) as peer:
        await peer.send(peer.record(b"good"))
        await server.until_received(4)
        record = bytearray(peer.record(b"evil"))
        record[-1] ^= 1
        await peer.send(bytes(record))
        await server.until_called("connection_lost")
        assert server.received == b"good"
        assert isinstance(server.lost_with, ssl.SSLError)
    # An SSLError is an OSError, of which only debug mode tells.
    assert unexpected == []


async def test_what_is_pending_in_openssl_waits_while_reading_is_paused() -> None:
    class Pausing(Recorder):
        def data_received(self, data: bytes) -> None:
            self.transport.pause_reading()
            super().data_received(data)

    server = Pausing()
    async with facing_peer(server) as peer:
        await peer.send(peer.record(b"one"))
        await server.until_received(3)
        await peer.send(peer.record(b"two") + peer.record(b"three"))
        server.transport.write(b"sent while paused")
        assert await peer.receive(17) == b"sent while paused"
        assert server.received == b"one"
        server.transport.resume_reading()
        await server.until_received(11)
        assert server.received == b"onetwothree"


async def test_a_certificate_asked_for_after_the_handshake() -> None:
    """What the client reads then has no bytes for the application, but is answered."""
    server_tls, client_tls = mutual_contexts.__wrapped__()  # not those of other tests: they are changed
    server_tls.verify_mode = ssl.CERT_OPTIONAL
    client_tls.post_handshake_auth = True
    client, server = Recorder(), Recorder()
    async with serving(lambda: server, ssl=server_tls) as address:
        await connect(client, address, ssl=client_tls)
        await server.until_called("connection_made")
        async with ending(client, server):
            tls = server.transport.get_extra_info("ssl_object")
            tls.verify_client_post_handshake()
            server.transport.write(b"who?")
            await client.until_received(4)
            client.transport.write(b"me")
            await server.until_received(2)
            assert tls.getpeercert()["subject"] == ((("commonName", "localhost"),),)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to renegotiate with")
async def test_what_is_written_in_a_renegotiation_follows_it() -> None:
    """OpenSSL takes nothing until the handshake is done.  Python's server cannot begin one, so it is openssl's."""
    loop = asyncio.get_running_loop()
    command = ("openssl", "s_server", "-4", "-tls1_2", "-accept", "0", "-cert", str(CERTIFICATE))
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=STDOUT)
    assert process.stdin is not None
    assert process.stdout is not None
    await process.stdout.readuntil(b"ACCEPT 0.0.0.0:")
    port = int(await process.stdout.readline())
    client = Recorder()
    with socket_pair() as (near, between), socket.create_connection((LOCALHOST, port)) as onward:
        onward.setblocking(False)

        async def forward(source: socket.socket, target: socket.socket) -> None:
            while data := await loop.sock_recv(source, 1 << 16):
                await loop.sock_sendall(target, data)

        answers = loop.create_task(forward(onward, between))
        questions = loop.create_task(forward(between, onward))
        options: Any = {"ssl": client_context(), "server_hostname": "localhost"}
        await loop.create_connection(lambda: client, sock=near, **options)
        client.transport.write(b"before\n")
        await process.stdout.readuntil(b"before\n")
        questions.cancel()
        await asyncio.wait([questions])
        process.stdin.write(b"R\n")
        begun = await loop.sock_recv(between, 1 << 16)
        client.transport.write(b"during\n")
        assert client.transport.get_write_buffer_size() == 7
        await loop.sock_sendall(onward, begun)
        questions = loop.create_task(forward(between, onward))
        await process.stdout.readuntil(b"during\n")
        assert client.transport.get_write_buffer_size() == 0
        process.stdin.write(b"after\n")
        await client.until_received(6)
        assert client.received == b"after\n"
        client.transport.abort()
        await client.until_called("connection_lost")
        for task in (answers, questions):
            task.cancel()
        await asyncio.wait([answers, questions])
    process.kill()
    await process.communicate()


# Protocols


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ZeroDivisionError(), "Fatal error on SSL protocol"),
        (asyncio.CancelledError(), "Fatal error: protocol.buffer_updated() call failed."),
    ],
)
async def test_an_error_of_the_protocol_is_told_and_ends_the_connection(
    error: BaseException, message: str, unexpected: list[dict[str, Any]]
) -> None:
    class Failing(Recorder):
        def data_received(self, data: bytes) -> None:
            raise error

    client, server = Recorder(), Failing()
    async with tls_pair(client, server):
        client.transport.write(b"x")
        await server.until_called("connection_lost")
        assert server.lost_with is error
        await client.until_called("connection_lost")
    assert [context["message"] for context in unexpected] == [message]
    assert unexpected.pop()["exception"] is error


async def test_answers_and_a_close_within_data_received_are_sent() -> None:
    class Answering(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.write(data)
            self.transport.write(bytearray(b", "))
            self.transport.write(memoryview(data))
            self.transport.write(b"")
            self.transport.close()
            self.transport.write(b"too late")

    client, server = Recorder(), Answering()
    async with tls_pair(client, server):
        client.transport.write(b"again")
        await client.until_called("connection_lost")
        assert client.received == b"again, again"
        await server.until_called("connection_lost")


async def test_a_limit_of_nothing_pauses_with_every_write() -> None:
    client, server = Recorder(), Echo()
    async with tls_pair(client, server):
        client.transport.write(b"x")
        await client.until_received(1)
        client.calls.clear()
        client.transport.set_write_buffer_limits(0)
        client.transport.write(b"y")
        await client.until_received(2)
        # asyncio takes it word for word: the buffer is at its limit even when it is empty.
        assert client.calls == ["pause_writing", "resume_writing", "data_received", "pause_writing"]
        assert client.transport.get_write_buffer_size() == 0


async def test_the_protocol_may_be_exchanged() -> None:
    client, first, second, third = Recorder(), Recorder(), BufferedRecorder(), Recorder()
    async with tls_pair(client, first):
        transport = first.transport
        for number, protocol in enumerate((first, second, third)):
            transport.set_protocol(protocol)
            protocol.transport = transport
            client.transport.write(pattern(1000, number))
            await protocol.until_received(1000)
            assert protocol.received == pattern(1000, number)
        await close_both(client, third)
        first.connection_lost(None)


async def close_both(client: Recorder, server: Recorder) -> None:
    client.transport.close()
    await client.until_called("connection_lost")
    await server.until_called("connection_lost")


# Whose TLS it is


async def test_no_garbage_is_left_of_a_connection() -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    server, client = Recorder(), Recorder()
    gc.collect()
    gc.disable()
    try:
        async with serving(lambda: server, ssl=server_context()) as address:
            await connect(client, address, ssl=context)
            client.transport.write(b"x")
            await server.until_received(1)
            await close_both(client, server)
        left = weakref.ref(context)
        del context
        # asyncio lets go of all of it with the second close, although the protocol has its transport.
        client.transport.close()
        assert left() is None
    finally:
        gc.enable()


async def test_a_replaced_part_of_asyncio_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    protocol: Any = sslproto.SSLProtocol
    replaced = protocol._do_read__copied

    def read(self: Any) -> None:
        seen.append("read")
        replaced(self)

    monkeypatch.setattr(protocol, "_do_read__copied", read)
    client, server = Recorder(), Echo()
    async with tls_pair(client, server):
        seen.clear()
        client.transport.write(b"x")
        await client.until_received(1)
    assert len(seen) >= 2


async def test_a_replaced_attribute_of_asyncio_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    values: dict[Any, Any] = {}

    def get(self: Any) -> Any:
        asked.append(self)
        return values[self]

    replacing = property(get, values.__setitem__)
    monkeypatch.setattr(sslproto.SSLProtocol, "_app_reading_paused", replacing, raising=False)
    client, server = Recorder(), Echo()
    async with tls_pair(client, server):
        asked.clear()
        client.transport.write(b"x")
        await client.until_received(1)
    assert len(asked) >= 2
    values.clear()


async def test_a_tls_object_of_ones_own_is_asked() -> None:
    class Counting(ssl.SSLObject):
        written = 0

        def write(self, data: Any) -> int:
            type(self).written += len(data)
            return super().write(data)

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.sslobject_class = Counting
    client, server = Recorder(), Echo()
    async with tls_pair(client, server, ssl=context):
        client.transport.write(b"hello")
        await client.until_received(5)
    assert Counting.written == 5


@pytest.mark.asyncio(loop_factories=RINGS)
async def test_an_open_connection_goes_the_straight_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else none of the above would show anything."""
    client, server = Recorder(), Echo()
    async with tls_pair(client, server):
        assert "write" in vars(client.transport)
        client.transport.write(b"x")
        await client.until_received(1)

        def fail(*_: Any) -> None:
            raise AssertionError("asyncio's Python is called")

        with monkeypatch.context() as patch:
            for name in ("get_buffer", "buffer_updated", "_do_read", "_process_outgoing", "_write_appdata"):
                patch.setattr(sslproto.SSLProtocol, name, fail)
            client.transport.write(b"y")
            await client.until_received(2)
    assert client.received == b"xy"
