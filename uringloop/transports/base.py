"""What the transports over an endpoint of the ring share: closing, pausing what is read, pausing who writes.

The hot half is the endpoint, a `Stream` or a `Datagram`.  Closing is the delicate part, because three things end at
times of their own: the protocol's part, with `connection_lost`; the queue, which a closing transport still sends; and
the kernel's hold on the descriptor.  As in asyncio the protocol is told in the tick after the transport was closed, or
when the queue is sent.  The file is closed right after that, or later, when the kernel has let go of it.
"""

import asyncio
import contextlib
import contextvars
import logging
import socket
import warnings
from typing import TYPE_CHECKING, Any

from ..hooks import PrivateTransport, TransportSocket
from ..ring import Endpoint
from .state import Connection, advance

if TYPE_CHECKING:
    from ..loop import EventLoop

_log = logging.getLogger("asyncio")


class EndpointTransport:
    """The life of a transport from open over closing to closed."""

    if TYPE_CHECKING:
        _loop: Any
        _extra: dict[str, Any]
        _endpoint: Endpoint
        _protocol: Any

    _state = Connection.OPEN
    _error: BaseException | None = None
    #: In which the protocol is called; without, each callback has a copy of the one that it comes from.
    _context: contextvars.Context | None = None
    _loses_soon = False
    _released = False
    #: The socket or pipe; None before `__init__` has succeeded, and when it is closed.
    _file: Any = None

    def _begin(
        self, protocol: asyncio.BaseProtocol, waiter: "asyncio.Future[None] | None", starts: bool = True
    ) -> None:
        """The end of `__init__`: the protocol is told soon, then the endpoint starts, then the waiter is told."""
        self.set_protocol(protocol)
        call_soon, context = self._loop.call_soon, self._context
        call_soon(protocol.connection_made, self, context=context)
        if starts:
            call_soon(self._endpoint.start, context=context)
        if waiter is not None:
            call_soon(_wake, waiter, context=context)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
        self._endpoint.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def is_closing(self) -> bool:
        return self._state is not Connection.OPEN

    def close(self) -> None:
        self._leave(abort=False)

    def abort(self) -> None:
        self._force_close(None)

    def _force_close(self, error: BaseException | None) -> None:
        if self._loses_soon or self._state is Connection.CLOSED:
            return
        if self._error is None:
            self._error = error
        self._leave(abort=True)

    def _leave(self, abort: bool) -> None:
        if self._state is Connection.OPEN:
            self._state = advance(self._state, Connection.CLOSING)
        elif not abort:
            return
        self.finish(abort)

    def finish(self, abort: bool = False) -> None:
        """Have the endpoint closed, and the protocol told once there is nothing more to be sent."""
        self._released = self._endpoint.close(abort)
        if self._endpoint.lost and not self._loses_soon:
            self._loses_soon = True
            self._loop.call_soon(self._lose_connection, context=self._context)

    def _lose_connection(self) -> None:
        """Tell the protocol; the file is closed now if the kernel is done with it, else by `file_released`."""
        self._state = advance(self._state, Connection.CLOSED)
        # Not kept: its traceback may lead back to this transport.
        error, self._error = self._error, None
        try:
            self._protocol.connection_lost(error)
        finally:
            self._protocol = None
            self._endpoint.set_protocol(None)
            if self._endpoint.is_quiet():
                self._close_file()
            if self._released:
                self._endpoint.free()

    def file_released(self) -> None:
        """Nothing of the file is queued or in flight any more; called by the endpoint."""
        self._released = True
        if self._state is Connection.CLOSED:
            self._close_file()
            self._endpoint.free()
        elif not self._loses_soon:
            self._lose_connection()

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def __del__(self) -> None:
        if self._file is not None:
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self, stacklevel=2)
            with contextlib.suppress(OSError):
                self._close_file()


class Reading(EndpointTransport):
    """Pausing and resuming what the protocol receives."""

    def is_reading(self) -> bool:
        return self._state is Connection.OPEN and not self._endpoint.paused

    def pause_reading(self) -> None:
        if self.is_reading():
            self._endpoint.pause()
            if self._loop.get_debug():
                _log.debug("%r pauses reading", self)

    def resume_reading(self) -> None:
        if self._state is Connection.OPEN and self._endpoint.paused:
            self._endpoint.resume()
            if self._loop.get_debug():
                _log.debug("%r resumes reading", self)


class Writing(EndpointTransport, PrivateTransport):
    """asyncio's flow control over the endpoint's queue."""

    def get_write_buffer_size(self) -> int:
        """Bytes written that the kernel has not reported sent."""
        return self._endpoint.queued()

    def _set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        super()._set_write_buffer_limits(high, low)
        self._endpoint.high_water = self._high_water

    def _maybe_pause_protocol(self) -> None:
        super()._maybe_pause_protocol()
        if self._protocol_paused:
            self._endpoint.notify_low(self._low_water)


class SocketTransport(Reading, Writing):
    """What the transports of stream and of datagram sockets have in common.

    Args:
        loop: whose ring carries the bytes.
        sock: non-blocking; owned from now on.
        protocol: told of everything; `connection_made` soon.
        waiter: done when the protocol's `connection_made` was called.
        extra: for `get_extra_info`.
        context: in which the protocol is called.
    """

    def __init__(
        self,
        loop: "EventLoop",
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: "asyncio.Future[None] | None",
        extra: dict[str, Any] | None,
        context: contextvars.Context | None = None,
    ) -> None:
        _ = protocol.connection_made  # refuses what is no protocol, before anything is opened
        self._context = context
        self._sock_fd = sock.fileno()
        self._endpoint = self._open_endpoint(loop, sock)
        super().__init__(extra, loop)
        self._extra["socket"] = TransportSocket(sock)
        self._add_names(sock)
        self._file = sock
        loop._transports[self._sock_fd] = self
        self._begin(protocol, waiter)

    @property
    def _sock(self) -> socket.socket | None:
        """asyncio's sendfile sends through it."""
        sock: socket.socket | None = self._file
        return sock

    def _open_endpoint(self, loop: "EventLoop", sock: socket.socket) -> Endpoint:
        """The ring's half of the socket, which tells this transport."""
        raise NotImplementedError

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
        if self._state is not Connection.CLOSED and not self._loop.is_closed():
            parts.append(f"read={'polling' if self.is_reading() else 'idle'}")
            size_bytes = self.get_write_buffer_size()
            parts.append(f"write=<{'polling' if size_bytes else 'idle'}, bufsize={size_bytes}>")
        return f"<{' '.join(parts)}>"

    def protocol_failed(self, error: BaseException, method: str) -> None:
        """A callback of the protocol raised; called by the endpoint."""
        raise NotImplementedError

    def _fatal_error(self, error: BaseException, message: str = "Fatal error on transport") -> None:
        if isinstance(error, OSError):
            if self._loop.get_debug():
                _log.debug("%r: %s", self, message, exc_info=True)
        else:
            self._loop.call_exception_handler(
                {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
            )
        self._force_close(error)


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
