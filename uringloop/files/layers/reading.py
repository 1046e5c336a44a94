"""`BufferedReader`: reading through the buffer.

What a read needs is collected and, if it is cancelled or fails in the middle, put back for the next one.
"""

import operator
from typing import Any

from .base import space_of
from .buffered import BufferedFile
from .hot import iterated


@iterated
class BufferedReader(BufferedFile):
    """A file that is read; see `io.BufferedReader`.

    Reads return all that was asked for, unless the file ends first.
    """

    async def writable(self) -> bool:
        """Whether it may be written."""
        return False

    async def flush(self) -> None:
        """Nothing to do: nothing is written, and what is read ahead stays."""
        self._check_open()

    def _take(self, count: int) -> bytes:
        """The next count bytes of what is read ahead."""
        end = self._pos + count
        data = bytes(self._buffer[self._pos : end])
        self._pos = end
        self._serve()
        return data

    def _take_ahead(self) -> bytes:
        """All that is read ahead."""
        data = bytes(self._buffer[self._pos : self._read_end]) if self._ahead() else b""
        self._pos += len(data)
        return data

    async def _fill(self) -> int:
        """Read ahead once more; returns how many bytes came."""
        start = max(self._read_end, 0)
        data = await self._bottom().read_some(self._window - start)
        if data:
            self._buffer = bytes(self._buffer[:start]) + data if start else data
            self._read_end = self._raw_pos = start + len(data)
            if self._adapts and not start and len(data) == self._window:
                self._window = min(2 * self._window, self._size)
        return len(data)

    async def _write_first(self) -> None:
        """If this fails, what is to be written stays in the buffer; so nothing may be put back into that afterwards."""
        if self._writable:
            await self._flush()

    async def _before_read(self) -> None:
        if self._writable:
            await self._flush_and_step_back()
        self._forget_ahead()

    async def read_slowly(self, size: int | None, begun: bytes | None) -> bytes:
        """`read`, where the buffer alone will not do; what was begun comes first."""
        size = -1 if size is None else operator.index(size)
        if size < -1:
            raise ValueError("read length must be non-negative or -1")
        async with self._lock:
            self._pause()
            self._check_readable()
            if size < 0:
                data = await self._read_all(begun)
            elif size <= self._ahead():
                await self._yield_if_spent()
                data = self._take(size)
            else:
                data = await self._read(size, begun)
        self._serve()
        return data

    async def _read_all(self, begun: bytes | None) -> bytes:
        await self._write_first()
        held = begun or self._take_ahead()
        try:
            await self._before_read()
            data = await self._bottom().read_to_end()
        except BaseException:
            self.put_back(held)
            raise
        return held + data if held else data

    async def _read(self, size: int, begun: bytes | None) -> bytes:
        """More than is read ahead; what was begun is the first part of it."""
        await self._write_first()
        held = begun or self._take_ahead()
        parts = [held] if held else []
        missing = size - len(held)
        try:
            await self._before_read()
            missing = await self._read_blocks(parts, missing)
            if missing:
                await self._read_rest(parts, missing)
        except BaseException:
            self.put_back(b"".join(parts))
            raise
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _read_blocks(self, parts: list[bytes], missing: int) -> int:
        """Read whole blocks beside the buffer; returns what is missing of the last one, 0 at the end of the file."""
        raw = self._bottom()
        while True:
            blocks = missing - missing % self._window
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
        while self._read_end < self._window:
            count = await self._fill()
            taken = min(count, missing)
            parts.append(bytes(self._buffer[self._pos : self._pos + taken]))
            self._pos += taken
            missing -= taken
            if not count or not missing:
                return

    async def read1(self, size: int = -1, /) -> bytes:
        """Read at most size bytes with at most one read of the raw file; -1 for the size of the buffer."""
        size = operator.index(size)
        async with self._lock:
            self._pause()
            self._check_readable("read1")
            if size < 0:
                size = self._size
            if not size:
                return b""
            await self._yield_if_spent()
            ahead = self._ahead()
            if ahead:
                return self._take(min(size, ahead))
            await self._before_read()
            return await self._bottom().read_some(size)

    async def peek(self, size: int = 0, /) -> bytes:
        """What is read ahead, or after one read will be; the position stays.

        Args:
            size: of no consequence.
        """
        operator.index(size)
        async with self._lock:
            self._pause()
            self._check_readable("peek")
            if self._writable:
                await self._flush_and_step_back()
            await self._yield_if_spent()
            if not self._ahead():
                self._forget_ahead()
                await self._fill()
                self._pos = 0
            return bytes(self._buffer[self._pos : self._read_end]) if self._ahead() else b""

    async def readinto(self, buffer: Any, /) -> int:
        """Read into a writable buffer until it is full or the file ends; returns the number of bytes.

        It must stay as it is until this returns: the kernel may write into it.
        """
        return await self._read_into(space_of(buffer), at_most_once=False)

    async def readinto1(self, buffer: Any, /) -> int:
        """The same with at most one read of the raw file."""
        return await self._read_into(space_of(buffer, "readinto1"), at_most_once=True)

    async def _read_into(self, target: memoryview, at_most_once: bool) -> int:
        async with self._lock:
            self._pause()
            self._check_readable()
            await self._yield_if_spent()
            if self._ahead() < len(target):
                await self._write_first()
            ahead = self._ahead()
            filled = min(ahead, len(target))
            target[:filled] = self._buffer[self._pos : self._pos + filled]
            self._pos += filled
            if ahead and filled == len(target):
                return filled
            try:
                await self._before_read()
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
        if len(target) > self._window:
            return await self._bottom().read_some_into(target)
        if not may_fill or not await self._fill():
            return 0
        count = min(self._ahead(), len(target))
        target[:count] = self._buffer[self._pos : self._pos + count]
        self._pos += count
        return count

    async def readall(self) -> bytes:
        """Read to the end of the file."""
        return await self.read()

    async def readline_slowly(self, size: int | None) -> bytes:
        """`readline`, where the buffer alone will not do."""
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
        await self._write_first()
        parts = [self._take_ahead()]
        try:
            await self._before_read()
            while True:
                if limit >= 0:
                    limit -= len(parts[-1])
                self._forget_ahead()
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
        """The end of a line, or of limit bytes, in what is read ahead; 0 if there is neither."""
        stop = self._pos + self._ahead()
        if 0 <= limit <= stop - self._pos:
            stop = self._pos + limit
            return self._buffer.find(b"\n", self._pos, stop) + 1 or (stop if limit else 0)
        return self._buffer.find(b"\n", self._pos, stop) + 1
