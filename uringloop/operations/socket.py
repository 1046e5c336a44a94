"""Operations on sockets.

A send asks for MSG_NOSIGNAL, because a broken connection is an errno here and not a SIGPIPE, and for MSG_WAITALL,
because one mebibyte otherwise returns after a part.
"""

import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

from ..ring import ACCEPT_MULTISHOT, CqeFlag, Dispatcher, Opcode, Pin, SqeFlag
from . import address
from .base import Operation, State

_SEND_FLAGS = socket.MSG_NOSIGNAL | socket.MSG_WAITALL
_ACCEPT_FLAGS = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
_SEND_MAX_BYTES = 1 << 30


class Receive(Operation):
    """recv(2) of up to size_bytes, or a buffer of the group if that is less; the result is the bytes.

    If abandoned too late, `keep` gets them.
    """

    __slots__ = ("_data", "_keep", "_size_bytes")
    opcode = Opcode.RECV

    def __init__(self, fd: int, size_bytes: int, keep: Callable[[bytes], object]) -> None:
        super().__init__(fd)
        self._size_bytes = size_bytes
        self._data = b""
        self._keep = keep

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, 0, self._size_bytes, 0, 0, 0, SqeFlag.BUFFER_SELECT)

    def complete(self, res: int, flags: int) -> None:
        if res == -errno.ENOBUFS and not self.abandoned:
            # Others hold all buffers of the group: they are recycled as these are dispatched.
            assert self._dispatcher is not None
            self._dispatcher.grow_buffers()
            self.token = self.stage(self._dispatcher)
            return
        if flags & CqeFlag.BUFFER:
            assert self._dispatcher is not None
            self._data = self._dispatcher.take_buffer(flags, max(res, 0))
        super().complete(res, flags)

    def result(self, res: int, flags: int) -> bytes:
        return self._data

    def dispose(self, res: int, flags: int) -> None:
        if self._data:
            self._keep(self._data)


class ReceiveInto(Operation):
    """recv(2) into the caller's buffer; the result is the number of bytes."""

    __slots__ = ("_buffer", "_keep", "_pin")
    opcode = Opcode.RECV

    def __init__(self, fd: int, buffer: Any, keep: Callable[[bytes], object]) -> None:
        super().__init__(fd)
        self._pin = Pin(buffer, writable=True)
        self._buffer = buffer
        self._keep = keep

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, self._pin.address, self._pin.size_bytes)

    def dispose(self, res: int, flags: int) -> None:
        if res > 0:
            self._keep(bytes(memoryview(self._buffer).cast("B")[:res]))


class SendAll(Operation):
    """send(2) of a buffer from start_bytes on; the result is the number of bytes sent, all unless interrupted."""

    __slots__ = ("_pin", "_start_bytes")
    opcode = Opcode.SEND

    def __init__(self, fd: int, pin: Pin, start_bytes: int) -> None:
        super().__init__(fd)
        self._pin = pin
        self._start_bytes = start_bytes

    def stage(self, dispatcher: Dispatcher) -> int:
        size_bytes = min(self._pin.size_bytes - self._start_bytes, _SEND_MAX_BYTES)
        return dispatcher.stage(
            self, self.opcode, self.fd, self._pin.address + self._start_bytes, size_bytes, 0, _SEND_FLAGS
        )


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
        return OSError(-res, f"Connect call failed {self._target}")


class Accept(Operation):
    """accept4(2); the result is the descriptor, non-blocking, and the peer's address.

    If abandoned too late, `keep` gets the two; without it the descriptor is closed.
    """

    __slots__ = ("_address", "_address_pin", "_keep", "_size", "_size_pin")
    opcode = Opcode.ACCEPT

    def __init__(self, fd: int, keep: Callable[[int, Any], object] | None = None) -> None:
        super().__init__(fd)
        self._keep = keep
        self._address = bytearray(address.SIZE_MAX_BYTES)
        self._size = bytearray(struct.pack("=I", address.SIZE_MAX_BYTES))
        self._address_pin = Pin(self._address, writable=True)
        self._size_pin = Pin(self._size, writable=True)

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(
            self, self.opcode, self.fd, self._address_pin.address, 0, self._size_pin.address, _ACCEPT_FLAGS
        )

    def result(self, res: int, flags: int) -> tuple[int, Any]:
        (size_bytes,) = struct.unpack("=I", self._size)
        return res, address.unpack(bytes(self._address[:size_bytes]))

    def dispose(self, res: int, flags: int) -> None:
        if self._keep is None:
            os.close(res)
        else:
            self._keep(*self.result(res, flags))


class AcceptMany(Operation):
    """accept4(2) until abandoned: `accepted` gets each descriptor, `failed` an OSError that ended it.

    Args:
        fd: the listening socket.
        multishot: one SQE for all connections; otherwise it is armed again each time.
        accepted: called with a descriptor, non-blocking, that is now the callee's.
        failed: called with the error; the operation is done and may be submitted again.
    """

    __slots__ = ("_accepted", "_failed", "_multishot")
    opcode = Opcode.ACCEPT
    may_move = True

    def __init__(
        self,
        fd: int,
        multishot: bool,
        accepted: Callable[[int], object],
        failed: Callable[[OSError], object],
    ) -> None:
        super().__init__(fd)
        self._multishot = multishot
        self._accepted = accepted
        self._failed = failed

    def stage(self, dispatcher: Dispatcher) -> int:
        ioprio = ACCEPT_MULTISHOT if self._multishot else 0
        return dispatcher.stage(self, self.opcode, self.fd, 0, 0, 0, _ACCEPT_FLAGS, ioprio)

    def complete(self, res: int, flags: int) -> None:
        last = not flags & CqeFlag.MORE
        if last:
            self.state = State.DONE
        if self.abandoned:
            self._discard(res, flags)
            return
        try:
            if res >= 0:
                self._accepted(res)
            else:
                self._failed(OSError(-res, os.strerror(-res)))
        finally:
            if last and res >= 0 and not self.abandoned:
                assert self._dispatcher is not None
                self.submit(self._dispatcher)

    def dispose(self, res: int, flags: int) -> None:
        os.close(res)
