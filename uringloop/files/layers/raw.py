"""`RawFile`: an open descriptor, its position, and the single reads and writes at it; see `io.FileIO`.

The position of a file on disk is kept here and goes with every operation, so that seeking costs nothing and a cancelled
operation leaves it where it was.  The descriptor's own position matters only when others can see the descriptor
(`fileno`): then it is looked up before each operation and set after it.  What has no such position (pipes, terminals,
devices), and writes of an appending file, go by the descriptor's own.

What is cached is read at once, without the ring: see ring/_core/file.c.  That is what makes a lone read cheap, and it
is bounded: a piece at a time, and only as long as `has_budget` says.  Everything else goes through the ring.
"""

import asyncio
import contextlib
import errno
import io
import operator
import os
import select
import sys
from dataclasses import dataclass
from typing import Any

from ...operations.file import CURRENT_POSITION, Close, FileStatus, Fstat, Read, Ready, Truncate, Write
from ...ring import Descriptor, Opcode
from ..cached import read_into_now, read_now, status_now
from .base import File, bytes_of, count_of, space_of
from .hot import PIECE_BYTES, Position
from .special import check_reads, has_reliable_poll, is_ready, write_in_thread, write_now
from .waiting import in_thread, yield_once

#: What is read at a time of a file that does not say how long it is.
_STEP_BYTES = 64 * 1024
_READALL_CHECKS = sys.version_info >= (3, 15)
_OFFSET_LIMIT = 1 << 63

FilePath = int | str | bytes | os.PathLike[str] | os.PathLike[bytes]


@dataclass(frozen=True)
class Mode:
    """What a mode says of the descriptor.

    Attributes:
        flags: os.O_*.
        readable: and writable: what may be done.
        appending: every write goes to the end.
        name: as `io.FileIO.mode` says it.
    """

    flags: int
    readable: bool
    writable: bool
    appending: bool
    name: str


