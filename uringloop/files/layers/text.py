"""`TextFile`: text over a buffered file, as `io.TextIOWrapper`.

from the file:  buffer.read1 -> the decoder -> chars[used:] -> read, readline, iteration; see `DecodingFile`
to the file:    write -> the encoder -> _pending -> buffer.write
"""

import asyncio
import codecs
import contextlib
import io
import operator
import os
from typing import Any

from .base import File
from .buffered import BufferedFile
from .cookie import Cookie, find
from .decoding import CHUNK_BYTES, DecodingFile
from .line_reader import iterated
from .raw import RawFile


@iterated
class TextFile(DecodingFile):
    """A text file; `uringloop.files.open` makes it.

    Args:
        loop: the event loop of the file.
        buffer: the buffered file below.
        encoding: the encoding's name, such as "utf-8"; see `resolve`.
        errors: the error handler's name, such as "strict".
        newline: None, "", "\\n", "\\r" or "\\r\\n"; see `open`.
        line_buffering: whether to flush after each write that has a newline in it.
        mode: the mode as `open` was given it.
        write_through: whether to hand every write to the buffered file at once.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        buffer: BufferedFile,
        encoding: str,
        errors: str,
        newline: str | None,
        line_buffering: bool,
        mode: str,
        write_through: bool = False,
    ) -> None:
        File.__init__(self, loop)
        self._buffer: BufferedFile | None = buffer
        raw = buffer.raw
        self._mode = mode
        self._snapshot: tuple[int, bytes] | None = None
        self._decoder: Any = None
        self._seekable = self._telling = raw.can_seek
        self._readable = raw.mode_flags.readable
        self._writable = raw.mode_flags.writable
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._line_buffering = line_buffering
        self._write_through = write_through
        at_start = not (self._seekable and self._writable and raw.position())
        self._configure(encoding, errors, newline, at_start)

    def _configure(self, encoding: str, errors: str, newline: str | None, at_start: bool) -> None:
        self._encoding = encoding
        self._errors = errors
        self._newline = newline
        self._bytes_per_char = 0.0
        self._decoder = None
        if self._readable:
            decoder = codecs.getincrementaldecoder(encoding)(errors)
            if not newline:
                decoder = io.IncrementalNewlineDecoder(decoder, newline is None)  # type: ignore[assignment]
            self._decoder = decoder
        self._encoder: Any = codecs.getincrementalencoder(encoding)(errors) if self._writable else None
        if self._encoder is not None and not at_start:
            # No byte order mark in the middle of a file.
            self._encoder.setstate(0)
        self._written_newline = os.linesep if newline is None else newline or "\n"

    def _below(self) -> BufferedFile:
        if self._buffer is None:
            raise ValueError("underlying buffer has been detached")
        return self._buffer

    def _bottom(self) -> RawFile:
        return self._below().raw

    # Attributes

    @property
    def buffer(self) -> BufferedFile:
        """The buffered file below.  ValueError if it was detached."""
        return self._below()

    @property
    def encoding(self) -> str:
        """The encoding's name."""
        return self._encoding

    @property
    def errors(self) -> str:
        """The name of the error handler for text that cannot be decoded or encoded, such as "strict"."""
        return self._errors

    @property
    def newlines(self) -> str | tuple[str, ...] | None:
        """The kinds of newlines read so far, None if newlines are neither translated nor recognized."""
        newlines: str | tuple[str, ...] | None = getattr(self._decoder, "newlines", None)
        return newlines

    @property
    def line_buffering(self) -> bool:
        """Whether a write with a newline in it is flushed."""
        return self._line_buffering

    @property
    def write_through(self) -> bool:
        """Whether every write is handed to the buffer at once."""
        return self._write_through

    @property
    def mode(self) -> str:
        """The mode as `open` was given it."""
        return self._mode

    @property
    def closed(self) -> bool:
        """Whether the file is closed, or about to be."""
        return super().closed or self._below().closed

    def fileno(self) -> int:
        """Return the descriptor.  From now on the file keeps the descriptor's position in the kernel right.

        Raises:
            ValueError: the file is closed.
        """
        return self._below().fileno()

    async def readable(self) -> bool:  # type: ignore[override]  # as aiofiles, which has it awaited of text alone
        """Return whether the file may be read."""
        return self._below().readable()

    async def writable(self) -> bool:
        """Return whether the file may be written."""
        return await self._below().writable()

    async def seekable(self) -> bool:
        """Return whether the file has a position that can be moved."""
        return await self._below().seekable()

    async def isatty(self) -> bool:
        """Return whether the file is a terminal."""
        return await self._below().isatty()

    def _description(self) -> str:
        return f" mode={self._mode!r} encoding={self._encoding!r}"

    def _check_open(self) -> None:
        if self._below().closed:
            self._is_closed = True
        super()._check_open()

    # Writing

    async def write(self, text: str, /) -> int:
        """Write text; see `io.TextIOBase.write`.

        Returns:
            The number of characters.

        Raises:
            OSError: as from write(2): ENOSPC, EDQUOT, EFBIG, EIO, EPIPE.
            TypeError: text is not a string.
            UnicodeEncodeError: the encoding has no such character.
            ValueError: the file is closed.
            io.UnsupportedOperation: the file is not open for writing.
        """
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        async with self._lock:
            self._pause()
            self._check_open()
            if self._encoder is None:
                raise io.UnsupportedOperation("not writable")
            count = len(text)
            flush = self._line_buffering and ("\n" in text or "\r" in text)
            if self._written_newline != "\n":
                text = text.replace("\n", self._written_newline)
            data = self._encoder.encode(text)
            if self._pending_bytes + len(data) > CHUNK_BYTES:
                await self._write_pending()
            self._pending.append(data)
            self._pending_bytes += len(data)
            if self._pending_bytes >= CHUNK_BYTES or self._write_through or flush:
                await self._write_pending()
            if flush:
                await self._below().flush()
            if self._snapshot is not None:
                self._set_decoded("")
                self._snapshot = None
            if self._decoder is not None:
                self._decoder.reset()
            return count

    async def _write_pending(self) -> None:
        """Hand the encoded text to the buffered file."""
        if self._pending:
            await self._yield_if_spent()
            data = b"".join(self._pending)
            self._pending = []
            self._pending_bytes = 0
            buffer = self._below()
            before = buffer.accepted_bytes()
            try:
                await buffer.write(data)
            except BaseException:
                rest = data[buffer.accepted_bytes() - before :]
                self._pending = [rest]
                self._pending_bytes = len(rest)
                raise

    async def _flush_all(self) -> None:
        self._telling = self._seekable
        await self._write_pending()
        await self._below().flush()

    # The position

    async def tell(self) -> int:
        """Return the position as a number for `seek`; see `io.TextIOBase.tell`.

        Raises:
            OSError: the file is being iterated over.
            ValueError: the file is closed.
            io.UnsupportedOperation: the file has no position.
        """
        async with self._lock:
            self._pause()
            self._check_open()
            return await self._tell()

    async def _tell(self) -> int:
        if not self._seekable:
            raise io.UnsupportedOperation("underlying stream is not seekable")
        if not self._telling:
            raise OSError("telling position disabled by next() call")
        await self._write_pending()
        await self._below().flush()
        position = await self._below().tell()
        if self._decoder is None or self._snapshot is None:
            return position
        if self._lost:
            raise OSError("can't reconstruct logical file position")
        flags, data = self._snapshot
        position -= len(data)
        if not self.used:
            return Cookie(position, flags).pack()
        return find(self._decoder, position, flags, data, self.used, self._bytes_per_char).pack()

    async def seek(self, cookie: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position; see `io.TextIOBase.seek`.

        Args:
            cookie: 0, or a number that `tell` returned.
            whence: os.SEEK_SET; with the cookie 0 also SEEK_CUR, which does not move, or SEEK_END.

        Returns:
            The position as a number for `seek`.

        Raises:
            ValueError: another whence, a negative cookie, or the file is closed.
            io.UnsupportedOperation: another cookie with SEEK_CUR or SEEK_END, or the file has no position.
        """
        async with self._lock:
            self._pause()
            self._check_open()
            if not self._seekable:
                raise io.UnsupportedOperation("underlying stream is not seekable")
            cookie = operator.index(cookie)
            if whence == os.SEEK_CUR:
                if cookie:
                    raise io.UnsupportedOperation("can't do nonzero cur-relative seeks")
                cookie = await self._tell()
            elif whence == os.SEEK_END:
                if cookie:
                    raise io.UnsupportedOperation("can't do nonzero end-relative seeks")
                return await self._seek_end()
            elif whence != os.SEEK_SET:
                raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
            if cookie < 0:
                raise ValueError(f"negative seek position {cookie}")
            await self._flush_all()
            await self._seek(cookie)
            return cookie

    async def _seek_end(self) -> int:
        await self._flush_all()
        position = await self._below().seek(0, os.SEEK_END)
        self._set_decoded("")
        self._snapshot = None
        if self._decoder is not None:
            self._decoder.reset()
        self._reset_encoder(position == 0)
        return position

    async def _seek(self, packed: int) -> None:
        cookie = Cookie.unpack(packed)
        self._lost = False
        await self._below().seek(cookie.position)
        self._set_decoded("")
        self._snapshot = None
        if self._decoder is not None:
            if not cookie.position and not cookie.flags:
                self._decoder.reset()
            else:
                self._decoder.setstate((b"", cookie.flags))
            self._snapshot = (cookie.flags, b"")
        if cookie.skip_chars:
            data = await self._below().read(cookie.feed_bytes)
            self._set_decoded(self._decoder.decode(data, cookie.at_end))
            self._snapshot = (cookie.flags, data)
            if len(self.chars) < cookie.skip_chars:
                raise OSError("can't restore logical file position")
            self.used = cookie.skip_chars
        self._reset_encoder(packed == 0)

    def _reset_encoder(self, at_start: bool) -> None:
        if self._encoder is not None:
            if at_start:
                self._encoder.reset()
            else:
                self._encoder.setstate(0)

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
            self._pause()
            self._check_open()
            await self._flush_all()
            return await self._below().truncate(size)

    async def reconfigure(
        self,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: Any = ...,
        line_buffering: bool | None = None,
        write_through: bool | None = None,
    ) -> None:
        """Flush, and change the settings of the file; see `io.TextIOWrapper.reconfigure`.

        After the first read, encoding, errors and newline of a file that may be read stay as they are.

        Args:
            encoding: the encoding's name; None for no change.
            errors: the error handler's name; None for no change, or for "strict" if an encoding is given.
            newline: see `open`; ... for no change.
            line_buffering: whether to flush after each write that has a newline in it; None for no change.
            write_through: whether to hand every write to the buffered file at once; None for no change.

        Raises:
            LookupError: there is no such encoding, or it is not one of text.
            OSError: as from write(2).
            ValueError: the file is closed.
            io.UnsupportedOperation: text was read already.
        """
        changes = encoding is not None or errors is not None or newline is not ...
        async with self._lock:
            self._pause()
            self._check_open()
            if changes and self._decoder is not None and (self._snapshot is not None or self.chars):
                raise io.UnsupportedOperation(
                    "It is not possible to set the encoding or newline of stream after the first read"
                )
            if errors is None:
                errors = self._errors if encoding is None else "strict"
            newline = self._newline if newline is ... else newline
            encoding, errors = resolve(self._encoding if encoding is None else encoding, errors, newline)
            await self._flush_all()
            if changes:
                position = await self._below().tell() if self._seekable and self._writable else 0
                self._configure(encoding, errors, newline, not position)
            if line_buffering is not None:
                self._line_buffering = bool(line_buffering)
            if write_through is not None:
                self._write_through = bool(write_through)

    def detach(self) -> io.BufferedReader | io.BufferedWriter | io.BufferedRandom:
        """Separate the buffered file from this one; see `io.TextIOBase.detach`.

        This call blocks while it writes the encoded text; `flush` does not block.

        Returns:
            The buffered file as one of the standard library, for use without the loop.

        Raises:
            OSError: as from write(2); nothing is detached.
            ValueError: the file is closed, or was detached.
        """
        self._check_open()
        buffer = self._below()
        self._settle_now()
        self._buffer = None
        raw = buffer.detach()
        if not raw.writable():
            return io.BufferedReader(raw)
        return io.BufferedRandom(raw) if raw.readable() else io.BufferedWriter(raw)

    # Closing

    def _has_pending(self) -> bool:
        return bool(self._pending) or self._below()._has_pending()

    def _drop_pending(self) -> None:
        self._pending = []
        self._pending_bytes = 0
        self._below()._drop_pending()

    async def _write_last(self) -> None:
        await self._write_pending()
        await self._below().flush()

    async def _close_below(self) -> None:
        await self._below().close()

    def _drop_last(self) -> None:
        with contextlib.suppress(OSError):
            self._settle_now()

    def _settle_now(self) -> None:
        self._pause()
        self._below().settle_now(b"".join(self._pending))
        self._pending = []


def resolve(encoding: str | None, errors: str | None, newline: str | None) -> tuple[str, str]:
    """Return the names of the encoding and the error handler that `open` takes for these arguments.

    Args:
        encoding: the encoding's name, None for the locale's.
        errors: the error handler's name, None for "strict".
        newline: None, "", "\\n", "\\r" or "\\r\\n".

    Raises:
        LookupError: there is no such encoding, or it is not one of text.
        TypeError, ValueError: as from the built-in `open` for wrong arguments.
    """
    with io.TextIOWrapper(io.BytesIO(), encoding, errors, newline) as probe:
        return str(probe.encoding), str(probe.errors)
