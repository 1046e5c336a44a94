"""`loop.sock_*`: thin coroutines over operations.

Checks and errors are asyncio's.  What a cancelled receive or accept had already taken from the socket is kept, and the
next one on that socket gets it first.
"""

import os
import socket
import weakref
from functools import partial
from typing import Any

from .hooks import PrivateLoop, check_ssl_socket
from .operations import Accept, Connect, Operation, Receive, ReceiveInto, SendAll, address
from .ring import Dispatcher, Pin, Ring


class Unaccepted:
    """A connection that the kernel accepted and nobody has yet; closed with this object, unless it is taken out."""

    def __init__(self, fd: int, peer: Any) -> None:
        self._fd = fd
        self._peer = peer

    def take(self) -> tuple[int, Any]:
        """The descriptor, which is the caller's from now on, and the address of the other end."""
        fd, self._fd = self._fd, -1
        return fd, self._peer

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


class SocketOperations(PrivateLoop):
    """The socket methods of the loop."""

    _dispatcher: Dispatcher
    _ring: Ring
    _unread: "weakref.WeakKeyDictionary[socket.socket, bytearray]"
    _unaccepted: "weakref.WeakKeyDictionary[socket.socket, list[Unaccepted]]"

    async def submit(self, operation: Operation) -> Any:
        """Run one operation on the ring and return its result.

        Raises:
            OSError: what the kernel answered, with the filename if there is one.
            asyncio.CancelledError: after the kernel is done with the operation's memory.
        """
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
        if n < 0:
            raise ValueError("negative buffersize in recv")
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
        view = memoryview(buf).cast("B")
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
        while sent_bytes < pin.size_bytes:
            sent_bytes += await self.submit(SendAll(sock.fileno(), pin, sent_bytes))

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
        fd, peer = self._take_unaccepted(sock) or await self.submit(
            Accept(sock.fileno(), partial(self._keep_unaccepted, sock))
        )
        conn = socket.socket(sock.family, sock.type | socket.SOCK_NONBLOCK, sock.proto, fileno=fd)
        return conn, peer

    def _keep_unaccepted(self, sock: socket.socket, fd: int, peer: Any) -> None:
        self._unaccepted.setdefault(sock, []).append(Unaccepted(fd, peer))

    def _take_unaccepted(self, sock: socket.socket) -> tuple[int, Any] | None:
        kept = self._unaccepted.get(sock) if self._unaccepted else None
        return kept.pop(0).take() if kept else None
