"""`BufferedFile`: the base of files of bytes with a buffer.

One buffer serves for reading ahead and for writing behind, as in the standard library.  This class follows the
standard library to the byte, also where a file that is appended to is read in between:

    _buffer   0 ... _pos ... _read_end          read ahead from the file; _read_end is -1 if nothing is
              0 ... _write_pos ... _write_end   to be written; _write_end is -1 if nothing is
                    _raw_pos                    the raw file's position in the buffer

While nothing is to be written, `_buffer` is bytes, and a read returns slices of it; else it is a bytearray.

Reading ahead adapts, unless `open` was given a size.  It begins with one block.  It doubles while reads go on where the
last read ahead ended, and begins anew after a seek to another place.

A cancelled read loses nothing: the file puts the bytes that had arrived back for the next read.  A cancelled write has
written or buffered a first part of its data, and `tell` says how much.
"""

import contextlib
import io
import operator
import os
from typing import Any

from .base import File, space_of
from .freelist import free_buffer
from .line_reader import iterated
from .raw import RawFile
from .read_ahead import BUDGET_CALLS, FIRST_READ_AHEAD_BYTES, NEVER, ReadAhead


@iterated
class BufferedFile(ReadAhead, File[bytes]):
    """A file of bytes with a buffer; `uringloop.files.open` makes it.

    A read returns the full size, unless the file ends first.  A write takes all of its data.
    """

    def _bottom(self) -> RawFile:
        if self._raw is None:
            raise ValueError("raw stream has been detached")
        return self._raw

    # Attributes

    @property
    def raw(self) -> RawFile:
        """The raw file below; see `io.BufferedIOBase.raw`.  ValueError if it was detached."""
        return self._bottom()

    @property
    def mode(self) -> str:
        """The mode as `io.FileIO.mode`: "rb", "wb", "ab" or "xb", with "+" if the file may be read and written."""
        return self._bottom().mode

    @property
    def closed(self) -> bool:
        """Whether the file is closed, or about to be."""
        return super().closed or (self._raw is not None and self._raw.closed)

    def _check_open(self) -> None:
        if self._bottom().closed:
            self._is_closed = True
        super()._check_open()

    # The buffer

    def _ahead(self) -> int:
        """Return the number of bytes that are read ahead."""
        return self._read_end - self._pos if self._read_end >= 0 else 0

    def _raw_offset(self) -> int:
        """Return the number of bytes by which the raw file is ahead of this one."""
        valid = self._read_end >= 0 or self._write_end >= 0
        return self._raw_pos - self._pos if valid and self._raw_pos >= 0 else 0

    def _drop_ahead(self) -> None:
        self._read_end = -1
        self._read_limit = -1

    def _pause(self) -> None:
        self._read_limit = self._write_limit = -1
        self._bypass_from_bytes = NEVER

    def _serve(self) -> None:
        """Have the compiled base answer the next calls, until the budget is spent."""
        if self._lock.locked:
            return
        self._budget_calls = BUDGET_CALLS
        if self._read_end > self._pos:
            if type(self._buffer) is bytes:
                self._read_limit = self._read_end
        elif not self._writable:
            self._bypass_from_bytes = self._read_ahead_bytes

    def put_back(self, data: bytes) -> None:
        """Put the bytes that a failed call had taken back for the next one."""
        if self._ahead():
            data += self._buffer[self._pos : self._read_end]
        self._buffer = data
        self._pos, self._read_end, self._raw_pos = 0, len(data), len(data)

    async def _flush(self) -> None:
        """Hand the data to be written to the raw file."""
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
                        # Count the bytes of a cancelled write too, so that nothing is written twice.
                        self._write_pos += raw.written_bytes - before
                        self._raw_pos = self._write_pos
            except BaseException:
                # The kernel, or a traceback, may still have a view of it.
                self._buffer = bytearray(buffer)
                raise
        self._write_pos, self._write_end = 0, -1

    async def _flush_all(self) -> None:
        """Write the data to be written, drop the bytes read ahead, and set the raw file's position to this one's."""
        await self._flush()
        self._step_back()

    def _step_back(self) -> None:
        """Drop the bytes read ahead, and set the raw file's position to this one's; nothing is to be written."""
        self._write_limit = -1
        if self._readable:
            offset = self._raw_offset()
            self._drop_ahead()
            if offset:
                raw = self._bottom()
                raw.move(raw.position() - offset)

    def _raw_can_seek(self) -> bool:
        return self._bottom().can_seek

    # Methods that only some kinds of files have

    async def read_slowly(self, size: int | None, begun: bytes | None) -> bytes:
        """Raise io.UnsupportedOperation: the file is not open for reading; see `BufferedReader.read_slowly`."""
        raise io.UnsupportedOperation("read")

    async def read1(self, size: int = -1, /) -> bytes:
        """Raise io.UnsupportedOperation: the file is not open for reading."""
        raise io.UnsupportedOperation("read1")

    async def readinto(self, buffer: Any, /) -> int:
        """Raise io.UnsupportedOperation: the file is not open for reading."""
        space_of(buffer)
        raise io.UnsupportedOperation("read")

    async def readinto1(self, buffer: Any, /) -> int:
        """Raise io.UnsupportedOperation: the file is not open for reading."""
        space_of(buffer, "readinto1")
        raise io.UnsupportedOperation("read1")

    async def readline_slowly(self, size: int | None) -> bytes:
        """Raise io.UnsupportedOperation, unless size is 0: the file is not open for reading."""
        if size is not None and operator.index(size) == 0:
            return b""
        raise io.UnsupportedOperation("read")

    async def write_slowly(self, data: Any) -> int:
        """Raise io.UnsupportedOperation: the file is not open for writing; see `BufferedWriter.write_slowly`."""
        raise io.UnsupportedOperation("write")

    # Flushing

    def accepted_bytes(self) -> int:
        """Return the number of bytes written or buffered so far."""
        return self._bottom().written_bytes + max(self._write_end - self._write_pos, 0)

    # The position

    async def tell(self) -> int:
        """Return the position in bytes from the start; see `io.IOBase.tell`.

        Raises:
            OSError: ESPIPE, the file has no position.
            ValueError: the file is closed.
        """
        async with self._lock:
            self._check_open()
            return self._tell()

    def _tell(self) -> int:
        return self._bottom().position() - self._raw_offset()

    async def seek_slowly(self, offset: int, whence: int) -> int:
        """Move the position, as `seek`, where that takes more than setting a number."""
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
                    return position - ahead + step
            self._pause()
            position = await self._seek(offset, whence)
        self._serve()
        return position

    async def _seek(self, offset: int, whence: int) -> int:
        if self._writable:
            await self._flush()
        if whence == os.SEEK_CUR:
            offset -= self._raw_offset()
        position = await self._bottom().move_from(offset, whence)
        self._raw_pos = -1
        self._drop_ahead()
        if self._adapts:
            self._read_ahead_bytes = FIRST_READ_AHEAD_BYTES
        return position

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
            self._check_writable("truncate")
            self._pause()
            await self._flush_all()
            size_bytes = self._bottom().position() if size is None else operator.index(size)
            await self._bottom().resize(size_bytes)
            return size_bytes

    def detach(self) -> io.FileIO:
        """Separate the raw file from this one; see `io.BufferedIOBase.detach`.

        This call blocks while it writes the buffered data; `flush` does not block.  A file without a position loses the
        bytes read ahead.

        Returns:
            The raw file as one of the standard library, for use without the loop.  Its position is this file's.

        Raises:
            OSError: as from write(2); nothing is detached.
            ValueError: the file is closed, or was detached.
        """
        self._check_open()
        raw = self._bottom()
        self.settle_now()
        self._raw = None
        return raw.release()

    def settle_now(self, more: bytes = b"") -> None:
        """Write the buffered data, then more, and set the raw file's position to this one's.  This call blocks."""
        raw = self._bottom()
        self._pause()
        if self._has_pending():
            rewind = self._raw_offset() + self._pos - self._write_pos
            if rewind:
                raw.move(raw.position() - rewind)
            raw.write_blocking(memoryview(self._buffer)[self._write_pos : self._write_end])
            self._raw_pos = self._write_end
        offset = self._raw_offset()
        if offset and raw.can_seek:
            raw.move(raw.position() - offset)
        self._write_pos, self._write_end = 0, -1
        self._drop_ahead()
        if more:
            raw.write_blocking(more)

    # Closing

    #: `close`, where it has to wait.
    close_slowly = File.close

    def _has_pending(self) -> bool:
        return self._write_end > self._write_pos

    def _drop_pending(self) -> None:
        self._write_pos, self._write_end = 0, -1

    async def _write_last(self) -> None:
        await self._flush()

    async def _close_below(self) -> None:
        if self._write_end < 0:
            free_buffer(self._buffer)
        self._write_end = -1
        self._buffer = b""
        self._drop_ahead()
        await self._bottom().close()

    def _drop_last(self) -> None:
        with contextlib.suppress(OSError):
            self.settle_now()
