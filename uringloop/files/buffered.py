"""Files of bytes with a buffer, as `io.BufferedReader`, `io.BufferedWriter` and `io.BufferedRandom` are.

There is one buffer for reading ahead and for writing behind, as in the standard library, whose behaviour this follows to
the byte, also where a file that is appended to is read in between:

    _buffer   0 ... _pos ... _read_end          read ahead from the file; _read_end is -1 if nothing is
              0 ... _write_pos ... _write_end   to be written; _write_end is -1 if nothing is
                    _raw_pos                    where in the buffer the raw file's position is

While nothing is to be written `_buffer` is bytes, of which slices are what a read returns; else it is a bytearray.

Unless a size is asked for, reading ahead adapts: it begins with a block, doubles while the file is read on where it was
read ahead before, and begins anew after a seek to elsewhere.

A cancelled read loses nothing: what had arrived is put back for the next one.  A cancelled write has written or buffered
a first part of its data, and `tell` says how much.
"""

import asyncio
import contextlib
import io
import operator
import os
from typing import Any

from .base import File, bytes_of, give_turn, space_of
from .raw import RawFile

#: A turn of the loop costs more than a system call does: larger than the standard library's.
BUFFER_SIZE_BYTES = 64 * 1024
_FIRST_WINDOW_BYTES = 4096
#: So much is served from the buffer before it is asked whether others are to have their turn.
_SERVED_AT_ONCE_BYTES = 4096


