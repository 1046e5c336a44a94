"""Socket addresses between Python's form and the kernel's `struct sockaddr`.

See ip(7), ipv6(7), unix(7), netlink(7), packet(7), vsock(7), and Documentation/networking/can.rst of the kernel.
"""

import fcntl
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

_FAMILY = struct.Struct("=H")
_INET = struct.Struct("=H2s4s8x")
_INET6 = struct.Struct("=H2sI16sI")
_NETLINK = struct.Struct("=H2xII")
_PACKET = struct.Struct("=H2siHBB8s")
_VSOCK = struct.Struct("=H2xII4x")
#: Behind the interface's number: the identifiers or names of the protocols, see `_CAN_FORMS`.
_CAN = struct.Struct("=H2xi16s")
#: struct ifreq: the name of an interface, its number.
_INTERFACE = struct.Struct("=16si20x")
_NAME_MAX_BYTES = 15
_SIOCGIFNAME = 0x8910
_SIOCGIFINDEX = 0x8933
_PACKET_ADDRESS_MAX_BYTES = 8
#: The numbers behind the interface in the address of a CAN socket, by protocol: ISO-TP's, and J1939's.
_CAN_FORMS = {6: struct.Struct("=II8x"), 7: struct.Struct("=QIB3x")}
_UNIX_PATH_MAX = 108
_FLOW_MAX = 0xFFFFF
_UINT_MAX = 0xFFFFFFFF

#: The families whose addresses this module knows.
FAMILIES = frozenset(
    {
        socket.AF_INET,
        socket.AF_INET6,
        socket.AF_UNIX,
        socket.AF_NETLINK,
        socket.AF_PACKET,
        socket.AF_VSOCK,
        socket.AF_CAN,
    }
)

#: Room for the address of any family.
SIZE_MAX_BYTES = 128


