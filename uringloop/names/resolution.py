"""`loop.getaddrinfo` and `loop.getnameinfo`.

Names are looked up in the pool, by the C library's own functions.  A cancelled or hanging look-up delays nothing, not
even the end of the program.  An address literal needs no thread: `socket.getaddrinfo` gives the answer at once, with
flags that forbid a look-up.

The executor makes the call as with asyncio in debug mode, where a tool has replaced the socket module's function, and
for unusual arguments.
"""

import _socket
import asyncio
import select
import socket
import types
from typing import TYPE_CHECKING, Any

from ..engine import Engine
from ..hooks import PrivateLoop
from ..operations import Poll
from ..ring import Dispatcher
from .resolver import Lookup, Resolver, is_literal

_LOOK_NOTHING_UP = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
#: Flags without a bearing on look-ups.  AI_ADDRCONFIG asks the kernel for its addresses, which takes no time.
_HARMLESS = (
    _LOOK_NOTHING_UP
    | socket.AI_PASSIVE
    | socket.AI_CANONNAME
    | socket.AI_ADDRCONFIG
    | socket.AI_V4MAPPED
    | socket.AI_ALL
)
_BUILTIN = types.BuiltinFunctionType
_SOCKET_NAMES = vars(socket)
#: After so long to twice as long, another thread takes the place of a look-up's thread.
_LONG_LOOKUP_S = 0.1


class NameResolution(PrivateLoop):
    """The loop's getaddrinfo and getnameinfo."""

    if TYPE_CHECKING:
        # Written by EventLoop.
        _resolver: Resolver | None
        _resolver_poll: Poll | None
        _dispatcher: Dispatcher
        _engine: Engine

    async def getaddrinfo(
        self, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Any]:
        """Look a host and a port up; see `asyncio.loop.getaddrinfo`."""
        # In debug mode asyncio logs the time that it takes.
        if not self._debug and _is_own(socket.getaddrinfo) and _is_own(_socket.getaddrinfo):
            if _is_harmless(flags) and _is_number(port) and is_literal(host):
                return socket.getaddrinfo(host, port, family, type, proto, flags | _LOOK_NOTHING_UP)
            resolver = self._open_resolver()
            if resolver is not None:
                waiter = self.create_future()
                lookup = resolver.look_up_name(waiter, host, port, family, type, proto, flags)
                if lookup is not None:
                    found: list[Any] = await _result(lookup, waiter)
                    return found
        return await super().getaddrinfo(host, port, family=family, type=type, proto=proto, flags=flags)

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        """Look an address up; see `asyncio.loop.getnameinfo`."""
        resolver = self._open_resolver() if _is_own(socket.getnameinfo) else None
        if resolver is not None:
            waiter = self.create_future()
            lookup = resolver.look_up_address(waiter, sockaddr, flags)
            if lookup is not None:
                names: tuple[str, str] = await _result(lookup, waiter)
                return names
        return await super().getnameinfo(sockaddr, flags)

    def _open_resolver(self) -> Resolver | None:
        """Return the loop's resolver, made by the first look-up; None if the system refuses what it needs."""
        resolver = self._resolver
        if resolver is None:
            self._check_closed()
            try:
                resolver = self._make_resolver()
            except OSError:
                return None
        if not resolver.has_timer:
            resolver.has_timer = True
            self.call_later(_LONG_LOOKUP_S, self._detain_long_lookups, resolver)
        return resolver

    def _make_resolver(self) -> Resolver:
        """Return a new resolver with its poll in flight, or raise an OSError; this may make the ring."""
        resolver = Resolver(self._dispatcher)
        try:
            multishot = "multishot_poll" in self._engine.features
            poll = Poll(resolver.fd, select.POLLIN, multishot, resolver.take)
            poll.submit(self._dispatcher)
        except OSError:
            resolver.close()
            raise
        self._resolver, self._resolver_poll = resolver, poll
        return resolver

    def _detain_long_lookups(self, resolver: Resolver) -> None:
        resolver.has_timer = resolver.detain_long()
        if resolver.has_timer:
            self.call_later(_LONG_LOOKUP_S, self._detain_long_lookups, resolver)


async def _result(lookup: Lookup, waiter: "asyncio.Future[None]") -> Any:
    """Wait for a look-up, and return its result; a cancel abandons it."""
    try:
        await waiter
    finally:
        lookup.abandon()
    return lookup.result()


def _is_own(function: Any) -> bool:
    """Return whether a function of the socket module is its own: tests and tools put others in its place."""
    return type(function) is _BUILTIN or getattr(function, "__globals__", None) is _SOCKET_NAMES


def _is_number(port: Any) -> bool:
    if port is None or isinstance(port, int):
        return True
    return isinstance(port, str | bytes) and port.isascii() and port.isdigit()


def _is_harmless(flags: Any) -> bool:
    return isinstance(flags, int) and not flags & ~_HARMLESS
