"""`BufferedReader`: reading through the buffer.

A read writes the buffered data first.  If that fails, the data stays in the buffer, so nothing may be put back into
it.  Then the read collects its parts.  If it is cancelled or fails in the middle, it puts them back for the next read.
"""

import operator
from typing import Any

from .base import space_of
from .buffered import BufferedFile
from .line_reader import iterated


@iterated
class BufferedReader(BufferedFile):
    """A file that is read; see `io.BufferedReader`.

    A read returns the full size, unless the file ends first.
    """

    async def writable(self) -> bool:
        """Return False: the file may not be written."""
        return False

    async def flush(self) -> None:
        """Do nothing: the file has nothing to write, and the bytes read ahead stay.  ValueError if it is closed."""
        self._check_open()

    def _take(self, count: int) -> bytes:
        """Return the next count bytes of those read ahead."""
        end = self._pos + count
        data = bytes(self._buffer[self._pos : end])
        self._pos = end
        self._serve()
        return data

    def _take_ahead(self) -> bytes:
        """Return all bytes read ahead."""
        data = bytes(self._buffer[self._pos : self._read_end]) if self._ahead() else b""
        self._pos += len(data)
        return data

    async def _fill(self) -> int:
        """Read ahead once more; return the number of bytes that came."""
        start = max(self._read_end, 0)
        data = await self._bottom().read_some(self._read_ahead_bytes - start)
        if data:
            self._buffer = bytes(self._buffer[:start]) + data if start else data
            self._read_end = self._raw_pos = start + len(data)
            if self._adapts and not start and len(data) == self._read_ahead_bytes:
                self._read_ahead_bytes = min(2 * self._read_ahead_bytes, self._buffer_size_bytes)
        return len(data)

    async def read_slowly(self, size: int | None, begun: bytes | None) -> bytes:
        """Read, as `read`, where the buffer alone cannot answer.

        Args:
            size: the number of bytes; -1 or None reads to the end of the file.
            begun: the first bytes, which were read already, or None.
        """
        size = -1 if size is None else operator.index(size)
        if size < -1:
            raise ValueError("read length must be non-negative or -1")
        async with self._lock:
            data = await self._read_locked(size, begun)
        self._serve()
        return data

    async def read_on(self, size: int, begun: bytes | None) -> bytes:
        """Go on with a read that has the lock already; see `read_slowly`."""
        try:
            data = await self._read_locked(size, begun)
        finally:
            self._lock.release()
        self._serve()
        return data

    async def _read_locked(self, size: int, begun: bytes | None) -> bytes:
        self._pause()
        self._check_readable()
        if size < 0:
            return await self._read_all(begun)
        if size <= self._ahead():
            await self._yield_if_spent()
            return self._take(size)
        return await self._read(size, begun)

    async def _read_all(self, begun: bytes | None) -> bytes:
        if self._writable:
            await self._flush()
        held = begun or self._take_ahead()
        try:
            self._step_back()
            data = await self._bottom().read_to_end()
        except BaseException:
            self.put_back(held)
            raise
        return held + data if held else data

    async def _read(self, size: int, begun: bytes | None) -> bytes:
        """Return more bytes than are read ahead, those in begun first."""
        if self._writable:
            await self._flush()
        held = begun or self._take_ahead()
        parts = [held] if held else []
        missing = size - len(held)
        try:
            self._step_back()
            missing = await self._read_blocks(parts, missing)
            if missing:
                await self._read_rest(parts, missing)
        except BaseException:
            self.put_back(b"".join(parts))
            raise
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _read_blocks(self, parts: list[bytes], missing: int) -> int:
        """Read whole blocks past the buffer; return the number of bytes missing then, 0 at the end of the file."""
        raw = self._bottom()
        while True:
            blocks = missing - missing % self._read_ahead_bytes
            if not blocks:
                return missing
            data = await raw.read_some(blocks)
            if not data:
                return 0
            parts.append(data)
            missing -= len(data)

    async def _read_rest(self, parts: list[bytes], missing: int) -> None:
        """Read less than a block, through the buffer."""
        self._buffer, self._pos, self._raw_pos, self._read_end = b"", 0, 0, 0
        while self._read_end < self._read_ahead_bytes:
            count = await self._fill()
            taken = min(count, missing)
            parts.append(bytes(self._buffer[self._pos : self._pos + taken]))
            self._pos += taken
            missing -= taken
            if not count or not missing:
                return

    async def read1(self, size: int = -1, /) -> bytes:
        """Read with at most one read of the raw file; see `io.BufferedReader.read1`.

        Args:
            size: the largest number of bytes; -1 for the size of the buffer.

        Returns:
            The bytes; b"" at the end of the file.

        Raises:
            OSError: as from read(2).
            ValueError: the file is closed.
            io.UnsupportedOperation: the file is not open for reading.
        """
        size = operator.index(size)
        async with self._lock:
            self._pause()
            self._check_readable("read1")
            if size < 0:
                size = self._buffer_size_bytes
            if not size:
                return b""
            await self._yield_if_spent()
            ahead = self._ahead()
            if ahead:
                return self._take(min(size, ahead))
            if self._writable:
                await self._flush()
            self._step_back()
            return await self._bottom().read_some(size)

    async def peek(self, size: int = 0, /) -> bytes:
        """Return the bytes read ahead, after one read if there are none; see `io.BufferedReader.peek`.

        The position does not move.

        Args:
            size: has no effect.

        Raises:
            OSError: as from read(2).
            ValueError: the file is closed.
            io.UnsupportedOperation: the file is not open for reading.
        """
        operator.index(size)
        async with self._lock:
            self._pause()
            self._check_readable("peek")
            if self._writable:
                await self._flush_all()
            await self._yield_if_spent()
            if not self._ahead():
                self._drop_ahead()
                await self._fill()
                self._pos = 0
            return bytes(self._buffer[self._pos : self._read_end]) if self._ahead() else b""

    async def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer until it is full or the file ends; see `io.BufferedReader.readinto`.

        Args:
            buffer: a writable buffer in one piece.  It must not change until the call returns, because the kernel may
                write into it.

        Returns:
            The number of bytes.

        Raises:
            OSError: as from read(2).
            ValueError: the file is closed.
            io.UnsupportedOperation: the file is not open for reading.
        """
        return await self._read_into(space_of(buffer), at_most_once=False)

    async def readinto1(self, buffer: Any, /) -> int:
        """Read into a buffer with at most one read of the raw file; see `io.BufferedReader.readinto1`."""
        return await self._read_into(space_of(buffer, "readinto1"), at_most_once=True)

    async def _read_into(self, target: memoryview, at_most_once: bool) -> int:
        async with self._lock:
            self._pause()
            self._check_readable()
            await self._yield_if_spent()
            ahead = self._ahead()
            if self._writable and (ahead < len(target) or not ahead):
                await self._flush()
            filled = min(ahead, len(target))
            target[:filled] = self._buffer[self._pos : self._pos + filled]
            self._pos += filled
            if ahead and filled == len(target):
                return filled
            try:
                self._step_back()
                self._pos = 0
                while filled < len(target):
                    count = await self._read_once_into(target[filled:], may_fill=not (at_most_once and filled))
                    filled += count
                    if not count or at_most_once:
                        break
            except BaseException:
                self.put_back(bytes(target[:filled]))
                raise
            return filled

    async def _read_once_into(self, target: memoryview, may_fill: bool) -> int:
        if len(target) > self._read_ahead_bytes:
            return await self._bottom().read_some_into(target)
        if not may_fill or not await self._fill():
            return 0
        count = min(self._ahead(), len(target))
        target[:count] = self._buffer[self._pos : self._pos + count]
        self._pos += count
        return count

    async def readall(self) -> bytes:
        """Read to the end of the file; see `read`."""
        return await self.read()

    async def readline_slowly(self, size: int | None) -> bytes:
        """Read a line, as `readline`, where the buffer alone cannot answer."""
        limit = -1 if size is None else operator.index(size)
        async with self._lock:
            self._pause()
            self._check_readable()
            await self._yield_if_spent()
            line = await self._read_line(limit)
        self._serve()
        return line

    async def _read_line(self, limit: int) -> bytes:
        end = self._end_of_line(limit)
        if end:
            return self._take(end - self._pos)
        if limit == 0:
            return b""
        if self._writable:
            await self._flush()
        parts = [self._take_ahead()]
        try:
            self._step_back()
            while True:
                if limit >= 0:
                    limit -= len(parts[-1])
                self._drop_ahead()
                if not await self._fill():
                    return b"".join(parts)
                self._pos = 0
                end = self._end_of_line(limit)
                parts.append(bytes(self._buffer[: end or self._read_end]))
                self._pos = len(parts[-1])
                if end:
                    return b"".join(parts)
        except BaseException:
            self.put_back(b"".join(parts))
            raise

    def _end_of_line(self, limit: int) -> int:
        """Return the place in the buffer where the line, or limit bytes, end; 0 if neither ends there."""
        stop = self._pos + self._ahead()
        if 0 <= limit <= stop - self._pos:
            stop = self._pos + limit
            return self._buffer.find(b"\n", self._pos, stop) + 1 or (stop if limit else 0)
        return self._buffer.find(b"\n", self._pos, stop) + 1
