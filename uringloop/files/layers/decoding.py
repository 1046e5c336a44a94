"""`DecodingFile`: the half of a text file that reads.

`_snapshot` is what `tell` needs to find the position in bytes of a character: the decoder's flags at a place where it
held back no bytes, and the bytes that it was given since.

A call that is cancelled, or fails because the file cannot be read, leaves everything as it was: what it took from the
buffer is put back.
"""

import io
import operator
from typing import Any

from .base import File, count_of
from .buffered import BufferedFile
from .hot import Decoded

CHUNK_BYTES = 8192
#: An iteration comes to read this much at a time: a thousand lines or so.
_ITERATION_CHUNK_BYTES = 8 * CHUNK_BYTES


class DecodingFile(Decoded, File[str]):
    """What a `TextFile` reads with."""

    _decoder: Any
    _newline: str | None
    _bytes_per_char: float
    _snapshot: tuple[int, bytes] | None
    #: Whether positions can be told: not while it is iterated over.
    _telling: bool
    _seekable: bool
    #: It was read on without the snapshot: no position can be told before the next seek or chunk.
    _lost = False
    _chunk_bytes = CHUNK_BYTES

    def _below(self) -> BufferedFile:
        """The file below."""
        raise NotImplementedError

    async def _write_pending(self) -> None:
        """Hand what is encoded to the buffer."""
        raise NotImplementedError

    def _check_decodes(self) -> None:
        self._check_open()
        if self._decoder is None:
            raise io.UnsupportedOperation("not readable")

    def _pause(self) -> None:
        self.iterating = False
        self._chunk_bytes = CHUNK_BYTES

    async def read(self, size: int | None = -1, /) -> str:
        """Read size characters, fewer only at the end of the file; -1 or None reads to the end.

        Raises:
            OSError: as from read(2).
            UnicodeDecodeError: what is there is not of this encoding.
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
        """Call something that reads chunks; if it is cancelled or the file cannot be read, nothing was."""
        before = self.chars, self.used, self._snapshot, self._bytes_per_char
        # The decoder's state before the first chunk, and the chunks.
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
        """Decode some more; False at the end of the file."""
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
            # What comes before the error is read first, as far as in the standard library.
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
        """Read up to and with the end of the line, or the end of the file.

        Args:
            size: at most this many characters; -1 for any number.
        """
        limit = max(operator.index(size), -1)
        async with self._lock:
            self._pause()
            self._check_decodes()
            await self._write_pending()
            await self._yield_if_spent()
            return await self._transaction(self._read_line, limit)

    async def next_line(self) -> str:
        """The next line of an iteration."""
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
        # If nothing is decoded, also a line of no characters looks at the file.
        if end >= 0 and self.chars:
            return self._take(end - self.used)
        line = self._take_all()
        while True:
            # Should the next chunk not be decoded, what came before it is to be read again.
            self._set_decoded("")
            while await self._read_chunk(undo):
                if self.chars:
                    break
            if not self.chars:
                self._snapshot = None
                return line
            # A "\r\n" may be parted.
            searched = max(len(line) - 1, 0)
            old = len(line)
            line += self.chars
            end = self._end_of_line(line, 0, limit, searched)
            if end >= 0:
                self.used = end - old
                return line[:end]

    def _end_of_line(self, text: str, start: int, limit: int, searched: int = 0) -> int:
        """Where the line ends that starts there: after its newline or limit characters; -1 if neither is here."""
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
        # The decoder keeps a "\r" back until it knows what follows.
        return carriage_return + (2 if line_feed == carriage_return + 1 else 1)
