"""`DatagramTransport`: a datagram socket as an `asyncio.DatagramTransport`.

The engine's half is the `Datagram`, whose `sendto` is an attribute of the transport.  This module has the rare cases:
addresses that are no literals, and errors.  It serves only sockets whose addresses are known here, see
`address.FAMILIES`.
"""

import asyncio
import contextlib
import os
import socket
import sys
import threading
import weakref
from typing import Any

from ..engine import Engine
from ..operations import address
from .base import SocketTransport, add_names

#: Since 3.13 asyncio sends empty datagrams, and counts eight bytes for the header of each queued one.
_SENDS_EMPTY = sys.version_info >= (3, 13)
_OVERHEAD_BYTES = 8 if _SENDS_EMPTY else 0


class DatagramTransport(SocketTransport, asyncio.DatagramTransport):
    """See `asyncio.DatagramTransport`.

    Args:
        engine: the loop's.
        sock: a non-blocking socket of one of `address.FAMILIES`; the transport owns it from now on.
        protocol: an `asyncio.DatagramProtocol`.
        remote: the only address to send to; None for any.
        waiter: resolved after the protocol's `connection_made`.
        extra: for `get_extra_info`.
    """

    def __init__(
        self,
        engine: Engine,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        remote: Any = None,
        waiter: "asyncio.Future[None] | None" = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        _ = protocol.connection_made  # refuses what is no protocol, before anything is opened
        self._family, self._proto = sock.family, sock.proto
        self._engine = engine
        self._datagram = engine.open_datagram(self, sock, remote or None, _SENDS_EMPTY, _OVERHEAD_BYTES)
        self._endpoint = self._datagram
        super().__init__(extra, engine.loop)
        self.sendto = self._datagram.sendto  # type: ignore[method-assign]
        try:
            add_names(self._extra, sock)
            self._datagram.begin(protocol, waiter)
        except BaseException:
            self._datagram.detach().close()
            raise

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "socket":
            self._datagram.share()
        return super().get_extra_info(name, default)

    def own_socket(self) -> None:
        """Let datagrams leave and come together, unless code has asked for the socket, which the loop has made."""
        self._datagram.own_socket()
        _alone[id(self)] = self

    def share(self) -> None:
        """Use the socket as asyncio does from now on: other code may have it; from any thread."""
        engine = self._engine
        if engine.loop.is_closed() or engine.dispatcher.forked:
            return
        if engine.owner_thread != threading.get_native_id():
            with contextlib.suppress(RuntimeError):  # closed meanwhile
                engine.loop.call_soon_threadsafe(self._datagram.share)
        else:
            self._datagram.share()

    def pack_address(self, target: Any) -> bytes | None:
        """Return an address that is no internet address in the kernel's form; called by the datagram.

        Return None for an empty or wrong one, about which the socket complains.
        """
        if not isinstance(target, (str, bytes) if self._family == socket.AF_UNIX else tuple) or not target:
            return None
        try:
            return address.pack(self._family, target, self._sock_fd, self._proto)
        except (OSError, OverflowError, TypeError, ValueError):
            return None

    def unpack_address(self, raw: bytes) -> Any:
        """Return an address that is no internet address in the form of `socket.recvfrom`; called by the datagram."""
        return address.unpack(raw, self._sock_fd, self._proto)

    def send_slowly(self, data: bytes | bytearray | memoryview, target: Any) -> None:
        """Send to an address that is no literal, or is wrong: as with asyncio, the socket resolves it."""
        assert self._sock is not None
        try:
            if not self._datagram.queued():
                try:
                    self._sock.sendto(data, target)
                    return
                except (BlockingIOError, InterruptedError):
                    pass
            name = self._resolve(target)
        except OSError as error:
            self._protocol.error_received(error)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal_error(error, "Fatal write error on datagram transport")
        else:
            self._datagram.send_packed(data, name)

    def _resolve(self, target: Any) -> bytes:
        if self._family == socket.AF_UNIX:
            target = target if isinstance(target, str) else bytes(memoryview(target))
        elif self._family in (socket.AF_INET, socket.AF_INET6):
            host, port, *rest = target
            host = {"": None, "<broadcast>": "255.255.255.255"}.get(host, host)
            found = socket.getaddrinfo(host, port, self._family, socket.SOCK_DGRAM)
            target = (*found[0][4][:2], *(rest or found[0][4][2:]))
        name = address.pack(self._family, target, self._sock_fd, self._proto)
        assert name is not None
        return name

    def protocol_failed(self, error: BaseException, method: str) -> None:
        """Report an exception of a protocol's callback; as with asyncio, it does not close the endpoint."""
        self._loop.call_exception_handler(
            {
                "message": f"Exception in {method}() of a datagram protocol",
                "exception": error,
                "transport": self,
                "protocol": self._protocol,
            }
        )


#: The transports whose sockets no other code has, by id: other threads may change it during an iteration.
_alone: "weakref.WeakValueDictionary[int, DatagramTransport]" = weakref.WeakValueDictionary()


def _before_fork() -> None:
    for reference in _alone.valuerefs():
        transport = reference()
        if transport is not None:
            transport.share()


os.register_at_fork(before=_before_fork)
