"""`loop.sock_*`: thin coroutines over operations.

As with asyncio, a call whose socket is ready does not suspend (the engine's `Sockets`), as long as the running callback
has budget.  Other calls wait in the ring.  Checks and errors are asyncio's.  Bytes of a stream that a cancelled receive
had taken are kept as leftovers: the next receive on that socket gets them first.

Messages are received and sent by the socket's own methods, and the ring polls where these would block (`_when_ready`).
So the addresses of every family are those of the socket module, and a cancelled receive has received nothing.
"""

import asyncio
import contextlib
import errno
import operator
import os
import select
import socket
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from .engine import Receiving, Sockets
from .hooks import check_ssl_socket
from .operations import (
    Accept,
    Connect,
    Operation,
    Ready,
    ReceiveInto,
    SendAll,
    address,
    first_bytes,
)
from .submitting import Submitting

#: A plain number: `socket.socket` makes an enum of it, which takes longer than the rest of a receive.
_type_of: Any = socket.SocketType.type.__get__
_RETRY_DELAY_S = 0.001
#: The most bytes of one receive of a stream: the room for all would be made first.
_RECEIVE_MAX_BYTES = 1 << 18

T = TypeVar("T")


class Leftovers:
    """The leftovers of cancelled receives, by socket: pieces of a stream."""

    def __init__(self) -> None:
        self._kept: weakref.WeakKeyDictionary[socket.socket, deque[bytes]] | None = None
        #: Whether no socket has leftovers.
        self.empty = True

    def keep(self, sock: socket.socket, data: bytes) -> None:
        """Keep bytes for the next receive."""
        self.empty = False
        if self._kept is None:
            self._kept = weakref.WeakKeyDictionary()
        self._kept.setdefault(sock, deque()).append(data)

    def take(self, sock: socket.socket, size_bytes: int) -> bytes | None:
        """Take leftovers for a receive of up to size_bytes; return None if the socket has none."""
        if self.empty or self._kept is None:
            return None
        kept = self._kept.get(sock)
        if kept is None:
            self.empty = not self._kept
            return None
        data = kept.popleft()
        if len(data) > size_bytes:
            kept.appendleft(data[size_bytes:])
        if not kept:
            del self._kept[sock]
        return data[:size_bytes]

    def take_all(self, sock: socket.socket) -> bytes:
        """Take all leftovers of a stream."""
        return b"" if self._kept is None else b"".join(self._kept.pop(sock, ()))


