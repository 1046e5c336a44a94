"""What the transports over a `Stream` share: closing, pausing what is read, pausing who writes.

Closing is the delicate part, because three things end at times of their own: the protocol's part, with
`connection_lost`; the queue, which a closing transport still sends; and the kernel's hold on the descriptor.  As in
asyncio the protocol is told in the tick after the transport was closed, or when the queue is sent.  The file is closed
right after that, or later, when nothing of the stream is in flight any more.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from ..hooks import PrivateTransport
from .state import Connection, advance

if TYPE_CHECKING:
    from ..ring import Stream

_log = logging.getLogger("asyncio")


class OverStream:
    """The life of a transport from open over closing to closed."""

    if TYPE_CHECKING:
        _loop: Any
        _stream: Stream
        _protocol: Any

    _state = Connection.OPEN
    _error: BaseException | None = None
    _loses_soon = False
    _released = False

    def _close_file(self) -> None:
        """Close the socket or pipe."""
        raise NotImplementedError

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
        self._stream.set_protocol(protocol)

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
        """Have the stream closed, and the protocol told once there is nothing more to be sent."""
        self._released = self._stream.close(abort)
        if self._stream.lost and not self._loses_soon:
            self._loses_soon = True
            self._loop.call_soon(self._lose_connection)

    def _lose_connection(self) -> None:
        """Tell the protocol; the file is closed now if the kernel is done with it, else by `stream_closed`."""
        self._state = advance(self._state, Connection.CLOSED)
        try:
            self._protocol.connection_lost(self._error)
        finally:
            if self._stream.is_quiet():
                self._close_file()
            if self._released:
                self._stream.free()
            self._protocol = None

    def stream_closed(self) -> None:
        """Nothing of the stream is queued or in flight any more; called by the stream."""
        self._released = True
        if self._state is Connection.CLOSED:
            self._close_file()
            self._stream.free()
        elif self._state is Connection.CLOSING and not self._loses_soon:
            self._lose_connection()
        # Else the loop is being closed under an open transport, which asyncio tells nobody either.


class Writing(OverStream, PrivateTransport):
    """asyncio's flow control over the stream's queue."""

    def get_write_buffer_size(self) -> int:
        """Bytes written that the kernel has not reported sent."""
        return self._stream.queued()

    def _set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        super()._set_write_buffer_limits(high, low)
        self._stream.high_water = self._high_water

    def _maybe_pause_protocol(self) -> None:
        super()._maybe_pause_protocol()
        if self._protocol_paused:
            self._stream.notify_low(self._low_water)


class Reading(OverStream):
    """Pausing and resuming what the protocol receives."""

    def is_reading(self) -> bool:
        return self._state is Connection.OPEN and not self._stream.paused

    def pause_reading(self) -> None:
        if self.is_reading():
            self._stream.pause()
            if self._loop.get_debug():
                _log.debug("%r pauses reading", self)

    def resume_reading(self) -> None:
        if self._state is Connection.OPEN and self._stream.paused:
            self._stream.resume()
            if self._loop.get_debug():
                _log.debug("%r resumes reading", self)


def wake(waiter: "asyncio.Future[None]") -> None:
    """Tell who waits for a transport that its protocol's `connection_made` was called."""
    if not waiter.done():
        waiter.set_result(None)