def pack(family: int, address: Any, fd: int = -1, proto: int = 0) -> bytes | None:
    """Return the sockaddr of a resolved address, or None for a family outside `FAMILIES`.

    Args:
        family: the family of the socket.
        address: in the form of the socket module.
        fd: the socket, whose network namespace has the interface; below 0 for that of this process.
        proto: the protocol of the socket.

    Raises:
        OverflowError: the port is outside 0-65535, or the flow label outside 0-1048575.
        OSError: the host is no address literal, the path is too long, or there is no such interface.
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
    if family in _PACKERS:
        if not isinstance(address, tuple):
            raise TypeError("the address must be a tuple")
        try:
            return _PACKERS[family](address, fd, proto)
        except struct.error as error:
            raise ValueError(str(error)) from None
    return None


def unpack(raw: bytes, fd: int = -1, proto: int = 0) -> Any:
    """Return the address that `socket.accept` would give for this sockaddr of one of `FAMILIES`.

    Args:
        raw: the sockaddr.
        fd: as for `pack`.
        proto: the protocol of the socket.
    """
    if len(raw) < _FAMILY.size:
        return ""
    (family,) = _FAMILY.unpack_from(raw)
    if family == socket.AF_INET:
        _, port, host = _INET.unpack_from(raw)
        return socket.inet_ntop(family, host), int.from_bytes(port, "big")
    if family == socket.AF_INET6:
        _, port, flow, host, scope = _INET6.unpack_from(raw)
        return socket.inet_ntop(family, host), int.from_bytes(port, "big"), socket.ntohl(flow), scope
    if family in _UNPACKERS:
        # Some end before their last fields.
        return _UNPACKERS[family](raw.ljust(SIZE_MAX_BYTES, b"\0"), fd, proto)
    path = raw[_FAMILY.size :]
    return path if path.startswith(b"\0") else os.fsdecode(path.rstrip(b"\0"))


def _port(port: int) -> bytes:
    if not 0 <= port <= 0xFFFF:
        raise OverflowError("connect(): port must be 0-65535.")
    return port.to_bytes(2, "big")


def _pack_netlink(address: tuple[Any, ...], fd: int, proto: int) -> bytes:
    pid, groups = address
    return _NETLINK.pack(socket.AF_NETLINK, pid, groups)


def _unpack_netlink(raw: bytes, fd: int, proto: int) -> Any:
    return _NETLINK.unpack_from(raw)[1:]


def _pack_vsock(address: tuple[Any, ...], fd: int, proto: int) -> bytes:
    cid, port = address
    return _VSOCK.pack(socket.AF_VSOCK, port, cid)


def _unpack_vsock(raw: bytes, fd: int, proto: int) -> Any:
    _, port, cid = _VSOCK.unpack_from(raw)
    return cid, port


def _pack_packet(address: tuple[Any, ...], fd: int, proto: int) -> bytes:
    defaults: tuple[Any, ...] = (0, 0, b"")
    name, protocol, kind, hardware, sender = address + defaults[max(0, len(address) - 2) :]
    if not isinstance(name, str):
        raise TypeError("the name of an interface must be a str")
    index = _number_of(name.encode(), fd)
    sender = bytes(memoryview(sender))
    if len(sender) > _PACKET_ADDRESS_MAX_BYTES:
        raise ValueError("Hardware address must be 8 bytes or less")
    return _PACKET.pack(socket.AF_PACKET, _port(protocol), index, hardware, kind, len(sender), sender)


def _unpack_packet(raw: bytes, fd: int, proto: int) -> Any:
    _, protocol, index, hardware, kind, size_bytes, _ = _PACKET.unpack_from(raw)
    sender = raw[_PACKET.size - _PACKET_ADDRESS_MAX_BYTES :][:size_bytes]
    return _name_of(index, fd).decode(), int.from_bytes(protocol, "big"), kind, hardware, sender


def _pack_can(address: tuple[Any, ...], fd: int, proto: int) -> bytes:
    name, *numbers = address
    form = _CAN_FORMS.get(proto, struct.Struct(""))
    index = _number_of(os.fsencode(name), fd) if name else 0
    return _CAN.pack(socket.AF_CAN, index, form.pack(*numbers))


def _unpack_can(raw: bytes, fd: int, proto: int) -> Any:
    _, index, rest = _CAN.unpack_from(raw)
    numbers = _CAN_FORMS[proto].unpack(rest) if proto in _CAN_FORMS else ()
    return os.fsdecode(_name_of(index, fd)), *numbers


_PACKERS: dict[int, Callable[[tuple[Any, ...], int, int], bytes]] = {
    socket.AF_NETLINK: _pack_netlink,
    socket.AF_PACKET: _pack_packet,
    socket.AF_VSOCK: _pack_vsock,
    socket.AF_CAN: _pack_can,
}
_UNPACKERS: dict[int, Callable[[bytes, int, int], Any]] = {
    socket.AF_NETLINK: _unpack_netlink,
    socket.AF_PACKET: _unpack_packet,
    socket.AF_VSOCK: _unpack_vsock,
    socket.AF_CAN: _unpack_can,
}


def _number_of(name: bytes, fd: int) -> int:
    """Return the number of an interface, in the network namespace of the socket."""
    if not name or len(name) > _NAME_MAX_BYTES or b"\0" in name:
        raise ValueError("this is no name of an interface")
    if fd < 0:
        return socket.if_nametoindex(name.decode())
    number: int = _INTERFACE.unpack(fcntl.ioctl(fd, _SIOCGIFINDEX, _INTERFACE.pack(name, 0)))[1]
    return number


def _name_of(index: int, fd: int) -> bytes:
    """Return the name of an interface, an empty one if there is none; as the socket module asks."""
    if index == 0:
        return b""
    try:
        if fd < 0:
            return socket.if_indextoname(index).encode()
        found = fcntl.ioctl(fd, _SIOCGIFNAME, _INTERFACE.pack(b"", index))
    except OSError:
        return b""
    name: bytes = _INTERFACE.unpack(found)[0]
    return name.rstrip(b"\0")
