"""Operations on what is registered with a ring: buffers, files, groups of provided buffers.

A registered buffer is used through any slice of its memory; an address outside of it is refused with EFAULT.
"""

import array
import os
from collections.abc import Sequence
from typing import Any

from ..ring import Descriptor, Dispatcher, Opcode, Pin, Vector
from .base import Operation, Slot
from .file import CURRENT_POSITION, FileOperation

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
            dispatcher.feed()
        return token

    def release(self) -> None:
        self._memory.release()


class ReadFixed(_FixedTransfer):
    """pread(2) into a part of a registered buffer; the result is the number of bytes.

    Args:
        buffer: the part.
        index: of the registered buffer.
        offset: in bytes; the file's own position without it.
        flags: os.RWF_*, see preadv2(2).
    """

    __slots__ = ()
    opcode = Opcode.READ_FIXED

    def __init__(
        self, file: int | Descriptor, buffer: Any, index: int, offset: int = CURRENT_POSITION, flags: int = 0
    ) -> None:
        pin = Pin(buffer, writable=True)
        super().__init__(file, pin, pin.size_bytes, index, offset, flags)


class WriteFixed(_FixedTransfer):
    """pwrite(2) of a part of a registered buffer; the result is the number of bytes.  Arguments as of `ReadFixed`."""

    __slots__ = ()
    opcode = Opcode.WRITE_FIXED

    def __init__(
        self, file: int | Descriptor, buffer: Any, index: int, offset: int = CURRENT_POSITION, flags: int = 0
    ) -> None:
        pin = Pin(buffer)
        super().__init__(file, pin, pin.size_bytes, index, offset, flags)


class ReadVectorFixed(_FixedTransfer):
    """preadv2(2) into parts of one registered buffer; the result is the number of bytes.  Linux 6.15 and newer.

    Args:
        buffers: the parts.
        index: of the registered buffer.
        offset: in bytes; the file's own position without it.
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
    """pwritev2(2) of parts of one registered buffer; the result is the number of bytes.  See `ReadVectorFixed`."""

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

    The result is how many were put; ENXIO if there is no table, EINVAL beyond its end.

    Args:
        first: where to begin.
        descriptors: -1 empties a slot, -2 leaves it as it is.  They may be closed afterwards: the table has its own.
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

    The result is the descriptor; EBADF if the slot is empty.  Linux 6.8 and newer.

    Args:
        slot: where it is.
        inheritable: children that execute a program get it too.
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

    They are the kernel's until it names them in a completion, so the operation must be kept until then.  The result is
    None.

    Args:
        memory: writable; cut into pieces.
        piece_bytes: of each.
        group_id: 0 to 65535.
        first_id: of the first piece; they count up.
    """

    __slots__ = ("_first_id", "_group_id", "_piece_bytes", "_pin")
    opcode = Opcode.PROVIDE_BUFFERS

    def __init__(self, memory: Any, piece_bytes: int, group_id: int, first_id: int = 0) -> None:
        if piece_bytes < 1:
            raise ValueError("a buffer needs at least one byte")
        # The kernel reads their number where other operations have a descriptor.
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
    """Takes back buffers that were given with `ProvideBuffers`; io_uring_prep_remove_buffers(3).

    The result is how many; ENOENT if there is no such group.

    Args:
        count: at most.
        group_id: 0 to 65535.
    """

    __slots__ = ("_group_id",)
    opcode = Opcode.REMOVE_BUFFERS

    def __init__(self, count: int, group_id: int) -> None:
        super().__init__(int(count))
        self._group_id = group_id

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, buf_index=self._group_id)
