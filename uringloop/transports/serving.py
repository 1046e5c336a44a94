"""The loop's part in servers: `create_server`, and what `asyncio.Server` calls to start and to stop."""

import asyncio
import contextvars
import socket
import ssl
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from .. import hooks
from ..ring import Dispatcher
from .server import ListenerSet, mark_unshared

if TYPE_CHECKING:
    from ..loop import EventLoop


class Serving(hooks.PrivateLoop):
    """The loop's methods for servers.  Their parameters are asyncio's, whatever the Python."""

    _dispatcher: Dispatcher
    _listeners: ListenerSet | None = None
    _owner_thread: int | None

    def _open_listeners(self) -> ListenerSet:
        if self._listeners is None:
            self._listeners = ListenerSet(cast("EventLoop", self))
        return self._listeners

    async def create_server(self, *args: Any, start_serving: bool = True, **options: Any) -> asyncio.Server:
        """Make a server; see `asyncio.loop.create_server`."""
        make = super().create_server
        if options.get("sock") is not None:
            return await make(*args, start_serving=start_serving, **options)
        return await _begin_unshared(await make(*args, start_serving=False, **options), start_serving)

    async def create_unix_server(self, *args: Any, start_serving: bool = True, **options: Any) -> asyncio.Server:
        """Make a server; see `asyncio.loop.create_unix_server`."""
        make = super().create_unix_server
        if options.get("sock") is not None:
            return await make(*args, start_serving=start_serving, **options)
        return await _begin_unshared(await make(*args, start_serving=False, **options), start_serving)

    def _start_serving(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sock: socket.socket,
        sslcontext: ssl.SSLContext | None = None,
        server: Any = None,
        backlog: int = 100,
        ssl_handshake_timeout: float | None = hooks.SSL_HANDSHAKE_TIMEOUT_S,
        ssl_shutdown_timeout: float | None = hooks.SSL_SHUTDOWN_TIMEOUT_S,
        context: contextvars.Context | None = None,
    ) -> None:
        self._check_closed()
        tls = None
        if sslcontext is not None:
            tls = {
                "sslcontext": sslcontext,
                "ssl_handshake_timeout": ssl_handshake_timeout,
                "ssl_shutdown_timeout": ssl_shutdown_timeout,
            }
        self._open_listeners().start(sock, protocol_factory, server, tls, context, backlog)

    def _stop_serving(self, sock: socket.socket) -> None:
        if self._listeners is not None:
            self._listeners.stop(sock)
        if self._owner_thread == threading.get_native_id() and not self.is_closed():
            # The poll holds the address until it is cancelled; the kernel does that in the submit.
            self._dispatcher.submit()
        super()._stop_serving(sock)


async def _begin_unshared(server: asyncio.Server, start_serving: bool) -> asyncio.Server:
    """Start a server on sockets that nobody else knows."""
    for sock in server._sockets:  # type: ignore[attr-defined]
        mark_unshared(sock)
    if start_serving:
        await server.start_serving()
    return server
