"""Listening sockets: the accepts, and a transport for each connection.

Several loops may listen on one socket, as the workers of a server do.  An accept in the ring waits exclusively.  It
stays at the head of the socket's queue and takes every connection, even while its loop is busy.  When it is cancelled,
the wakeup that it took is lost.  A poll wakes every loop instead, and accept4(2) takes a connection for a loop that
serves it at once.  So an idle loop accepts beside a busy one, and a loop that stops leaves the waiting connections to
the others.

A multishot accept is cheaper.  It serves the sockets that this loop made from host and port or from a path, until
another loop may listen on one: when the process forks, or when a caller asks for the descriptor.

`asyncio.Server` stays asyncio's; it calls `start` and `stop` through the loop.
"""

import asyncio
import contextlib
import contextvars
import errno
import logging
import os
import select
import socket
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from ..engine import Engine, accept_now
from ..hooks import TransportSocket
from ..operations import AcceptMany, Poll
from .stream import Origin, StreamTransport, delays_small_writes

_log = logging.getLogger("asyncio")

#: The errnos of exhausted resources: as asyncio, wait before the next accept.
_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_RETRY_DELAY_S = 1
#: The errnos of a socket that no longer listens.
_NO_LISTENER = {errno.EINVAL, errno.EBADF, errno.ENOTSOCK}
#: The most connections to accept in a row, before the loop's other callbacks run.
_ACCEPTS_MAX = 64
#: The errnos of a connection that ended before its accept; the next one may be fine (accept(2)).
_CONNECTION_GONE = {
    errno.ECONNABORTED,
    errno.EINTR,
    errno.EPROTO,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENOPROTOOPT,
    errno.EOPNOTSUPP,
    errno.ECANCELED,
}


class UnsharedSocket(socket.socket):
    """A listening socket that only this loop knows, until its descriptor is asked for."""

    __slots__ = ()

    # By the class, since `share` makes it a plain socket.

    def fileno(self) -> int:
        share(self)
        return socket.socket.fileno(self)

    def detach(self) -> int:
        share(self)
        return socket.socket.detach(self)

    def set_inheritable(self, inheritable: bool) -> None:
        share(self)
        socket.socket.set_inheritable(self, inheritable)


def _descriptor(sock: socket.socket) -> int:
    """Return the socket's descriptor without making it shared."""
    return socket.SocketType.fileno(sock) if type(sock) is UnsharedSocket else sock.fileno()


def mark_unshared(sock: socket.socket) -> None:
    """Have the socket tell when a caller asks for its descriptor; no other code has had it so far."""
    if type(sock) is socket.socket:
        sock.__class__ = UnsharedSocket


def share(sock: socket.socket) -> None:
    """Note that from now on another loop or process may listen on the socket."""
    sock.__class__ = socket.socket
    for listeners in _all_listeners():
        if sock in listeners:
            listeners.share([sock])


