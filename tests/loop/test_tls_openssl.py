"""TLS by OpenSSL's own functions: which connections have it, a context's callbacks, and where asyncio's TLS fails."""

import _ssl
import asyncio
import ctypes
import gc
import logging
import ssl
import sys
import tracemalloc
import warnings
from asyncio import sslproto
from pathlib import Path
from typing import Any

import pytest

from tests.tls import CERTIFICATE, server_context
from tests.variants import BACKENDS, RINGS
from uringloop.tls import making

from .helpers import BufferedRecorder, Echo, Recorder, ending, pattern, serving
from .test_tls import connect
from .test_tls_ends import tls_pair
from .test_tls_records import Peer, facing_peer, socket_pair

pytestmark = pytest.mark.asyncio(loop_factories=RINGS[:1])

on_each_backend = pytest.mark.asyncio(loop_factories=BACKENDS)


def protocol_of(end: Recorder) -> type:
    return type(end.transport._ssl_protocol)  # type: ignore[attr-defined]


async def echo_once(**options: Any) -> type:
    """Echo over TLS, and return the type of the client's TLS protocol."""
    client, server = Recorder(), Echo()
    async with tls_pair(client, server, **options):
        kind = protocol_of(client)
        client.transport.write(pattern(100_000))
        await client.until_received(100_000)
        assert client.received == pattern(100_000)
    return kind


# Whose protocol it is


async def test_this_python_lets_openssl_be_found() -> None:
    """Its `_ssl` is linked to a shared library, as those of Debian and pyenv are."""
    assert making.why_asyncio() == ""
    assert (await echo_once()).__name__ == "TlsProtocol"


async def test_the_variable_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(making.VARIABLE, "asyncio")
    assert await echo_once() is sslproto.SSLProtocol
    assert making.describe_choice() == "asyncio's protocol, since URINGLOOP_TLS is asyncio"
    monkeypatch.setenv(making.VARIABLE, "openssl")
    assert making.describe_choice().endswith(ssl.OPENSSL_VERSION)
    monkeypatch.setenv(making.VARIABLE, "gnutls")
    with pytest.raises(ValueError, match="must be openssl or asyncio, not 'gnutls'"):
        making.why_asyncio()


