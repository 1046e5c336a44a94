"""`StreamTransport`: a connected stream socket as an `asyncio.Transport`.

The engine's half is the `Stream`, and `write` comes from `StreamWrites`.  This module has what other sockets
lack: end of file, and sendfile's hold on the queue.  It makes the socket object of an accepted descriptor, and looks up
its names, only when they are asked for: a short connection is over before.
"""

import asyncio
import contextvars
import dataclasses
import logging
import socket
from collections.abc import Callable, Iterable
from typing import Any

from ..engine import Engine, Stream, StreamWrites, keeps_stream
from ..hooks import WRITE_BUFFER_LIMITS, SendfileMode
from .base import SocketTransport, add_names

_log = logging.getLogger("asyncio")

#: Plain numbers: `socket.socket` makes enums of them at each call.
_family_of: Callable[[socket.socket], int] = socket.SocketType.family.__get__
_type_of: Callable[[socket.socket], int] = socket.SocketType.type.__get__

_LOOKED_UP = frozenset({"socket", "sockname", "peername"})


def delays_small_writes(family: int, type: int, proto: int) -> bool:
    """Return whether asyncio sets TCP_NODELAY for such a socket; all arguments are plain numbers."""
    return (
        proto == socket.IPPROTO_TCP
        and (family == socket.AF_INET or family == socket.AF_INET6)
        and type & ~(socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) == socket.SOCK_STREAM
    )


# No NamedTuple: reading its fields costs a descriptor's call each, once a connection.
@dataclasses.dataclass(slots=True)
class Origin:
    """The facts about a listener that the `StreamTransport` of each of its connections needs.

    Attributes:
        server: the `asyncio.Server`, or None.
        one_context: whether all callbacks of a connection run in its context, or only those of received bytes.
        family: a plain number of the listening socket, as the next two.
        delays_small_writes: see the function of this name.
    """

    server: Any
    one_context: bool = True
    family: int = 0
    type: int = 0
    proto: int = 0
    delays_small_writes: bool = False


@keeps_stream
class StreamTransport(StreamWrites, SocketTransport):
    """See `asyncio.Transport`.

    Args:
        engine: the loop's.
        sock: a connected, non-blocking socket.  The transport owns it from now on, and closes it if a callback cannot
            be scheduled.  Or the descriptor of an accepted one, which the caller closes if this raises.
        protocol: an `asyncio.Protocol` or `asyncio.BufferedProtocol`.
        waiter: resolved after the protocol's `connection_made`.
        context: the context of the protocol's calls, as asyncio has it from Python 3.15 on, or of those for received
            bytes (`Origin.one_context`).  No other code may have it.
        origin: the listener, for a connection that one accepted.
    """

    __slots__ = (
        "__dict__",
        "__weakref__",
        "_endpoint",
        "_origin",
    )

    _endpoint: Stream
    _extra: dict[str, Any] | None  # type: ignore[assignment]
    #: The waiter of a sendfile that uses the socket.
    stop_sendfile: Callable[[BaseException], object] | None = None
    _empty_waiter: "asyncio.Future[None] | None" = None

    _sendfile_compatible = SendfileMode.TRY_NATIVE
    _start_tls_compatible = True

    def __init__(
        self,
        engine: Engine,
        sock: socket.socket | int,
        protocol: asyncio.BaseProtocol,
        waiter: "asyncio.Future[None] | None" = None,
        context: contextvars.Context | None = None,
        origin: Origin | None = None,
    ) -> None:
        _ = protocol.connection_made  # refuses what is no protocol, before anything is opened
        file: socket.socket | None = None
        if isinstance(sock, int):
            assert origin is not None
            fd, delays = sock, origin.delays_small_writes
        else:
            file = sock
            fd = sock.fileno()
            delays = delays_small_writes(_family_of(sock), _type_of(sock), sock.proto)
        # As the base class's __init__ does, without its search for limits that are always the same.
        self._extra, self._loop, self._protocol_paused = None, engine.loop, False
        self._low_water, self._high_water = WRITE_BUFFER_LIMITS
        self._origin = origin
        own_context = context if origin is None or origin.one_context else None
        stream = self._endpoint = engine.open_stream(self, fd, file, delays, own_context, context)
        stream.high_water = self._high_water
        try:
            if origin is not None and origin.server is not None:
                stream.join(origin.server)
            if file is not None and not engine.leftovers.empty:
                leftovers = engine.leftovers.take_all(file)
                if leftovers:
                    stream.preload(leftovers)
            stream.begin(protocol, waiter)
        except BaseException:
            made = stream.detach()
            if file is not None:
                file.close()
            elif made is not None:
                made.detach()
            raise

    def protocol_failed(self, error: BaseException, method: str) -> None:
        self._fatal_error(error, f"Fatal error: protocol.{method}() call failed.")

    # Information

    def add_info(self, extra: dict[str, Any] | None) -> None:
        """Have `get_extra_info` know these items, which a new transport gets as asyncio's does by its constructor."""
        if extra is not None:
            self._extra = extra

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name in _LOOKED_UP:
            self.keep_answers()
            if name == "socket":
                self._endpoint.share()
        return default if self._extra is None else self._extra.get(name, default)

    def keep_answers(self) -> None:
        """Look up all information once; called by the stream before it closes a socket whose names may be asked for."""
        if self._extra is None:
            self._extra = {}
        if "socket" not in self._extra:
            sock = self._sock
            assert sock is not None
            add_names(self._extra, sock)

    @property
    def _sock(self) -> socket.socket | None:
        stream = self._endpoint
        if stream.file is None and stream.fd >= 0 and self._origin is not None:
            origin = self._origin
            stream.file = socket.socket(origin.family, origin.type, origin.proto, stream.fd)
        sock: socket.socket | None = stream.file
        return sock

    # Reading

    def eof_received_by_stream(self) -> None:
        """Take the end of the peer's bytes; called by the stream."""
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

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self._endpoint.writelines(list_of_data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if self._endpoint.is_open:
            self._endpoint.write_eof()

    def _make_empty_waiter(self) -> "asyncio.Future[None]":
        """Return a future of the empty queue for asyncio's sendfile; refuse writes until `_reset_empty_waiter`."""
        if self._empty_waiter is not None:
            raise RuntimeError("Empty waiter is already set")
        self._endpoint.never_delay()
        self._empty_waiter = self._loop.create_future()
        if self._endpoint.hold_writes():
            self._empty_waiter.set_result(None)
        return self._empty_waiter

    def _reset_empty_waiter(self) -> None:
        self._empty_waiter = None
        self._endpoint.allow_writes()

    def queue_emptied(self) -> None:
        """Resolve the future of the empty queue; called by the stream after `hold_writes`."""
        if self._empty_waiter is not None and not self._empty_waiter.done():
            self._empty_waiter.set_result(None)

    # Closing

    def stop_sending_file(self, abort: bool) -> None:
        """Stop a sendfile: the transport was closed; called by the stream."""
        if abort and self._empty_waiter is not None and not self._empty_waiter.done():
            self._empty_waiter.set_exception(closed_error())
        if self.stop_sendfile is not None:
            self.stop_sendfile(closed_error())

    def stream_failed(self, error: OSError, direction: str) -> None:
        """Take a refused receive or send; called by the stream."""
        if self._loop.get_debug():
            _log.debug("%r: Fatal %s error on socket transport", self, direction, exc_info=error)
        self._force_close(error)


def closed_error() -> ConnectionError:
    """Return the exception of asyncio's sendfile for a connection that was closed on either side."""
    return ConnectionError("Connection is closed by peer")