class RawFile(Position, File[bytes]):
    """A file of bytes without buffers; see `io.FileIO`.  One read or write for each call, which may be short.

    Where `io.FileIO` returns None, because a descriptor would block, this waits.
    """

    #: See `_may_poll_in_vain`; None as long as nobody has asked.
    _polls_in_vain: bool | None = None

    def _bottom(self) -> "RawFile":
        return self

    # What it is

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
        """The same; see `io.FileIO.closefd`."""
        return self._descriptor.owned

    @property
    def name(self) -> FilePath:
        """The path or descriptor that was opened, as it was given."""
        return self._name

    @property
    def mode(self) -> str:
        """As `io.FileIO.mode`: "rb", "wb", "ab", "xb", with "+" if it may be read and written."""
        return self.mode_flags.name

    def fileno(self) -> int:
        """The descriptor.  Its position in the kernel is kept right from now on.

        Raises:
            ValueError: the file is closed.
        """
        self._check_open()
        if self._positioned and not self._shared:
            os.lseek(self._descriptor.fd, self._position, os.SEEK_SET)
        self._shared = True
        return self._descriptor.fd

    def readable(self) -> bool:
        """Whether it may be read."""
        self._check_open()
        return self.mode_flags.readable

    async def writable(self) -> bool:
        """Whether it may be written."""
        self._check_open()
        return self.mode_flags.writable

    async def seekable(self) -> bool:
        """Whether it has a position that can be moved."""
        self._check_open()
        return self._seekable

    @property
    def can_seek(self) -> bool:
        """The same, of a closed file too."""
        return self._seekable

    async def isatty(self) -> bool:
        """Whether it is a terminal."""
        self._check_open()
        return os.isatty(self._descriptor.fd)

    def _description(self) -> str:
        return f" mode={self.mode!r} closefd={self.closefd}"

    # The position, for the layers above: unlocked

    def position(self) -> int:
        """Where the next read or write happens, in bytes from the start.

        Raises:
            OSError: ESPIPE, there is no position.
        """
        if not self._positioned:
            return os.lseek(self._descriptor.fd, 0, os.SEEK_CUR)
        if self._shared:
            self._position = os.lseek(self._descriptor.fd, 0, os.SEEK_CUR)
        return self._position

    def move(self, position: int) -> int:
        """Set the position; returns it.

        Raises:
            OSError: EINVAL for a negative one, ESPIPE where there is none.
        """
        if not self._positioned or self._shared or not 0 <= position < _OFFSET_LIMIT:
            # lseek(2) of what has no pages to look for does not block, and knows the error.
            position = os.lseek(self._descriptor.fd, position, os.SEEK_SET)
        self._position = position
        return position

    async def move_from(self, offset: int, whence: int) -> int:
        """lseek(2); returns the position."""
        if whence == os.SEEK_CUR:
            offset += self.position()
        elif whence == os.SEEK_END and self.is_regular:
            offset += await self.size_bytes()
        elif whence != os.SEEK_SET:
            # It may have to ask the disk.
            offset = await in_thread(self._loop, None, os.lseek, self._descriptor.fd, offset, whence)
        return self.move(offset)

    async def size_bytes(self) -> int:
        """st_size of stat(2)."""
        if self._cached and (self._local or self._find_out_local()):
            return status_now(self._descriptor.fd)[1]
        status: FileStatus = await self._submitter.submit(Fstat(self._descriptor))
        return status.size_bytes

    def _find_out_local(self) -> bool:
        """Whether its file system has no server to be asked for the size: RWF_NOWAIT is for those without."""
        with contextlib.suppress(OSError):
            read_now(self._descriptor.fd, 1, 0)
            self._local = True
        return self._local

    async def expected_size_bytes(self) -> int:
        """The size; right after opening, what it was then.  It may have changed since."""
        size_bytes, self._size_bytes = self._size_bytes, None
        return await self.size_bytes() if size_bytes is None else size_bytes

    # Bytes, for the layers above: unlocked

    async def read_some(self, size: int) -> bytes:
        """One read, of at most size bytes; b"" at the end of the file.

        What a cancelled read took from a pipe is kept for the next one.
        """
        if self._unread:
            data, self._unread = self._unread[:size], self._unread[size:]
            return data
        if self._cached:
            if not self.has_budget():
                await yield_once()
            data_now = self.read_at_once(size)
            if data_now is not None:
                return data_now
        space = bytearray(min(size, PIECE_BYTES))
        count = await self._read_by_ring(space)
        return bytes(memoryview(space)[:count])

    async def read_some_into(self, target: memoryview) -> int:
        """The same into memory; returns the number of bytes."""
        if self._cached and not self._unread:
            if not self.has_budget():
                await yield_once()
            position = self.position()
            try:
                count = read_into_now(self._descriptor.fd, target[:PIECE_BYTES], position)
            except OSError:
                self._cached = False
            else:
                self._local = True
                if count is not None:
                    self.move(position + count)
                    return count
        if self._unread:
            data = await self.read_some(len(target))
            target[: len(data)] = data
            return len(data)
        return await self._read_by_ring(target)

    async def _read_by_ring(self, target: bytearray | memoryview) -> int:
        if not self._positioned and self._may_poll_in_vain():
            self._check_reads()
        while True:
            position = self.position() if self._positioned else CURRENT_POSITION
            operation = Read(self._descriptor, target, position)
            try:
                count: int = await self._submitter.submit(operation)
            except asyncio.CancelledError:
                if not self._positioned:
                    self._unread = bytes(memoryview(target)[: operation.moved_bytes])
                raise
            except InterruptedError:
                # The kernel has something to tell this thread, and does not begin again by itself.
                continue
            except BlockingIOError:
                await self._submitter.submit(Ready(self._descriptor, select.POLLIN))
                continue
            if self._positioned:
                self.move(position + count)
            return count

    async def read_to_end(self) -> bytes:
        """Everything from the position on: in as few reads as the file's size allows, if that is what it says.

        A cancelled call has read nothing.
        """
        # Files of /proc say that they are empty, and those of /sys that they are longer than they are.
        size_bytes = await self.expected_size_bytes() if self.is_regular else 0
        expected_bytes = size_bytes - self.position() if self._positioned else 0
        parts: list[bytes] = []
        count = 0
        try:
            while True:
                # One byte more: a read that has come this far and does not fill it has met the end.
                step = expected_bytes + 1 - count if count < expected_bytes else max(count, _STEP_BYTES)
                data = await self.read_some(step)
                parts.append(data)
                count += len(data)
                if not data or (count == expected_bytes and len(data) < step):
                    return parts[0] if len(parts) == 1 else b"".join(parts)
        except BaseException:
            self.put_back(b"".join(parts))
            raise

    def put_back(self, data: bytes) -> None:
        """Bytes of a read that was cancelled after it had them: for the next one."""
        if self._positioned:
            self.move(self.position() - len(data))
        else:
            self._unread = data + self._unread

    async def write_some(self, data: bytes | bytearray | memoryview) -> int:
        """One write; returns the number of bytes, which may be fewer than there are.

        Raises:
            OSError: as from write(2): ENOSPC, EDQUOT, EFBIG, EIO, EPIPE.
        """
        self._size_bytes = None
        while True:
            own = not self._positioned or self.mode_flags.appending
            position = CURRENT_POSITION if own else self.position()
            if self._polls_in_vain is not False and self._may_poll_in_vain():
                if not is_ready(self._descriptor.fd, select.POLLOUT):
                    count_now = await self._write_beside(data, position)
                    if count_now:
                        return count_now
                elif self._positioned:
                    # Files on disk are always ready, and are not asked again.
                    self._polls_in_vain = False
            operation = Write(self._descriptor, data, position)
            try:
                count: int = await self._submitter.submit(operation)
            except InterruptedError:
                continue
            except BlockingIOError:
                await self._submitter.submit(Ready(self._descriptor, select.POLLOUT))
                continue
            finally:
                self.uncertain |= operation.in_flight
                self._moved(operation.moved_bytes, position)
            if count == 0:
                raise OSError(errno.EIO, "a write wrote nothing", self._descriptor.filename)
            return count

    def _check_reads(self) -> None:
        try:
            check_reads(self._descriptor.fd)
        except OSError as error:
            error.filename = self._descriptor.filename
            raise

    def _may_poll_in_vain(self) -> bool:
        """Whether the ring may wait for this file for ever, where read(2) and write(2) would not."""
        if self._polls_in_vain is None:
            mode = status_now(self._descriptor.fd)[0]
            self._polls_in_vain = not (self.is_terminal or has_reliable_poll(mode))
        return self._polls_in_vain

    async def _write_beside(self, data: bytes | bytearray | memoryview, position: int) -> int:
        """Write without the ring; returns the number of bytes, 0 if the ring is to wait until there is room."""
        fd = self._descriptor.fd
        try:
            if position != CURRENT_POSITION and not self._shared:
                os.lseek(fd, position, os.SEEK_SET)
            count = write_now(fd, data)
            if count is None:
                count = await write_in_thread(fd, data)
        except asyncio.CancelledError:
            self.uncertain = True
            raise
        except OSError as error:
            error.filename = self._descriptor.filename
            raise
        self._moved(count, position)
        return count

    def _moved(self, count: int, position: int) -> None:
        self.written_bytes += count
        if count and self._positioned:
            appending = self.mode_flags.appending
            self.move(os.lseek(self._descriptor.fd, 0, os.SEEK_CUR) if appending else position + count)

    def write_blocking(self, data: bytes | bytearray | memoryview) -> None:
        """Write without the loop, for a file that is dropped or detached; blocks."""
        rest = memoryview(data)
        positioned = self._positioned and not self.mode_flags.appending
        if positioned and not self._shared:
            os.lseek(self._descriptor.fd, self._position, os.SEEK_SET)
        while rest:
            rest = rest[os.write(self._descriptor.fd, rest) :]
        if self._positioned:
            self._position = os.lseek(self._descriptor.fd, 0, os.SEEK_CUR)

    async def resize(self, size_bytes: int) -> None:
        """Make the file this long.  The position stays.

        Raises:
            OSError: as from ftruncate(2).
        """
        self._size_bytes = None
        if Opcode.FTRUNCATE in self._submitter.opcodes:
            await self._submitter.submit(Truncate(self._descriptor, size_bytes))
        else:
            await in_thread(self._loop, None, os.ftruncate, self._descriptor.fd, size_bytes)

    async def _close_below(self) -> None:
        if self._descriptor.owned:
            await self._submitter.submit(Close(self._descriptor))
        self._descriptor.fd = -1

    def release(self) -> io.FileIO:
        """The same file as one of the standard library, which is its owner now; this one is closed."""
        fd, position = self.fileno(), self.position() if self._seekable else None
        file = io.FileIO(fd, self.mode, closefd=self.owned)
        file.name = self._name
        if position is not None:
            # To append it has gone to the end.
            os.lseek(fd, position, os.SEEK_SET)
        self._descriptor.owned = False
        self.drop()
        return file

    def drop(self) -> None:
        """Nobody refers to the file any more: the descriptor closes itself when the kernel is done."""
        self._is_closed = True
        self._descriptor = Descriptor(-1, owned=False)

    # As io.FileIO

    async def read(self, size: int | None = -1, /) -> bytes:
        """Read at most size bytes in one read; -1 or None reads to the end of the file.

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
        """Read to the end of the file.

        Raises:
            OSError: as from read(2): EBADF, the file is not open for reading; from Python 3.15 on, as the standard
                library, io.UnsupportedOperation.
        """
        async with self._lock:
            if _READALL_CHECKS:
                self._check_readable("File not open for reading")
            self._check_open()
            return await self.read_to_end()

    async def readinto(self, buffer: Any, /) -> int:
        """Read once into a writable buffer; returns the number of bytes."""
        target = space_of(buffer)
        async with self._lock:
            self._check_readable("File not open for reading")
            return await self.read_some_into(target)

    async def readline(self, size: int | None = -1, /) -> bytes:
        """Read up to and with the next newline, or the end of the file.

        What has no position is read byte by byte, because what follows the line may be for somebody else.

        Args:
            size: at most this many bytes; -1 or None for any number.
        """
        limit = count_of(size)
        line = b""
        if limit == 0:
            return line
        async with self._lock:
            self._check_readable("File not open for reading")
            try:
                while not line.endswith(b"\n") and len(line) != limit:
                    step = _STEP_BYTES if self._positioned else 1
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
        """Write bytes in one write; returns how many were written, which may be fewer.

        They must stay as they are until this returns.

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
        """Nothing to do: there are no buffers."""
        self._check_open()

    async def tell(self) -> int:
        """The position, in bytes from the start.

        Raises:
            OSError: ESPIPE, there is none.
        """
        async with self._lock:
            self._check_open()
            return self.position()

    async def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position; returns it, in bytes from the start.

        Args:
            offset: in bytes.
            whence: os.SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA or SEEK_HOLE; see lseek(2).

        Raises:
            OSError: EINVAL, it would be negative; ESPIPE, there is none.
        """
        offset = operator.index(offset)
        async with self._lock:
            self._check_open()
            return await self.move_from(offset, whence)

    async def truncate(self, size: int | None = None, /) -> int:
        """Make the file size bytes long, by default up to the position, which does not move; returns the size.

        Raises:
            OSError: as from ftruncate(2).
            io.UnsupportedOperation: the file is not open for writing.
        """
        async with self._lock:
            self._check_writable("File not open for writing")
            size_bytes = self.position() if size is None else operator.index(size)
            await self.resize(size_bytes)
            return size_bytes
