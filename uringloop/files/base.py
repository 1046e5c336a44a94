"""`File`: what raw, buffered and text files have in common: one call at a time, lines, closing.

Calls on one file wait for each other, in the order in which they were made.  Closing waits for those before it, writes
what is buffered, and closes whatever happens.

`aiofiles.base` is this module where `install` was called, and so its names are here.
"""

import asyncio
import io
import operator
import types
import warnings
from collections.abc import Callable, Coroutine, Generator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from .hot import Base
from .wrapping import AiofilesContextManager, AsyncBase, AsyncIndirectBase, wrap

if TYPE_CHECKING:
    from .raw import RawFile

__all__ = [
    "CLOSED_MESSAGE",
    "AiofilesContextManager",
    "AsyncBase",
    "AsyncIndirectBase",
    "Data",
    "File",
    "bytes_of",
    "count_of",
    "give_turn",
    "space_of",
    "surely",
    "wrap",
]

Data = TypeVar("Data", str, bytes)

CLOSED_MESSAGE = "I/O operation on closed file."


@types.coroutine
def give_turn() -> Generator[None, None, None]:
    """Let everybody run who is ready."""
    yield


class File(Base, Generic[Data]):
    """A file in one of its layers.

    Args:
        loop: that closes it if a close is cancelled.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_closed = False

    # What the layers say

    def _bottom(self) -> "RawFile":
        """The raw file below, this one if it is raw; ValueError if there is none any more."""
        raise NotImplementedError

    async def _write_last(self) -> None:
        """Before closing: hand what is buffered to the layer below, with the lock held."""

    async def _close_below(self) -> None:
        """Close the layer below, whatever happens."""
        raise NotImplementedError

    def _drop_last(self) -> None:
        """Nobody refers to the file any more: write what is buffered without the loop."""

    def _pause(self) -> None:
        """Another call comes in, or the file closes: nothing is to be served beside the lock any more."""

    def readline(self, size: int | None = -1, /) -> Coroutine[Any, Any, Data]:
        """Read up to and with the end of the line, or the end of the file.

        Args:
            size: at most this much; -1 or None for any number.
        """
        raise NotImplementedError

    def write(self, data: Any, /) -> Coroutine[Any, Any, int]:
        """Write; returns how much was."""
        raise NotImplementedError

    async def _turn(self) -> None:
        """Others may be due, after a while of reading from a buffer or writing to it."""
        if not self._bottom().may_go_on():
            await give_turn()

    # What it is

    @property
    def closed(self) -> bool:
        """Whether it was closed, or is about to be."""
        return self._is_closed or self._closing is not None

    @property
    def name(self) -> Any:
        """The path or descriptor that was opened, as it was given."""
        return self._bottom().name

    def fileno(self) -> int:
        """The descriptor.  Its position in the kernel is kept right from now on.

        Raises:
            ValueError: the file is closed.
        """
        self._check_open()
        return self._bottom().fileno()

    def readable(self) -> bool:
        """Whether it may be read."""
        self._check_open()
        return self._bottom().readable()

    async def writable(self) -> bool:
        """Whether it may be written."""
        self._check_open()
        return await self._bottom().writable()

    async def seekable(self) -> bool:
        """Whether it has a position that can be moved."""
        self._check_open()
        return await self._bottom().seekable()

    async def isatty(self) -> bool:
        """Whether it is a terminal."""
        self._check_open()
        return await self._bottom().isatty()

    def __repr__(self) -> str:
        kind = f"uringloop.files.{type(self).__name__}"
        try:
            return f"<{kind} name={self.name!r}{self._description()}{' closed' if self.closed else ''}>"
        except ValueError:
            return f"<{kind} detached>"

    def _description(self) -> str:
        """What else `repr` says."""
        return ""

    # Lines

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Data:
        return await self.next_line()

    async def next_line(self) -> Data:
        """What `__anext__` does."""
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    async def readlines(self, hint: int | None = -1, /) -> list[Data]:
        """Read the lines up to the end of the file.

        Args:
            hint: stop after the line with which they are longer than this together; None, 0 or less for all.
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
        """Write each of some lines, as they are."""
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
        """Write what is buffered and close; more than once does nothing.  Waits for calls in progress.

        A cancelled close closes all the same, by itself if it has to wait.

        Raises:
            OSError: what is buffered could not be written; the file is closed nevertheless.
        """
        if self._closing is None or self._closing.done():
            if self.closed:
                return
            self._pause()
            if not self._lock.locked:
                self._is_closed = True
                if not self._has_pending():
                    # What remains cannot be interrupted, and needs no task of its own.
                    if not self._bottom().close_at_once():
                        await self._close_below()
                    return
            self._closing = self._loop.create_task(self._finish())
        try:
            await asyncio.shield(self._closing)
        except asyncio.CancelledError:
            self._closing.add_done_callback(self._report_failure)
            raise

    def _has_pending(self) -> bool:
        return False

    def _forget_pending(self) -> None:
        """Drop what is buffered, in the layers below too: closing them must not wait for it again."""

    def _report_failure(self, closing: "asyncio.Task[None]") -> None:
        """Nobody waits for the close any more: what went wrong goes to the exception handler."""
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
                self._forget_pending()
        finally:
            try:
                await self._close_below()
            finally:
                self._lock.release()
        if cancelled is not None:
            raise cancelled

    async def _write_last_or_drop(self) -> asyncio.CancelledError | None:
        """Write what is buffered; if this is cancelled, drop it, since a pipe may never take it."""
        try:
            await self._write_last()
        except asyncio.CancelledError as error:
            return error.with_traceback(None)
        return None

    def _dropped(self) -> None:
        """As the standard library does: warn, write, close; the descriptor closes itself when the kernel is done."""
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
    """The bytes of any object that has them in one piece."""
    view = memoryview(buffer)
    return view.cast("B") if view.nbytes else memoryview(bytearray())


def space_of(buffer: Any, what: str = "readinto") -> memoryview:
    """The same, to be written to."""
    target = bytes_of(buffer)
    if memoryview(buffer).readonly:
        raise TypeError(f"{what}() argument must be read-write bytes-like object, not {type(buffer).__name__}")
    return target


def count_of(size: int | None) -> int:
    """A number of bytes or characters, -1 for all there are."""
    return -1 if size is None else max(operator.index(size), -1)


async def surely(function: Callable[[], Any]) -> asyncio.CancelledError | None:
    """Await a coroutine function, again after each cancel, until it comes to an end; returns the last cancel."""
    cancelled = None
    while True:
        try:
            await function()
        except asyncio.CancelledError as error:
            # Its traceback would hold this frame, which holds it.
            cancelled = error.with_traceback(None)
        else:
            return cancelled
