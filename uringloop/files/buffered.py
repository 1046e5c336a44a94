"""Files of bytes, as `io.BufferedReader`, `BufferedWriter` and `BufferedRandom` are, and `FileIO` without buffers.

    from the file:  RawFile -> _space[_start:_end] (read ahead) -> read, readline, readinto
    to the file:    write -> _pending -> RawFile

At most one of the two buffers holds something.  Everything that a read needs is collected in `_space` before it is
taken from there, so a cancelled read loses nothing: what had arrived is there for the next one.  A cancelled write has
written or buffered a first part of its data, and `tell` says how much.

One call at a time: calls on one file wait for each other, in the order in which they were made.  Closing waits for
those before it.
"""

import asyncio
import contextlib
import io
import operator
import os
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from .raw import RawFile

if TYPE_CHECKING:
    from ..loop import EventLoop
    from .opening import FilePath, Mode

#: A turn of the loop costs more than a system call does: larger than the standard library's.
BUFFER_SIZE_BYTES = 64 * 1024


class ByteFile:
    """What buffered and unbuffered files have in common.  Made by `uringloop.files.open`."""

    def __init__(self, loop: "EventLoop", raw: RawFile, name: "FilePath", mode: "Mode", buffering: int) -> None:
        self._loop = loop
        self._raw = raw
        self._name = name
        self._mode = mode
        self._buffer_size_bytes = buffering if buffering >= 0 else max(BUFFER_SIZE_BYTES, raw.block_size_bytes)
        self._lock = asyncio.Lock()
        self._is_closed = False
        self._closing: asyncio.Task[None] | None = None
        self._space = bytearray()
        self._start = 0
        self._end = 0
        self._pending = bytearray()

    # What it is

    @property
    def name(self) -> "FilePath":
        """The path or descriptor that was opened, as it was given."""
        return self._name

    @property
    def mode(self) -> str:
        """As `io.FileIO.mode`: "rb", "wb", "ab", "xb", with "+" if it may be read and written."""
        return self._mode.name

    @property
    def closed(self) -> bool:
        """Whether it was closed, or is about to be."""
        return self._is_closed

    def fileno(self) -> int:
        """The descriptor.  Its position in the kernel is kept right from now on.

        Raises:
            ValueError: the file is closed.
        """
        self._check_open()
        return self._raw.share()

    async def readable(self) -> bool:
        """Whether it may be read."""
        self._check_open()
        return self._mode.readable

    async def writable(self) -> bool:
        """Whether it may be written."""
        self._check_open()
        return self._mode.writable

    async def seekable(self) -> bool:
        """Whether it has a position that can be moved."""
        self._check_open()
        return self._raw.seekable

    async def isatty(self) -> bool:
        """Whether it is a terminal."""
        self._check_open()
        return os.isatty(self._raw.fd)

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open"
        return f"<uringloop.files.{type(self).__name__} name={self._name!r} mode={self.mode!r} {state}>"

    # Reading

    async def readall(self) -> bytes:
        """Read to the end of the file."""
        async with self._lock:
            self._check_readable()
            await self._write_pending()
            await self._fill_to_end()
            return self._take(self._end - self._start)

    async def readline(self, size: int | None = -1, /) -> bytes:
        """Read up to and with the next newline, or the end of the file.

        Args:
            size: at most this many bytes; -1 or None for any number.
        """
        limit = _count(size)
        async with self._lock:
            self._check_readable()
            await self._write_pending()
            searched = 0
            while True:
                newline = self._space.find(b"\n", self._start + searched, self._end)
                searched = self._end - self._start
                count = searched if newline < 0 else newline + 1 - self._start
                if newline >= 0 or 0 <= limit <= count:
                    return self._take(count if limit < 0 else min(count, limit))
                if not await self._fill_once(max(2 * searched, self._line_ahead_bytes())):
                    return self._take(searched)

    def _line_ahead_bytes(self) -> int:
        return self._buffer_size_bytes or BUFFER_SIZE_BYTES

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    async def _fill_once(self, capacity_bytes: int) -> int:
        """Read ahead once, into space for capacity_bytes from the first byte not yet taken; returns how many came."""
        self._reserve(capacity_bytes)
        try:
            count = await self._raw.read_into(memoryview(self._space)[self._end :])
        except GeneratorExit:
            # The caller was thrown away, the read was not: it may still write there.
            self._space = bytearray(self._space)
            raise
        self._end += count
        return count

    async def _fill_to_end(self) -> None:
        """Read ahead everything: in one read if the file is as long as it says, else until there is no more."""
        raw = self._raw
        # Files of /proc say that they are empty, and those of /sys that they are longer than they are.
        size_bytes = await raw.expected_size_bytes() if raw.is_regular else 0
        while True:
            held = self._end - self._start
            missing = max(held, BUFFER_SIZE_BYTES)
            if size_bytes and raw.tell() < size_bytes:
                # One byte more: a read that has come this far and does not fill it has met the end.
                missing = size_bytes - raw.tell() + 1
            count = await self._fill_once(held + missing)
            if not count or (size_bytes and raw.tell() >= size_bytes and self._end < len(self._space)):
                return

    def _reserve(self, capacity_bytes: int) -> None:
        """Have room in `_space`: at least one byte, and capacity_bytes counted from the first byte not yet taken."""
        held = self._end - self._start
        if self._end < len(self._space) and len(self._space) - self._start >= capacity_bytes:
            return
        space = self._space
        if len(space) < max(capacity_bytes, held + 1):
            # Never resized: the kernel's view of the old one may still be around.
            space = bytearray(max(capacity_bytes, held + 1))
        memoryview(space)[:held] = memoryview(self._space)[self._start : self._end]
        self._space, self._start, self._end = space, 0, held

    def _take(self, count: int) -> bytes:
        """The next count bytes of what was read ahead."""
        data = bytes(memoryview(self._space)[self._start : self._start + count])
        self._start += count
        if self._start == self._end:
            self._drop_ahead()
        return data

    def _drop_ahead(self) -> None:
        self._start = self._end = 0
        if len(self._space) > self._buffer_size_bytes:
            self._space = bytearray()

    def _step_back(self) -> None:
        """Forget what was read ahead, and go back to where the caller thinks the file is."""
        if self._end > self._start:
            self._raw.move(self._raw.tell() - (self._end - self._start))
        self._drop_ahead()

    # Writing

    async def flush(self) -> None:
        """Hand what is buffered to the kernel.

        Raises:
            OSError: as from write(2): ENOSPC, EDQUOT, EFBIG, EIO, EPIPE; what could not be written stays buffered.
        """
        async with self._lock:
            self._check_open()
            await self._write_pending()

    async def _write_pending(self) -> None:
        pending, written = self._pending, 0
        while written < len(pending):
            before = self._raw.written_bytes
            try:
                await self._raw.write(memoryview(pending)[written:])
            finally:
                # Also what a cancelled write wrote: nothing is written twice.  Always a new buffer, because the view
                # of this one may live on in a traceback.
                written += self._raw.written_bytes - before
                self._pending = pending[written:]

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
        return self._raw.tell() - (self._end - self._start) + len(self._pending)

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
        offset = operator.index(offset)
        if not os.SEEK_SET <= whence <= os.SEEK_HOLE:
            raise ValueError(f"whence value {whence} unsupported")
        async with self._lock:
            self._check_open()
            if not self._raw.seekable:
                raise io.UnsupportedOperation("File or stream is not seekable.")
            await self._write_pending()
            if whence == os.SEEK_CUR:
                offset += self._tell()
            elif whence == os.SEEK_END and self._raw.is_regular:
                offset += await self._raw.size_bytes()
            elif whence != os.SEEK_SET:
                offset = await self._raw.seek_blocking(offset, whence)
            return self._move(offset)

    def _move(self, position: int) -> int:
        first = self._raw.tell() - (self._end - self._start)
        if first <= position < first + self._end - self._start:
            self._start += position - first
            return position
        position = self._raw.move(position)
        self._drop_ahead()
        return position

    async def truncate(self, size: int | None = None, /) -> int:
        """Make the file size bytes long, by default up to the position, which does not move; returns the size.

        Raises:
            OSError: as from ftruncate(2).
            io.UnsupportedOperation: the file is not open for writing.
        """
        async with self._lock:
            self._check_open()
            if not self._mode.writable:
                raise io.UnsupportedOperation("truncate")
            await self._write_pending()
            self._step_back()
            size_bytes = self._raw.tell() if size is None else operator.index(size)
            await self._raw.truncate(size_bytes)
            return size_bytes

    # Closing

    async def close(self) -> None:
        """Write what is buffered and close; more than once does nothing.  Waits for calls in progress.

        A cancelled close closes all the same, by itself if it has to wait.

        Raises:
            OSError: what is buffered could not be written; the file is closed nevertheless.
        """
        if self._raw.fd < 0 and not self._lock.locked():
            return
        if self._closing is None and not self._pending and not self._lock.locked():
            # What remains cannot be interrupted, and needs no task of its own.
            await self._finish()
            return
        if self._closing is None:
            self._is_closed = True
            self._closing = self._loop.create_task(self._finish())
        try:
            await asyncio.shield(self._closing)
        except asyncio.CancelledError:
            self._closing.add_done_callback(self._report_failure)
            raise

    def _report_failure(self, closing: "asyncio.Task[None]") -> None:
        """Nobody waits for the close any more: what went wrong goes to the exception handler."""
        if not closing.cancelled() and (error := closing.exception()) is not None:
            self._loop.call_exception_handler({"message": f"Exception in closing {self!r}", "exception": error})

    async def _finish(self) -> None:
        self._is_closed = True
        cancelled = await _surely(self._lock.acquire)
        try:
            if self._raw.fd >= 0:
                cancelled = await self._write_last() or cancelled
        finally:
            self._pending = bytearray()
            try:
                if self._raw.fd >= 0:
                    await self._raw.close()
            finally:
                self._lock.release()
        if cancelled is not None:
            raise cancelled

    async def _write_last(self) -> asyncio.CancelledError | None:
        if self._raw.is_regular:
            return await _surely(self._write_pending)
        # A pipe may never take it: there, a cancel drops it.
        await self._write_pending()
        return None

    def __del__(self) -> None:
        """As the standard library does: warn, write, close; the descriptor closes itself when the kernel is done."""
        raw: RawFile | None = getattr(self, "_raw", None)
        if raw is None or raw.fd < 0:
            return
        if raw.owned:
            warnings.warn(f"unclosed file {self!r}", ResourceWarning, source=self, stacklevel=2)
        if self._pending and not raw.uncertain:
            with contextlib.suppress(OSError):
                raw.write_blocking(self._pending)

    # Checks

    def _check_open(self) -> None:
        if self._is_closed:
            raise ValueError("I/O operation on closed file")

    def _check_readable(self) -> None:
        self._check_open()
        if not self._mode.readable:
            raise io.UnsupportedOperation("read")

    def _check_writable(self) -> None:
        self._check_open()
        if not self._mode.writable:
            raise io.UnsupportedOperation("write")


