"""Operations that move bytes between descriptors unseen: splice(2), tee(2), and pipe2(2) for them.

A splice always runs in a kernel worker.  The worker looks up both descriptors late, and blocks as long as a blocking
socket does.  So the operation holds its descriptors, which close after its last CQE.  A full non-blocking socket gives
EAGAIN.
"""

import os
import struct

from ..ring import TRANSFER_MAX_BYTES, Descriptor, Dispatcher, Opcode, Pin
from .base import ANY_SLOT, Slot, file_index
from .emptying import close_made
from .operation import Operation
from .read_write import CURRENT_POSITION

_ENDS = struct.Struct("=ii")


class Splice(Operation):
    """splice(2); its result is the number of bytes moved, 0 at the end of a file.

    Args:
        source: a file, or the reading end of a pipe.
        target: the writing end of a pipe, or a socket.  One of the two is a pipe.
        size_bytes: the most bytes to move.
        offset: the first byte of the source; None for a pipe.

    Attributes:
        moved_bytes: the number of bytes moved, even without a waiter.
    """

    __slots__ = ("_offset", "_size_bytes", "_source", "_target", "moved_bytes")
    opcode = Opcode.SPLICE

    def __init__(self, source: Descriptor, target: Descriptor, size_bytes: int, offset: int | None = None) -> None:
        super().__init__(target.fd)
        self._source = source
        self._target = target
        self._size_bytes = size_bytes
        self._offset = CURRENT_POSITION if offset is None else offset
        self.moved_bytes = 0

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(
            self,
            self.opcode,
            self.fd,
            self._offset,
            min(self._size_bytes, TRANSFER_MAX_BYTES),
            CURRENT_POSITION,
            file_index=self._source.fd,
        )

    def complete(self, res: int, flags: int) -> None:
        self.moved_bytes = max(res, 0)
        super().complete(res, flags)


class Tee(Operation):
    """tee(2): copies bytes from one pipe to another and leaves them in both; its result is their number, 0 at the end.

    Args:
        source: the reading end of a pipe.
        target: the writing end of another pipe.
        size_bytes: the most bytes to copy.
    """

    __slots__ = ("_size_bytes", "_source", "_target")
    opcode = Opcode.TEE

    def __init__(self, source: Descriptor, target: Descriptor, size_bytes: int) -> None:
        super().__init__(target.fd)
        self._source = source
        self._target = target
        self._size_bytes = size_bytes

    def stage(self, dispatcher: Dispatcher) -> int:
        size_bytes = min(self._size_bytes, TRANSFER_MAX_BYTES)
        return dispatcher.stage(self, self.opcode, self.fd, 0, size_bytes, file_index=self._source.fd)


class MakePipe(Operation):
    """pipe2(2); its result is the reading and the writing end.  Needs Linux 6.16.

    Args:
        flags: such as os.O_NONBLOCK; O_CLOEXEC is always added.
        slot: the slot for the reading end, with the writing end in the next one, or `ANY_SLOT`.  The result is then
            two `Slot`s.
    """

    __slots__ = ("_ends", "_flags", "_pin", "_slot")
    opcode = Opcode.PIPE

    def __init__(self, flags: int = 0, slot: Slot | None = None) -> None:
        # The kernel insists on no descriptor being 0.
        super().__init__(0)
        self._flags = flags | os.O_CLOEXEC if slot is None else flags & ~os.O_CLOEXEC
        self._slot = slot
        self._ends = bytearray(_ENDS.size)
        self._pin = Pin(self._ends, writable=True)

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(
            self, self.opcode, self.fd, self._pin.address, op_flags=self._flags, file_index=file_index(self._slot)
        )

    def result(self, res: int, flags: int) -> tuple[int, int]:
        if self._slot is not None and self._slot != ANY_SLOT:
            return self._slot, Slot(self._slot + 1)
        reading, writing = _ENDS.unpack(self._ends)
        return (reading, writing) if self._slot is None else (Slot(reading), Slot(writing))

    def dispose(self, res: int, flags: int) -> None:
        for end in self.result(res, flags):
            close_made(self._dispatcher, end)
