"""The classes of `aiofiles.tempfile.temptypes`, for temporary files of the standard library.

A class wraps such a file, and threads call the file's methods.  The functions of `tempfile.py` return objects of other
classes, for which `isinstance` with these classes is true.
"""

import asyncio
import functools
from collections.abc import Iterable
from concurrent.futures import Executor
from functools import singledispatch
from io import BufferedIOBase, BufferedRandom, BufferedReader, FileIO, TextIOBase
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

from .layers.waiting import in_thread
from .wrapping import (
    AiofilesContextManager,
    AsyncBase,
    AsyncBufferedIOBase,
    AsyncBufferedReader,
    AsyncFileIO,
    AsyncTextIOWrapper,
    cond_delegate_to_executor,
    delegate_to_executor,
    in_turn,
    proxy_property_directly,
)

_IN_MEMORY_FIRST = ("close", "flush", "isatty", "read", "readline", "readlines", "seek", "tell", "truncate")


@delegate_to_executor("fileno", "rollover")
@cond_delegate_to_executor(*_IN_MEMORY_FIRST)
@proxy_property_directly("closed", "encoding", "mode", "name", "newlines")
class AsyncSpooledTemporaryFile(AsyncBase):
    """A `tempfile.SpooledTemporaryFile`, whose methods are called in threads once it is on disk."""

    async def _check(self) -> None:
        """Move to the disk if the file is longer than it may be in memory."""
        file = self._file
        if not file._rolled and file._max_size and file.tell() > file._max_size:
            await self.rollover()  # type: ignore[attr-defined]  # one of those above

    async def write(self, s: Any) -> Any:
        """Write s and return the number of bytes or characters."""
        return await self._add("write", s)

    async def writelines(self, iterable: Iterable[Any]) -> None:
        """Write each line as it is, without a separator."""
        await self._add("writelines", iterable)

    async def _add(self, name: str, data: Any) -> Any:
        if self._file._rolled:
            return await in_turn(self, functools.partial(getattr(self._file, name), data))
        result = getattr(self._file._file, name)(data)
        await self._check()
        return result


class AsyncTemporaryDirectory:
    """A folder of `TemporaryDirectory`.

    Args:
        file: the standard library's object.
        loop: the event loop.
        executor: provides the thread that removes the folder; None means the loop's own.
    """

    def __init__(
        self,
        file: "TemporaryDirectory[str]",
        loop: asyncio.AbstractEventLoop,
        executor: Executor | None,
    ) -> None:
        self._file = file
        self._loop = loop
        self._executor = executor

    @property
    def name(self) -> str:
        """The path of the folder."""
        return self._file.name

    async def cleanup(self) -> None:
        """Remove the folder with its content."""
        await in_thread(self._loop, self._executor, self._file.cleanup)

    async def close(self) -> None:
        """Remove the folder with its content."""
        await self.cleanup()

    async def __aenter__(self) -> str:
        return self.name

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await in_thread(self._loop, self._executor, self._file.__exit__, kind, value, traceback)


class AiofilesContextManagerTempDir(AiofilesContextManager):
    """A folder about to be made by a coroutine; `async with` gives its name."""

    __slots__ = ()

    async def __aenter__(self) -> Any:
        return (await self).name


@singledispatch
def wrap(
    base_io_obj: Any, file: Any, *, loop: asyncio.AbstractEventLoop | None = None, executor: Executor | None = None
) -> Any:
    """Return an awaitable file around one of the standard library; see `threadpool.wrap`.

    Args:
        base_io_obj: an object of the file's kind.
        file: the file, whose methods are called.
        loop: an event loop, by default the running one.
        executor: its threads call the file's methods, by default the loop's own.

    Raises:
        TypeError: base_io_obj is no file.
    """
    raise TypeError(f"Unsupported IO type: {base_io_obj}")


def _register(kind: type, own: type[AsyncBase]) -> None:
    def wrapped(
        base_io_obj: Any, file: Any, *, loop: asyncio.AbstractEventLoop | None = None, executor: Executor | None = None
    ) -> AsyncBase:
        return own(file, loop, executor)

    wrap.register(kind)(functools.wraps(wrap)(wrapped))


_register(TextIOBase, AsyncTextIOWrapper)
_register(BufferedIOBase, AsyncBufferedIOBase)
_register(BufferedReader, AsyncBufferedReader)
_register(BufferedRandom, AsyncBufferedReader)
_register(FileIO, AsyncFileIO)
