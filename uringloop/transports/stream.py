"""`StreamTransport`: a connected stream socket as an `asyncio.Transport`.

The hot half is the `Stream`, whose `write` and `writelines` are this object's own attributes.  Here is what other
sockets do not have: end of file, and sendfile's hold on the queue.
"""

import asyncio
import contextvars
import logging
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..hooks import SendfileMode
from ..ring import Endpoint
from .base import SocketTransport
from .state import Connection

if TYPE_CHECKING:
    from ..loop import EventLoop

_log = logging.getLogger("asyncio")

_SERVER_TAKES_TRANSPORT = sys.version_info >= (3, 13)


#: As plain numbers: `socket.socket` makes enums of them, each time they are asked for.
_family_of: Callable[[socket.socket], int] = socket.SocketType.family.__get__
_type_of: Callable[[socket.socket], int] = socket.SocketType.type.__get__


def _disable_nagle(sock: socket.socket) -> None:
    """As asyncio does to all its TCP sockets."""
    if (
        sock.proto == socket.IPPROTO_TCP
        and _family_of(sock) in (socket.AF_INET, socket.AF_INET6)
        and _type_of(sock) == socket.SOCK_STREAM
    ):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class StreamTransport(SocketTransport):
    """See `asyncio.Transport`.

    Args:
        loop: whose ring carries the bytes.
        sock: connected and non-blocking; owned from now on.
        protocol: an `asyncio.Protocol` or `asyncio.BufferedProtocol`.
        waiter: done when the protocol's `connection_made` was called.
        extra: for `get_extra_info`.
        server: the `asyncio.Server` that accepted the connection.
        context: in which the protocol is called, as asyncio has it from Python 3.15 on.
    """

    _sendfile_compatible = SendfileMode.TRY_NATIVE
    _start_tls_compatible = True

    def __init__(
        self,
        loop: "EventLoop",
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: "asyncio.Future[None] | None" = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        context: contextvars.Context | None = None,
    ) -> None:
        self._server = server
        self._empty_waiter: asyncio.Future[None] | None = None
        #: Of a sendfile that uses the socket.
        self.stop_sendfile: Callable[[BaseException], object] | None = None
        _disable_nagle(sock)
        super().__init__(loop, sock, protocol, waiter, extra, context)
        if not loop._unread.empty:
            unread = loop._unread.take_all(sock)
            if unread:
                self._stream.preload(unread)
        self.write = self._stream.write  # type: ignore[method-assign]
        self.writelines = self._stream.writelines  # type: ignore[method-assign]

    def _open_endpoint(self, loop: "EventLoop", sock: socket.socket) -> Endpoint:
        # First what may refuse: the server may have been closed meanwhile.
        if self._server is not None:
            self._server._attach(*((self,) if _SERVER_TAKES_TRANSPORT else ()))
        self._stream = loop._open_stream(sock.fileno(), self, self._context)
        return self._stream

    def protocol_failed(self, error: BaseException, method: str) -> None:
        self._fatal_error(error, f"Fatal error: protocol.{method}() call failed.")

    # Reading

    def eof_received_by_stream(self) -> None:
        """The peer will send no more; called by the stream."""
        if self._loop.get_debug():
            _log.debug("%r received EOF", self)
        try:
            keep_open = self._protocol.eof_received()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.protocol_failed(error, "eof_received")
            return
        if not keep_open:
            self.close()

    # Writing

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if self._state is Connection.OPEN:
            self._stream.write_eof()

    def _make_empty_waiter(self) -> "asyncio.Future[None]":
        """asyncio's sendfile waits here for the queue to empty, and writes are refused until `_reset_empty_waiter`."""
        if self._empty_waiter is not None:
            raise RuntimeError("Empty waiter is already set")
        self._empty_waiter = self._loop.create_future()
        if self._stream.hold_writes():
            self._empty_waiter.set_result(None)
        return self._empty_waiter

    def _reset_empty_waiter(self) -> None:
        self._empty_waiter = None
        self._stream.allow_writes()

    def queue_emptied(self) -> None:
        """Called by the stream, as `hold_writes` asked."""
        if self._empty_waiter is not None and not self._empty_waiter.done():
            self._empty_waiter.set_result(None)

    # Closing

    def _leave(self, abort: bool) -> None:
        if abort and self._empty_waiter is not None and not self._empty_waiter.done():
            self._empty_waiter.set_exception(closed_error())
        if self.stop_sendfile is not None:
            self.stop_sendfile(closed_error())
        super()._leave(abort)

    def _lose_connection(self) -> None:
        try:
            super()._lose_connection()
        finally:
            server, self._server = self._server, None
            if server is not None:
                server._detach(*((self,) if _SERVER_TAKES_TRANSPORT else ()))

    def stream_failed(self, error: OSError, direction: str) -> None:
        """A receive or a send was refused; called by the stream."""
        if self._loop.get_debug():
            _log.debug("%r: Fatal %s error on socket transport", self, direction, exc_info=error)
        self._force_close(error)


def closed_error() -> ConnectionError:
    """What asyncio's sendfile raises when its connection is closed, whoever closed it."""
    return ConnectionError("Connection is closed by peer")
