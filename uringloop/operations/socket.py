"""Operations on sockets.

A send asks for MSG_NOSIGNAL, because a broken connection is an errno here and not a SIGPIPE, and for MSG_WAITALL,
because one mebibyte otherwise returns after a part.

A datagram is sent with MSG_DONTWAIT: where the kernel finds the receiver full after it has copied the datagram, the
second attempt of a SENDMSG that waits by itself sends an empty one (measured on Linux 6.18).
"""

import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

from ..ring import ACCEPT_MULTISHOT, TRANSFER_MAX_BYTES, CqeFlag, Dispatcher, Opcode, Pin, SqeFlag
from . import address
from .base import Operation, Slot, State, close_made, file_index, made
from .multishot import Multishot

#: As a plain number: an IntFlag takes a microsecond to be asked.
_MORE = int(CqeFlag.MORE)
_BUFFER = int(CqeFlag.BUFFER)
#: IORING_RECV_MULTISHOT.
RECV_MULTISHOT = 1 << 1
#: One that is linked to the next cannot be staged again: the chain has broken.
_LINKS = SqeFlag.IO_LINK | SqeFlag.IO_HARDLINK
_SEND_FLAGS = socket.MSG_NOSIGNAL | socket.MSG_WAITALL
_ACCEPT_FLAGS = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
_SEND_MAX_BYTES = 1 << 30
#: What a connection is refused with after a while.
_LATE_ERRORS = {errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ECONNRESET}
_DATAGRAM_FLAGS = socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT
#: struct msghdr: name, iovec, control, flags; see recvmsg(2).
_MESSAGE = struct.Struct("@PIPNPNi0P")
_NAME_SIZE = struct.Struct("@PI")
_VECTOR = struct.Struct("@PN")
_VECTOR_AT = _MESSAGE.size
_NAME_AT = _MESSAGE.size + _VECTOR.size


class Receive(Multishot):
    """recv(2) of up to size_bytes, or a buffer of the group if that is less; the result is the bytes.

    As multishot each result is what arrived, up to the end of the stream; size_bytes says nothing then.

    Args:
        keep: gets the bytes if abandoned too late, or not taken from an iterator.
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
            self, self.opcode, self.fd, 0, size_bytes, 0, self._flags, ioprio, SqeFlag.BUFFER_SELECT
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
        # In a loop it was taken from the buffer as it arrived.
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
    """recv(2) into the caller's buffer; the result is the number of bytes.

    Args:
        keep: gets the bytes if abandoned too late.
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
    """send(2) of a buffer from start_bytes on; the result is the number of bytes sent, all unless interrupted.

    Args:
        flags: socket.MSG_* beside those that are always given.

    Attributes:
        size_bytes: of the whole buffer.
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
    """A struct msghdr with one buffer and an address, both held still."""

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
    """recvmsg(2) of one datagram; the result is the number of bytes and the sender, None if it has no address.

    Args:
        fd: a socket of one of `address.FAMILIES`.
        buffer: what does not fit into its first size_bytes is cut off.
        size_bytes: at most the buffer's.
        keep: gets the datagram and its sender if abandoned too late.
    """

    __slots__ = ("_buffer", "_keep")
    opcode = Opcode.RECVMSG

    def __init__(self, fd: int, buffer: Any, size_bytes: int, keep: Callable[[bytes, Any], object]) -> None:
        pin = Pin(buffer, writable=True)
        super().__init__(fd, pin, size_bytes, bytearray(address.SIZE_MAX_BYTES))
        self._buffer = buffer
        self._keep = keep

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, self._header_pin.address, 1)

    def _sender(self) -> Any:
        _, size_bytes = _NAME_SIZE.unpack_from(self._header)
        return address.unpack(bytes(self._header[_NAME_AT : _NAME_AT + size_bytes])) if size_bytes else None

    def result(self, res: int, flags: int) -> tuple[int, Any]:
        return res, self._sender()

    def dispose(self, res: int, flags: int) -> None:
        self._keep(first_bytes(self._buffer, res), self._sender())


class SendTo(_Message):
    """sendmsg(2) of one datagram to a packed address; the result is the number of bytes, EAGAIN if there is no room."""

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
        # As with asyncio, connecting has begun when the caller comes back from its first step: code that then blocks in
        # accept() on the other side of it would wait for ever.
        dispatcher.submit()

    def result(self, res: int, flags: int) -> None:
        return None

    def error(self, res: int) -> BaseException:
        # Of what connect(2) refuses at once, as all that unix sockets can refuse, asyncio names no address.
        if -res in _LATE_ERRORS and isinstance(self._target, tuple):
            return OSError(-res, f"Connect call failed {self._target}")
        return super().error(res)


class Accept(Multishot):
    """accept4(2); the result is the descriptor, non-blocking, and the peer's address.

    As multishot each result is a descriptor alone: one address would be overwritten by the next.

    Args:
        keep: gets the two if abandoned too late; without it, and as multishot, the descriptor is closed.
        slot: put the connection there, and not among the process's descriptors; the descriptor is a `Slot` then.
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
            return dispatcher.stage(self, self.opcode, self.fd, 0, 0, 0, flags, ACCEPT_MULTISHOT, 0, 0, where)
        return dispatcher.stage(
            self, self.opcode, self.fd, self._address_pin.address, 0, self._size_pin.address, flags, 0, 0, 0, where
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
    """accept4(2) until abandoned or ended: `accepted` gets each descriptor, `failed` an OSError that stopped it.

    Args:
        fd: the listening socket.
        multishot: one SQE for all connections; otherwise it is armed again each time.
        accepted: called with a descriptor, non-blocking, that is now the callee's.
        failed: called with the error; the operation is done and may be submitted again.
        ended: called without arguments when nothing more comes, after `end`.
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
        return dispatcher.stage(self, self.opcode, self.fd, 0, 0, 0, _ACCEPT_FLAGS, ioprio)

    def complete(self, res: int, flags: int) -> None:
        last = not flags & _MORE
        if last:
            self.state = State.DONE
        if self.abandoned:
            self._discard(res, flags)
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

    def end(self) -> None:
        """Accept no more.  What the kernel accepts before it hears of that goes to `accepted` too."""
        self._ends = True
        if self.in_flight:
            assert self._dispatcher is not None
            self._dispatcher.cancel(self.token)

    def dispose(self, res: int, flags: int) -> None:
        os.close(res)


def first_bytes(buffer: Any, size_bytes: int) -> bytes:
    """A copy of the beginning of any buffer, which is not exported any more afterwards."""
    with memoryview(buffer) as view, view.cast("B") as flat:
        return bytes(flat[:size_bytes])
