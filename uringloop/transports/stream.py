"""`StreamTransport`: a connected stream socket as an `asyncio.Transport`.

The hot half is the `Stream`, whose `write` and `writelines` are this object's own attributes.  Here is the rest:
states, errors, end of file, closing.  The socket is closed when the kernel has let go of it, right after
`connection_lost`.
"""

import asyncio
import contextlib
import logging
import socket
import sys
import warnings
from typing import TYPE_CHECKING, Any

from ..hooks import SendfileMode, TransportSocket, set_nodelay
from .base import Reading, Writing, wake
from .state import Connection

if TYPE_CHECKING:
    from ..loop import EventLoop

_log = logging.getLogger("asyncio")

_SERVER_TAKES_TRANSPORT = sys.version_info >= (3, 13)


class StreamTransport(Reading, Writing):
    """See `asyncio.Transport`.

    Args:
        loop: whose ring carries the bytes.
        sock: connected and non-blocking; owned from now on.
        protocol: an `asyncio.Protocol` or `asyncio.BufferedProtocol`.
        waiter: done when the protocol's `connection_made` was called.
        extra: for `get_extra_info`.
        server: the `asyncio.Server` that accepted the connection.
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
    ) -> None:
        self._sock: socket.socket | None = None
        self._sock_fd = sock.fileno()
        # First what may refuse: a server that was closed meanwhile, a protocol that is none.
        connection_made = protocol.connection_made
        if server is not None:
            server._attach(*((self,) if _SERVER_TAKES_TRANSPORT else ()))
        self._stream = loop._open_stream(self._sock_fd, self)
        super().__init__(extra, loop)
        self._extra["socket"] = TransportSocket(sock)
        self._add_names(sock)
        self._server = server
        self._empty_waiter: asyncio.Future[None] | None = None
        set_nodelay(sock)
        self._sock = sock
        unread = loop._take_unread(sock)
        if unread:
            self._stream.preload(unread)
        self.write = self._stream.write  # type: ignore[method-assign]
        self.writelines = self._stream.writelines  # type: ignore[method-assign]
        self.set_protocol(protocol)
        loop._transports[self._sock_fd] = self
        loop.call_soon(connection_made, self)
        loop.call_soon(self._stream.start)
        if waiter is not None:
            loop.call_soon(wake, waiter)

    def _add_names(self, sock: socket.socket) -> None:
        for name, get in (("sockname", sock.getsockname), ("peername", sock.getpeername)):
            if name not in self._extra:
                try:
                    self._extra[name] = get()
                except OSError:
                    self._extra[name] = None

    def __repr__(self) -> str:
        parts = [type(self).__name__]
        if self._state is not Connection.OPEN:
            parts.append(self._state.value)
        parts.append(f"fd={self._sock_fd}")
        if self._state is Connection.OPEN:
            parts.append(f"read={'polling' if self.is_reading() else 'idle'}")
            size_bytes = self.get_write_buffer_size()
            parts.append(f"write=<{'polling' if size_bytes else 'idle'}, bufsize={size_bytes}>")
        return f"<{' '.join(parts)}>"

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

    def _force_close(self, error: BaseException | None) -> None:
        if self._empty_waiter is not None and not self._empty_waiter.done():
            self._empty_waiter.set_exception(ConnectionError("Connection is closed by peer"))
        super()._force_close(error)

    def _lose_connection(self) -> None:
        try:
            super()._lose_connection()
        finally:
            server, self._server = self._server, None
            if server is not None:
                server._detach(*((self,) if _SERVER_TAKES_TRANSPORT else ()))

    def _close_file(self) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    def stream_failed(self, error: OSError, direction: str) -> None:
        """A receive or a send was refused; called by the stream."""
        if self._loop.get_debug():
            _log.debug("%r: Fatal %s error on socket transport", self, direction, exc_info=error)
        self._force_close(error)

    def protocol_failed(self, error: BaseException, method: str) -> None:
        """A callback of the protocol raised; called by the stream."""
        self._fatal_error(error, f"Fatal error: protocol.{method}() call failed.")

    def _fatal_error(self, error: BaseException, message: str = "Fatal error on transport") -> None:
        if isinstance(error, OSError):
            if self._loop.get_debug():
                _log.debug("%r: %s", self, message, exc_info=True)
        else:
            self._loop.call_exception_handler(
                {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
            )
        self._force_close(error)

    def __del__(self) -> None:
        if self._sock is not None:
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self, stacklevel=2)
            with contextlib.suppress(OSError):
                self._sock.close()
