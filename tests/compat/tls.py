"""Runs CPython's tests of TLS that make no connection of a loop, with this package's TLS in the place of theirs.

    python -m tests.compat.tls --backend epoll -k session

The echo servers of `test_ssl` call `SSLContext.wrap_socket`.  Here that returns `EngineSocket`, a blocking shell around
a connection over TLS, on a loop of the server's thread.  Clients are CPython's.  `SslProtoHandshakeTests` of asyncio
makes an `SSLProtocol` over a mocked transport; here it gets a `TlsProtocol`.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import importlib
import socket
import ssl
import sys
import threading
import unittest
from collections.abc import Iterable, Iterator
from typing import Any
from unittest import mock

import uringloop
from uringloop.tls import making

CLASSES = ("ThreadedTests", "TestPostHandshakeAuth", "TestSSLDebug")
#: By test, the reason why it is left out.
LEFT_OUT = {
    "test_starttls": "goes on in plain text after TLS, which no asyncio transport can",
    "test_fatal_error_no_name_error": "calls a private method of SSLProtocol",
    "test_data_received_after_closing": "calls buffer_updated, and a TlsProtocol is no BufferedProtocol",
}
_made: list[str] = []


class _Protocol(asyncio.Protocol):
    def __init__(self) -> None:
        self.received = bytearray()
        self.ended = False
        self.error: Exception | None = None
        self.changed = asyncio.Event()
        self.lost = False

    def connection_made(self, transport: Any) -> None:
        _made.append(type(transport._ssl_protocol).__name__)

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.changed.set()

    def eof_received(self) -> None:
        self.ended = True
        self.changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = self.lost = True
        self.error = exc
        self.changed.set()


class EngineSocket:
    """A server's end of a connection, with the methods of an `SSLSocket` that `test_ssl` calls."""

    def __init__(self, context: ssl.SSLContext, sock: socket.socket, backend: str) -> None:
        self._loop = uringloop.EventLoop(backend=backend)  # type: ignore[arg-type]
        self._loop.set_exception_handler(lambda *_: None)
        # The caller goes on to use its socket.
        accepted = sock.dup()
        accepted.setblocking(False)
        try:
            accepting = self._loop.connect_accepted_socket(_Protocol, accepted, ssl=context)
            self._transport, self._protocol = self._loop.run_until_complete(accepting)
        except BaseException:
            self._loop.close()
            raise
        self._sock = sock
        self._tls: Any = self._transport.get_extra_info("ssl_object")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tls, name)

    def _wait(self) -> None:
        self._protocol.changed.clear()
        self._loop.run_until_complete(self._protocol.changed.wait())

    def read(self, size_bytes: int = 1024) -> bytes:
        protocol = self._protocol
        while not protocol.received and not protocol.ended:
            self._wait()
        if not protocol.received and protocol.error is not None:
            raise protocol.error
        data = bytes(protocol.received[:size_bytes])
        del protocol.received[:size_bytes]
        return data

    def write(self, data: bytes) -> int:
        self._transport.write(data)
        self._loop.run_until_complete(asyncio.sleep(0))
        return len(data)

    send = sendall = write
    recv = read

    def unwrap(self) -> socket.socket:
        self.close()
        if self._protocol.error is not None:
            raise self._protocol.error
        return self._sock

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self._transport.close()
        while not self._protocol.lost:
            self._wait()
        self._loop.close()
        self._sock.close()


def _wrap(original: Any, handler: type, backend: str) -> Any:
    @functools.wraps(original)
    def wrap_socket(self: ssl.SSLContext, sock: socket.socket, server_side: bool = False, **options: Any) -> Any:
        if isinstance(threading.current_thread(), handler):
            return EngineSocket(self, sock, backend)
        return original(self, sock, server_side, **options)

    return wrap_socket


def _handshake_tests(backend: str) -> type[unittest.TestCase]:
    """Return asyncio's tests of an `SSLProtocol` over a mocked transport, for a `TlsProtocol`."""
    test_sslproto = importlib.import_module("test.test_asyncio.test_sslproto")
    utilities = importlib.import_module("test.test_asyncio.utils")
    original: Any = test_sslproto.SslProtoHandshakeTests

    class SslProtoHandshakeTests(original):  # type: ignore[misc]
        def setUp(self) -> None:
            utilities.TestCase.setUp(self)
            self.loop = uringloop.EventLoop(backend=backend)  # type: ignore[arg-type]
            self.set_event_loop(self.loop)

        def ssl_protocol(self, *, waiter: Any = None, proto: Any = None) -> Any:
            context = utilities.simple_client_sslcontext()
            proto = asyncio.Protocol() if proto is None else proto
            tls, transport = making.make_tls(
                self.loop,
                proto,
                context,
                waiter,
                server_side=False,
                server_hostname=None,
                handshake_timeout_s=0.1,
                shutdown_timeout_s=None,
            )
            _made.append(type(tls).__name__)
            self.addCleanup(transport.close)
            return tls

        def connection_made(self, tls: Any, *, do_handshake: Any = None) -> mock.Mock:
            """A client without a peer waits in its handshake, as a mocked session does."""
            transport = mock.Mock()
            tls.connection_made(transport)
            return transport

    return SslProtoHandshakeTests


def _chosen(classes: Iterable[type[unittest.TestCase]], pattern: str) -> Iterator[unittest.TestCase]:
    for each in classes:
        for name in unittest.defaultTestLoader.getTestCaseNames(each):
            if pattern in name and name not in LEFT_OUT:
                yield each(name)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.compat.tls", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backend", choices=("io_uring", "epoll"), default="io_uring")
    parser.add_argument("-k", dest="pattern", default="", help="only tests with this in their name")
    parser.add_argument("-v", action="store_true")
    options = parser.parse_args()
    test_ssl = importlib.import_module("test.test_ssl")
    handler = test_ssl.ThreadedEchoServer.ConnectionHandler
    ssl.SSLContext.wrap_socket = _wrap(ssl.SSLContext.wrap_socket, handler, options.backend)  # type: ignore[method-assign]
    classes = [getattr(test_ssl, name) for name in CLASSES]
    classes.append(_handshake_tests(options.backend))
    test_ssl.setUpModule()
    result = unittest.TextTestRunner(verbosity=1 + options.v).run(unittest.TestSuite(_chosen(classes, options.pattern)))
    print(f"connections by {', '.join(f'{name} {_made.count(name)}' for name in sorted(set(_made)))}")
    print(f"left out: {', '.join(f'{name} ({reason})' for name, reason in LEFT_OUT.items())}")
    return not result.wasSuccessful()


if __name__ == "__main__":
    sys.exit(main())
