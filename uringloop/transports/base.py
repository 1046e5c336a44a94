"""The methods that transports over an endpoint share: closing, pausing reads, flow control of writes, names.

The engine's half is the endpoint, a `Stream` or a `Datagram`.  It also owns the file and the protocol, and knows the
state (`engine/endpoint.pyx`).
"""

import asyncio
import contextlib
import logging
import socket
import sys
import warnings
from typing import TYPE_CHECKING, Any

from ..engine import Datagram, Stream
from ..hooks import PrivateTransport, TransportSocket
from ..operations import address

_log = logging.getLogger("asyncio")

#: getpeername(2) refuses the name of a connection that was reset; getsockopt(2) gives it, if asked for so many bytes.
_SO_PEERNAME = 28
_ADDRESS_SIZES_BYTES = {socket.AF_INET: 16, socket.AF_INET6: 28}
_SIZE_MAX = 2 * sys.maxsize + 1


class EndpointTransport:
    """The questions about a transport's life."""

    __slots__ = ()

    if TYPE_CHECKING:
        _loop: Any
        _extra: dict[str, Any]
        _endpoint: Stream | Datagram

    @property
    def _protocol(self) -> Any:
        return self._endpoint.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._endpoint.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._endpoint.protocol
        return protocol

    def is_closing(self) -> bool:
        return not self._endpoint.is_open

    def close(self) -> None:
        self._endpoint.close()

    def abort(self) -> None:
        self._endpoint.force_close(None)

    def _force_close(self, error: BaseException | None) -> None:
        self._endpoint.force_close(error)

    def __del__(self) -> None:
        endpoint = getattr(self, "_endpoint", None)  # without, `__init__` failed
        if endpoint is not None and endpoint.fd >= 0:
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self, stacklevel=2)
            with contextlib.suppress(OSError):
                endpoint.close_file()


class ReadableTransport(EndpointTransport):
    """Pauses and resumes the protocol's reading."""

    __slots__ = ()

    def is_reading(self) -> bool:
        return self._endpoint.is_open and not self._endpoint.paused

    def pause_reading(self) -> None:
        if self.is_reading():
            self._endpoint.pause()
            if self._loop.get_debug():
                _log.debug("%r pauses reading", self)

    def resume_reading(self) -> None:
        if self._endpoint.is_open and self._endpoint.paused:
            self._endpoint.resume()
            if self._loop.get_debug():
                _log.debug("%r resumes reading", self)


class WritableTransport(EndpointTransport, PrivateTransport):
    """asyncio's flow control over the endpoint's queue."""

    __slots__ = ()

    def get_write_buffer_size(self) -> int:
        """Return the number of written bytes that the kernel has not reported sent."""
        return self._endpoint.queued()

    def _set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        super()._set_write_buffer_limits(high, low)
        self._endpoint.high_water = _as_size(self._high_water)

    def _maybe_pause_protocol(self) -> None:
        super()._maybe_pause_protocol()
        if self._protocol_paused:
            self._endpoint.notify_low(_as_size(self._low_water))


def _as_size(limit: Any) -> int:
    """Return the largest size in bytes that does not exceed a limit: any number that asyncio takes, also infinity."""
    return _SIZE_MAX if limit > _SIZE_MAX else int(limit)


class SocketTransport(ReadableTransport, WritableTransport):
    """The common part of the transports of stream and datagram sockets."""

    __slots__ = ()

    @property
    def _sock_fd(self) -> int:
        return self._endpoint.opened_fd

    @property
    def _sock(self) -> socket.socket | None:
        """Return the socket; asyncio's sendfile sends through it."""
        sock: socket.socket | None = self._endpoint.file
        return sock

    def __repr__(self) -> str:
        parts = [type(self).__name__]
        state = self._endpoint.state
        if state != "open":
            parts.append(state)
        parts.append(f"fd={self._sock_fd}")
        if state != "closed" and not self._loop.is_closed():
            parts.append(f"read={'polling' if self.is_reading() else 'idle'}")
            size_bytes = self.get_write_buffer_size()
            parts.append(f"write=<{'polling' if size_bytes else 'idle'}, bufsize={size_bytes}>")
        return f"<{' '.join(parts)}>"

    def protocol_failed(self, error: BaseException, method: str) -> None:
        """Report an exception of a protocol's callback; called by the endpoint."""
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


def add_names(extra: dict[str, Any], sock: socket.socket) -> None:
    """Return the items that `get_extra_info` gives for a socket."""
    extra["socket"] = TransportSocket(sock)
    for name, get in (("sockname", socket.socket.getsockname), ("peername", _peer_of)):
        if name not in extra:
            try:
                extra[name] = get(sock)
            except OSError:
                extra[name] = None


def _peer_of(sock: socket.socket) -> Any:
    try:
        return sock.getpeername()
    except OSError:
        size_bytes = _ADDRESS_SIZES_BYTES.get(sock.family)
        if size_bytes is None:
            raise
        return address.unpack(sock.getsockopt(socket.SOL_SOCKET, _SO_PEERNAME, size_bytes))
