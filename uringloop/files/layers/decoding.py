"""`DecodingFile`: the half of a text file that reads.

`tell` needs `_snapshot` to find the position in bytes of a character.  The snapshot has the decoder's flags at a place
where it held back no bytes, and the bytes that the decoder was given since.

A call that is cancelled, or that fails because the file cannot be read, changes nothing: it puts the bytes that it took
back into the buffer.
"""

import io
import operator
from typing import Any

from .base import File, count_of
from .buffered import BufferedFile
from .line_reader import DecodedLines

CHUNK_BYTES = 8192
#: The largest read of an iteration: some thousand lines.
_ITERATION_CHUNK_BYTES = 8 * CHUNK_BYTES


class DecodingFile(DecodedLines, File[str]):
    """The reading half of a `TextFile`."""

    _decoder: Any
    _newline: str | None
    _bytes_per_char: float
    _snapshot: tuple[int, bytes] | None
    #: Whether `tell` can tell positions: it cannot during an iteration.
    _telling: bool
    _seekable: bool
    #: Whether the file was read on without a snapshot: `tell` fails until the next seek or chunk.
    _lost = False
    _chunk_bytes = CHUNK_BYTES

    def _below(self) -> BufferedFile:
        """Return the buffered file below; ValueError if it was detached."""
        raise NotImplementedError

    async def _write_pending(self) -> None:
        """Hand the encoded text to the buffered file."""
        raise NotImplementedError

    def _check_decodes(self) -> None:
        self._check_open()
        if self._decoder is None:
            raise io.UnsupportedOperation("not readable")

    def _pause(self) -> None:
        self.iterating = False
        self._chunk_bytes = CHUNK_BYTES

    async def read(self, size: int | None = -1, /) -> str:
        """Read characters; see `io.TextIOBase.read`.

        Args:
            size: the number of characters; -1 or None reads to the end of the file.

        Returns:
            The text; fewer than size characters only at the end of the file.

        Raises:
            OSError: as from read(2).
            UnicodeDecodeError: the bytes are not of this encoding.
            ValueError: the file is closed.
            io.UnsupportedOperation: the file is not open for reading.
        """
        count = count_of(size)
        async with self._lock:
            self._pause()
            self._check_decodes()
            await self._write_pending()
            if count < 0:
                data = await self._below().read()
                rest: str = self._decoder.decode(data, True)
                text = self._take_all() + rest
                self._set_decoded("")
                self._snapshot = None
                return text
            if len(self.chars) - self.used >= count:
                await self._yield_if_spent()
            return await self._transaction(self._read, count)

    async def _read(self, count: int, undo: list[Any]) -> str:
        text = self._take(count)
        parts = [text]
        missing = count - len(text)
        while missing > 0:
            if not await self._read_chunk(undo, missing):
                break
            parts.append(self._take(missing))
            missing -= len(parts[-1])
        return "".join(parts)

    async def _transaction(self, function: Any, argument: int) -> str:
        """Call a function that reads chunks; undo its reads if it is cancelled or the file cannot be read."""
        before = self.chars, self.used, self._snapshot, self._bytes_per_char
        # First the decoder's state before the first chunk, then the chunks.
        undo: list[Any] = []
        try:
            text: str = await function(argument, undo)
        except UnicodeError:
            raise
        except BaseException:
            if undo:
                self._decoder.setstate(undo[0])
                self._below().put_back(b"".join(undo[1:]))
            self.chars, self.used, self._snapshot, self._bytes_per_char = before
            raise
        return text

    async def _read_chunk(self, undo: list[Any], chars: int = 0) -> bool:
        """Read and decode one chunk; return False at the end of the file."""
        state = self._decoder.getstate()
        if not undo:
            undo.append(state)
        size = max(self._chunk_bytes, int(chars * self._bytes_per_char))
        data = await self._below().read1(size)
        try:
            text = self._decoder.decode(data, not data)
        except UnicodeError:
            if self._chunk_bytes == CHUNK_BYTES:
                raise
            # Serve the text before the error first, as far as the standard library does.
            self._chunk_bytes = CHUNK_BYTES
            self._decoder.setstate(state)
            self._below().put_back(data)
            return await self._read_chunk(undo, chars)
        undo.append(data)
        self._set_decoded(text)
        self._bytes_per_char = len(data) / len(text) if text else 0.0
        self._lost = not self._telling
        if self._telling:
            held, flags = state
            self._snapshot = (flags, held + data)
        return bool(data or text)

    def _set_decoded(self, text: str) -> None:
        self.chars = text
        self.used = 0

    def _take(self, count: int) -> str:
        text: str = self.chars[self.used : self.used + count]
        self.used += len(text)
        return text

    def _take_all(self) -> str:
        text = self.chars[self.used :]
        self.used = len(self.chars)
        return text

    # Lines

    async def readline(self, size: int = -1, /) -> str:  # type: ignore[override]  # as the standard library
        """Read up to and including the end of the line, or up to the end of the file; see `io.TextIOBase.readline`.

        Args:
            size: the largest number of characters; -1 for any number.

        Returns:
            The line; "" at the end of the file.

        Raises:
            OSError: as from read(2).
            UnicodeDecodeError: the bytes are not of this encoding.
            ValueError: the file is closed.
            io.UnsupportedOperation: the file is not open for reading.
        """
        limit = max(operator.index(size), -1)
        async with self._lock:
            self._pause()
            self._check_decodes()
            await self._write_pending()
            await self._yield_if_spent()
            return await self._transaction(self._read_line, limit)

    async def next_line(self) -> str:
        """Return the next line of an iteration.

        Raises:
            StopAsyncIteration: the file has ended.
        """
        async with self._lock:
            self.iterating = False
            self._telling = False
            self._check_decodes()
            await self._write_pending()
            await self._yield_if_spent()
            line = await self._transaction(self._read_line, -1)
            self._chunk_bytes = min(2 * self._chunk_bytes, _ITERATION_CHUNK_BYTES)
            if not line:
                self._snapshot = None
                self._telling = self._seekable
                raise StopAsyncIteration
        self.iterating = self._newline in (None, "\n") and not self._lock.locked
        return line

    async def _read_line(self, limit: int, undo: list[Any]) -> str:
        end = self._end_of_line(self.chars, self.used, limit)
        # Without decoded text even a line of no characters looks at the file.
        if end >= 0 and self.chars:
            return self._take(end - self.used)
        line = self._take_all()
        while True:
            # If the next chunk cannot be decoded, the text before it has to be read again.
            self._set_decoded("")
            while await self._read_chunk(undo):
                if self.chars:
                    break
            if not self.chars:
                self._snapshot = None
                return line
            # A "\r\n" may lie across two chunks.
            searched = max(len(line) - 1, 0)
            old = len(line)
            line += self.chars
            end = self._end_of_line(line, 0, limit, searched)
            if end >= 0:
                self.used = end - old
                return line[:end]

    def _end_of_line(self, text: str, start: int, limit: int, searched: int = 0) -> int:
        """Return where the line from start ends: after its newline or limit characters; -1 if text has neither."""
        end = self._after_newline(text, max(start, searched))
        if limit >= 0 and (end < 0 or end > start + limit) and len(text) >= start + limit:
            return start + limit
        return end

    def _after_newline(self, text: str, start: int) -> int:
        newline = self._newline
        if newline:
            place = text.find(newline, start)
            return place + len(newline) if place >= 0 else -1
        line_feed = text.find("\n", start)
        if newline is None:
            return line_feed + 1 if line_feed >= 0 else -1
        carriage_return = text.find("\r", start, line_feed if line_feed >= 0 else len(text))
        if carriage_return < 0:
            return line_feed + 1 if line_feed >= 0 else -1
        # The decoder holds a "\r" back until it knows the next character.
        return carriage_return + (2 if line_feed == carriage_return + 1 else 1)
