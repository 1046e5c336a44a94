"""`UnlockedFile`: an open descriptor, its position, and the single reads and writes at it, without the file's lock.

This class keeps the position of a file on disk and hands it to every operation.  So seeking costs nothing, and a
cancelled operation leaves the position where it was.  The descriptor's own position matters only when others can see
the descriptor (`fileno`).  Then each operation looks it up first and sets it afterwards.  Files without such a position
(pipes, terminals, devices), and writes of an appending file, use the descriptor's own.

A read of cached bytes is done at once, without the ring; see cached.c.  That makes a lone read cheap.  It is bounded to
one piece at a time, and to the budget of the callback.  Every other transfer goes through the ring.
"""

import asyncio
import contextlib
import errno
import os
import select
from dataclasses import dataclass

from ...operations.compiled import Read
from ...operations.file import FileStatus, Fstat, Ready, Truncate
from ...operations.read_write import CURRENT_POSITION, transferred
from ...ring import Opcode
from .base import File
from .cached import read_into_now, read_now, status_now
from .raw_base import PIECE_BYTES, RawBase
from .special import check_reads, has_reliable_poll, is_ready, write_in_thread, write_now
from .waiting import in_thread, yield_once

#: Of one read, for a file that does not say how long it is.
STEP_BYTES = 64 * 1024
_OFFSET_LIMIT = 1 << 63

FilePath = int | str | bytes | os.PathLike[str] | os.PathLike[bytes]


@dataclass(frozen=True)
class Mode:
    """The meaning of a mode such as "rb+" for the descriptor.

    Attributes:
        flags: os.O_* for open(2).
        readable: whether the file may be read.
        writable: whether the file may be written.
        appending: whether every write goes to the end.
        name: the mode as `io.FileIO.mode`.
    """

    flags: int
    readable: bool
    writable: bool
    appending: bool
    name: str


