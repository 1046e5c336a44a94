"""Operations on sockets.

A send passes MSG_NOSIGNAL: a broken connection is an errno here and not a SIGPIPE.  It also passes MSG_WAITALL, because
a send of one mebibyte otherwise returns after a part.

A datagram is sent with MSG_DONTWAIT.  A SENDMSG that waits by itself sends an empty one at its second attempt, if
the kernel finds the receiver full after the copy (measured on Linux 6.18).
"""

import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

from ..ring import ACCEPT_MULTISHOT, TRANSFER_MAX_BYTES, CqeFlag, Dispatcher, Opcode, Pin, SqeFlag
from . import address
from .base import Slot, State, file_index, made
from .emptying import close_made
from .multishot import Multishot
from .operation import Operation

#: As a plain number: an IntFlag takes a microsecond to be asked.
_MORE = int(CqeFlag.MORE)
_BUFFER = int(CqeFlag.BUFFER)
#: IORING_RECV_MULTISHOT.
RECV_MULTISHOT = 1 << 1
#: A linked operation cannot be staged again: its chain has broken.
_LINKS = int(SqeFlag.IO_LINK | SqeFlag.IO_HARDLINK)
_SEND_FLAGS = socket.MSG_NOSIGNAL | socket.MSG_WAITALL
_ACCEPT_FLAGS = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
_SEND_MAX_BYTES = 1 << 30
#: The errnos with which a connection fails after a while.
_LATE_ERRORS = {errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ECONNRESET}
_DATAGRAM_FLAGS = socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT
#: struct msghdr: name, iovec, control, flags; see recvmsg(2).
_MESSAGE = struct.Struct("@PIPNPNi0P")
_NAME_SIZE = struct.Struct("@PI")
_VECTOR = struct.Struct("@PN")
_VECTOR_AT = _MESSAGE.size
_NAME_AT = _MESSAGE.size + _VECTOR.size


class Receive(Multishot):
    """recv(2) of up to size_bytes, at most one buffer of the group; its result is the bytes.

    In the multishot form each result is the bytes of one receive, up to the end of the stream, whatever size_bytes is.

    Args:
        keep: called with bytes that complete after `abandon`, or that no caller took from an iterator.
        flags: socket.MSG_*.
    """

    __slots__ = ("_data", "_flags", "_keep", "_size_bytes")
    opcode = Opcode.RECV
    ends_with_zero = True

    def __init__(
        self, fd: int, size_bytes: int = 0, keep: Callable[[bytes], object] | None = None, flags: int = 0
    ) -> None:
        super().__init__(fd)
        self._size_bytes = size_bytes
        self._data: bytes | None = None
        self._keep = keep
        self._flags = flags

    def stage(self, dispatcher: Dispatcher) -> int:
        size_bytes, ioprio = min(self._size_bytes, TRANSFER_MAX_BYTES), 0
        if self.is_multishot:
            size_bytes, ioprio = 0, RECV_MULTISHOT
        return dispatcher.stage(
            self,
            self.opcode,
            self.fd,
            length=size_bytes,
            op_flags=self._flags,
            ioprio=ioprio,
            sqe_flags=SqeFlag.BUFFER_SELECT,
        )

    def complete(self, res: int, flags: int) -> None:
        if res == -errno.ENOBUFS and not self.modifiers & _LINKS and self._begin_again():
            return
        self._data = self._take(res, flags)
        super().complete(res, flags)

    def _take(self, res: int, flags: int) -> bytes:
        if not flags & _BUFFER:
            return b""
        assert self._dispatcher is not None
        return self._dispatcher.take_buffer(flags, max(res, 0))

    def result(self, res: int, flags: int) -> bytes:
        # On a loop's ring the bytes were copied from the buffer as they arrived.
        data, self._data = self._data, None
        return self._take(res, flags) if data is None else data

    def dispose(self, res: int, flags: int) -> None:
        data = self.result(res, flags)
        if data:
            self.dispose_of(data)

    def dispose_of(self, result: bytes) -> None:
        if self._keep is not None:
            self._keep(result)


class ReceiveInto(Operation):
    """recv(2) into the caller's buffer; its result is the number of bytes.

    Args:
        keep: called with bytes that complete after `abandon`.
        flags: socket.MSG_*.
    """

    __slots__ = ("_buffer", "_flags", "_keep", "_pin")
    opcode = Opcode.RECV

    def __init__(self, fd: int, buffer: Any, keep: Callable[[bytes], object] | None = None, flags: int = 0) -> None:
        super().__init__(fd)
        self._pin = Pin(buffer, writable=True)
        self._buffer = buffer
        self._keep = keep
        self._flags = flags

    def stage(self, dispatcher: Dispatcher) -> int:
        size_bytes = min(self._pin.size_bytes, TRANSFER_MAX_BYTES)
        return dispatcher.stage(self, self.opcode, self.fd, self._pin.address, size_bytes, 0, self._flags)

    def dispose(self, res: int, flags: int) -> None:
        if res > 0 and self._keep is not None:
            self._keep(first_bytes(self._buffer, res))

    def release(self) -> None:
        self._pin.release()


