"""Operations on files, beside the reads and writes of read_write.py.

A kernel worker looks up a descriptor late.  If the descriptor is closed and its number used again meanwhile, a queued
operation would hit the wrong file.  So a file closes only after its last operation has completed.  Each operation holds
its `Descriptor`, which closes itself with its last reference.
"""

import enum
import errno
import os
import sys
from typing import Any, ClassVar, NamedTuple

from ..ring import POLL_ADD_MULTI, Descriptor, Dispatcher, Opcode, Pin, SqeFlag
from .base import Slot, file_index, made
from .emptying import close_made
from .multishot import Multishot
from .operation import FileOperation, Operation

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_STATX_BASIC_STATS = 0x7FF
_STATX_ANSWER_BYTES = 256
_STATX_BLOCK_SIZE = slice(4, 8)
_STATX_MODE = slice(28, 30)
_STATX_SIZE = slice(40, 48)
_STATX_DIOALIGN = 0x2000
_STATX_OFFSET_ALIGN = slice(156, 160)
_FSYNC_DATASYNC = 1


class Open(Operation):
    """openat(2); its result is the descriptor, close-on-exec.

    Args:
        path: a relative path begins at the working directory.
        flags: os.O_*.
        mode: the permissions of a new file.
        in_worker: open in a kernel worker, which may wait for the other end of a FIFO.  All operations share a few
            workers.  Without it, the kernel first tries as if with O_NONBLOCK.
        slot: the slot for the file, instead of a descriptor; its result is then the `Slot`.
    """

    __slots__ = ("_flags", "_mode", "_path", "_pin", "_slot", "_sqe_flags", "filename")
    opcode = Opcode.OPENAT
    may_end_at_once = True

    def __init__(
        self, path: str | bytes, flags: int, mode: int = 0o666, in_worker: bool = False, slot: Slot | None = None
    ) -> None:
        super().__init__(_AT_FDCWD)
        self.filename = path  # type: ignore[misc]  # an instance's own, over the class's None
        self._path = os.fsencode(path) + b"\0"
        self._pin = Pin(self._path)
        self._flags = flags | os.O_CLOEXEC if slot is None else flags & ~os.O_CLOEXEC
        self._mode = mode
        self._slot = slot
        self._sqe_flags = SqeFlag.ASYNC if in_worker else 0

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(
            self,
            self.opcode,
            self.fd,
            self._pin.address,
            self._mode,
            op_flags=self._flags,
            sqe_flags=self._sqe_flags,
            file_index=file_index(self._slot),
        )

    def result(self, res: int, flags: int) -> int:
        return made(res, self._slot)

    def dispose(self, res: int, flags: int) -> None:
        close_made(self._dispatcher, made(res, self._slot))


class FileStatus(NamedTuple):
    """The result of `Fstat`: st_mode, st_size and st_blksize of stat(2)."""

    mode: int
    size_bytes: int
    block_size_bytes: int


class Fstat(FileOperation):
    """statx(2) of an open file; its result is a `FileStatus`."""

    __slots__ = ("_answer", "_path_pin", "_pin")
    opcode = Opcode.STATX
    _mask: ClassVar[int] = _STATX_BASIC_STATS

    def __init__(self, file: int | Descriptor) -> None:
        super().__init__(file)
        self._path_pin = Pin(b"\0")
        self._answer = bytearray(_STATX_ANSWER_BYTES)
        self._pin = Pin(self._answer, writable=True)

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(
            self, self.opcode, self.fd, self._path_pin.address, self._mask, self._pin.address, _AT_EMPTY_PATH
        )

    def result(self, res: int, flags: int) -> FileStatus:
        fields = (_STATX_MODE, _STATX_SIZE, _STATX_BLOCK_SIZE)
        return FileStatus(*(int.from_bytes(self._answer[field], sys.byteorder) for field in fields))


class DirectAlignment(Fstat):
    """statx(2) with STATX_DIOALIGN: the alignment that O_DIRECT needs for offsets and sizes in an open file.

    The result is a number of bytes, 0 if it is unknown.  It needs Linux 6.1, and only some file systems tell.
    """

    __slots__ = ()
    _mask = _STATX_DIOALIGN

    def result(self, res: int, flags: int) -> int:  # type: ignore[override]  # another question
        known = int.from_bytes(self._answer[:4], sys.byteorder) & _STATX_DIOALIGN
        return int.from_bytes(self._answer[_STATX_OFFSET_ALIGN], sys.byteorder) if known else 0


class Fsync(FileOperation):
    """fsync(2), or fdatasync(2) if data_only; its result is 0."""

    __slots__ = ("_flags",)
    opcode = Opcode.FSYNC

    def __init__(self, file: int | Descriptor, data_only: bool = False) -> None:
        super().__init__(file)
        self._flags = _FSYNC_DATASYNC if data_only else 0

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, op_flags=self._flags)