class UnlockedFile(RawBase, File[bytes]):
    """What the layers above call of a raw file, while they hold its lock."""

    # The position

    def position(self) -> int:
        """Return the position of the next read or write, in bytes from the start.

        Raises:
            OSError: ESPIPE, the file has no position.
        """
        if not self._positioned:
            return os.lseek(self._descriptor.fd, 0, os.SEEK_CUR)
        if self._shared:
            self._position = os.lseek(self._descriptor.fd, 0, os.SEEK_CUR)
        return self._position

    def move(self, position: int) -> int:
        """Set the position in bytes from the start, and return it.

        Raises:
            OSError: EINVAL, the position is negative; ESPIPE, the file has none.
        """
        if not self._positioned or self._shared or not 0 <= position < _OFFSET_LIMIT:
            # lseek(2) with SEEK_SET looks for no pages, so it does not block, and it knows the error.
            position = os.lseek(self._descriptor.fd, position, os.SEEK_SET)
        self._position = position
        return position

    async def move_from(self, offset: int, whence: int) -> int:
        """Move the position as lseek(2), and return it in bytes from the start."""
        if whence == os.SEEK_CUR:
            offset += self.position()
        elif whence == os.SEEK_END and self.is_regular:
            offset += await self.size_bytes()
        elif whence != os.SEEK_SET:
            # lseek(2) may have to ask the disk.
            offset = await in_thread(self._loop, None, os.lseek, self._descriptor.fd, offset, whence)
        return self.move(offset)

    async def size_bytes(self) -> int:
        """Return st_size of stat(2)."""
        if self._cached and (self._local or self._find_out_local()):
            return status_now(self._descriptor.fd)[1]
        status: FileStatus = await self._submitter.submit(Fstat(self._descriptor))
        return status.size_bytes

    def _find_out_local(self) -> bool:
        """Return whether its file system has no server to ask for the size: only such a one offers RWF_NOWAIT."""
        with contextlib.suppress(OSError):
            read_now(self._descriptor.fd, 1, 0)
            self._local = True
        return self._local

    async def expected_size_bytes(self) -> int:
        """Return the size in bytes; the first time that at the opening, which may have changed since."""
        size_bytes, self._size_bytes = self._size_bytes, None
        return await self.size_bytes() if size_bytes is None else size_bytes

    @property
    def can_seek(self) -> bool:
        """Whether the file has a position that can be moved; a closed file answers too."""
        return self._seekable

    # Bytes

    async def read_some(self, size: int) -> bytes:
        """Read once, at most size bytes; return b"" at the end of the file.

        The file keeps the bytes that a cancelled read took from a pipe for the next read.
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
        """Read once into memory, as `read_some`; return the number of bytes."""
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
            try:
                if not self._positioned:
                    return await self._take(target)
                position = self.position()
                count = await self._submitter.read_at(self._descriptor, target, position)
            except InterruptedError:
                # A signal is pending in this thread, and the kernel does not begin again by itself.
                continue
            except BlockingIOError:
                await self._submitter.submit(Ready(self._descriptor, select.POLLIN))
                continue
            self.move(position + count)
            return count

    async def _take(self, target: bytearray | memoryview) -> int:
        """Read where the file has no position; keep the bytes that a cancelled read took."""
        operation = Read(self._descriptor, target)
        try:
            return int(await self._submitter.submit(operation))
        except asyncio.CancelledError:
            self._unread = bytes(memoryview(target)[: operation.moved_bytes])
            raise

    async def read_to_end(self) -> bytes:
        """Read from the position to the end, in as few reads as the size that the file states allows.

        A cancelled call has read nothing.
        """
        # Files of /proc state that they are empty; those of /sys state more than they have.
        size_bytes = await self.expected_size_bytes() if self.is_regular else 0
        expected_bytes = size_bytes - self.position() if self._positioned else 0
        parts: list[bytes] = []
        count = 0
        try:
            while True:
                # One byte more: a read up to there that is short has met the end.
                step = expected_bytes + 1 - count if count < expected_bytes else max(count, STEP_BYTES)
                data = await self.read_some(step)
                parts.append(data)
                count += len(data)
                if not data or (count == expected_bytes and len(data) < step):
                    return parts[0] if len(parts) == 1 else b"".join(parts)
        except BaseException:
            self.put_back(b"".join(parts))
            raise

    def put_back(self, data: bytes) -> None:
        """Put the bytes of a cancelled read back for the next one."""
        if self._positioned:
            self.move(self.position() - len(data))
        else:
            self._unread = data + self._unread

    async def write_some(self, data: bytes | bytearray | memoryview) -> int:
        """Write once; return the number of bytes, which may be fewer than those of data.

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
                    # A file on disk is always ready, so do not ask again.
                    self._polls_in_vain = False
            writing = self._submitter.begin_write(self._descriptor, data, position)
            try:
                count = await transferred(writing)
            except InterruptedError:
                continue
            except BlockingIOError:
                await self._submitter.submit(Ready(self._descriptor, select.POLLOUT))
                continue
            finally:
                self.uncertain |= writing.in_flight
                self._moved(writing.moved_bytes, position)
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
        """Return whether the ring may wait for this file for ever, where read(2) and write(2) would not."""
        if self._polls_in_vain is None:
            mode = status_now(self._descriptor.fd)[0]
            self._polls_in_vain = not (self.is_terminal or has_reliable_poll(mode))
        return self._polls_in_vain

    async def _write_beside(self, data: bytes | bytearray | memoryview, position: int) -> int:
        """Write without the ring; return the number of bytes, 0 if the ring has to wait until there is room."""
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
        """Write without the loop, for a file that is dropped or detached.  This call blocks."""
        rest = memoryview(data)
        positioned = self._positioned and not self.mode_flags.appending
        if positioned and not self._shared:
            os.lseek(self._descriptor.fd, self._position, os.SEEK_SET)
        while rest:
            rest = rest[os.write(self._descriptor.fd, rest) :]
        if self._positioned:
            self._position = os.lseek(self._descriptor.fd, 0, os.SEEK_CUR)

    async def resize(self, size_bytes: int) -> None:
        """Change the size of the file to size_bytes.  The position does not move.

        Raises:
            OSError: as from ftruncate(2).
        """
        self._size_bytes = None
        if Opcode.FTRUNCATE in self._submitter.opcodes:
            await self._submitter.submit(Truncate(self._descriptor, size_bytes))
        else:
            await in_thread(self._loop, None, os.ftruncate, self._descriptor.fd, size_bytes)