class SendAll(Operation):
    """send(2) of a buffer from start_bytes on; its result is the number of bytes sent, all unless interrupted.

    Args:
        flags: socket.MSG_* beside those of this module.

    Attributes:
        size_bytes: the size of the whole buffer.
    """

    __slots__ = ("_flags", "_pin", "_start_bytes", "size_bytes")
    opcode = Opcode.SEND

    def __init__(self, fd: int, data: Any, start_bytes: int = 0, flags: int = 0) -> None:
        super().__init__(fd)
        self._flags = flags | _SEND_FLAGS
        self._pin = Pin(data)
        self.size_bytes = self._pin.size_bytes
        self._start_bytes = min(start_bytes, self.size_bytes)

    def stage(self, dispatcher: Dispatcher) -> int:
        size_bytes = min(self._pin.size_bytes - self._start_bytes, _SEND_MAX_BYTES)
        return dispatcher.stage(
            self, self.opcode, self.fd, self._pin.address + self._start_bytes, size_bytes, 0, self._flags
        )

    def release(self) -> None:
        self._pin.release()


class _Message(Operation):
    """A struct msghdr with one buffer and an address, both pinned."""

    __slots__ = ("_header", "_header_pin", "_pin")

    def __init__(self, fd: int, pin: Pin, size_bytes: int, name: bytes | bytearray) -> None:
        super().__init__(fd)
        self._pin = pin
        self._header = bytearray(_NAME_AT) + name
        self._header_pin = Pin(self._header, writable=True)
        here = self._header_pin.address
        _MESSAGE.pack_into(self._header, 0, here + _NAME_AT, len(name), here + _VECTOR_AT, 1, 0, 0, 0)
        _VECTOR.pack_into(self._header, _VECTOR_AT, pin.address, size_bytes)

    def release(self) -> None:
        self._pin.release()


class ReceiveFrom(_Message):
    """recvmsg(2) of one datagram; its result is the number of bytes and the sender, None for one without an address.

    Args:
        fd: a socket of one of `address.FAMILIES`.
        buffer: its first size_bytes take the datagram; the rest of a longer one is lost.
        size_bytes: at most the buffer's size.
        keep: called with a datagram and its sender that complete after `abandon`.
        proto: the protocol of the socket.
    """

    __slots__ = ("_buffer", "_keep", "_proto")
    opcode = Opcode.RECVMSG

    def __init__(
        self, fd: int, buffer: Any, size_bytes: int, keep: Callable[[bytes, Any], object], proto: int = 0
    ) -> None:
        pin = Pin(buffer, writable=True)
        super().__init__(fd, pin, size_bytes, bytearray(address.SIZE_MAX_BYTES))
        self._buffer = buffer
        self._keep = keep
        self._proto = proto

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, self._header_pin.address, 1)

    def _sender(self) -> Any:
        _, size_bytes = _NAME_SIZE.unpack_from(self._header)
        if not size_bytes:
            return None
        fd = -1 if type(self.fd) is Slot else self.fd
        return address.unpack(bytes(self._header[_NAME_AT : _NAME_AT + size_bytes]), fd, self._proto)

    def result(self, res: int, flags: int) -> tuple[int, Any]:
        return res, self._sender()

    def dispose(self, res: int, flags: int) -> None:
        self._keep(first_bytes(self._buffer, res), self._sender())


class SendTo(_Message):
    """sendmsg(2) of one datagram to a packed address; its result is the number of bytes.  EAGAIN: no room."""

    __slots__ = ()
    opcode = Opcode.SENDMSG

    def __init__(self, fd: int, data: Any, packed_address: bytes) -> None:
        pin = Pin(data)
        super().__init__(fd, pin, pin.size_bytes, packed_address)

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, self._header_pin.address, 1, 0, _DATAGRAM_FLAGS)


class Connect(Operation):
    """connect(2) to a packed address."""

    __slots__ = ("_pin", "_target")
    opcode = Opcode.CONNECT

    def __init__(self, fd: int, packed_address: bytes, target: Any) -> None:
        super().__init__(fd)
        self._pin = Pin(packed_address)
        self._target = target

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, self._pin.address, 0, self._pin.size_bytes)

    def submit(self, dispatcher: Dispatcher) -> None:
        super().submit(dispatcher)
        # As with asyncio, the connect has begun after the caller's first step.  Code that then blocks in accept() on
        # the other side would wait for ever without that.
        dispatcher.submit()

    def result(self, res: int, flags: int) -> None:
        return None

    def error(self, res: int) -> BaseException:
        # asyncio names no address for errors that connect(2) gives at once, as all of unix sockets.
        if -res in _LATE_ERRORS and isinstance(self._target, tuple):
            return OSError(-res, f"Connect call failed {self._target}")
        return super().error(res)


