"""The loop's part in servers: `create_server`, and the methods that `asyncio.Server` calls to start and to stop."""

import asyncio
import contextvars
import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import hooks
from ..engine import Engine
from ..ring import Dispatcher
from .server import ListenerSet, mark_unshared

if TYPE_CHECKING:
    from ssl import SSLContext


class Serving(hooks.PrivateLoop):
    """The loop's methods for servers, with the parameters of the running Python's asyncio."""

    _dispatcher: Dispatcher
    _engine: Engine
    _listeners: ListenerSet | None = None
    _owner_thread: int | None

    if TYPE_CHECKING:

        def _make_ssl_transport(self, *args: Any, **options: Any) -> asyncio.Transport: ...

    def _open_listeners(self) -> ListenerSet:
        if self._listeners is None:
            self._listeners = ListenerSet(self._engine)
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
        sslcontext: "SSLContext | None" = None,
        server: Any = None,
        backlog: int = 100,
        ssl_handshake_timeout: float | None = hooks.SSL_HANDSHAKE_TIMEOUT_S,
        ssl_shutdown_timeout: float | None = hooks.SSL_SHUTDOWN_TIMEOUT_S,
        context: contextvars.Context | None = None,
    ) -> None:
        self._check_closed()
        make_tls = None
        if sslcontext is not None:
            make_tls = partial(
                self._make_ssl_transport,
                sslcontext=sslcontext,
                ssl_handshake_timeout=ssl_handshake_timeout,
                ssl_shutdown_timeout=ssl_shutdown_timeout,
            )
        self._open_listeners().start(sock, protocol_factory, server, make_tls, context, backlog)

    def _stop_serving(self, sock: socket.socket) -> None:
        if self._listeners is not None:
            self._listeners.stop(sock)
        if self._owner_thread == threading.get_native_id() and not self.is_closed():
            # The poll holds the address until it is cancelled; the kernel does that in the submit.
            self._dispatcher.submit()
        super()._stop_serving(sock)


async def _begin_unshared(server: asyncio.Server, start_serving: bool) -> asyncio.Server:
    """Start a server on sockets that no other code knows."""
    for sock in server._sockets:  # type: ignore[attr-defined]
        mark_unshared(sock)
    if start_serving:
        await server.start_serving()
    return server
