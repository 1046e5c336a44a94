"""`aiofiles.tempfile`'s names for files that others made, and for its coroutines; imported from there by its users.

A temporary file of the standard library is wrapped, and its methods are called in threads.  What the functions of
`tempfile.py` return is made in another way, and counts as of these classes all the same.
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
        """Go on on disk if it is longer than it may be in memory."""
        file = self._file
        if not file._rolled and file._max_size and file.tell() > file._max_size:
            await self.rollover()  # type: ignore[attr-defined]  # one of those above

    async def write(self, s: Any) -> Any:
        """Write; returns how much was."""
        return await self._add("write", s)

    async def writelines(self, iterable: Iterable[Any]) -> None:
        """Write each of some lines, as they are."""
        await self._add("writelines", iterable)

    async def _add(self, name: str, data: Any) -> Any:
        if self._file._rolled:
            return await in_turn(self, functools.partial(getattr(self._file, name), data))
        result = getattr(self._file._file, name)(data)
        await self._check()
        return result


class AsyncTemporaryDirectory:
    """What `TemporaryDirectory` gives.

    Args:
        file: the standard library's.
        loop: of asyncio.
        executor: whose thread removes it.
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
        """Its path."""
        return self._file.name

    async def cleanup(self) -> None:
        """Remove it with what is in it."""
        await in_thread(self._loop, self._executor, self._file.cleanup)

    async def close(self) -> None:
        """The same."""
        await self.cleanup()

    async def __aenter__(self) -> str:
        return self.name

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await in_thread(self._loop, self._executor, self._file.__exit__, kind, value, traceback)


class AiofilesContextManagerTempDir(AiofilesContextManager):
    """The same for a folder, of which `async with` gives the name."""

    __slots__ = ()

    async def __aenter__(self) -> Any:
        return (await self).name


@singledispatch
def wrap(
    base_io_obj: Any, file: Any, *, loop: asyncio.AbstractEventLoop | None = None, executor: Executor | None = None
) -> Any:
    """An awaitable file around one of the standard library; see `threadpool.wrap`.

    Args:
        base_io_obj: says of what kind it is.
        file: has its methods.
        loop: of asyncio, by default the running one.
        executor: whose threads call the file's methods, by default the loop's own.

    Raises:
        TypeError: it is no file.
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