class BufferedFile(ByteFile):
    """A file of bytes with buffers; see `io.BufferedReader`, `io.BufferedWriter` and `io.BufferedRandom`.

    Reads return all that was asked for, unless the file ends first; writes take everything.
    """

    async def read(self, size: int | None = -1, /) -> bytes:
        """Read size bytes, fewer only at the end of the file; -1 or None reads to the end.

        Raises:
            OSError: as from read(2).
            ValueError: the file is closed, or size is below -1.
            io.UnsupportedOperation: the file is not open for reading.
        """
        count = _count(size)
        if count < 0:
            if size is not None and size < -1:
                raise ValueError("read length must be non-negative or -1")
            return await self.readall()
        async with self._lock:
            self._check_readable()
            await self._write_pending()
            await self._fill(count)
            return self._take(min(count, self._end - self._start))

    async def _fill(self, count: int) -> None:
        """Read ahead until there are count bytes, or the file ends."""
        while self._end - self._start < count and await self._fill_once(max(count, self._buffer_size_bytes)):
            pass

    async def readinto(self, buffer: Any, /) -> int:
        """Read into a writable buffer until it is full or the file ends; returns the number of bytes.

        A large buffer of a file on disk is filled by the kernel itself: it must stay as it is until this returns.
        """
        target = _space_of(buffer)
        async with self._lock:
            self._check_readable()
            await self._write_pending()
            if self._raw.is_regular and len(target) >= self._buffer_size_bytes:
                return await self._read_straight(target)
            await self._fill(len(target))
            data = self._take(min(len(target), self._end - self._start))
            target[: len(data)] = data
            return len(data)

    async def _read_straight(self, target: memoryview) -> int:
        self._step_back()
        begin = self._raw.tell()
        filled = 0
        try:
            while filled < len(target):
                count = await self._raw.read_into(target[filled:])
                if not count:
                    break
                filled += count
        except asyncio.CancelledError:
            self._raw.move(begin)
            raise
        return filled

    async def write(self, data: Any, /) -> int:
        """Write bytes; returns their number.  What fits into the buffer is written later, at the latest by `close`.

        Large data is written from where it is: it must stay as it is until this returns.

        Raises:
            OSError: as from write(2): ENOSPC, EDQUOT, EFBIG, EIO, EPIPE.
            ValueError: the file is closed.
            io.UnsupportedOperation: the file is not open for writing.
        """
        view = _bytes_of(data)
        async with self._lock:
            self._check_writable()
            self._step_back()
            if len(self._pending) + len(view) > self._buffer_size_bytes:
                await self._write_pending()
            if len(view) < self._buffer_size_bytes:
                self._pending += view
                return len(view)
            written = 0
            while written < len(view):
                written += await self._raw.write(view[written:])
            return written


