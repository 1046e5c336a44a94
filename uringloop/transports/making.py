"""The loop's methods that make transports, which asyncio's own methods call."""

import asyncio
import contextvars
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import hooks
from ..engine import Engine
from ..operations.address import FAMILIES
from ..tls.making import feed, make_tls, take_buffered
from .datagram import DatagramTransport
from .pipe import ReadPipeTransport, WritePipeTransport
from .stream import Origin, StreamTransport

if TYPE_CHECKING:
    from ssl import SSLContext


class TransportMaking(hooks.PrivateLoop):
    """The loop's methods for transports, with the parameters of the running Python's asyncio."""

    _engine: Engine
    _transports_by_fd: dict[int, Any]

    def _make_read_pipe_transport(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: "asyncio.Future[None] | None" = None,
        extra: dict[str, Any] | None = None,
    ) -> ReadPipeTransport:
        self._check_closed()
        return ReadPipeTransport(self._engine, pipe, protocol, waiter, extra)

    def _make_write_pipe_transport(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: "asyncio.Future[None] | None" = None,
        extra: dict[str, Any] | None = None,
    ) -> WritePipeTransport:
        self._check_closed()
        return WritePipeTransport(self._engine, pipe, protocol, waiter, extra)

    async def create_datagram_endpoint(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.DatagramProtocol],
        local_addr: Any = None,
        remote_addr: Any = None,
        *,
        sock: socket.socket | None = None,
        **options: Any,
    ) -> tuple[asyncio.DatagramTransport, asyncio.DatagramProtocol]:
        """See `asyncio.loop.create_datagram_endpoint`; a socket that the loop makes may carry datagrams together."""
        made = await super().create_datagram_endpoint(protocol_factory, local_addr, remote_addr, sock=sock, **options)
        transport, _ = made
        if sock is None and isinstance(transport, DatagramTransport):
            transport.own_socket()
        return made

    def _make_datagram_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.DatagramProtocol,
        address: Any = None,
        waiter: "asyncio.Future[None] | None" = None,
        extra: dict[str, Any] | None = None,
    ) -> asyncio.DatagramTransport:
        """Make asyncio's own transport for the families whose addresses this package does not know."""
        if sock.family not in FAMILIES:
            return super()._make_datagram_transport(sock, protocol, address, waiter, extra)
        self._ensure_fd_no_transport(sock)
        self._check_closed()
        return DatagramTransport(self._engine, sock, protocol, address, waiter, extra)

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: "asyncio.Future[None] | None" = None,
        *,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        context: contextvars.Context | None = None,
    ) -> StreamTransport:
        if sock.fileno() in self._transports_by_fd:
            self._ensure_fd_no_transport(sock)
        self._check_closed()
        origin = None if server is None else Origin(server)
        transport = StreamTransport(self._engine, sock, protocol, waiter, context, origin)
        transport.add_info(extra)
        return transport

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: asyncio.BaseProtocol,
        sslcontext: "SSLContext",
        waiter: "asyncio.Future[None] | None" = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        ssl_handshake_timeout: float | None = hooks.SSL_HANDSHAKE_TIMEOUT_S,
        ssl_shutdown_timeout: float | None = hooks.SSL_SHUTDOWN_TIMEOUT_S,
        context: contextvars.Context | None = None,
    ) -> asyncio.Transport:
        """Make a TLS protocol over a transport of this package."""
        self._ensure_fd_no_transport(rawsock)
        tls, transport = make_tls(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side=server_side,
            server_hostname=server_hostname,
            handshake_timeout_s=ssl_handshake_timeout,
            shutdown_timeout_s=ssl_shutdown_timeout,
        )
        self._check_closed()
        origin = None if server is None else Origin(server)
        StreamTransport(self._engine, rawsock, tls, None, context, origin).add_info(extra)
        return transport

    async def start_tls(
        self,
        transport: Any,
        protocol: asyncio.BaseProtocol,
        sslcontext: "SSLContext",
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> asyncio.Transport:
        """See `asyncio.loop.start_tls`."""
        if hooks.ssl is None:
            raise RuntimeError("Python ssl module is not available")
        if not isinstance(sslcontext, hooks.ssl.SSLContext):
            raise TypeError(f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}")
        if not getattr(transport, "_start_tls_compatible", False):
            raise TypeError(f"transport {transport!r} is not supported by start_tls()")
        waiter = self.create_future()
        tls, upgraded = make_tls(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side=server_side,
            server_hostname=server_hostname,
            handshake_timeout_s=ssl_handshake_timeout,
            shutdown_timeout_s=ssl_shutdown_timeout,
            calls_connection_made=False,
        )
        # No byte may come before the TLS protocol knows its transport.
        transport.pause_reading()
        early = take_buffered(protocol) if server_side else b""
        transport.set_protocol(tls)
        beginning = [self.call_soon(tls.connection_made, transport)]
        if early:
            beginning.append(self.call_soon(feed, tls, early))
        beginning.append(self.call_soon(transport.resume_reading))
        try:
            await waiter
        except BaseException:
            transport.close()
            for handle in beginning:
                handle.cancel()
            # An exception in this future would keep the transport alive in a cycle.
            waiter = None  # type: ignore[assignment]
            raise
        return upgraded
