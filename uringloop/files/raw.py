"""`RawFile`: an open descriptor, its position, and the single reads and writes at it.

Not locked: whoever uses it lets one operation run at a time, or closes it.

The position of a file on disk is kept here and goes with every operation, so that seeking costs nothing and a cancelled
operation leaves it where it was.  The descriptor's own position matters only when others can see the descriptor
(`shared`): then it is looked up before each operation and set after it.  What has no such position (pipes, terminals,
devices), and writes of an appending file, go by the descriptor's own.
"""

import asyncio
import errno
import os
import select
import stat
from typing import TYPE_CHECKING, Any

from ..operations.file import CURRENT_POSITION, Close, Descriptor, FileStatus, Fstat, Read, Ready, Truncate, Write
from ..ring import Opcode
from .blocking import in_thread

if TYPE_CHECKING:
    from ..loop import EventLoop


class RawFile:
    """An open file without buffers.

    Args:
        loop: whose ring works for it.
        descriptor: of the file.
        status: of the file, just now.
        appending: every write goes to the end.
        shared: others use the descriptor too.

    Attributes:
        seekable: whether it has a position that can be moved.
        block_size_bytes: st_blksize of stat(2).
        written_bytes: written so far, also by writes that were cancelled.
        uncertain: a write was left to itself, and nobody knows what became of it.
    """

    def __init__(
        self, loop: "EventLoop", descriptor: Descriptor, status: FileStatus, appending: bool, shared: bool
    ) -> None:
        self._loop = loop
        self._descriptor = descriptor
        self._appending = appending
        self._shared = shared
        self._size_bytes: int | None = status.size_bytes
        self._position = 0
        self._unread = b""
        self.block_size_bytes = status.block_size_bytes
        self.is_regular = stat.S_ISREG(status.mode)
        self._positioned = self.is_regular or stat.S_ISBLK(status.mode)
        self.seekable = self._positioned or self._can_seek()
        self.written_bytes = 0
        self.uncertain = False
        if appending and self._positioned:
            self._position = status.size_bytes
            if shared:
                os.lseek(descriptor.fd, 0, os.SEEK_END)

    def _can_seek(self) -> bool:
        try:
            os.lseek(self._descriptor.fd, 0, os.SEEK_CUR)
        except OSError:
            return False
        return True

    @property
    def fd(self) -> int:
        """The descriptor, -1 after closing."""
        return self._descriptor.fd

    @property
    def owned(self) -> bool:
        """Whether closing closes the descriptor."""
        return self._descriptor.owned

    def share(self) -> int:
        """The descriptor, for others to use: from now on its own position is kept right."""
        if self._positioned and not self._shared:
            os.lseek(self._descriptor.fd, self._position, os.SEEK_SET)
        self._shared = True
        return self._descriptor.fd

    # The position

    def tell(self) -> int:
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
        if not self._positioned or self._shared or not 0 <= position < 1 << 63:
            # lseek(2) of what has no pages to look for does not block, and knows the error.
            position = os.lseek(self._descriptor.fd, position, os.SEEK_SET)
        self._position = position
        return position

    async def size_bytes(self) -> int:
        """st_size of stat(2)."""
        status: FileStatus = await self._loop.submit(Fstat(self._descriptor))
        return status.size_bytes

    async def expected_size_bytes(self) -> int:
        """The size; right after opening, what it was then.  It may have changed since."""
        size_bytes, self._size_bytes = self._size_bytes, None
        return await self.size_bytes() if size_bytes is None else size_bytes

    # Bytes

    async def read_into(self, buffer: Any) -> int:
        """One read, of at most the buffer's size; returns the number of bytes, 0 at the end of the file.

        What a cancelled read took from a pipe is kept for the next one.
        """
        if self._unread:
            return self._read_again(buffer)
        while True:
            position = self.tell() if self._positioned else CURRENT_POSITION
            operation = Read(self._descriptor, buffer, position)
            try:
                count: int = await self._loop.submit(operation)
            except asyncio.CancelledError:
                if not self._positioned:
                    self._unread = bytes(memoryview(buffer)[: operation.moved_bytes])
                raise
            except BlockingIOError:
                await self._loop.submit(Ready(self._descriptor, select.POLLIN))
                continue
            if self._positioned:
                self.move(position + count)
            return count

    def _read_again(self, buffer: Any) -> int:
        count = min(len(self._unread), len(buffer))
        memoryview(buffer)[:count] = self._unread[:count]
        self._unread = self._unread[count:]
        return count

    async def write(self, buffer: Any) -> int:
        """One write; returns the number of bytes, which may be fewer than there are.

        Raises:
            OSError: as from write(2): ENOSPC, EDQUOT, EFBIG, EIO, EPIPE.
        """
        self._size_bytes = None
        while True:
            own = not self._positioned or self._appending
            position = CURRENT_POSITION if own else self.tell()
            operation = Write(self._descriptor, buffer, position)
            try:
                count: int = await self._loop.submit(operation)
            except BlockingIOError:
                await self._loop.submit(Ready(self._descriptor, select.POLLOUT))
                continue
            finally:
                self._wrote(operation, position)
            if count == 0:
                raise OSError(errno.EIO, "a write wrote nothing", self._descriptor.filename)
            return count

    def _wrote(self, operation: Write, position: int) -> None:
        self.uncertain |= operation.in_flight
        count = operation.moved_bytes
        self.written_bytes += count
        if count and self._positioned:
            self.move(os.lseek(self._descriptor.fd, 0, os.SEEK_CUR) if self._appending else position + count)

    def write_blocking(self, data: bytes | bytearray | memoryview) -> None:
        """Write without the loop, for a file that is dropped; blocks."""
        rest = memoryview(data)
        if self._positioned and not self._appending and not self._shared:
            os.lseek(self._descriptor.fd, self._position, os.SEEK_SET)
        while rest:
            rest = rest[os.write(self._descriptor.fd, rest) :]

    async def truncate(self, size_bytes: int) -> None:
        """Make the file this long.  The position stays.

        Raises:
            OSError: as from ftruncate(2).
        """
        self._size_bytes = None
        if Opcode.FTRUNCATE in self._loop._ring.features.opcodes:
            await self._loop.submit(Truncate(self._descriptor, size_bytes))
        else:
            await in_thread(self._loop, None, os.ftruncate, self._descriptor.fd, size_bytes)

    async def seek_blocking(self, offset: int, whence: int) -> int:
        """lseek(2) where it may have to ask the disk or a server, in a thread; returns the position."""
        return self.move(await in_thread(self._loop, None, os.lseek, self._descriptor.fd, offset, whence))

    async def close(self) -> None:
        """Close, whatever happens.  All operations have reported."""
        if self._descriptor.owned:
            await self._loop.submit(Close(self._descriptor))
        self._descriptor.fd = -1
