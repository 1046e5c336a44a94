"""Temporary files and folders, awaitable; see `aiofiles.tempfile`.

Names are the standard library's to choose, in a thread.  Reading and writing are as of any file that `open` gives.
"""

import asyncio
import contextlib
import functools
import io
import os
import tempfile
from collections.abc import Iterable
from concurrent.futures import Executor
from types import TracebackType
from typing import Any, Self

from . import temptypes
from .layers.waiting import made_in_thread, surely
from .opening import Opening
from .os import unlink
from .paths import Loop
from .temptypes import AiofilesContextManagerTempDir, AsyncSpooledTemporaryFile, AsyncTemporaryDirectory, wrap
from .threadpool import open
from .threadpool import wrap as wrap_file
from .wrapping import (
    AiofilesContextManager,
    AsyncBufferedIOBase,
    AsyncBufferedReader,
    AsyncFileIO,
    AsyncTextIOWrapper,
)

__all__ = [
    "AiofilesContextManager",
    "AiofilesContextManagerTempDir",
    "AsyncBufferedIOBase",
    "AsyncBufferedReader",
    "AsyncFileIO",
    "AsyncSpooledTemporaryFile",
    "AsyncTemporaryDirectory",
    "AsyncTextIOWrapper",
    "NamedTemporaryFile",
    "SpooledTemporaryFile",
    "TemporaryDirectory",
    "TemporaryFile",
    "temptypes",
    "wrap",
]

Name = str | bytes | None
Folder = str | bytes | os.PathLike[str] | os.PathLike[bytes] | None


class OpeningFolder(Opening["AsyncTemporaryDirectory"]):
    """The same for a folder, of which `async with` gives the name."""

    __slots__ = ()

    async def __aenter__(self) -> Any:
        return (await self).name


def TemporaryFile(
    mode: str = "w+b",
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: Name = None,
    prefix: Name = None,
    dir: Folder = None,
    loop: Loop = None,
    executor: Executor | None = None,
    *,
    errors: str | None = None,
) -> Opening[Any]:
    """A file without a name, gone when it is closed; see `tempfile.TemporaryFile`."""
    options = {"buffering": buffering, "encoding": encoding, "errors": errors, "newline": newline}
    return Opening(_nameless, mode, options, (suffix, prefix, dir), {"loop": loop, "executor": executor})


async def _nameless(mode: str, options: dict[str, Any], name: tuple[Any, ...], where: dict[str, Any]) -> Any:
    fd = await made_in_thread(**where, make=functools.partial(_make_nameless, *name), undo=os.close)
    try:
        return await open(fd, mode, **options, **where)
    except BaseException:
        os.close(fd)
        raise


def _make_nameless(suffix: Any, prefix: Any, dir: Any) -> int:
    with tempfile.TemporaryFile(buffering=0, suffix=suffix, prefix=prefix, dir=dir) as file:
        return os.dup(file.fileno())


def NamedTemporaryFile(
    mode: str = "w+b",
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: Name = None,
    prefix: Name = None,
    dir: Folder = None,
    delete: bool = True,
    delete_on_close: bool = True,
    loop: Loop = None,
    executor: Executor | None = None,
    *,
    errors: str | None = None,
) -> Opening["AsyncNamedFile"]:
    """A file with a name, deleted when it is closed; see `tempfile.NamedTemporaryFile`.

    Args:
        delete: delete it at all.
        delete_on_close: already when it is closed, not only at the end of `async with`.
    """
    options = {"buffering": buffering, "encoding": encoding, "errors": errors, "newline": newline}
    where = {"loop": loop, "executor": executor}
    deletes = (delete, delete_on_close)
    return Opening(_named, mode, options, (suffix, prefix, dir), deletes, where)


async def _named(
    mode: str, options: dict[str, Any], name: tuple[Any, ...], deletes: tuple[bool, bool], where: dict[str, Any]
) -> "AsyncNamedFile":
    made = await made_in_thread(**where, make=functools.partial(_Made, *name), undo=_Made.undo)
    try:
        file = await open(made.path, mode, **options, opener=made.take, **where)
    except BaseException:
        made.undo()
        raise
    return AsyncNamedFile(file, made.path, *deletes)


class _Made:
    """A file that was made, until somebody has its descriptor, perhaps a thread that nobody waits for."""

    def __init__(self, *name: Any) -> None:
        self.path: Any
        fd: int
        fd, self.path = tempfile.mkstemp(*name)
        self._fds = [fd]

    def take(self, path: Any, flags: int) -> int:
        try:
            return self._fds.pop()
        except IndexError:
            return -1

    def undo(self) -> None:
        fd = self.take(None, 0)
        if fd >= 0:
            os.close(fd)
        os.unlink(self.path)


