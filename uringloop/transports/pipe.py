"""`ReadPipeTransport` and `WritePipeTransport`: one end of a pipe, FIFO, socket or tty, as asyncio's pipe transports.

Both hold a `Stream` that reads and writes instead of receiving and sending.  What differs from a connection is as in
asyncio:

- An exception in `data_received` is told, and reading goes on.
- `eof_received` cannot keep the pipe open.
- A write goes out at once as far as the pipe takes it, one write(2) each: other processes may write to the same pipe,
  and what is no longer than PIPE_BUF must not be torn; what is written to a datagram socket must not be joined.
- A pipe that is only written to is polled: its protocol learns that the reader has gone without writing.  For a socket
  data from the other side counts as that too, as it does for asyncio.  A tty is not polled: it has no reader to lose.
- Whoever pauses reading may hand the descriptor to somebody else, a child that shall read the terminal for a while: so
  pausing also cancels the read.

A multishot read needs a file that can be polled, so /dev/zero could not have one: character devices are read one READ
at a time, and so are datagram sockets, whose messages must fit into the buffer.
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
    """What sort of file a pipe transport was given.

    Raises:
        ValueError: none that a pipe transport can carry.
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
    """What both directions share: how they look."""

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
        engine: of the loop.
        pipe: a file object, made non-blocking and owned from now on.
        protocol: an `asyncio.Protocol`.
        waiter: done when the protocol's `connection_made` was called.
        extra: for `get_extra_info`.

    Raises:
        ValueError: the file is no pipe, socket or character device.
    """

    #: Looked at by the stream, which knows no difference.
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
            self._endpoint.give_back().close()
            raise

    def _activity(self) -> list[str]:
        return ["polling" if self.is_reading() else "idle"]

    def eof_received_by_stream(self) -> None:
        """Nobody can write to the pipe any more; called by the stream."""
        if self._loop.get_debug():
            _log.info("%r was closed by peer", self)
        self._loop.call_soon(self._protocol.eof_received)
        self.close()

    def stream_failed(self, error: OSError, direction: str) -> None:
        """A read was refused; called by the stream."""
        message = f"Fatal {direction} error on pipe transport"
        if error.errno == errno.EIO:
            # A terminal whose other side was closed.
            if self._loop.get_debug():
                _log.debug("%r: %s", self, message, exc_info=error)
        else:
            self._loop.call_exception_handler(
                {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
            )
        self._force_close(error)

    def protocol_failed(self, error: BaseException, method: str) -> None:
        """A callback of the protocol raised; called by the stream."""
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
        engine: of the loop.
        pipe: a file object, made non-blocking and owned from now on.
        protocol: an `asyncio.BaseProtocol`.
        waiter: done when the protocol's `connection_made` was called.
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
            self._endpoint.give_back().close()
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
        """Close the pipe once the queue is written: that is how its reader sees the end."""
        self.close()

    def hung_up(self, had_queued: bool) -> None:
        """Nobody reads from the pipe any more; called by the stream."""
        if self._loop.get_debug():
            _log.info("%r was closed by peer", self)
        self._force_close(BrokenPipeError() if had_queued else None)

    def stream_failed(self, error: OSError, direction: str) -> None:
        """A write was refused; called by the stream."""
        if self._loop.get_debug():
            _log.debug("%r: Fatal %s error on pipe transport", self, direction, exc_info=error)
        self._force_close(error)