class Truncate(FileOperation):
    """ftruncate(2) to a size in bytes; its result is 0.  It needs Linux 6.9; older kernels give EINVAL."""

    __slots__ = ("_size_bytes",)
    opcode = Opcode.FTRUNCATE

    def __init__(self, file: int | Descriptor, size_bytes: int) -> None:
        super().__init__(file)
        if not -(1 << 63) <= size_bytes < 1 << 63:
            raise OverflowError("a file's size must fit into 63 bits")
        self._size_bytes = size_bytes

    def stage(self, dispatcher: Dispatcher) -> int:
        # The kernel refuses a negative size.
        return dispatcher.stage(self, self.opcode, self.fd, offset=self._size_bytes % (1 << 64))


class Ready(FileOperation, Multishot):
    """poll(2) until a descriptor is ready; its result is the events that it is ready for.

    The multishot form gives a result each time that the descriptor becomes ready again.

    Args:
        file: the descriptor.
        events: such as select.POLLIN.
    """

    __slots__ = ("_events",)
    opcode = Opcode.POLL_ADD
    may_pause = False

    def __init__(self, file: int | Descriptor, events: int) -> None:
        super().__init__(file)
        self._events = events

    def stage(self, dispatcher: Dispatcher) -> int:
        length = POLL_ADD_MULTI if self.is_multishot else 0
        return dispatcher.stage(self, self.opcode, self.fd, 0, length, 0, self._events)


class Close(FileOperation):
    """close(2), on the ring because a close may write.  A cancelled await still waits, and the file closes.

    From staging on the `Descriptor` no longer owns the descriptor.  A `Slot` is emptied.
    """

    __slots__ = ()
    opcode = Opcode.CLOSE
    may_end_at_once = True

    def __init__(self, file: int | Descriptor) -> None:
        super().__init__(file)
        if isinstance(self.fd, Slot):
            # The kernel empties the slot and does not look it up.
            self.modifiers = 0

    def stage(self, dispatcher: Dispatcher) -> int:
        if isinstance(self.fd, Slot):
            return dispatcher.stage(self, self.opcode, 0, file_index=file_index(self.fd))
        token = super().stage(dispatcher)
        if self._descriptor is not None:
            self._descriptor.fd = -1
        return token

    def abandon(self) -> None:
        """Do nothing: it ends soon, and must not end without the close."""

    def finish(self, res: int) -> int:
        if res == -errno.ECANCELED and not isinstance(self.fd, Slot):
            # A closing loop cancels everything in flight.
            os.close(self.fd)
            res = 0
        return super().finish(res)


class Allocate(FileOperation):
    """fallocate(2) of a size from an offset on, both in bytes; its result is 0.

    Args:
        mode: FALLOC_FL_* of linux/falloc.h.
    """

    __slots__ = ("_mode", "_offset", "_size_bytes")
    opcode = Opcode.FALLOCATE

    def __init__(self, file: int | Descriptor, offset: int, size_bytes: int, mode: int = 0) -> None:
        super().__init__(file)
        self._offset = offset
        self._size_bytes = size_bytes
        self._mode = mode

    def stage(self, dispatcher: Dispatcher) -> int:
        # The kernel reads the size from the address field.
        return dispatcher.stage(self, self.opcode, self.fd, self._size_bytes, self._mode, self._offset)


class Advise(FileOperation):
    """posix_fadvise(2) on the use of a part of the file, in bytes; its result is 0.

    Args:
        size_bytes: 0 for up to the end.
        advice: os.POSIX_FADV_*.
    """

    __slots__ = ("_advice", "_offset", "_size_bytes")
    opcode = Opcode.FADVISE

    def __init__(self, file: int | Descriptor, offset: int, size_bytes: int, advice: int) -> None:
        super().__init__(file)
        self._offset = offset
        self._size_bytes = size_bytes
        self._advice = advice

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, 0, self._size_bytes, self._offset, self._advice)


class AdviseMemory(Operation):
    """madvise(2) on the use of memory; its result is 0.

    Args:
        buffer: memory that begins at a page, such as an `mmap.mmap`.
        advice: mmap.MADV_*.
    """

    __slots__ = ("_advice", "_pin")
    opcode = Opcode.MADVISE

    def __init__(self, buffer: Any, advice: int) -> None:
        super().__init__()
        self._pin = Pin(buffer)
        self._advice = advice

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, self._pin.address, self._pin.size_bytes, 0, self._advice)

    def release(self) -> None:
        self._pin.release()


class SyncFlag(enum.IntFlag):
    """SYNC_FILE_RANGE_* of sync_file_range(2)."""

    WAIT_BEFORE = 1
    WRITE = 2
    WAIT_AFTER = 4


class SyncRange(FileOperation):
    """sync_file_range(2): begins or awaits the writing of a part of the file, in bytes; its result is 0.

    It writes no metadata, so it suits only files whose size stays.

    Args:
        size_bytes: 0 for up to the end.
    """

    __slots__ = ("_flags", "_offset", "_size_bytes")
    opcode = Opcode.SYNC_FILE_RANGE

    def __init__(self, file: int | Descriptor, offset: int, size_bytes: int, flags: SyncFlag) -> None:
        super().__init__(file)
        self._offset = offset
        self._size_bytes = size_bytes
        self._flags = flags

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, 0, self._size_bytes, self._offset, self._flags)
