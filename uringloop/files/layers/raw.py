"""`RawFile`: an open descriptor and its position, with the methods of `io.FileIO`.

Each method takes the file's lock, checks, and calls the half in unlocked.py.
"""

import io
import operator
import os
import sys
from typing import Any

from ...operations.file import Close
from ...ring import Descriptor
from .base import bytes_of, count_of, space_of
from .unlocked import STEP_BYTES, FilePath, UnlockedFile

_READALL_CHECKS = sys.version_info >= (3, 15)


class RawFile(UnlockedFile):
    """A file of bytes without buffers; see `io.FileIO`.  Each call is one read or write, which may be short.

    Where `io.FileIO` returns None because a descriptor would block, this file waits.
    """

    def _bottom(self) -> "RawFile":
        return self

    # Attributes

    @property
    def fd(self) -> int:
        """The descriptor, -1 after closing."""
        return self._descriptor.fd

    @property
    def owned(self) -> bool:
        """Whether closing closes the descriptor."""
        return self._descriptor.owned

    @property
    def closefd(self) -> bool:
        """Whether closing closes the descriptor; see `io.FileIO.closefd`."""
        return self._descriptor.owned

    @property
    def name(self) -> FilePath:
        """The path or descriptor, as `open` was given it."""
        return self._name

    @property
    def mode(self) -> str:
        """The mode as `io.FileIO.mode`: "rb", "wb", "ab" or "xb", with "+" if the file may be read and written."""
        return self.mode_flags.name

    def fileno(self) -> int:
        """Return the descriptor.  From now on the file keeps the descriptor's position in the kernel right.

        Raises:
            ValueError: the file is closed.
        """
        self._check_open()
        if self._positioned and not self._shared:
            os.lseek(self._descriptor.fd, self._position, os.SEEK_SET)
        self._shared = True
        return self._descriptor.fd

    def readable(self) -> bool:
        """Return whether the file may be read; ValueError if it is closed."""
        self._check_open()
        return self.mode_flags.readable

    async def writable(self) -> bool:
        """Return whether the file may be written; ValueError if it is closed."""
        self._check_open()
        return self.mode_flags.writable

    async def seekable(self) -> bool:
        """Return whether the file has a position that can be moved; ValueError if it is closed."""
        self._check_open()
        return self._seekable

    async def isatty(self) -> bool:
        """Return whether the file is a terminal; ValueError if it is closed."""
        self._check_open()
        return os.isatty(self._descriptor.fd)

    def _description(self) -> str:
        return f" mode={self.mode!r} closefd={self.closefd}"

    # Closing

    async def _close_below(self) -> None:
        if self._descriptor.owned:
            await self._submitter.submit(Close(self._descriptor))
        self._descriptor.fd = -1

    def release(self) -> io.FileIO:
        """Return the file as one of the standard library, which owns the descriptor now; close this one."""
        fd, position = self.fileno(), self.position() if self._seekable else None
        file = io.FileIO(fd, self.mode, closefd=self.owned)
        file.name = self._name
        if position is not None:
            # A FileIO that appends has gone to the end.
            os.lseek(fd, position, os.SEEK_SET)
        self._descriptor.owned = False
        self.drop()
        return file

    def drop(self) -> None:
        """Close the file without the loop; the descriptor closes itself when its operations have ended."""
        self._is_closed = True
        self._descriptor = Descriptor(-1, owned=False)

    # The methods of io.FileIO

    async def read(self, size: int | None = -1, /) -> bytes:
        """Read once; see `io.RawIOBase.read`.

        Args:
            size: the largest number of bytes; -1 or None reads to the end of the file.

        Returns:
            The bytes; b"" at the end of the file.

        Raises:
            OSError: as from read(2).
            ValueError: the file is closed.
            io.UnsupportedOperation: the file is not open for reading.
        """
        count = count_of(size)
        async with self._lock:
            self._check_readable("File not open for reading")
            return await (self.read_to_end() if count < 0 else self.read_some(count))

    async def readall(self) -> bytes:
        """Read to the end of the file; see `io.RawIOBase.readall`.

        Raises:
            OSError: as from read(2): EBADF, the file is not open for reading.
            ValueError: the file is closed.
            io.UnsupportedOperation: the same from Python 3.15 on, as in the standard library.
        """
        async with self._lock:
            if _READALL_CHECKS:
                self._check_readable("File not open for reading")
            self._check_open()
            return await self.read_to_end()

    async def readinto(self, buffer: Any, /) -> int:
        """Read once into a buffer; see `io.RawIOBase.readinto`.

        Args:
            buffer: a writable buffer in one piece.

        Returns:
            The number of bytes, 0 at the end of the file.

        Raises:
            OSError: as from read(2).
            ValueError: the file is closed.
            io.UnsupportedOperation: the file is not open for reading.
        """
        target = space_of(buffer)
        async with self._lock:
            self._check_readable("File not open for reading")
            return await self.read_some_into(target)

    async def readline(self, size: int | None = -1, /) -> bytes:
        """Read up to and including the next newline, or up to the end of the file; see `io.IOBase.readline`.

        A file without a position is read byte by byte, because the bytes after the line may be for another reader.

        Args:
            size: the largest number of bytes; -1 or None for any number.

        Returns:
            The line; b"" at the end of the file.

        Raises:
            OSError: as from read(2).
            ValueError: the file is closed.
            io.UnsupportedOperation: the file is not open for reading.
        """
        limit = count_of(size)
        line = b""
        if limit == 0:
            return line
        async with self._lock:
            self._check_readable("File not open for reading")
            try:
                while not line.endswith(b"\n") and len(line) != limit:
                    step = STEP_BYTES if self._positioned else 1
                    data = await self.read_some(step if limit < 0 else min(step, limit - len(line)))
                    if not data:
                        break
                    end = data.find(b"\n") + 1 or len(data)
                    line += data[:end]
                    if end < len(data):
                        self.put_back(data[end:])
            except BaseException:
                self.put_back(line)
                raise
        return line

    async def write(self, data: Any, /) -> int:
        """Write once; see `io.RawIOBase.write`.

        Args:
            data: a buffer in one piece, which must not change until the call returns.

        Returns:
            The number of bytes that were written, which may be fewer than those of data.

        Raises:
            OSError: as from write(2): ENOSPC, EDQUOT, EFBIG, EIO, EPIPE.
            ValueError: the file is closed.
            io.UnsupportedOperation: the file is not open for writing.
        """
        view = bytes_of(data)
        async with self._lock:
            self._check_writable("File not open for writing")
            return await self.write_some(view) if view else 0

    async def flush(self) -> None:
        """Do nothing: the file has no buffer.  ValueError if it is closed."""
        self._check_open()

    async def tell(self) -> int:
        """Return the position in bytes from the start; see `io.IOBase.tell`.

        Raises:
            OSError: ESPIPE, the file has no position.
            ValueError: the file is closed.
        """
        async with self._lock:
            self._check_open()
            return self.position()

    async def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position; see `io.IOBase.seek`.

        Args:
            offset: in bytes.
            whence: os.SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA or SEEK_HOLE; see lseek(2).

        Returns:
            The position, in bytes from the start.

        Raises:
            OSError: EINVAL, the position would be negative; ESPIPE, the file has none.
            ValueError: the file is closed.
        """
        offset = operator.index(offset)
        async with self._lock:
            self._check_open()
            return await self.move_from(offset, whence)

    async def truncate(self, size: int | None = None, /) -> int:
        """Change the size of the file; see `io.IOBase.truncate`.  The position does not move.

        Args:
            size: in bytes; None for the position.

        Returns:
            The size in bytes.

        Raises:
            OSError: as from ftruncate(2).
            ValueError: the file is closed.
            io.UnsupportedOperation: the file is not open for writing.
        """
        async with self._lock:
            self._check_writable("File not open for writing")
            size_bytes = self.position() if size is None else operator.index(size)
            await self.resize(size_bytes)
            return size_bytes
