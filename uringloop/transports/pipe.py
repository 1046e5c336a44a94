"""`ReadPipeTransport` and `WritePipeTransport`: one end of a pipe, FIFO, socket or tty, as asyncio's pipe transports.

Both hold a `Stream` that reads and writes instead of receiving and sending.  As with asyncio, they differ from a
connection:

- The transport reports an exception in `data_received`, and goes on reading.
- `eof_received` cannot keep the pipe open.
- A write goes out at once as far as the pipe takes it, with one write(2) each.  Other processes may write to the same
  pipe, and a write of at most PIPE_BUF must not be torn.  Writes to a datagram socket must not be joined.
- A pipe that is only written to is polled, so its protocol learns that the reader has gone.  For a socket, data from
the
  other side counts as that too.  A tty is not polled: it has no reader to lose.
- A caller who pauses reading may hand the descriptor to a child, such as one that reads the terminal for a while.  So a
  pause also cancels the read.

A multishot read needs a file that can be polled, which /dev/zero cannot.  So a character device is read by one READ at
a time.  So is a datagram socket, whose messages must fit into the buffer.
"""

import asyncio
import errno
import logging
import os
import select
import socket
import stat
from typing import Any

from ..engine import Engine
from .base import EndpointTransport, ReadableTransport, WritableTransport

_log = logging.getLogger("asyncio")

_LOST_WRITES_BEFORE_WARNING = 5


class _Kind:
    """The sort of file that a pipe transport carries.

    Raises:
        ValueError: a pipe transport cannot carry this sort.
    """

    def __init__(self, fd: int, refusal: str) -> None:
        mode = os.fstat(fd).st_mode
        self.is_socket = stat.S_ISSOCK(mode)
        self.is_fifo = stat.S_ISFIFO(mode)
        if not (self.is_socket or self.is_fifo or stat.S_ISCHR(mode)):
            raise ValueError(refusal)
        self.has_datagrams = self.is_socket and _socket_type(fd) != socket.SOCK_STREAM


def _socket_type(fd: int) -> int:
    with socket.socket(fileno=os.dup(fd)) as sock:
        return sock.type


class _PipeTransport(EndpointTransport):
    """The common part of both directions: their repr."""

    _fileno: int

    def __repr__(self) -> str:
        parts = [type(self).__name__]
        state = self._endpoint.state
        if state != "open":
            parts.append(state)
        parts.append(f"fd={self._fileno}")
        if state != "closed":
            parts += ["open"] if self._loop.is_closed() else self._activity()
        return f"<{' '.join(parts)}>"

    def _activity(self) -> list[str]:
        raise NotImplementedError


class ReadPipeTransport(_PipeTransport, ReadableTransport, asyncio.ReadTransport):
    """See `asyncio.ReadTransport` and `asyncio.loop.connect_read_pipe`.

    Args:
        engine: the loop's.
        pipe: a file object; the transport makes it non-blocking and owns it from now on.
        protocol: an `asyncio.Protocol`.
        waiter: resolved after the protocol's `connection_made`.
        extra: for `get_extra_info`.

    Raises:
        ValueError: the file is no pipe, socket or character device.
    """

    #: The stream asks every transport for it.
    _protocol_paused = False

    def __init__(
        self,
        engine: Engine,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: "asyncio.Future[None] | None" = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(extra)
        self._fileno = pipe.fileno()
        kind = _Kind(self._fileno, "Pipe transport is for pipes/sockets only.")
        os.set_blocking(self._fileno, False)
        multishot = kind.is_fifo or (kind.is_socket and not kind.has_datagrams)
        self._endpoint = engine.open_pipe(self, pipe, multishot)
        self._loop = engine.loop
        self._extra["pipe"] = pipe
        try:
            self._endpoint.begin(protocol, waiter)
        except BaseException:
            self._endpoint.detach().close()
            raise

    def _activity(self) -> list[str]:
        return ["polling" if self.is_reading() else "idle"]

    def eof_received_by_stream(self) -> None:
        """Close: no writer of the pipe is left; called by the stream."""
        if self._loop.get_debug():
            _log.info("%r was closed by peer", self)
        self._loop.call_soon(self._protocol.eof_received)
        self.close()

    def stream_failed(self, error: OSError, direction: str) -> None:
        """Report a refused read; called by the stream."""
        message = f"Fatal {direction} error on pipe transport"
        if error.errno == errno.EIO:
            # The other side of a terminal was closed.
            if self._loop.get_debug():
                _log.debug("%r: %s", self, message, exc_info=error)
        else:
            self._loop.call_exception_handler(
                {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
            )
        self._force_close(error)

    def protocol_failed(self, error: BaseException, method: str) -> None:
        """Report an exception of a protocol's callback; called by the stream."""
        self._loop.call_exception_handler(
            {
                "message": f"Exception in callback {type(self._protocol).__name__}.{method}()",
                "exception": error,
                "transport": self,
                "protocol": self._protocol,
            }
        )


class WritePipeTransport(_PipeTransport, WritableTransport):
    """See `asyncio.WriteTransport` and `asyncio.loop.connect_write_pipe`.

    Args:
        engine: the loop's.
        pipe: a file object; the transport makes it non-blocking and owns it from now on.
        protocol: an `asyncio.BaseProtocol`.
        waiter: resolved after the protocol's `connection_made`.
        extra: for `get_extra_info`.

    Raises:
        ValueError: the file is no pipe, socket or character device.
    """

    def __init__(
        self,
        engine: Engine,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: "asyncio.Future[None] | None" = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        self._fileno = pipe.fileno()
        kind = _Kind(self._fileno, "Pipe transport is only for pipes, sockets and character devices")
        os.set_blocking(self._fileno, False)
        self._endpoint = self._stream = engine.open_pipe(self, pipe, False)
        super().__init__(extra, engine.loop)
        self._lost_writes = 0
        self._extra["pipe"] = pipe
        watches = kind.is_socket or kind.is_fifo
        if watches:
            self._stream.watch(select.POLLIN if kind.is_socket else 0)
        try:
            self._endpoint.begin(protocol, waiter, starts=watches)
        except BaseException:
            self._endpoint.detach().close()
            raise

    def _activity(self) -> list[str]:
        size_bytes = self.get_write_buffer_size()
        return ["polling" if size_bytes else "idle", f"bufsize={size_bytes}"]

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See `asyncio.WriteTransport.write`; after `close`, `write_eof` or a hang-up the bytes are dropped.

        Raises:
            AssertionError: data is not bytes, bytearray or memoryview.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise AssertionError(repr(data))
        if not data:
            return
        if self._endpoint.is_open:
            self._stream.write(data)
            return
        if self._lost_writes >= _LOST_WRITES_BEFORE_WARNING:
            _log.warning("pipe closed by peer or os.write(pipe, data) raised exception.")
        self._lost_writes += 1

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Close the pipe once the queue is written, so that its reader sees the end."""
        self.close()

    def hung_up(self, had_queued: bool) -> None:
        """Close: no reader of the pipe is left; called by the stream."""
        if self._loop.get_debug():
            _log.info("%r was closed by peer", self)
        self._force_close(BrokenPipeError() if had_queued else None)

    def stream_failed(self, error: OSError, direction: str) -> None:
        """Report a refused write; called by the stream."""
        if self._loop.get_debug():
            _log.debug("%r: Fatal %s error on pipe transport", self, direction, exc_info=error)
        self._force_close(error)