class SocketOperations(Submitting):
    """The loop's socket methods."""

    _sockets: Sockets | None = None
    _leftovers: Leftovers

    def _open_sockets(self) -> Sockets:
        """Return the engine's half, made by the first call."""
        raise NotImplementedError

    def _check_socket(self, sock: socket.socket) -> int:
        """Check a socket as asyncio does; return its descriptor."""
        check_ssl_socket(sock)
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        self._check_closed()
        fd = sock.fileno()
        if self._transports:
            self._ensure_fd_no_transport(fd)
        return fd

    async def _submit_for(self, sock: socket.socket, operation: Operation) -> Any:
        """Submit an operation that a close of the socket cancels."""
        held = (self._sockets or self._open_sockets()).held
        held[operation] = sock
        try:
            return await self.submit(operation)
        finally:
            held.pop(operation, None)

    async def _when_ready(self, sock: socket.socket, events: int, call: Callable[..., T], *arguments: Any) -> T:
        """Call a method of the socket, at once or when the socket is ready, until it would not block."""
        is_ready = sock.gettimeout() == 0  # otherwise the method itself may wait
        while True:
            if is_ready and self.has_budget():
                with contextlib.suppress(BlockingIOError, InterruptedError):
                    return call(*arguments)
            await self._submit_for(sock, Ready(sock.fileno(), events))
            is_ready = True

    # Receiving

    async def sock_recv(self, sock: socket.socket, n: int) -> bytes:
        """Receive up to n bytes; see `asyncio.loop.sock_recv`."""
        received: Any = (self._sockets or self._open_sockets()).receive(sock, n)
        if type(received) is bytes:
            return received
        if received is not None:
            receiving = received
            try:
                received = await receiving.waiter
            except BaseException as error:
                await self._give_up(receiving, error)
                raise
            if type(received) is bytes:
                return received
            assert isinstance(received, OSError)
            raise received
        fd = self._check_socket(sock)
        n = operator.index(n)
        if n < 0:
            raise ValueError("negative buffersize in recv")
        if n == 0:
            return b""
        if _type_of(sock) != socket.SOCK_STREAM:
            return await self._when_ready(sock, select.POLLIN, sock.recv, n, socket.MSG_DONTWAIT)
        buffer = bytearray(min(n, _RECEIVE_MAX_BYTES))
        count = await self._submit_for(sock, ReceiveInto(fd, buffer, partial(self._leftovers.keep, sock)))
        return first_bytes(buffer, count)

    async def _give_up(self, receiving: Receiving, error: BaseException) -> None:
        """Abandon a receive that has lost its waiter, wait for its CQE, and keep the bytes that it had taken."""
        if not receiving.in_flight:
            if receiving.waiter is not None and not receiving.waiter.cancelled():
                receiving.keep(receiving.waiter.result())
            return
        receiving.abandon()
        while isinstance(error, asyncio.CancelledError) and receiving.in_flight:
            receiving.waiter = self.create_future()
            with contextlib.suppress(asyncio.CancelledError):
                await receiving.waiter

    async def sock_recv_into(self, sock: socket.socket, buf: Any) -> int:
        """Receive into a writable buffer; see `asyncio.loop.sock_recv_into`."""
        fd = self._check_socket(sock)
        size_bytes = _writable_bytes(buf, "recv_into")
        if size_bytes == 0:
            return 0
        if _type_of(sock) != socket.SOCK_STREAM:
            return await self._when_ready(sock, select.POLLIN, sock.recv_into, buf, 0, socket.MSG_DONTWAIT)
        unread = self._leftovers.take(sock, size_bytes)
        if unread is not None:
            return _fill(buf, unread)
        count_now = (self._sockets or self._open_sockets()).receive_into(fd, buf)
        if count_now is not None:
            return count_now
        received_bytes: int = await self._submit_for(sock, ReceiveInto(fd, buf, partial(self._leftovers.keep, sock)))
        return received_bytes

    async def sock_recvfrom(self, sock: socket.socket, bufsize: int) -> tuple[bytes, Any]:
        """Receive a datagram and its sender; see `asyncio.loop.sock_recvfrom`."""
        self._check_socket(sock)
        bufsize = operator.index(bufsize)
        if bufsize < 0:
            raise ValueError("negative buffersize in recvfrom")
        unread = self._leftovers.take(sock, bufsize)
        if unread is not None:
            return unread, None
        return await self._when_ready(sock, select.POLLIN, sock.recvfrom, bufsize, socket.MSG_DONTWAIT)

    async def sock_recvfrom_into(self, sock: socket.socket, buf: Any, nbytes: int = 0) -> tuple[int, Any]:
        """Receive a datagram into a writable buffer; see `asyncio.loop.sock_recvfrom_into`."""
        self._check_socket(sock)
        nbytes = operator.index(nbytes) or len(buf)
        size_bytes = _writable_bytes(buf, "recvfrom_into")
        if nbytes < 0:
            raise ValueError("negative buffersize in recvfrom_into")
        if nbytes > size_bytes:
            raise ValueError("nbytes is greater than the length of the buffer")
        unread = self._leftovers.take(sock, nbytes)
        if unread is not None:
            return _fill(buf, unread), None
        return await self._when_ready(sock, select.POLLIN, sock.recvfrom_into, buf, nbytes, socket.MSG_DONTWAIT)

    # Sending

    async def sock_sendall(self, sock: socket.socket, data: Any) -> None:
        """Send all of the bytes; see `asyncio.loop.sock_sendall`."""
        sent_bytes = (self._sockets or self._open_sockets()).send(sock, data)
        while sent_bytes is not None and _type_of(sock) != socket.SOCK_STREAM:
            # Not a SEND: where a receiver is full, the second attempt of one sends an empty datagram.
            await self._submit_for(sock, Ready(sock.fileno(), select.POLLOUT))
            sent_bytes = (self._sockets or self._open_sockets()).send(sock, data)
        while sent_bytes is not None:
            sending = SendAll(sock.fileno(), data, sent_bytes)
            sent_bytes += await self._submit_for(sock, sending)
            if sent_bytes >= sending.size_bytes:
                return

    async def sock_sendto(self, sock: socket.socket, data: Any, target: Any) -> int:
        """Send a datagram; see `asyncio.loop.sock_sendto`.

        As with asyncio, the socket itself resolves an address that is no literal: use `getaddrinfo` before.
        """
        self._check_socket(sock)
        full = False
        while True:
            if self.has_budget():
                with contextlib.suppress(BlockingIOError, InterruptedError):
                    return sock.sendto(data, socket.MSG_DONTWAIT, target)
                if full:
                    # Poll reports room in an unconnected unix socket, however full the receiver is.
                    await asyncio.sleep(_RETRY_DELAY_S)
                full = True
            await self._submit_for(sock, Ready(sock.fileno(), select.POLLOUT))

    # Connections

    async def sock_connect(self, sock: socket.socket, target: Any) -> None:
        """Connect to an address; see `asyncio.loop.sock_connect`."""
        self._check_socket(sock)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            resolved = await self._ensure_resolved(
                target, family=sock.family, type=sock.type, proto=sock.proto, loop=self
            )
            _, _, _, _, target = resolved[0]
        packed = _pack(sock, target)
        if packed is None:
            try:
                sock.connect(target)
            except (BlockingIOError, InterruptedError):
                await self._until_connected(sock, target)
            return
        while True:
            try:
                await self._submit_for(sock, Connect(sock.fileno(), packed, target))
                return
            except BlockingIOError as error:
                if error.errno == errno.EALREADY:
                    await self._until_connected(sock, target)
                    return
                if sock.family != socket.AF_UNIX:
                    raise
                # The server's backlog is full, and poll does not tell when it has room again.
                await asyncio.sleep(_RETRY_DELAY_S)

    async def _until_connected(self, sock: socket.socket, target: Any) -> None:
        """Wait for a connect that a cancelled call or `connect_ex` began."""
        await self._submit_for(sock, Ready(sock.fileno(), select.POLLOUT))
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error != 0:
            raise OSError(error, f"Connect call failed {target}")
        try:
            sock.getpeername()
        except OSError as unconnected:
            if unconnected.errno != errno.ENOTCONN:
                raise
            # Another task has received the error; connect(2) then gives this one.
            raise OSError(errno.ECONNABORTED, f"Connect call failed {target}") from None

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        """Accept a connection; see `asyncio.loop.sock_accept`."""
        self._check_socket(sock)
        if sock.family not in address.FAMILIES:
            conn, name = await self._when_ready(sock, select.POLLIN, sock.accept)
            conn.setblocking(False)
            return conn, name
        while True:
            accepted = (self._sockets or self._open_sockets()).accept(sock)
            if accepted is not None:
                break
            if os.get_blocking(sock.fileno()):
                # Another process may take the connection that a poll has seen, and accept4(2) would then block.
                conn_fd, peer_name = await self._submit_for(sock, Accept(sock.fileno()))
                return self._accepted(sock, conn_fd), peer_name
            # Not an accept: one that waits in the ring takes connections from other processes with the socket.
            await self._submit_for(sock, Ready(sock.fileno(), select.POLLIN))
        conn_fd, peer = accepted
        return self._accepted(sock, conn_fd), address.unpack(peer)

    def _accepted(self, listener: socket.socket, fd: int) -> socket.socket:
        return socket.socket(listener.family, listener.type | socket.SOCK_NONBLOCK, listener.proto, fileno=fd)


def _writable_bytes(buffer: Any, method: str) -> int:
    with contextlib.suppress(TypeError), memoryview(buffer) as view:
        if not view.readonly and view.c_contiguous:
            return view.nbytes
    kind = None if buffer is None else type(buffer).__name__
    raise TypeError(f"{method}() argument 1 must be read-write bytes-like object, not {kind}")


def _fill(buffer: Any, data: bytes) -> int:
    with memoryview(buffer) as view, view.cast("B") as flat:
        flat[: len(data)] = data
    return len(data)


def _pack(sock: socket.socket, target: Any) -> bytes | None:
    """Return the packed address of a literal, or None: the socket itself then resolves or refuses it."""
    family = sock.family
    if not isinstance(target, (str, bytes) if family == socket.AF_UNIX else tuple):
        return None
    try:
        return address.pack(family, target, sock.fileno(), sock.proto)
    except (OSError, OverflowError, TypeError, ValueError):
        return None
