"""sendmsg(2) and recvmsg(2) whole: several buffers, addresses, ancillary data such as descriptors.

Ancillary data has the form of `socket.sendmsg` and `socket.recvmsg`: (level, kind, bytes) each.  Descriptors of a
message without a waiter are closed.
"""

import array
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ..ring import CqeFlag, Dispatcher, Opcode, Pin, SqeFlag, Vector
from . import address
from .base import Slot
from .multishot import Multishot
from .operation import Operation
from .socket import RECV_MULTISHOT

#: struct msghdr: name, iovec, control, flags; see recvmsg(2).
_HEADER = struct.Struct("@PIPNPNi0P")
#: struct cmsghdr.
_CONTROL = struct.Struct("@Nii")
_CONTROL_ALIGN = struct.calcsize("N")
#: struct io_uring_recvmsg_out.
_RECEIVED = struct.Struct("=IIII")
#: The flags of the call that the kernel repeats among its own.
_ASKED = socket.MSG_CMSG_CLOEXEC
_BUFFER = int(CqeFlag.BUFFER)

Ancillary = tuple[int, int, Any]


class Message(NamedTuple):
    """The result of `ReceiveMessage`, in the form of `socket.recvmsg_into`.

    Attributes:
        data: the number of bytes; from `ReceiveMessages`, the bytes.
        ancillary: (level, kind, bytes) for each item.
        flags: socket.MSG_TRUNC and the like.
        address: the sender, or None if it has no address or an unknown family.
    """

    data: Any
    ancillary: list[Ancillary]
    flags: int
    address: Any


class _Header:
    """A struct msghdr with the memory that it points to, pinned."""

    __slots__ = ("_control", "_control_pin", "_fields", "_name", "_name_pin", "_pin", "address")

    def __init__(self, vector: Vector | None, name: bytearray, control: bytearray) -> None:
        self._name = name
        self._control = control
        self._name_pin = Pin(name, writable=True)
        self._control_pin = Pin(control, writable=True)
        where, count = (0, 0) if vector is None else (vector.address, vector.count)
        self._fields = bytearray(
            _HEADER.pack(
                self._name_pin.address if name else 0,
                len(name),
                where,
                count,
                self._control_pin.address if control else 0,
                len(control),
                0,
            )
        )
        self._pin = Pin(self._fields, writable=True)
        self.address = self._pin.address

    def message(self, data: Any, fd: int) -> Message:
        """Return the fields that the kernel wrote, of a message that this socket received."""
        _, name_bytes, _, _, _, control_bytes, flags = _HEADER.unpack(self._fields)
        ancillary = list(_unpack_control(bytes(self._control[:control_bytes])))
        return Message(data, ancillary, flags & ~_ASKED, _sender(bytes(self._name[:name_bytes]), fd))


def _sender(raw: bytes, fd: int) -> Any:
    family = int.from_bytes(raw[:2], "little" if struct.pack("=H", 1)[0] else "big")
    if not raw or family not in address.FAMILIES:
        return None
    fd = -1 if type(fd) is Slot else fd
    proto = _protocol(fd) if family == socket.AF_CAN and fd >= 0 else 0
    return address.unpack(raw, fd, proto)


def _protocol(fd: int) -> int:
    sock = socket.socket(fileno=fd)
    try:
        return sock.proto
    finally:
        sock.detach()


def _pack_control(ancillary: Iterable[Ancillary]) -> bytearray:
    packed = bytearray()
    for level, kind, data in ancillary:
        raw = bytes(data)
        packed += _CONTROL.pack(socket.CMSG_LEN(len(raw)), level, kind) + raw
        packed += bytes(socket.CMSG_SPACE(len(raw)) - socket.CMSG_LEN(len(raw)))
    return packed