class BufferedFile(File[bytes]):
    """A file of bytes with a buffer.  Made by `uringloop.files.open`.

    Reads return all that was asked for, unless the file ends first; writes take everything.

    Args:
        loop: in which it is used.
        raw: the file below.
        buffering: size of the buffer in bytes, -1 for the usual one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, raw: RawFile, buffering: int) -> None:
        super().__init__(loop)
        self._raw: RawFile | None = raw
        mode = raw.mode_flags
        self._readable = mode.readable
        self._writable = mode.writable
        self._adapts = buffering < 0
        self._size = max(BUFFER_SIZE_BYTES, raw.block_size_bytes) if self._adapts else buffering
        self._window = min(_FIRST_WINDOW_BYTES, self._size) if self._adapts else self._size
        self._buffer: bytes | bytearray = b""
        self._pos = 0
        self._read_end = -1
        self._write_pos = 0
        self._write_end = -1
        self._raw_pos = 0
        #: Reads and writes that end before these go by the buffer alone, beside the lock.
        self._read_limit = -1
        self._write_limit = -1

    def _bottom(self) -> RawFile:
        if self._raw is None:
            raise ValueError("raw stream has been detached")
        return self._raw

    # What it is

    @property
    def raw(self) -> RawFile:
        """The file below."""
        return self._bottom()

    @property
    def mode(self) -> str:
        """As `io.FileIO.mode`: "rb", "wb", "ab", "xb", with "+" if it may be read and written."""
        return self._bottom().mode

    @property
    def closed(self) -> bool:
        """Whether it was closed, or is about to be."""
        return self._is_closed or (self._raw is not None and self._raw.closed)

    def __repr__(self) -> str:
        try:
            return f"<uringloop.files.{type(self).__name__} name={self._bottom().name!r}>"
        except ValueError:
            return f"<uringloop.files.{type(self).__name__}>"

    def _check_open(self) -> None:
        if self._bottom().closed:
            self._is_closed = True
        super()._check_open()

    # The buffer

    def _ahead(self) -> int:
        """How much is read ahead."""
        return self._read_end - self._pos if self._read_end >= 0 else 0

    def _raw_offset(self) -> int:
        """How far the raw file is ahead of this one."""
        valid = self._read_end >= 0 or self._write_end >= 0
        return self._raw_pos - self._pos if valid and self._raw_pos >= 0 else 0

    def _forget_ahead(self) -> None:
        self._read_end = -1
        self._read_limit = -1

    def _pause(self) -> None:
        self._read_limit = self._write_limit = -1

    def _serve(self) -> None:
        """Let the next calls go by the buffer alone, for a while."""
        if type(self._buffer) is bytes and self._read_end > self._pos and not self._lock.locked():
            self._read_limit = min(self._read_end, self._pos + _SERVED_AT_ONCE_BYTES)

    def _take(self, count: int) -> bytes:
        """The next count bytes of what is read ahead."""
        end = self._pos + count
        data = bytes(self._buffer[self._pos : end])
        self._pos = end
        self._serve()
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

    def put_back(self, data: bytes) -> None:
        """Bytes that were taken by a call that failed: for the next one."""
        if self._ahead():
            data += self._buffer[self._pos : self._read_end]
        self._buffer = data
        self._pos, self._read_end, self._raw_pos = 0, len(data), len(data)

    async def _flush(self) -> None:
        """Hand what is to be written to the raw file."""
        if self._write_end >= 0 and self._write_pos < self._write_end:
            raw = self._bottom()
            rewind = self._raw_offset() + self._pos - self._write_pos
            if rewind:
                raw.move(raw.position() - rewind)
                self._raw_pos -= rewind
            buffer = self._buffer
            try:
                while self._write_pos < self._write_end:
                    before = raw.written_bytes
                    try:
                        await raw.write_some(memoryview(buffer)[self._write_pos : self._write_end])
                    finally:
                        # Also what a cancelled write wrote: nothing is written twice.
                        self._write_pos += raw.written_bytes - before
                        self._raw_pos = self._write_pos
            except BaseException:
                # The kernel, or a traceback, may still have a view of it.
                self._buffer = bytearray(buffer)
                raise
        self._write_pos, self._write_end = 0, -1

    async def _flush_and_step_back(self) -> None:
        """Write what is to be written; the raw file's position is then this one's, and nothing is read ahead."""
        await self._flush()
        self._write_limit = -1
        if self._readable:
            offset = self._raw_offset()
            self._forget_ahead()
            if offset:
                raw = self._bottom()
                raw.move(raw.position() - offset)
            elif not self._raw_can_seek():
                return

    def _raw_can_seek(self) -> bool:
        return self._bottom().can_seek

    async def _before_read(self) -> None:
        if self._writable:
            await self._flush_and_step_back()
        self._forget_ahead()

    # Reading

    async def read(self, size: int | None = -1, /) -> bytes:
        """Read size bytes, fewer only at the end of the file; -1 or None reads to the end.

        Raises:
            OSError: as from read(2).
            ValueError: the file is closed, or size is below -1.
            io.UnsupportedOperation: the file is not open for reading.
        """
        if type(size) is int and size >= 0:
            end = self._pos + size
            if end <= self._read_limit:
                data = self._buffer[self._pos : end]
                self._pos = end
                return data  # type: ignore[return-value]  # bytes, while there is a limit
        else:
            size = -1 if size is None else operator.index(size)
            if size < -1:
                raise ValueError("read length must be non-negative or -1")
        async with self._lock:
            self._pause()
            self._check_readable()
            if size < 0:
                data = await self._read_all()
            elif size <= self._ahead():
                await self._turn()
                data = self._take(size)
            else:
                data = await self._read(size)
        self._serve()
        return data

    async def _turn(self) -> None:
        """Others may be due, after a while of reading from the buffer or writing to it."""
        if not self._bottom()._may_go_on():
            await give_turn()

    async def _read_all(self) -> bytes:
        held = bytes(self._buffer[self._pos : self._read_end]) if self._ahead() else b""
        self._pos += len(held)
        try:
            await self._before_read()
            data = await self._bottom().read_to_end()
        except BaseException:
            self.put_back(held)
            raise
        return held + data if held else data

    async def _read(self, size: int) -> bytes:
        """More than is read ahead."""
        held = bytes(self._buffer[self._pos : self._read_end]) if self._ahead() else b""
        parts = [held] if held else []
        self._pos += len(held)
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
            await self._turn()
            ahead = self._ahead()
            if ahead:
                return self._take(min(size, ahead))
            self._forget_ahead()
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
            await self._turn()
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
            await self._turn()
            filled = min(self._ahead(), len(target))
            if filled:
                target[:filled] = self._buffer[self._pos : self._pos + filled]
                self._pos += filled
                if filled == len(target):
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
        if len(target) > self._size:
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

    async def readline(self, size: int | None = -1, /) -> bytes:
        """Read up to and with the next newline, or the end of the file.

        Args:
            size: at most this many bytes; -1 or None for any number.
        """
        if size == -1 and self._read_limit > 0:
            end = self._buffer.find(b"\n", self._pos, self._read_limit) + 1
            if end:
                line = self._buffer[self._pos : end]
                self._pos = end
                return line  # type: ignore[return-value]  # bytes, while there is a limit
        limit = -1 if size is None else operator.index(size)
        async with self._lock:
            self._pause()
            self._check_readable()
            await self._turn()
            line = await self._read_line(limit)
        self._serve()
        return line

    async def _read_line(self, limit: int) -> bytes:
        end = self._end_of_line(limit)
        if end:
            return self._take(end - self._pos)
        if limit == 0:
            return b""
        held = bytes(self._buffer[self._pos : self._read_end]) if self._ahead() else b""
        parts = [held]
        self._pos += len(held)
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

    # Writing

    async def write(self, data: Any, /) -> int:
        """Write bytes; returns their number.  What fits into the buffer is written later, at the latest by `close`.

        Large data is written from where it is: it must stay as it is until this returns.

        Raises:
            OSError: as from write(2): ENOSPC, EDQUOT, EFBIG, EIO, EPIPE.
            ValueError: the file is closed.
            io.UnsupportedOperation: the file is not open for writing.
        """
        if type(data) is bytes:
            size = len(data)
            end = self._pos + size
            if end <= self._write_limit:
                self._buffer[self._pos : end] = data  # type: ignore[index]  # a bytearray, while there is a limit
                self._pos = self._write_end = end
                return size
            view: bytes | memoryview = data
        else:
            view = bytes_of(data)
        async with self._lock:
            self._pause()
            self._check_writable()
            await self._turn()
            if self._read_end < 0 and self._write_end < 0:
                self._pos = self._raw_pos = 0
            if len(view) <= self._size - self._pos:
                self._keep(view)
            else:
                await self._write_through(view)
        if not self._readable and not self._lock.locked():
            self._write_limit = min(len(self._buffer), self._pos + max(_SERVED_AT_ONCE_BYTES, 2 * len(view)))
        return len(view)

    def _keep(self, view: bytes | memoryview) -> None:
        """Put what fits into the buffer."""
        end = self._pos + len(view)
        if type(self._buffer) is bytes:
            self._buffer = bytearray(self._buffer[: max(self._read_end, 0)])
        if end > len(self._buffer):
            # In steps, so that a small file does not pay for a large buffer.
            room = min(max(2 * end, _FIRST_WINDOW_BYTES), self._size)
            self._buffer += bytes(room - len(self._buffer))
        self._buffer[self._pos : end] = view  # type: ignore[index]
        if self._write_end < 0 or self._write_pos > self._pos:
            self._write_pos = self._pos
        self._pos = end
        if 0 <= self._read_end < end:
            self._read_end = end
        self._write_end = max(self._write_end, end)

    async def _write_through(self, view: bytes | memoryview) -> None:
        """Write what does not fit into the buffer, except for the end of it, which does."""
        await self._flush()
        raw = self._bottom()
        offset = self._raw_offset()
        if offset:
            raw.move(raw.position() - offset)
            self._raw_pos -= offset
        if self._readable:
            self._forget_ahead()
        self._pos = self._raw_pos = 0
        rest = memoryview(view)
        while len(rest) > self._size:
            rest = rest[await raw.write_some(rest) :]
        if rest:
            self._keep(rest)

    def accepted_bytes(self) -> int:
        """Written or buffered so far."""
        return self._bottom().written_bytes + max(self._write_end - self._write_pos, 0)

    async def flush(self) -> None:
        """Hand what is buffered to the kernel.

        Raises:
            OSError: as from write(2): ENOSPC, EDQUOT, EFBIG, EIO, EPIPE; what could not be written stays buffered.
        """
        async with self._lock:
            self._check_open()
            self._pause()
            await self._flush_and_step_back()

    # The position

    async def tell(self) -> int:
        """The position, in bytes from the start.

        Raises:
            OSError: ESPIPE, there is none.
        """
        async with self._lock:
            self._check_open()
            return self._tell()

    def _tell(self) -> int:
        return self._bottom().position() - self._raw_offset()

    async def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position.

        Args:
            offset: in bytes.
            whence: os.SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA or SEEK_HOLE; see lseek(2).

        Returns:
            The position, in bytes from the start.

        Raises:
            OSError: EINVAL, it would be negative.
            ValueError: another whence.
            io.UnsupportedOperation: there is no position, as in a pipe.
        """
        if not os.SEEK_SET <= whence <= os.SEEK_HOLE:
            raise ValueError(f"whence value {whence} unsupported")
        async with self._lock:
            self._check_open()
            if not self._raw_can_seek():
                raise io.UnsupportedOperation("File or stream is not seekable.")
            offset = operator.index(offset)
            ahead = self._ahead()
            if ahead > 0 and whence <= os.SEEK_CUR:
                position = self._bottom().position()
                step = offset if whence else offset - (position - self._raw_offset())
                if -self._pos <= step <= ahead:
                    self._pos += step
                    self._pause()
                    self._serve_soon()
                    return position - ahead + step
            self._pause()
            return await self._seek(offset, whence)

    def _serve_soon(self) -> None:
        if type(self._buffer) is bytes:
            self._read_limit = min(self._read_end, self._pos + _SERVED_AT_ONCE_BYTES)

    async def _seek(self, offset: int, whence: int) -> int:
        if self._writable:
            await self._flush()
        if whence == os.SEEK_CUR:
            offset -= self._raw_offset()
        position = await self._bottom().move_from(offset, whence)
        self._raw_pos = -1
        self._forget_ahead()
        if self._adapts:
            self._window = min(_FIRST_WINDOW_BYTES, self._size)
        return position

    async def truncate(self, size: int | None = None, /) -> int:
        """Make the file size bytes long, by default up to the position, which does not move; returns the size.

        Raises:
            OSError: as from ftruncate(2).
            io.UnsupportedOperation: the file is not open for writing.
        """
        async with self._lock:
            self._check_writable("truncate")
            self._pause()
            await self._flush_and_step_back()
            size_bytes = self._bottom().position() if size is None else operator.index(size)
            await self._bottom().resize(size_bytes)
            return size_bytes

    def detach(self) -> RawFile:
        """The raw file, from now on on its own.  What is buffered is written first, which blocks: `flush` does not.

        Raises:
            ValueError: the file is closed, or was detached.
        """
        self._check_open()
        raw = self._bottom()
        self._pause()
        self._drop_last()
        offset = self._raw_offset()
        if offset and self._readable and raw.can_seek:
            raw.move(raw.position() - offset)
        self._raw = None
        return raw

    # Closing

    def _has_pending(self) -> bool:
        return self._write_end > self._write_pos

    async def _write_last(self) -> None:
        await self._flush()

    async def _close_below(self) -> None:
        self._write_end = -1
        self._buffer = b""
        self._forget_ahead()
        await self._bottom().close()

    def _drop_last(self) -> None:
        if self._has_pending() and self._raw is not None:
            raw = self._raw
            with contextlib.suppress(OSError):
                rewind = self._raw_offset() + self._pos - self._write_pos
                if rewind:
                    raw.move(raw.position() - rewind)
                raw.write_blocking(memoryview(self._buffer)[self._write_pos : self._write_end])
            self._write_pos, self._write_end = 0, -1


class BufferedReader(BufferedFile):
    """A file that is read; see `io.BufferedReader`."""


class BufferedWriter(BufferedFile):
    """A file that is written; see `io.BufferedWriter`."""


class BufferedRandom(BufferedFile):
    """A file that is read and written; see `io.BufferedRandom`."""
