"""`loop.getaddrinfo` without a thread, for names that need no look-up.

`socket.getaddrinfo` still gives the answer, with flags that forbid a look-up.  So the answer is the same for all
arguments, and only the thread is saved.  A name that is no address literal, or a service that is no number, goes to the
executor, as with asyncio.
"""

import socket
from typing import Any

from .hooks import PrivateLoop

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


class NameResolution(PrivateLoop):
    """The loop's getaddrinfo."""

    async def getaddrinfo(
        self, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Any]:
        """Look a host and a port up; see `asyncio.loop.getaddrinfo`."""
        if self.get_debug() or not (_is_literal(host) and _is_number(port) and _is_harmless(flags)):
            # In debug mode asyncio logs the time that it takes.
            return await super().getaddrinfo(host, port, family=family, type=type, proto=proto, flags=flags)
        return socket.getaddrinfo(host, port, family, type, proto, flags | _LOOK_NOTHING_UP)


def _is_literal(host: Any) -> bool:
    if host is None:
        return True
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if not isinstance(host, str):
        return False
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return True
    return False


def _is_number(port: Any) -> bool:
    if port is None or isinstance(port, int):
        return True
    return isinstance(port, str | bytes) and port.isascii() and port.isdigit()


def _is_harmless(flags: Any) -> bool:
    return isinstance(flags, int) and not flags & ~_HARMLESS
