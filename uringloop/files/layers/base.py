"""`File`: the base of raw, buffered and text files.  It serves one call at a time, reads lines, and closes.

Calls on one file wait for each other, in the order in which they were made.  A close waits for the calls before it,
writes the buffered data, and closes the file even if that fails.
"""

import asyncio
import io
import operator
import warnings
from collections.abc import Coroutine, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from ...shielding import until_done
from .file_base import FileBase
from .waiting import surely, yield_once

if TYPE_CHECKING:
    from .raw import RawFile

Data = TypeVar("Data", str, bytes)

CLOSED_MESSAGE = "I/O operation on closed file."


class File(FileBase, Generic[Data]):
    """A file in one of its layers.

    Args:
        loop: the event loop of the file; it finishes a cancelled close.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_closed = False

    # For each layer to define

    def _bottom(self) -> "RawFile":
        """Return the raw file below, or this file if it is raw.

        Raises:
            ValueError: the raw file was detached.
        """
        raise NotImplementedError

    async def _flush_all(self) -> None:
        """Hand the buffered data to the kernel, with the lock held."""
        raise NotImplementedError

    async def _write_last(self) -> None:
        """Hand the buffered data to the layer below, before closing and with the lock held."""

    async def _close_below(self) -> None:
        """Close the layer below, whatever happens."""
        raise NotImplementedError

    def _drop_last(self) -> None:
        """Write the buffered data without the loop, when nothing refers to the file any more."""

    def _pause(self) -> None:
        """Stop serving calls beside the lock: another call comes in, or the file closes."""

    def readline(self, size: int | None = -1, /) -> Coroutine[Any, Any, Data]:
        """Read up to and including the end of the line, or up to the end of the file; see `io.IOBase.readline`.

        Args:
            size: the largest number of bytes or characters; -1 or None for any number.

        Returns:
            The line; empty at the end of the file.
        """
        raise NotImplementedError

    def write(self, data: Any, /) -> Coroutine[Any, Any, int]:
        """Write data; return the number of bytes or characters that were written."""
        raise NotImplementedError

    async def _yield_if_spent(self) -> None:
        """Let other callbacks run if the budget is spent, after a while of reading from a buffer or writing to it."""
        if not self._bottom().has_budget():
            await yield_once()

    async def flush(self) -> None:
        """Hand the buffered data to the kernel; see `io.IOBase.flush`.

        Raises:
            OSError: as from write(2): ENOSPC, EDQUOT, EFBIG, EIO, EPIPE; the rest of the data stays buffered.
            ValueError: the file is closed.
        """
        async with self._lock:
            self._pause()
            self._check_open()
            await self._flush_all()

    # Attributes

    @property
    def closed(self) -> bool:
        """Whether the file is closed, or about to be."""
        return self._is_closed or self._closing is not None

    @property
    def name(self) -> Any:
        """The path or descriptor, as `open` was given it."""
        return self._bottom().name

    def fileno(self) -> int:
        """Return the descriptor.  From now on the file keeps the descriptor's position in the kernel right.

        Raises:
            ValueError: the file is closed.
        """
        self._check_open()
        return self._bottom().fileno()

    def readable(self) -> bool:
        """Return whether the file may be read.

        Raises:
            ValueError: the file is closed.
        """
        self._check_open()
        return self._bottom().readable()

    async def writable(self) -> bool:
        """Return whether the file may be written.

        Raises:
            ValueError: the file is closed.
        """
        self._check_open()
        return await self._bottom().writable()

    async def seekable(self) -> bool:
        """Return whether the file has a position that can be moved.

        Raises:
            ValueError: the file is closed.
        """
        self._check_open()
        return await self._bottom().seekable()

    async def isatty(self) -> bool:
        """Return whether the file is a terminal.

        Raises:
            ValueError: the file is closed.
        """
        self._check_open()
        return await self._bottom().isatty()

    def __repr__(self) -> str:
        kind = f"uringloop.files.{type(self).__name__}"
        try:
            return f"<{kind} name={self.name!r}{self._description()}{' closed' if self.closed else ''}>"
        except ValueError:
            return f"<{kind} detached>"

    def _description(self) -> str:
        """Return more words for `repr`."""
        return ""

    # Lines

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Data:
        return await self.next_line()

    async def next_line(self) -> Data:
        """Return the next line, as `__anext__`.

        Raises:
            StopAsyncIteration: the file has ended.
        """
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    async def readlines(self, hint: int | None = -1, /) -> list[Data]:
        """Read the lines up to the end of the file; see `io.IOBase.readlines`.

        Args:
            hint: a number of bytes or characters; stop after the line with which the lines exceed it together.  None,
                0 or less for all lines.

        Returns:
            The lines.
        """
        limit = -1 if hint is None else operator.index(hint)
        self._check_open()
        lines: list[Data] = []
        length = 0
        async for line in self:
            lines.append(line)
            length += len(line)
            if 0 < limit < length:
                break
        return lines

    async def writelines(self, lines: Iterable[Any], /) -> None:
        """Write each line as it is, without a separator; see `io.IOBase.writelines`."""
        self._check_open()
        for line in lines:
            await self.write(line)

    # Closing

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Write the buffered data and close the file; a second close does nothing.  Wait for calls in progress first.

        A cancelled close closes the file all the same.  If it has to wait, the loop finishes it.

        Raises:
            OSError: the buffered data could not be written; the file is closed nevertheless.
        """
        if self._closing is None or self._closing.done():
            if self.closed:
                return
            self._pause()
            if not self._lock.locked:
                self._is_closed = True
                if not self._has_pending():
                    # Nothing can interrupt the rest, so it needs no task of its own.
                    if not self._bottom().close_at_once():
                        await self._close_below()
                    return
            self._closing = self._loop.create_task(self._finish())
        try:
            await until_done(self._closing)
        except asyncio.CancelledError:
            self._closing.add_done_callback(self._report_failure)
            raise
        self._closing.result()

    def _has_pending(self) -> bool:
        return False

    def _drop_pending(self) -> None:
        """Drop the buffered data, in the layers below too, so that closing them does not wait for it again."""

    def _report_failure(self, closing: "asyncio.Task[None]") -> None:
        """Give the error of a close that was cancelled to the loop's exception handler."""
        if not closing.cancelled() and (error := closing.exception()) is not None:
            self._loop.call_exception_handler({"message": f"Exception in closing {self!r}", "exception": error})

    async def _finish(self) -> None:
        cancelled = await surely(self._lock.acquire)
        # The calls before this one have been served.
        self._is_closed = True
        try:
            if self._bottom().is_regular:
                cancelled = await surely(self._write_last) or cancelled
            else:
                cancelled = cancelled or await self._write_last_or_drop()
            if cancelled is not None:
                self._drop_pending()
        finally:
            try:
                await self._close_below()
            finally:
                self._lock.release()
        if cancelled is not None:
            raise cancelled

    async def _write_last_or_drop(self) -> asyncio.CancelledError | None:
        """Write the buffered data; if this is cancelled, drop the data, because a pipe may never take it."""
        try:
            await self._write_last()
        except asyncio.CancelledError as error:
            return error.with_traceback(None)
        return None

    def _dropped(self) -> None:
        """Warn, write and close, as the standard library does; the descriptor closes itself after its operations."""
        try:
            raw = self._bottom()
        except (ValueError, AttributeError):
            return
        if raw.closed:
            return
        if raw.owned:
            warnings.warn(f"unclosed file {self!r}", ResourceWarning, source=self, stacklevel=2)
        if not raw.uncertain:
            self._drop_last()
        raw.drop()

    # Checks

    def _check_open(self) -> None:
        if self._is_closed:
            raise ValueError(CLOSED_MESSAGE)

    def _check_readable(self, what: str = "read") -> None:
        self._check_open()
        if not self._bottom().mode_flags.readable:
            raise io.UnsupportedOperation(what)

    def _check_writable(self, what: str = "write") -> None:
        self._check_open()
        if not self._bottom().mode_flags.writable:
            raise io.UnsupportedOperation(what)


def bytes_of(buffer: Any) -> memoryview:
    """Return a view of the bytes of an object.

    Args:
        buffer: has its bytes in one piece.

    Raises:
        TypeError: the object is no buffer, or not in one piece.
    """
    view = memoryview(buffer)
    return view.cast("B") if view.nbytes else memoryview(bytearray())


def space_of(buffer: Any, what: str = "readinto") -> memoryview:
    """Return a writable view of the bytes of an object.

    Args:
        buffer: has its bytes in one piece.
        what: the method's name, for the error's message.

    Raises:
        TypeError: the object is no buffer, not in one piece, or read-only.
    """
    target = bytes_of(buffer)
    if memoryview(buffer).readonly:
        raise TypeError(f"{what}() argument must be read-write bytes-like object, not {type(buffer).__name__}")
    return target


def count_of(size: int | None) -> int:
    """Return a size argument as a number of bytes or characters, -1 for all of them."""
    return -1 if size is None else max(operator.index(size), -1)