class UnbufferedFile(ByteFile):
    """A file of bytes without buffers; see `io.FileIO`.  One read or write for each call, which may be short."""

    async def read(self, size: int | None = -1, /) -> bytes:
        """Read at most size bytes in one read; -1 or None reads to the end of the file."""
        count = _count(size)
        if count < 0:
            return await self.readall()
        async with self._lock:
            self._check_readable()
            self._forget_line_ahead()
            if self._end == self._start and count:
                await self._fill_once(count)
            return self._take(min(count, self._end - self._start))

    async def readinto(self, buffer: Any, /) -> int:
        """Read once into a writable buffer; returns the number of bytes."""
        target = _space_of(buffer)
        async with self._lock:
            self._check_readable()
            self._forget_line_ahead()
            if self._end == self._start and target:
                return await self._raw.read_into(target)
            data = self._take(min(len(target), self._end - self._start))
            target[: len(data)] = data
            return len(data)

    async def write(self, data: Any, /) -> int:
        """Write bytes in one write; returns how many were written, which may be fewer."""
        view = _bytes_of(data)
        async with self._lock:
            self._check_writable()
            self._step_back()
            return await self._raw.write(view) if view else 0

    def _forget_line_ahead(self) -> None:
        """Only `readline` reads ahead here; where that can be undone, the next read is the kernel's again."""
        if self._raw.seekable:
            self._step_back()


def _bytes_of(buffer: Any) -> memoryview:
    view = memoryview(buffer)
    return view.cast("B") if view.nbytes else memoryview(bytearray())


def _space_of(buffer: Any) -> memoryview:
    target = _bytes_of(buffer)
    if memoryview(buffer).readonly:
        raise TypeError(f"readinto() argument must be read-write bytes-like object, not {type(buffer).__name__}")
    return target


def _count(size: int | None) -> int:
    """A number of bytes, -1 for all there are."""
    return -1 if size is None else max(operator.index(size), -1)


async def _surely(function: Callable[[], Any]) -> asyncio.CancelledError | None:
    """Await a coroutine function, again after each cancel, until it comes to an end; returns the last cancel."""
    cancelled = None
    while True:
        try:
            await function()
        except asyncio.CancelledError as error:
            cancelled = error
        else:
            return cancelled