class AsyncNamedFile:
    """What `NamedTemporaryFile` gives: a file, with the methods and attributes of `open`'s, and its end.

    Attributes:
        file: what `open` gave.
        name: its path, absolute.
        delete: whether it is deleted in the end.
    """

    def __init__(self, file: Any, name: str | bytes, delete: bool, delete_on_close: bool) -> None:
        self.file = file
        self.name = name
        self.delete = delete
        self._delete_on_close = delete_on_close
        self._is_there = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __aiter__(self) -> Any:
        return self.file.__aiter__()

    async def close(self) -> None:
        """Write what is buffered, close, and delete, unless that is left to the end of `async with`."""
        try:
            await self.file.close()
        finally:
            if self._delete_on_close:
                await self._remove()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.file.close()
        finally:
            await self._remove()

    async def _remove(self) -> None:
        if self.delete and self._is_there:
            cancelled = await surely(self._unlink)
            self._is_there = False
            if cancelled is not None:
                raise cancelled

    async def _unlink(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            await unlink(self.name)

    def __del__(self) -> None:
        """It is dropped: as the standard library does, without a name left.  The file itself says that it is open."""
        if self.delete and self._is_there:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.name)

    def __repr__(self) -> str:
        return f"<uringloop.files.tempfile.AsyncNamedFile name={self.name!r} file={self.file!r}>"


def SpooledTemporaryFile(
    max_size: int = 0,
    mode: str = "w+b",
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: Name = None,
    prefix: Name = None,
    dir: Folder = None,
    loop: Loop = None,
    executor: Executor | None = None,
    *,
    errors: str | None = None,
) -> Opening["SpooledFile"]:
    """A file that is kept in memory until it is longer than max_size; see `tempfile.SpooledTemporaryFile`.

    Args:
        max_size: in bytes, of text in units of `tell`; 0 for any length, until `rollover` or `fileno`.
    """
    spooled = functools.partial(
        SpooledFile,
        max_size,
        mode,
        {"buffering": buffering, "encoding": encoding, "errors": errors, "newline": newline},
        {"suffix": suffix, "prefix": prefix, "dir": dir, "loop": loop, "executor": executor},
    )

    async def make() -> SpooledFile:
        return spooled()

    return Opening(make)


