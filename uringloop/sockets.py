"""`loop.sock_*`: thin coroutines over operations.

Checks and errors are asyncio's.  Bytes that a cancelled receive had already taken from the socket are kept, and the
next receive on that socket gets them first.
"""

import operator
import socket
import sys
import weakref
from functools import partial
from typing import Any

from .hooks import PrivateLoop, check_ssl_socket
from .operations import RECEIVE_MAX_BYTES, Accept, Connect, Operation, Receive, ReceiveInto, SendAll, address
from .ring import Dispatcher, Pin, Ring


class SocketOperations(PrivateLoop):
    """The socket methods of the loop."""

    _dispatcher: Dispatcher
    _ring: Ring
    _unread: "weakref.WeakKeyDictionary[socket.socket, bytearray]"

    async def submit(self, operation: Operation) -> Any:
        """Run one operation on the ring and return its result.

        Raises:
            OSError: what the kernel answered, with the filename if there is one.
            RuntimeError: the loop is closed.
            asyncio.CancelledError: after the kernel is done with the operation's memory.
        """
        self._check_closed()
        return await operation.run(self, self._dispatcher)

    def _check_socket(self, sock: socket.socket) -> None:
        check_ssl_socket(sock)
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        if self._transports:
            self._ensure_fd_no_transport(sock)

    def _keep_unread(self, sock: socket.socket, data: bytes) -> None:
        self._unread.setdefault(sock, bytearray()).extend(data)

    def _take_unread(self, sock: socket.socket, size_bytes: int | None = None) -> bytes:
        kept = self._unread.get(sock) if self._unread else None
        if not kept:
            return b""
        data = bytes(kept[:size_bytes])
        del kept[:size_bytes]
        if not kept:
            del self._unread[sock]
        return data

    async def sock_recv(self, sock: socket.socket, n: int) -> bytes:
        """Receive up to n bytes; see `asyncio.loop.sock_recv`."""
        self._check_socket(sock)
        n = operator.index(n)
        if not 0 <= n <= RECEIVE_MAX_BYTES:
            n = _bounded(n)
        unread = self._take_unread(sock, n)
        if unread or n == 0:
            return unread
        if self._ring.has_buffers:
            data: bytes = await self.submit(Receive(sock.fileno(), n, partial(self._keep_unread, sock)))
            return data
        buffer = bytearray(n)
        count = await self.submit(ReceiveInto(sock.fileno(), buffer, partial(self._keep_unread, sock)))
        return bytes(memoryview(buffer)[:count])

    async def sock_recv_into(self, sock: socket.socket, buf: Any) -> int:
        """Receive into a writable buffer; see `asyncio.loop.sock_recv_into`."""
        self._check_socket(sock)
        view = _writable(buf)
        unread = self._take_unread(sock, len(view))
        if unread or not len(view):
            view[: len(unread)] = unread
            return len(unread)
        count: int = await self.submit(ReceiveInto(sock.fileno(), view, partial(self._keep_unread, sock)))
        return count

    async def sock_sendall(self, sock: socket.socket, data: Any) -> None:
        """Send all of the bytes; see `asyncio.loop.sock_sendall`."""
        self._check_socket(sock)
        pin = Pin(data)
        sent_bytes = 0
        while True:
            # Once also for nothing: that is an empty datagram, or the error that the socket has.
            sent_bytes += await self.submit(SendAll(sock.fileno(), pin, sent_bytes))
            if sent_bytes >= pin.size_bytes:
                return

    async def sock_connect(self, sock: socket.socket, address_: Any) -> None:
        """Connect to an address; see `asyncio.loop.sock_connect`."""
        self._check_socket(sock)
        target = address_
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            resolved = await self._ensure_resolved(
                target, family=sock.family, type=sock.type, proto=sock.proto, loop=self
            )
            _, _, _, _, target = resolved[0]
        packed = address.pack(sock.family, target)
        if packed is None:
            await super().sock_connect(sock, target)
        else:
            await self.submit(Connect(sock.fileno(), packed, target))

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        """Accept a connection; see `asyncio.loop.sock_accept`."""
        self._check_socket(sock)
        fd, peer = await self.submit(Accept(sock.fileno()))
        conn = socket.socket(sock.family, sock.type | socket.SOCK_NONBLOCK, sock.proto, fileno=fd)
        return conn, peer


def _bounded(size_bytes: int) -> int:
    """No receive brings more than the maximum, however much is asked for.

    Raises:
        ValueError: a negative size.
        OverflowError: more than there is address space.
    """
    if size_bytes < 0:
        raise ValueError("negative buffersize in recv")
    if size_bytes > sys.maxsize:
        raise OverflowError("Python int too large to convert to C ssize_t")
    return RECEIVE_MAX_BYTES


def _writable(buffer: Any) -> memoryview:
    """The bytes of a buffer that can be received into.

    Raises:
        TypeError: it has none, or they are read-only or not contiguous.
    """
    try:
        view = memoryview(buffer)
        if not view.readonly:
            return view.cast("B")
    except TypeError:
        pass
    kind = None if buffer is None else type(buffer).__name__
    raise TypeError(f"recv_into() argument 1 must be read-write bytes-like object, not {kind}")