class Accept(Multishot):
    """accept4(2); its result is the descriptor, non-blocking, and the peer's address.

    In the multishot form each result is a descriptor alone: the next address would overwrite the one before.

    Args:
        keep: called with both if they complete after `abandon`; without it, and in the multishot form, the descriptor
            is closed.
        slot: the slot for the connection, instead of a descriptor; the descriptor is then a `Slot`.
    """

    __slots__ = ("_address", "_address_pin", "_keep", "_size", "_size_pin", "_slot")
    opcode = Opcode.ACCEPT

    def __init__(self, fd: int, keep: Callable[[int, Any], object] | None = None, slot: Slot | None = None) -> None:
        super().__init__(fd)
        self._keep = keep
        self._slot = slot
        self._address = bytearray(address.SIZE_MAX_BYTES)
        self._size = bytearray(struct.pack("=I", address.SIZE_MAX_BYTES))
        self._address_pin = Pin(self._address, writable=True)
        self._size_pin = Pin(self._size, writable=True)

    def stage(self, dispatcher: Dispatcher) -> int:
        flags = _ACCEPT_FLAGS if self._slot is None else socket.SOCK_NONBLOCK
        where = file_index(self._slot)
        if self.is_multishot:
            return dispatcher.stage(
                self, self.opcode, self.fd, op_flags=flags, ioprio=ACCEPT_MULTISHOT, file_index=where
            )
        return dispatcher.stage(
            self, self.opcode, self.fd, self._address_pin.address, 0, self._size_pin.address, flags, file_index=where
        )

    def result(self, res: int, flags: int) -> Any:
        descriptor = made(res, self._slot)
        if self.is_multishot:
            return descriptor
        (size_bytes,) = struct.unpack("=I", self._size)
        return descriptor, address.unpack(bytes(self._address[:size_bytes]))

    def dispose(self, res: int, flags: int) -> None:
        if self._keep is None or self.is_multishot:
            self.dispose_of(made(res, self._slot))
        else:
            self._keep(*self.result(res, flags))

    def dispose_of(self, result: int) -> None:
        close_made(self._dispatcher, result)


class AcceptMany(Operation):
    """accept4(2) until it is abandoned or cancelled.

    Args:
        fd: the listening socket.
        multishot: use one SQE for all connections; otherwise arm it again for each.
        accepted: called with a descriptor, non-blocking, which the callee owns.
        failed: called with an OSError; the operation is done and may be submitted again.
        ended: called without arguments after `cancel`, when no connection comes any more.
    """

    __slots__ = ("_accepted", "_ended", "_ends", "_failed", "_multishot")
    opcode = Opcode.ACCEPT
    may_move = True

    def __init__(
        self,
        fd: int,
        multishot: bool,
        accepted: Callable[[int], object],
        failed: Callable[[OSError], object],
        ended: Callable[[], object],
    ) -> None:
        super().__init__(fd)
        self._multishot = multishot
        self._accepted = accepted
        self._failed = failed
        self._ended = ended
        self._ends = False

    def stage(self, dispatcher: Dispatcher) -> int:
        ioprio = ACCEPT_MULTISHOT if self._multishot else 0
        return dispatcher.stage(self, self.opcode, self.fd, op_flags=_ACCEPT_FLAGS, ioprio=ioprio)

    def complete(self, res: int, flags: int) -> None:
        last = not flags & _MORE
        if last:
            self.state = State.DONE
        if self.abandoned:
            self._dispose(res, flags)
            return
        try:
            if res >= 0:
                self._accepted(res)
            elif not self._ends:
                self._failed(OSError(-res, os.strerror(-res)))
        finally:
            if not self.abandoned:
                self._go_on(last, res)

    def _go_on(self, last: bool, res: int) -> None:
        if self._ends:
            if last:
                self._ended()
        elif last and res >= 0:
            assert self._dispatcher is not None
            self.submit(self._dispatcher)

    def cancel(self) -> None:
        """Accept no more.  A connection that the kernel accepts before the cancel still goes to `accepted`."""
        self._ends = True
        if self.in_flight:
            assert self._dispatcher is not None
            self._dispatcher.cancel(self.token)

    def dispose(self, res: int, flags: int) -> None:
        os.close(res)


def first_bytes(buffer: Any, size_bytes: int) -> bytes:
    """Return a copy of the first bytes of a buffer, and end the buffer's export."""
    with memoryview(buffer) as view, view.cast("B") as flat:
        return bytes(flat[:size_bytes])
