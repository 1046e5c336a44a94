"""Listening sockets: one accept operation each, and a transport for every connection that it brings.

`asyncio.Server` stays asyncio's; it calls `start` and `stop` through the loop.
"""

import asyncio
import contextlib
import contextvars
import errno
import logging
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..hooks import TransportSocket
from ..operations import AcceptMany
from .stream import Accepted, StreamTransport, delays_small_writes

if TYPE_CHECKING:
    from ..loop import EventLoop

_log = logging.getLogger("asyncio")

#: After these the process is out of something: asyncio waits as long before it accepts again.
_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_RETRY_DELAY_S = 1
#: The connection was gone before it was accepted; the next one may be fine (accept(2)).
_CONNECTION_GONE = {
    errno.ECONNABORTED,
    errno.EINTR,
    errno.EAGAIN,
    errno.EPROTO,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENOPROTOOPT,
    errno.EOPNOTSUPP,
    errno.ECANCELED,
}


class Listener:
    """One listening socket.

    Args:
        loop: whose ring accepts.
        sock: listening.
        protocol_factory: called once a connection.
        server: the `asyncio.Server`, or None.
        tls: arguments of the loop's `_make_ssl_transport`, or None for plain connections.
        context: each connection has a copy of it for all of its callbacks, as asyncio has it from Python 3.15 on.
            If None, it is the current one, and each callback has a copy.
    """

    def __init__(
        self,
        loop: "EventLoop",
        sock: socket.socket,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        server: Any,
        tls: dict[str, Any] | None,
        context: contextvars.Context | None,
    ) -> None:
        self._loop = loop
        self._sock = sock
        # As plain numbers: `socket.socket` makes enums of them, each time they are asked for.
        family, kind, proto = int(sock.family), int(sock.type) | socket.SOCK_NONBLOCK, sock.proto
        self._socket_arguments = family, kind, proto
        self._accepted_info = Accepted(family, kind, proto, delays_small_writes(family, kind, proto))
        self._protocol_factory = protocol_factory
        self._server = server
        self._tls = tls
        self._context = contextvars.copy_context() if context is None else context
        self._one_context = context is not None
        self._retry: asyncio.TimerHandle | None = None
        multishot = "multishot_accept" in loop._ring.features.enabled
        self._accept = AcceptMany(sock.fileno(), multishot, self._accepted, self._failed)
        self._stopped = False

    def start(self) -> None:
        """Accept from now on."""
        self._retry = None
        if self._stopped:
            return
        while kept := self._loop._unaccepted.take(self._sock):
            self._accepted(kept[0])
        self._accept.submit(self._loop._dispatcher)

    def stop(self) -> None:
        """Accept no more."""
        self._stopped = True
        if self._retry is not None:
            self._retry.cancel()
        self._accept.abandon()

    def _accepted(self, fd: int) -> None:
        if self._loop._debug:
            self._log_accepted(fd)
        context = self._context.copy()
        context.run(self._connect, fd, context)

    def _log_accepted(self, fd: int) -> None:
        sock = socket.socket(*self._socket_arguments, fd)
        with contextlib.suppress(OSError):  # the peer may be gone already
            _log.debug("%r got a new connection from %r: %r", self._server, sock.getpeername(), sock)
        sock.detach()

    def _connect(self, fd: int, context: contextvars.Context) -> None:
        """As asyncio: an error in making a connection is told in debug mode only, and costs that connection alone."""
        protocol = transport = sock = None
        try:
            protocol = self._protocol_factory()
            if self._tls is not None:
                sock = socket.socket(*self._socket_arguments, fd)
                self._loop.create_task(self._connect_tls(sock, protocol, context if self._one_context else None))
            else:
                transport = StreamTransport(
                    self._loop,
                    fd,
                    protocol,
                    None,
                    None,
                    self._server,
                    context if self._one_context else None,
                    self._accepted_info,
                    context,
                )
        except (SystemExit, KeyboardInterrupt):
            _close(fd, sock)
            raise
        except BaseException as error:
            _close(fd, sock)
            self._report(error, protocol, transport)

    async def _connect_tls(
        self, sock: socket.socket, protocol: asyncio.BaseProtocol, context: contextvars.Context | None
    ) -> None:
        transport = None
        assert self._tls is not None
        try:
            waiter: Any = self._loop.create_future()
            transport = self._loop._make_ssl_transport(
                sock,
                protocol,
                waiter=waiter,
                server_side=True,
                server=self._server,
                context=context,
                **self._tls,
            )
            try:
                await waiter
            except BaseException:
                transport.close()
                # An exception in this future can keep the protocol alive in a cycle.
                waiter = None
                raise
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._report(error, protocol, transport)

    def _report(self, error: BaseException, protocol: Any, transport: Any) -> None:
        if self._loop.get_debug():
            context = {"message": "Error on transport creation for incoming connection", "exception": error}
            context |= {k: v for k, v in (("protocol", protocol), ("transport", transport)) if v is not None}
            self._loop.call_exception_handler(context)

    def _failed(self, error: OSError) -> None:
        if error.errno in _OUT_OF_RESOURCES:
            self._loop.call_exception_handler(
                {
                    "message": "socket.accept() out of system resource",
                    "exception": error,
                    "socket": TransportSocket(self._sock),
                }
            )
            self._retry = self._loop.call_later(_RETRY_DELAY_S, self.start)
        elif error.errno in _CONNECTION_GONE:
            self.start()
        else:
            self._loop.call_exception_handler({"message": "Exception on accepting a connection", "exception": error})


def _close(fd: int, sock: socket.socket | None) -> None:
    if sock is None:
        os.close(fd)
    else:
        sock.close()


class ListenerSet:
    """The listening sockets of a loop.  Not by descriptor: the socket may have been closed by its own connection."""

    def __init__(self, loop: "EventLoop") -> None:
        self._loop = loop
        self._by_socket: dict[socket.socket, Listener] = {}

    def start(
        self,
        sock: socket.socket,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        server: Any,
        tls: dict[str, Any] | None,
        context: contextvars.Context | None,
    ) -> None:
        """Accept on a socket."""
        listener = Listener(self._loop, sock, protocol_factory, server, tls, context)
        self._by_socket[sock] = listener
        listener.start()

    def stop(self, sock: socket.socket) -> None:
        """Stop accepting on a socket, if it is served at all."""
        listener = self._by_socket.pop(sock, None)
        if listener is not None:
            listener.stop()