async def test_where_openssl_is_not_found_the_protocol_is_asyncios(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uringloop.tls.session.why_not", lambda: "_ssl hides it")
    assert await echo_once() is sslproto.SSLProtocol


async def test_the_protocol_has_all_that_asyncios_transport_calls() -> None:
    assert making.missing_names() == set()


# Calls of the context


async def test_a_server_name_callback_may_change_the_context() -> None:
    seen = []
    outer = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def choose(tls: ssl.SSLObject, name: str, _: ssl.SSLContext) -> None:
        seen.append((type(tls), name))
        tls.context = server_context()

    outer.sni_callback = choose
    client, server = Recorder(), Echo()
    async with serving(lambda: server, ssl=outer) as address:
        await connect(client, address)
        await server.until_called("connection_made")
        async with ending(client, server):
            client.transport.write(b"hello")
            await client.until_received(5)
            assert server.transport.get_extra_info("ssl_object").context is server_context()
    assert seen == [(ssl.SSLObject, "localhost")]


async def test_keys_are_logged(folder: Path) -> None:
    context = ssl.create_default_context(cafile=CERTIFICATE)
    context.keylog_filename = str(folder / "keys")
    assert (await echo_once(ssl=context)).__name__ == "TlsProtocol"
    assert "CLIENT_TRAFFIC_SECRET_0" in (folder / "keys").read_text()


async def test_a_message_callback_is_called() -> None:
    seen = set()
    context: Any = ssl.create_default_context(cafile=CERTIFICATE)
    context._msg_callback = lambda _, direction, *__: seen.add(direction)
    await echo_once(ssl=context)
    assert seen == {"read", "write"}


@pytest.mark.skipif(sys.version_info < (3, 13), reason="pre-shared keys are new in Python 3.13")
async def test_pre_shared_keys() -> None:
    server_tls, client_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_tls.check_hostname, client_tls.verify_mode = False, ssl.CERT_NONE
    for context in (server_tls, client_tls):
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("PSK")
    client_tls.set_psk_client_callback(lambda hint: ("me", b"secret"))
    server_tls.set_psk_server_callback(lambda identity: b"secret" if identity == "me" else b"")
    client, server = Recorder(), Echo()
    async with serving(lambda: server, ssl=server_tls) as address:
        await connect(client, address, ssl=client_tls)
        await server.until_called("connection_made")
        async with ending(client, server):
            client.transport.write(b"hello")
            await client.until_received(5)
            assert client.transport.get_extra_info("peercert") is None


async def test_a_session_is_used_again() -> None:
    class Reusing(ssl.SSLContext):
        saved: ssl.SSLSession | None = None

        def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
            return super().wrap_bio(*arguments, session=self.saved, **options)

    context = Reusing(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(CERTIFICATE)
    for reused in (False, True):
        client, server = Recorder(), Echo()
        async with tls_pair(client, server, ssl=context):
            assert protocol_of(client).__name__ == "TlsProtocol"
            client.transport.write(b"hello")
            await client.until_received(5)
            tls = client.transport.get_extra_info("ssl_object")
            assert tls.session_reused == reused
            context.saved = tls.session


async def test_each_bio_is_passed_once() -> None:
    """For one that is passed twice, `_ssl` takes a reference too many: 2 ** 31 connections would overflow the count."""

    class Recording(ssl.SSLContext):
        def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *rest: Any, **options: Any) -> Any:
            seen.append(incoming is outgoing)
            return super().wrap_bio(incoming, outgoing, *rest, **options)

    seen: list[bool] = []
    context = Recording(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(CERTIFICATE)
    assert (await echo_once(ssl=context)).__name__ == "TlsProtocol"
    assert seen == [False]


# Where asyncio's protocol loses bytes, fails, or waits


@on_each_backend
async def test_bytes_that_come_after_the_close_are_dropped() -> None:
    server = Recorder()
    async with facing_peer(server) as peer:
        await peer.send(peer.record(b"before"))
        await server.until_received(6)
        server.transport.close()
        await peer.send(peer.record(pattern(50_000)) + peer.goodbye())
        await server.until_called("connection_lost")
        assert server.lost_with is None
        assert server.received == b"before"


@on_each_backend
async def test_a_close_while_reading_is_paused_hears_the_goodbye() -> None:
    client, server = Recorder(), Recorder()
    async with tls_pair(client, server):
        server.transport.pause_reading()
        client.transport.write(pattern(1_000_000))
        # The server's buffer is full: its transport reads no more.
        while server.transport.get_read_buffer_size() < 262144:  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        server.transport.close()
        await server.until_called("connection_lost")
        await client.until_called("connection_lost")
        assert (server.lost_with, server.received) == (None, b"")


async def test_a_close_after_an_end_that_was_not_read_yet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "asyncio")
    asyncio.get_running_loop().set_debug(True)
    server = Recorder()
    async with facing_peer(server) as peer:
        server.transport.pause_reading()
        await peer.send(peer.record(b"unread"))
        peer.end()
        while "received EOF" not in caplog.text:
            await asyncio.sleep(0)
        server.transport.close()
        await server.until_called("connection_lost")
        assert (server.lost_with, server.received) == (None, b"")


@pytest.mark.parametrize("goodbye", [False, True])
async def test_all_that_came_before_the_end_is_received_in_pauses(goodbye: bool) -> None:
    class Pausing(BufferedRecorder):
        def buffer_updated(self, nbytes: int) -> None:
            super().buffer_updated(nbytes)
            self.transport.pause_reading()  # type: ignore[attr-defined]
            asyncio.get_running_loop().call_soon(self.transport.resume_reading)  # type: ignore[attr-defined]

    server = Pausing()
    async with facing_peer(server) as peer:
        await peer.send(peer.record(pattern(1000)) + (peer.goodbye() if goodbye else b""))
        peer.end()
        await server.until_called("connection_lost")
        assert (server.lost_with, server.received) == (None, pattern(1000))
        assert server.calls[-2:] == ["eof_received", "connection_lost"]


async def test_a_bytearray_is_filled_by_several_records() -> None:
    class Filling(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> Any:
            self.memory = bytearray(100)
            return self.memory

        def buffer_updated(self, nbytes: int) -> None:
            self.received += self.memory[:nbytes]
            self._called("buffer_updated")

    server = Filling()
    async with facing_peer(server) as peer:
        await peer.send(peer.record(b"one ") + peer.record(b"two ") + peer.record(pattern(150)))
        await server.until_received(158)
        assert server.received == b"one two " + pattern(150)


@on_each_backend
@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
async def test_bytes_and_a_goodbye_come_with_the_end_of_the_handshake(kind: Any) -> None:
    server = kind()
    loop = asyncio.get_running_loop()
    with socket_pair() as (near, accepted):
        peer = Peer(near)
        accepting = loop.create_task(loop.connect_accepted_socket(lambda: server, accepted, ssl=server_context()))
        await peer.shake_hands(lambda: peer.record(pattern(20_000)) + peer.goodbye())
        await accepting
        await server.until_called("connection_lost")
    assert server.received == pattern(20_000)
    assert (server.calls[0], server.calls[-2:]) == ("connection_made", ["eof_received", "connection_lost"])


@on_each_backend
async def test_a_refused_handshake_tells_the_peer_why() -> None:
    refusing = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    refusing.sni_callback = lambda *_: ssl.ALERT_DESCRIPTION_ACCESS_DENIED
    server = Recorder()
    with socket_pair() as (near, accepted):
        accepting = asyncio.get_running_loop().connect_accepted_socket(lambda: server, accepted, ssl=refusing)
        here, there = await asyncio.gather(accepting, Peer(near).shake_hands(), return_exceptions=True)
    assert isinstance(here, ssl.SSLError)
    assert here.reason == "CALLBACK_FAILED"
    assert isinstance(there, ssl.SSLError)
    assert there.reason == "TLSV1_ALERT_ACCESS_DENIED"
    assert server.calls == []


async def test_good_records_before_a_bad_one_are_received() -> None:
    server = Recorder()
    async with facing_peer(server) as peer:
        good, bad = peer.record(b"good"), bytearray(peer.record(b"evil"))
        bad[-1] ^= 1
        await peer.send(good + bytes(bad))
        await server.until_called("connection_lost")
        assert server.received == b"good"
        assert isinstance(server.lost_with, ssl.SSLError)
        assert server.lost_with.library == "SSL"
        # The second is what a newer OpenSSL says.
        assert server.lost_with.reason in ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "RECORD_LAYER_FAILURE")


async def test_changes_of_the_key_take_little_memory() -> None:
    """They are records without bytes for the application, in any number."""
    server = Recorder()
    async with facing_peer(server) as peer:
        libssl = ctypes.CDLL(_ssl.__file__)
        wrapped: Any = peer._tls
        # Behind the object's head and its socket.
        place = object.__basicsize__ // ctypes.sizeof(ctypes.c_void_p) + 1
        tls = ctypes.c_void_p(ctypes.cast(id(wrapped._sslobj), ctypes.POINTER(ctypes.c_void_p))[place])
        for _ in range(12_000):
            assert libssl.SSL_key_update(tls, 0) == 1
            wrapped.do_handshake()
        records = peer.record(b"hello")
        assert len(records) > 12_000 * 25
        tracemalloc.start()
        try:
            await peer.send(records)
            await server.until_received(5)
            # The largest receive, and a record.
            assert tracemalloc.get_traced_memory()[1] < 300_000
        finally:
            tracemalloc.stop()
        assert server.received == b"hello"


# Callbacks


@pytest.mark.parametrize("method", ["abort", "close"])
async def test_answers_within_a_callback_come_before_its_end(method: str) -> None:
    class Answering(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.write(b"one ")
            self.transport.writelines([b"two ", bytearray(b"three")])
            assert self.transport.get_write_buffer_size() == 0  # type: ignore[attr-defined]
            getattr(self.transport, method)()
            self.transport.write(b"too late")

    client, server = Recorder(), Answering()
    async with tls_pair(client, server):
        client.transport.write(b"x")
        await server.until_called("connection_lost")
        await client.until_called("connection_lost")
        assert client.received == b"one two three"


async def test_writes_after_the_end_are_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    class Writing(Recorder):
        def connection_lost(self, exc: Exception | None) -> None:
            for _ in range(9):
                self.transport.write(b"too late")
            super().connection_lost(exc)

    client, server = Writing(), Recorder()
    async with tls_pair(client, server):
        client.transport.close()
        await client.until_called("connection_lost")
    assert "SSL connection is closed" in caplog.text


async def test_an_abandoned_transport_warns() -> None:
    client, server = Recorder(), Recorder()
    async with serving(lambda: server, ssl=server_context()) as address:
        await connect(client, address)
        await server.until_called("connection_made")
        transport: Any = client.transport
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            copy = making.hooks.SslTransport(None, transport._ssl_protocol)
            del copy
            gc.collect()
        assert [warning.category for warning in seen] == [ResourceWarning]
        async with ending(client, server):
            pass
