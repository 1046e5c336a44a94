"""Operations on files.

Their descriptors are looked up late when a kernel worker runs them, so a file is closed only after its last operation
has reported.  A read or write that already runs cannot be cancelled: its result is waited for.
"""

import os
import sys
from typing import Any

from ..ring import Dispatcher, Opcode, Pin
from .base import Operation

#: The offset that means the file's own position.
CURRENT_POSITION = 0xFFFFFFFFFFFFFFFF
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_STATX_BASIC_STATS = 0x7FF
_STATX_SIZE_BYTES = 256
_STATX_FILE_SIZE = slice(40, 48)
_READ_MAX_BYTES = 0x7FFFF000


class Open(Operation):
    """openat(2); the result is the descriptor, close-on-exec.

    Args:
        path: relative to the working directory if not absolute.
        flags: os.O_*.
        mode: permissions of a file that is made.
    """

    __slots__ = ("_flags", "_mode", "_path", "_pin", "filename")
    opcode = Opcode.OPENAT

    def __init__(self, path: str | bytes, flags: int, mode: int = 0o666) -> None:
        super().__init__(_AT_FDCWD)
        self.filename = path  # type: ignore[misc]  # an instance's own, over the class's None
        self._path = os.fsencode(path) + b"\0"
        self._pin = Pin(self._path)
        self._flags = flags | os.O_CLOEXEC
        self._mode = mode

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, self._pin.address, self._mode, 0, self._flags)

    def dispose(self, res: int, flags: int) -> None:
        os.close(res)


class Read(Operation):
    """pread(2) into a buffer that the caller keeps; the result is the number of bytes, 0 at the end of the file."""

    __slots__ = ("_offset", "_pin", "_start_bytes")
    opcode = Opcode.READ

    def __init__(self, fd: int, buffer: Any, offset: int = CURRENT_POSITION, start_bytes: int = 0) -> None:
        super().__init__(fd)
        self._pin = Pin(buffer, writable=True)
        self._offset = offset
        self._start_bytes = start_bytes

    def stage(self, dispatcher: Dispatcher) -> int:
        size_bytes = min(self._pin.size_bytes - self._start_bytes, _READ_MAX_BYTES)
        return dispatcher.stage(
            self, self.opcode, self.fd, self._pin.address + self._start_bytes, size_bytes, self._offset
        )


class Write(Operation):
    """pwrite(2) of a buffer from start_bytes on; the result is the number of bytes written."""

    __slots__ = ("_offset", "_pin", "_start_bytes")
    opcode = Opcode.WRITE

    def __init__(self, fd: int, buffer: Any, offset: int = CURRENT_POSITION, start_bytes: int = 0) -> None:
        super().__init__(fd)
        self._pin = Pin(buffer)
        self._offset = offset
        self._start_bytes = start_bytes

    def stage(self, dispatcher: Dispatcher) -> int:
        size_bytes = min(self._pin.size_bytes - self._start_bytes, _READ_MAX_BYTES)
        return dispatcher.stage(
            self, self.opcode, self.fd, self._pin.address + self._start_bytes, size_bytes, self._offset
        )


class Fstat(Operation):
    """statx(2) of an open file; the result is its size in bytes."""

    __slots__ = ("_answer", "_path", "_path_pin", "_pin")
    opcode = Opcode.STATX

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._path_pin = Pin(b"\0")
        self._answer = bytearray(_STATX_SIZE_BYTES)
        self._pin = Pin(self._answer, writable=True)

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(
            self, self.opcode, self.fd, self._path_pin.address, _STATX_BASIC_STATS, self._pin.address, _AT_EMPTY_PATH
        )

    def result(self, res: int, flags: int) -> int:
        return int.from_bytes(self._answer[_STATX_FILE_SIZE], sys.byteorder)


class Close(Operation):
    """close(2), in the ring because closing may write."""

    __slots__ = ()
    opcode = Opcode.CLOSE
