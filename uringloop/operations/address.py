"""Socket addresses between Python's form and the kernel's `struct sockaddr` (see ip(7), ipv6(7), unix(7))."""

import os
import socket
import struct
from typing import Any

_FAMILY = struct.Struct("=H")
_INET = struct.Struct("=H2s4s8x")
_INET6 = struct.Struct("=H2sI16sI")
_UNIX_PATH_MAX = 108
_FLOW_MAX = 0xFFFFF
_UINT_MAX = 0xFFFFFFFF

#: The families whose addresses this module knows.
FAMILIES = frozenset({socket.AF_INET, socket.AF_INET6, socket.AF_UNIX})

#: Room for the address of any family.
SIZE_MAX_BYTES = 128


def pack(family: int, address: Any) -> bytes | None:
    """Return the sockaddr of a resolved address, or None for a family outside `FAMILIES`.

    Raises:
        OverflowError: the port is outside 0-65535, or the flow label outside 0-1048575.
        OSError: the host is no address literal, or the path is too long.
        TypeError, ValueError: the address does not belong to that family.
    """
    if family == socket.AF_INET:
        host, port = address
        return _INET.pack(family, _port(port), socket.inet_pton(family, host))
    if family == socket.AF_INET6:
        host, port, flow, scope = (*address, 0, 0)[: max(4, len(address))]
        if not 0 <= flow <= _FLOW_MAX:
            raise OverflowError("connect(): flowinfo must be 0-1048575.")
        scope &= _UINT_MAX
        return _INET6.pack(family, _port(port), socket.htonl(flow), socket.inet_pton(family, host), scope)
    if family == socket.AF_UNIX:
        path = os.fsencode(address) if isinstance(address, str) else bytes(memoryview(address))
        # Abstract or empty: the kernel assigns a name, or refuses.
        ending = b"\0" if path and not path.startswith(b"\0") else b""
        if len(path + ending) > _UNIX_PATH_MAX:
            raise OSError("AF_UNIX path too long")
        return _FAMILY.pack(family) + path + ending
    return None


def unpack(raw: bytes) -> Any:
    """Return the address that `socket.accept` would give for this sockaddr of one of `FAMILIES`."""
    if len(raw) < _FAMILY.size:
        return ""
    (family,) = _FAMILY.unpack_from(raw)
    if family == socket.AF_INET:
        _, port, host = _INET.unpack_from(raw)
        return socket.inet_ntop(family, host), int.from_bytes(port, "big")
    if family == socket.AF_INET6:
        _, port, flow, host, scope = _INET6.unpack_from(raw)
        return socket.inet_ntop(family, host), int.from_bytes(port, "big"), socket.ntohl(flow), scope
    path = raw[_FAMILY.size :]
    return path if path.startswith(b"\0") else os.fsdecode(path.rstrip(b"\0"))


def _port(port: int) -> bytes:
    if not 0 <= port <= 0xFFFF:
        raise OverflowError("connect(): port must be 0-65535.")
    return port.to_bytes(2, "big")