class Listener:
    """One listening socket.

    Args:
        engine: the loop's.
        sock: a listening socket.
        backlog: accept at most this many connections in a row.
        protocol_factory: called once a connection.
        server: the `asyncio.Server`, or None.
        make_tls: makes a TLS transport, called with arguments of the loop's `_make_ssl_transport`; None for plain
            connections.
        context: each connection runs all its callbacks in a copy of it, as asyncio does from Python 3.15 on.  If
            None, each callback runs in a copy of the current one.
    """

    def __init__(
        self,
        engine: Engine,
        sock: socket.socket,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        server: Any,
        make_tls: Callable[..., asyncio.Transport] | None,
        context: contextvars.Context | None,
        backlog: int,
    ) -> None:
        self._engine = engine
        self._loop = engine.loop
        self._sock = sock
        self._accepts_max = max(1, min(backlog, _ACCEPTS_MAX))
        # Plain numbers: `socket.socket` makes enums of them at each call.
        family, kind, proto = int(sock.family), int(sock.type) | socket.SOCK_NONBLOCK, sock.proto
        self._socket_arguments = family, kind, proto
        delays = delays_small_writes(family, kind, proto)
        self._origin = Origin(server, context is not None, family, kind, proto, delays)
        self._protocol_factory = protocol_factory
        self._server = server
        self._make_tls = make_tls
        self._context = contextvars.copy_context() if context is None else context
        self._retry: asyncio.TimerHandle | None = None
        self._stopped = False
        enabled = engine.features
        fd = _descriptor(sock)
        self._poll = Poll(fd, select.POLLIN, "multishot_poll" in enabled, self._became_ready)
        #: None once the socket is shared.
        self._accept: AcceptMany | None = None
        if type(sock) is UnsharedSocket:
            multishot = "multishot_accept" in enabled
            self._accept = AcceptMany(fd, multishot, self._accepted, self._failed, self._became_ready)

    def start(self) -> None:
        """Begin to accept."""
        if self._accept is None:
            self._begin_polling()
        else:
            self._accept.submit(self._engine.dispatcher)

    def _begin_polling(self) -> None:
        self._engine.open_sockets().held[self._poll] = self._sock
        self._poll.submit(self._engine.dispatcher)

    def share(self) -> bool:
        """Let other loops accept too; return whether that is new."""
        accept, self._accept = self._accept, None
        if accept is None or self._stopped:
            return False
        # The poll comes first: no connection may arrive between the two.
        self._begin_polling()
        accept.cancel()
        return True

    def stop(self) -> None:
        """Accept no more; the waiting connections stay for other loops that listen on the socket."""
        self._stopped = True
        if self._retry is not None:
            self._retry.cancel()
        if self._accept is not None:
            self._accept.abandon()
        self._poll.abandon()
        if self._engine.sockets is not None:
            self._engine.sockets.held.pop(self._poll, None)

    def _became_ready(self) -> None:
        """Accept the waiting connections; return later for the rest, since the poll tells of arrivals only."""
        if self._retry is None and not self._stopped:
            done = False
            try:
                done = self._accept_some()
            finally:
                if not done:
                    self._loop.call_soon(self._became_ready)

    def _accept_some(self) -> bool:
        """Accept so many; return whether none is left, or accepting has ended or was put off."""
        for _ in range(self._accepts_max):
            fd = accept_now(self._sock)
            if fd >= 0:
                self._accepted(fd)
                if self._stopped:
                    return True
            elif fd == -errno.EAGAIN:
                return True
            elif -fd not in _CONNECTION_GONE:
                self._failed(OSError(-fd, os.strerror(-fd)))
                return True
        return False

    def _accepted(self, fd: int) -> None:
        if self._loop.get_debug():
            self._log_accepted(fd)
        context = self._context.copy()
        context.run(self._connect, fd, context)

    def _log_accepted(self, fd: int) -> None:
        sock = socket.socket(*self._socket_arguments, fd)
        with contextlib.suppress(OSError):  # the peer may be gone already
            _log.debug("%r got a new connection from %r: %r", self._server, sock.getpeername(), sock)
        sock.detach()

    def _connect(self, fd: int, context: contextvars.Context) -> None:
        """Report a connection that could not be made, as asyncio: in debug mode only, and without harm to others."""
        protocol = transport = sock = None
        try:
            protocol = self._protocol_factory()
            if self._make_tls is not None:
                sock = socket.socket(*self._socket_arguments, fd)
                self._loop.create_task(self._connect_tls(sock, protocol, context if self._origin.one_context else None))
            else:
                transport = StreamTransport(self._engine, fd, protocol, None, context, self._origin)
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
        assert self._make_tls is not None
        try:
            waiter: Any = self._loop.create_future()
            transport = self._make_tls(
                sock,
                protocol,
                waiter=waiter,
                server_side=True,
                server=self._server,
                context=context,
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
            if transport is None:
                sock.close()
            self._report(error, protocol, transport)

    def _report(self, error: BaseException, protocol: Any, transport: Any) -> None:
        if self._loop.get_debug():
            context = {"message": "Error on transport creation for incoming connection", "exception": error}
            context |= {k: v for k, v in (("protocol", protocol), ("transport", transport)) if v is not None}
            self._loop.call_exception_handler(context)

    def _failed(self, error: OSError) -> None:
        if _descriptor(self._sock) < 0:
            # Its owner closed it without the server.  asyncio is not told either.
            self.stop()
        elif error.errno in _CONNECTION_GONE:
            self._try_again()
        elif error.errno in _OUT_OF_RESOURCES:
            self._loop.call_exception_handler(
                {
                    "message": "socket.accept() out of system resource",
                    "exception": error,
                    "socket": TransportSocket(self._sock),
                }
            )
            self._retry = self._loop.call_later(_RETRY_DELAY_S, self._try_again)
        else:
            self._loop.call_exception_handler({"message": "Exception on accepting a connection", "exception": error})
            if error.errno in _NO_LISTENER:
                self.stop()
            else:
                self._retry = self._loop.call_later(_RETRY_DELAY_S, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        if self._accept is None:
            self._became_ready()
        elif not self._stopped:
            self.start()


def _close(fd: int, sock: socket.socket | None) -> None:
    if sock is None:
        os.close(fd)
    else:
        sock.close()


class ListenerSet:
    """The listening sockets of a loop, by object: the owner may have closed a socket, and its number be another's."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._by_socket: dict[socket.socket, Listener] = {}
        _listener_sets[id(self)] = self

    def __contains__(self, sock: socket.socket) -> bool:
        return sock in self._by_socket

    def start(
        self,
        sock: socket.socket,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        server: Any,
        make_tls: Callable[..., asyncio.Transport] | None,
        context: contextvars.Context | None,
        backlog: int,
    ) -> None:
        """Accept on a socket."""
        listener = Listener(self._engine, sock, protocol_factory, server, make_tls, context, backlog)
        self._by_socket[sock] = listener
        listener.start()

    def stop(self, sock: socket.socket) -> None:
        """Stop accepting on a socket, if the loop serves it."""
        listener = self._by_socket.pop(sock, None)
        if listener is not None:
            listener.stop()

    def share(self, sockets: Iterable[socket.socket] | None = None) -> None:
        """Let other loops accept on some of the sockets too, or on all; from any thread."""
        loop = self._engine.loop
        if loop.is_closed() or self._engine.dispatcher.forked:
            return
        if self._engine.owner_thread != threading.get_native_id():
            with contextlib.suppress(RuntimeError):  # closed meanwhile
                loop.call_soon_threadsafe(self._share_here, sockets)
        else:
            self._share_here(sockets)

    def _share_here(self, sockets: Iterable[socket.socket] | None) -> None:
        if sockets is None:
            listeners = list(self._by_socket.values())
        else:
            listeners = [self._by_socket[sock] for sock in sockets if sock in self._by_socket]
        shared = [listener.share() for listener in listeners]
        if any(shared):
            # The next connection may be for another loop, however long the running callback takes.
            self._engine.dispatcher.submit()


#: Of all loops, by id: a `WeakSet` cannot be iterated over while other threads change it.
_listener_sets: "weakref.WeakValueDictionary[int, ListenerSet]" = weakref.WeakValueDictionary()


def _all_listeners() -> list[ListenerSet]:
    return [listeners for reference in _listener_sets.valuerefs() if (listeners := reference()) is not None]


def _before_fork() -> None:
    for listeners in _all_listeners():
        listeners.share()


os.register_at_fork(before=_before_fork)
