"""Operations on a ring's registered resources: buffers, files, groups of provided buffers.

Any slice of a registered buffer's memory may be used.  The kernel refuses an address outside of it with EFAULT.
"""

import array
import os
from collections.abc import Sequence
from typing import Any

from ..ring import Descriptor, Dispatcher, Opcode, Pin, Vector
from .base import Slot
from .operation import FileOperation, Operation
from .read_write import CURRENT_POSITION

_KEEP_OPEN_ON_EXEC = 1 << 0


class _FixedTransfer(FileOperation):
    __slots__ = ("_flags", "_index", "_length", "_memory", "_offset")

    def __init__(
        self, file: int | Descriptor, memory: Pin | Vector, length: int, index: int, offset: int, flags: int
    ) -> None:
        super().__init__(file)
        self._memory = memory
        self._length = length
        self._index = index
        self._offset = offset
        self._flags = flags

    def stage(self, dispatcher: Dispatcher) -> int:
        token = dispatcher.stage(
            self,
            self.opcode,
            self.fd,
            self._memory.address,
            self._length,
            self._offset,
            self._flags,
            buf_index=self._index,
        )
        if not self.modifiers:
            dispatcher.submit_early()
        return token

    def release(self) -> None:
        self._memory.release()


class ReadVectorFixed(_FixedTransfer):
    """preadv2(2) into parts of one registered buffer; its result is the number of bytes.  Needs Linux 6.15.

    Args:
        buffers: the parts.
        index: the registered buffer's number.
        offset: the first byte in the file; without it, the file's own position.
        flags: os.RWF_*.
    """

    __slots__ = ()
    opcode = Opcode.READV_FIXED

    def __init__(
        self,
        file: int | Descriptor,
        buffers: Sequence[Any],
        index: int,
        offset: int = CURRENT_POSITION,
        flags: int = 0,
    ) -> None:
        vector = Vector(buffers, writable=True)
        super().__init__(file, vector, vector.count, index, offset, flags)


class WriteVectorFixed(_FixedTransfer):
    """pwritev2(2) of parts of one registered buffer; its result is the number of bytes.  See `ReadVectorFixed`."""

    __slots__ = ()
    opcode = Opcode.WRITEV_FIXED

    def __init__(
        self,
        file: int | Descriptor,
        buffers: Sequence[Any],
        index: int,
        offset: int = CURRENT_POSITION,
        flags: int = 0,
    ) -> None:
        vector = Vector(buffers)
        super().__init__(file, vector, vector.count, index, offset, flags)


class UpdateFiles(Operation):
    """Puts descriptors into the table of registered files; io_uring_prep_files_update(3).

    The result is the number of updated slots.  ENXIO: the ring has no table.  EINVAL: it is smaller.

    Args:
        first: the first slot.
        descriptors: -1 empties a slot, -2 leaves it unchanged.  The caller may close them: the table holds the files.
    """

    __slots__ = ("_first", "_numbers", "_pin")
    opcode = Opcode.FILES_UPDATE

    def __init__(self, first: Slot, descriptors: Sequence[int]) -> None:
        super().__init__()
        self._first = int(first)
        self._numbers = array.array("i", descriptors)
        self._pin = Pin(self._numbers, writable=True)

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, self._pin.address, len(self._numbers), self._first)


class InstallFile(Operation):
    """Makes a registered file one of the process's descriptors too; io_uring_prep_fixed_fd_install(3).

    The result is the descriptor.  EBADF: the slot is empty.  It needs Linux 6.8.

    Args:
        slot: the file's slot.
        inheritable: leave it open in children that execute a program.
    """

    __slots__ = ("_flags",)
    opcode = Opcode.FIXED_FD_INSTALL

    def __init__(self, slot: Slot, inheritable: bool = False) -> None:
        super().__init__(Slot(slot))
        self._flags = _KEEP_OPEN_ON_EXEC if inheritable else 0

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, op_flags=self._flags)

    def dispose(self, res: int, flags: int) -> None:
        os.close(res)


class ProvideBuffers(Operation):
    """Gives buffers to a group that receives pick from, the way before buffer rings; io_uring_prep_provide_buffers(3).

    The kernel owns each buffer until a completion names it, so keep the operation until then.  The result is None.

    Args:
        memory: writable memory, to be cut into pieces.
        piece_bytes: the size of a piece.
        group_id: 0 to 65535.
        first_id: the id of the first piece; the others count up.
    """

    __slots__ = ("_first_id", "_group_id", "_piece_bytes", "_pin")
    opcode = Opcode.PROVIDE_BUFFERS

    def __init__(self, memory: Any, piece_bytes: int, group_id: int, first_id: int = 0) -> None:
        if piece_bytes < 1:
            raise ValueError("a buffer needs at least one byte")
        # The kernel reads their number from the descriptor field.
        self._pin = Pin(memory, writable=True)
        if not 0 < piece_bytes <= self._pin.size_bytes:
            raise ValueError("the memory must have room for at least one piece")
        super().__init__(self._pin.size_bytes // piece_bytes)
        self._piece_bytes = piece_bytes
        self._group_id = group_id
        self._first_id = first_id

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(
            self,
            self.opcode,
            self.fd,
            self._pin.address,
            self._piece_bytes,
            self._first_id,
            buf_index=self._group_id,
        )

    def result(self, res: int, flags: int) -> None:
        return None


class RemoveBuffers(Operation):
    """Takes back buffers of `ProvideBuffers`; io_uring_prep_remove_buffers(3).

    The result is their number.  ENOENT: the group does not exist.

    Args:
        count: the most buffers to take back.
        group_id: 0 to 65535.
    """

    __slots__ = ("_group_id",)
    opcode = Opcode.REMOVE_BUFFERS

    def __init__(self, count: int, group_id: int) -> None:
        super().__init__(int(count))
        self._group_id = group_id

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, buf_index=self._group_id)