def _unpack_control(raw: bytes) -> Iterator[Ancillary]:
    place = 0
    while place + _CONTROL.size <= len(raw):
        size_bytes, level, kind = _CONTROL.unpack_from(raw, place)
        yield level, kind, raw[place + socket.CMSG_LEN(0) : place + size_bytes]
        place += max(-(-size_bytes // _CONTROL_ALIGN) * _CONTROL_ALIGN, _CONTROL.size)


def _close_received(ancillary: Iterable[Ancillary]) -> None:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors = array.array("i")
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
            for fd in descriptors:
                os.close(fd)


class SendMessage(Operation):
    """sendmsg(2); its result is the number of bytes.

    Args:
        buffers: sent one after the other; on a datagram socket, as one datagram.
        ancillary: such as (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd])).
        packed_address: the target (`address.pack`); empty for a connected socket.
        flags: socket.MSG_*; MSG_NOSIGNAL is always added.
    """

    __slots__ = ("_flags", "_header", "_vector")
    opcode = Opcode.SENDMSG

    def __init__(
        self,
        fd: int,
        buffers: Sequence[Any],
        ancillary: Iterable[Ancillary] = (),
        packed_address: bytes = b"",
        flags: int = 0,
    ) -> None:
        super().__init__(fd)
        self._vector = Vector(buffers)
        self._header = _Header(self._vector, bytearray(packed_address), _pack_control(ancillary))
        self._flags = flags | socket.MSG_NOSIGNAL

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, self._header.address, 1, 0, self._flags)

    def release(self) -> None:
        self._vector.release()


class ReceiveMessage(Operation):
    """recvmsg(2) into buffers that the caller keeps; its result is a `Message`.

    Args:
        buffers: writable, filled one after the other.
        ancillary_bytes: room for ancillary data, see `socket.CMSG_SPACE`.
        flags: socket.MSG_*; MSG_CMSG_CLOEXEC is always added.
        keep: called with a message that completes after `abandon`; without it, its descriptors are closed.
    """

    __slots__ = ("_flags", "_header", "_keep", "_vector")
    opcode = Opcode.RECVMSG

    def __init__(
        self,
        fd: int,
        buffers: Sequence[Any],
        ancillary_bytes: int = 0,
        flags: int = 0,
        keep: Callable[[Message], object] | None = None,
    ) -> None:
        super().__init__(fd)
        self._vector = Vector(buffers, writable=True)
        self._header = _Header(self._vector, bytearray(address.SIZE_MAX_BYTES), bytearray(ancillary_bytes))
        self._flags = flags | socket.MSG_CMSG_CLOEXEC
        self._keep = keep

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, self._header.address, 1, 0, self._flags)

    def result(self, res: int, flags: int) -> Message:
        return self._header.message(res, self.fd)

    def dispose(self, res: int, flags: int) -> None:
        message = self.result(res, flags)
        if self._keep is None:
            _close_received(message.ancillary)
        else:
            self._keep(message)

    def release(self) -> None:
        self._vector.release()


class ReceiveMessages(Multishot):
    """recvmsg(2) again and again into buffers of the ring's group; it has the multishot form only.

    Each result is a `Message` with its bytes, cut to the size of a buffer of the group.

    Args:
        ancillary_bytes: room for ancillary data, see `socket.CMSG_SPACE`.
        flags: socket.MSG_*; MSG_CMSG_CLOEXEC is always added.
        keep: called with a message that no caller took; without it, its descriptors are closed.
    """

    __slots__ = ("_ancillary_bytes", "_flags", "_header", "_keep")
    opcode = Opcode.RECVMSG
    ends_with_zero = True

    def __init__(
        self,
        fd: int,
        ancillary_bytes: int = 0,
        flags: int = 0,
        keep: Callable[[Message], object] | None = None,
    ) -> None:
        super().__init__(fd)
        self._header = _Header(None, bytearray(address.SIZE_MAX_BYTES), bytearray(ancillary_bytes))
        self._ancillary_bytes = ancillary_bytes
        self._flags = flags | socket.MSG_CMSG_CLOEXEC
        self._keep = keep

    def stage(self, dispatcher: Dispatcher) -> int:
        if not self.is_multishot:
            raise ValueError("ReceiveMessages is multishot only; ReceiveMessage receives one")
        return dispatcher.stage(
            self,
            self.opcode,
            self.fd,
            self._header.address,
            1,
            op_flags=self._flags,
            ioprio=RECV_MULTISHOT,
            sqe_flags=SqeFlag.BUFFER_SELECT,
        )

    def complete(self, res: int, flags: int) -> None:
        if res == -errno.ENOBUFS and self._begin_again():
            return
        if flags & _BUFFER and res <= 0:
            assert self._dispatcher is not None
            self._dispatcher.take_buffer(flags, 0)
        super().complete(res, flags)

    def result(self, res: int, flags: int) -> Message:
        assert self._dispatcher is not None
        received = self._dispatcher.take_buffer(flags, res)
        name_bytes, control_bytes, payload_bytes, message_flags = _RECEIVED.unpack_from(received)
        name_at = _RECEIVED.size
        control_at = name_at + address.SIZE_MAX_BYTES
        payload_at = control_at + self._ancillary_bytes
        return Message(
            received[payload_at : payload_at + payload_bytes],
            list(_unpack_control(received[control_at : control_at + control_bytes])),
            message_flags & ~_ASKED,
            _sender(received[name_at : name_at + name_bytes], self.fd),
        )

    def dispose(self, res: int, flags: int) -> None:
        if res > 0:
            self.dispose_of(self.result(res, flags))

    def dispose_of(self, result: Message) -> None:
        if self._keep is None:
            _close_received(result.ancillary)
        else:
            self._keep(result)
