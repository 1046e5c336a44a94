"""`BufferedWriter` and `BufferedRandom`: writing through the buffer."""

from typing import Any

from .base import bytes_of
from .buffered import BufferedFile
from .freelist import LARGE_BUFFER_SIZE_BYTES, take_buffer
from .line_reader import iterated
from .read_ahead import BUDGET_CALLS, FIRST_READ_AHEAD_BYTES
from .reading import BufferedReader

#: Up to here a buffer grows in steps, so that a small file does not pay for a large one.
STEPS_END_BYTES = 32 * 1024


@iterated
class BufferedWriter(BufferedFile):
    """A file that is written; see `io.BufferedWriter`.  A write takes all of its data."""

    def readable(self) -> bool:
        """Return False: the file may not be read."""
        return False

    async def write_slowly(self, data: Any) -> int:
        """Write, as `write`, where the buffer alone cannot take the data."""
        view = data if type(data) is bytes else bytes_of(data)
        async with self._lock:
            self._pause()
            self._check_writable()
            await self._yield_if_spent()
            if self._read_end < 0 and self._write_end < 0:
                self._pos = self._raw_pos = 0
            if len(view) <= self._buffer_size_bytes - self._pos:
                self._keep(view)
            else:
                await self._write_through(view)
        self._serve_writes()
        return len(view)

    def _serve_writes(self) -> None:
        """Have the compiled base take the next writes, until the budget is spent: the buffer has only data to write."""
        plain = self._read_end < 0 and self._pos == self._write_end
        if plain and type(self._buffer) is bytearray and not self._lock.locked:
            self._budget_calls = BUDGET_CALLS
            self._write_limit = len(self._buffer)

    def _keep(self, view: bytes | memoryview) -> None:
        """Put data that fits into the buffer there."""
        end = self._pos + len(view)
        if type(self._buffer) is bytes:
            self._buffer = bytearray(self._buffer[: max(self._read_end, 0)])
        if end > len(self._buffer):
            self._make_room(end)
        self._buffer[self._pos : end] = view  # type: ignore[index]
        if self._write_end < 0 or self._write_pos > self._pos:
            self._write_pos = self._pos
        self._pos = end
        if 0 <= self._read_end < end:
            self._read_end = end
        self._write_end = max(self._write_end, end)

    def _make_room(self, end: int) -> None:
        """Make the buffer at least end bytes long."""
        assert type(self._buffer) is bytearray
        room = min(max(2 * end, FIRST_READ_AHEAD_BYTES), self._buffer_size_bytes)
        may_be_large = self._adapts and not self._readable and self._buffer_size_bytes < LARGE_BUFFER_SIZE_BYTES
        if may_be_large and room > STEPS_END_BYTES:
            begun = self._buffer
            self._buffer = take_buffer()
            self._buffer[: len(begun)] = begun
            self._buffer_size_bytes = len(self._buffer)
        else:
            self._buffer += bytes(room - len(self._buffer))

    async def _write_through(self, view: bytes | memoryview) -> None:
        """Write data that does not fit into the buffer, and keep its last part, which does."""
        await self._flush()
        raw = self._bottom()
        offset = self._raw_offset()
        if offset:
            raw.move(raw.position() - offset)
            self._raw_pos -= offset
        if self._readable:
            self._drop_ahead()
        self._pos = self._raw_pos = 0
        rest = memoryview(view)
        while len(rest) > self._buffer_size_bytes:
            rest = rest[await raw.write_some(rest) :]
        self._write_pos = self._write_end = 0
        self._keep(rest)


@iterated
class BufferedRandom(BufferedReader, BufferedWriter):
    """A file that is read and written; see `io.BufferedRandom`."""

    flush = BufferedFile.flush
    readable = BufferedFile.readable
    writable = BufferedFile.writable
