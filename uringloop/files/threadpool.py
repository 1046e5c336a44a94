"""Files of the standard library with their methods called in threads, and the standard streams; see
`aiofiles.threadpool`.

`wrap` is for files that were opened elsewhere.  The standard streams share their buffers with `print` and whoever else
uses `sys.stdout`, so they are those objects, and not files of the ring.
"""

import asyncio
import sys
from concurrent.futures import Executor
from functools import singledispatch
from io import BufferedIOBase, BufferedRandom, BufferedReader, BufferedWriter, FileIO, TextIOBase
from typing import Any

from .wrapping import AsyncBase, AsyncIndirectBase, at_once, attributes, in_thread

__all__ = ["stderr", "stderr_bytes", "stdin", "stdin_bytes", "stdout", "stdout_bytes", "wrap"]

_METHODS = (
    "close",
    "flush",
    "isatty",
    "read",
    "readline",
    "readlines",
    "seek",
    "seekable",
    "tell",
    "truncate",
    "writable",
    "write",
    "writelines",
)
_BYTE_METHODS = (*_METHODS, "read1", "readinto")
_RAW_METHODS = (*_METHODS, "readall", "readinto")
_TEXT_METHODS = (*_METHODS, "readable")
_BYTE_ATTRIBUTES = ("closed", "raw", "name", "mode")
_RAW_ATTRIBUTES = ("closed", "name", "mode")
_TEXT_ATTRIBUTES = ("buffer", "closed", "encoding", "errors", "line_buffering", "newlines", "name", "mode")


@in_thread(*_BYTE_METHODS)
@at_once("detach", "fileno", "readable")
@attributes(*_BYTE_ATTRIBUTES)
class AsyncBufferedIOBase(AsyncBase):
    """An `io.BufferedIOBase`, such as `io.BufferedWriter`."""


@in_thread("peek")
class AsyncBufferedReader(AsyncBufferedIOBase):
    """An `io.BufferedReader` or `io.BufferedRandom`."""


@in_thread(*_RAW_METHODS)
@at_once("fileno", "readable")
@attributes(*_RAW_ATTRIBUTES)
class AsyncFileIO(AsyncBase):
    """An `io.FileIO`."""


@in_thread(*_TEXT_METHODS)
@at_once("detach", "fileno")
@attributes(*_TEXT_ATTRIBUTES)
class AsyncTextIOWrapper(AsyncBase):
    """An `io.TextIOWrapper`."""


@in_thread(*_BYTE_METHODS)
@at_once("detach", "fileno", "readable")
@attributes(*_BYTE_ATTRIBUTES)
class AsyncIndirectBufferedIOBase(AsyncIndirectBase):
    """Whatever `io.BufferedIOBase` a name stands for."""


@in_thread(*_TEXT_METHODS)
@at_once("detach", "fileno")
@attributes(*_TEXT_ATTRIBUTES)
class AsyncTextIndirectIOWrapper(AsyncIndirectBase):
    """Whatever `io.TextIOWrapper` a name stands for."""


@singledispatch
def wrap(file: Any, *, loop: asyncio.AbstractEventLoop | None = None, executor: Executor | None = None) -> Any:
    """An awaitable file around one of the standard library; see `aiofiles.threadpool.wrap`.

    Args:
        file: an `io` object; further kinds can be registered, as with any `functools.singledispatch`.
        loop: of asyncio, by default the running one.
        executor: whose threads call the file's methods, by default the loop's own.

    Raises:
        TypeError: it is no file.
    """
    raise TypeError(f"Unsupported io type: {file}.")


@wrap.register(TextIOBase)
def _(
    file: TextIOBase, *, loop: asyncio.AbstractEventLoop | None = None, executor: Executor | None = None
) -> AsyncTextIOWrapper:
    return AsyncTextIOWrapper(file, loop, executor)


@wrap.register(BufferedWriter)
@wrap.register(BufferedIOBase)
def _(
    file: BufferedIOBase, *, loop: asyncio.AbstractEventLoop | None = None, executor: Executor | None = None
) -> AsyncBufferedIOBase:
    return AsyncBufferedIOBase(file, loop, executor)


@wrap.register(BufferedReader)
@wrap.register(BufferedRandom)
def _(
    file: BufferedReader | BufferedRandom,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    executor: Executor | None = None,
) -> AsyncBufferedReader:
    return AsyncBufferedReader(file, loop, executor)


@wrap.register(FileIO)
def _(file: FileIO, *, loop: asyncio.AbstractEventLoop | None = None, executor: Executor | None = None) -> AsyncFileIO:
    return AsyncFileIO(file, loop, executor)


stdin = AsyncTextIndirectIOWrapper("sys.stdin", None, None, indirect=lambda: sys.stdin)
stdout = AsyncTextIndirectIOWrapper("sys.stdout", None, None, indirect=lambda: sys.stdout)
stderr = AsyncTextIndirectIOWrapper("sys.stderr", None, None, indirect=lambda: sys.stderr)
stdin_bytes = AsyncIndirectBufferedIOBase("sys.stdin.buffer", None, None, indirect=lambda: sys.stdin.buffer)
stdout_bytes = AsyncIndirectBufferedIOBase("sys.stdout.buffer", None, None, indirect=lambda: sys.stdout.buffer)
stderr_bytes = AsyncIndirectBufferedIOBase("sys.stderr.buffer", None, None, indirect=lambda: sys.stderr.buffer)