class SpooledFile:
    """What `SpooledTemporaryFile` gives: in memory first, then what `TemporaryFile` gives."""

    def __init__(self, max_size: int, mode: str, layers: dict[str, Any], place: dict[str, Any]) -> None:
        self._max_size = max_size
        self._mode = mode
        self._layers = layers
        self._place = place
        self._rolled = False
        self._spool: Any = io.BytesIO()
        if "b" not in mode:
            encoding = io.text_encoding(layers["encoding"])
            self._spool = io.TextIOWrapper(
                self._spool, encoding=encoding, errors=layers["errors"], newline=layers["newline"]
            )

    async def rollover(self) -> None:
        """Go on in a file, now."""
        if self._rolled:
            return
        spool = self._spool
        file = await TemporaryFile(self._mode, **self._layers, **self._place)
        try:
            position = spool.tell()
            if hasattr(spool, "buffer"):
                spool.flush()
                # Where there is no ring it is the standard library's.
                buffer = wrap_file(file.buffer) if isinstance(file.buffer, io.BufferedIOBase) else file.buffer
                await buffer.write(spool.buffer.getvalue())
            else:
                await file.write(spool.getvalue())
            await file.seek(position)
        except BaseException:
            await surely(file.close)
            raise
        self._spool, self._rolled = file, True

    async def _ask(self, name: str, *args: Any) -> Any:
        result = getattr(self._spool, name)(*args)
        return await result if asyncio.iscoroutine(result) else result

    async def write(self, s: Any) -> int:
        """Write; in a file from now on if that makes it longer than it may be in memory."""
        count: int = await self._ask("write", s)
        await self._roll_if_long()
        return count

    async def writelines(self, iterable: Iterable[Any]) -> None:
        """Write each of some lines, as they are."""
        await self._ask("writelines", iterable)
        await self._roll_if_long()

    async def _roll_if_long(self) -> None:
        if not self._rolled and self._max_size and self._spool.tell() > self._max_size:
            await self.rollover()

    async def truncate(self, size: int | None = None) -> int:
        """Make it as long as its position, or as size says; in a file if that is longer than it may be in memory."""
        if size is None:
            return int(await self._ask("truncate"))
        if size > self._max_size:
            await self.rollover()
        return int(await self._ask("truncate", size))

    async def fileno(self) -> int:
        """The descriptor; only a file has one."""
        await self.rollover()
        return int(self._spool.fileno())

    async def close(self) -> None:
        """Close it; then it is gone."""
        await self._ask("close")

    async def flush(self) -> None:
        """Hand what is buffered to the kernel."""
        await self._ask("flush")

    async def isatty(self) -> bool:
        """It is no terminal."""
        return bool(await self._ask("isatty"))

    async def readable(self) -> bool:
        """Whether it may be read."""
        return bool(await self._ask("readable"))

    async def writable(self) -> bool:
        """Whether it may be written."""
        return bool(await self._ask("writable"))

    async def seekable(self) -> bool:
        """Whether it has a position that can be moved."""
        return bool(await self._ask("seekable"))

    async def read(self, *args: Any) -> Any:
        """Read; see `io.BufferedReader.read` and `io.TextIOBase.read`."""
        return await self._ask("read", *args)

    async def read1(self, *args: Any) -> bytes:
        """See `io.BufferedReader.read1`."""
        return bytes(await self._ask("read1", *args))

    async def readinto(self, buffer: Any) -> int:
        """See `io.BufferedReader.readinto`."""
        return int(await self._ask("readinto", buffer))

    async def readline(self, *args: Any) -> Any:
        """Read up to and with the end of the line."""
        return await self._ask("readline", *args)

    async def readlines(self, *args: Any) -> list[Any]:
        """Read the lines up to the end."""
        return list(await self._ask("readlines", *args))

    async def seek(self, *args: Any) -> int:
        """Move the position; returns it."""
        return int(await self._ask("seek", *args))

    async def tell(self) -> int:
        """The position."""
        return int(await self._ask("tell"))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        line = await self.readline()
        if line:
            return line
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return bool(self._spool.closed)

    @property
    def name(self) -> Any:
        """The descriptor, None as long as it is in memory."""
        return getattr(self._spool, "name", None)

    @property
    def mode(self) -> str:
        """As it was given, of a file as that says it."""
        return str(getattr(self._spool, "mode", self._mode))

    @property
    def encoding(self) -> Any:
        """Of text."""
        return self._spool.encoding

    @property
    def errors(self) -> Any:
        """Of text."""
        return self._spool.errors

    @property
    def newlines(self) -> Any:
        """Of text: the kinds of newlines that were read so far."""
        return self._spool.newlines


def TemporaryDirectory(
    suffix: str | None = None,
    prefix: str | None = None,
    dir: str | os.PathLike[str] | None = None,
    loop: Loop = None,
    executor: Executor | None = None,
    **options: Any,
) -> OpeningFolder:
    """A folder that is removed in the end with what is in it, in a thread; see `tempfile.TemporaryDirectory`.

    Args:
        options: ignore_cleanup_errors, and from Python 3.12 on delete.
    """
    make = functools.partial(tempfile.TemporaryDirectory, suffix, prefix, dir, **options)

    async def make_in_thread() -> AsyncTemporaryDirectory:
        folder = await made_in_thread(loop, executor, make, tempfile.TemporaryDirectory.cleanup)
        return AsyncTemporaryDirectory(folder, loop or asyncio.get_running_loop(), executor)

    return OpeningFolder(make_in_thread)


# aiofiles' coroutine functions behind these, by their names there.


async def _temporary_file(named: bool = True, *args: Any, max_size: int = 0, **options: Any) -> Any:
    """What `NamedTemporaryFile` gives, or `TemporaryFile` if it is not to be named; max_size is of no consequence."""
    return await (NamedTemporaryFile if named else TemporaryFile)(*args, **options)


async def _spooled_temporary_file(*args: Any, **options: Any) -> SpooledFile:
    """What `SpooledTemporaryFile` gives."""
    return await SpooledTemporaryFile(*args, **options)


async def _temporary_directory(*args: Any, **options: Any) -> AsyncTemporaryDirectory:
    """What `TemporaryDirectory` gives."""
    return await TemporaryDirectory(*args, **options)


AsyncSpooledTemporaryFile.register(SpooledFile)
AiofilesContextManagerTempDir.register(OpeningFolder)
