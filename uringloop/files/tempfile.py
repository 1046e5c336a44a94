"""Temporary files and folders, awaitable; see `aiofiles.tempfile`.

The standard library chooses the names, in a thread.  A temporary file is read and written as any file of `open`.
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
    """A temporary folder about to be made; `async with` gives its name."""

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
    """Make a file without a name, which is gone when it is closed; see `tempfile.TemporaryFile`.

    Args:
        mode: see `open`, as for buffering, encoding, newline, loop, executor and errors.
        buffering: see `open`.
        encoding: see `open`.
        newline: see `open`.
        suffix: see `tempfile.mkstemp`, as for prefix and dir.
        prefix: see `tempfile.mkstemp`.
        dir: the folder.
        loop: see `open`.
        executor: its threads make the file too.
        errors: see `open`.

    Returns:
        An object to be awaited or entered; it gives a file as from `open`.
    """
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
    """Make a file with a name, which is deleted when it is closed; see `tempfile.NamedTemporaryFile`.

    Args:
        delete: whether to delete the file at all.
        delete_on_close: whether to delete it when it is closed, and not only at the end of `async with`.

    The other arguments are those of `TemporaryFile`.

    Returns:
        An object to be awaited or entered; it gives an `AsyncNamedFile`.
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
    """A new file and its descriptor, until a caller takes that; the caller may be an abandoned thread."""

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
    """A file of `NamedTemporaryFile`: it has the methods and attributes of a file of `open`, and deletes itself.

    Attributes:
        file: the file of `open`.
        name: its absolute path.
        delete: whether the file is deleted in the end.
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
        """Write the buffered data, close the file, and delete it, unless `async with` is to delete it."""
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
        """Delete the name, as the standard library does.  The file itself warns that it was not closed."""
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
    """Make a file that stays in memory until it is longer than max_size; see `tempfile.SpooledTemporaryFile`.

    Args:
        max_size: in bytes, for text in units of `tell`; 0 for any length, until `rollover` or `fileno`.

    The other arguments are those of `TemporaryFile`.

    Returns:
        An object to be awaited or entered; it gives a `SpooledFile`.
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
    """A file of `SpooledTemporaryFile`: in memory first, then a file of `TemporaryFile`."""

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
        """Move the content to a file now; see `tempfile.SpooledTemporaryFile`."""
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
        """Write s, and move to a file if the content gets longer than max_size; return the number written."""
        count: int = await self._ask("write", s)
        await self._roll_if_long()
        return count

    async def writelines(self, iterable: Iterable[Any]) -> None:
        """Write each line as it is, without a separator."""
        await self._ask("writelines", iterable)
        await self._roll_if_long()

    async def _roll_if_long(self) -> None:
        if not self._rolled and self._max_size and self._spool.tell() > self._max_size:
            await self.rollover()

    async def truncate(self, size: int | None = None) -> int:
        """Change the size to the position, or to size; move to a file first if that is longer than max_size."""
        if size is None:
            return int(await self._ask("truncate"))
        if size > self._max_size:
            await self.rollover()
        return int(await self._ask("truncate", size))

    async def fileno(self) -> int:
        """Move to a file, which alone has a descriptor, and return the descriptor."""
        await self.rollover()
        return int(self._spool.fileno())

    async def close(self) -> None:
        """Close the file; then it is gone."""
        await self._ask("close")

    async def flush(self) -> None:
        """Hand the buffered data to the kernel."""
        await self._ask("flush")

    async def isatty(self) -> bool:
        """Return False: the file is no terminal."""
        return bool(await self._ask("isatty"))

    async def readable(self) -> bool:
        """Return whether the file may be read."""
        return bool(await self._ask("readable"))

    async def writable(self) -> bool:
        """Return whether the file may be written."""
        return bool(await self._ask("writable"))

    async def seekable(self) -> bool:
        """Return whether the file has a position that can be moved."""
        return bool(await self._ask("seekable"))

    async def read(self, *args: Any) -> Any:
        """Read; see `io.BufferedReader.read` and `io.TextIOBase.read`."""
        return await self._ask("read", *args)

    async def read1(self, *args: Any) -> bytes:
        """Read; see `io.BufferedReader.read1`."""
        return bytes(await self._ask("read1", *args))

    async def readinto(self, buffer: Any) -> int:
        """Read into a buffer; see `io.BufferedReader.readinto`."""
        return int(await self._ask("readinto", buffer))

    async def readline(self, *args: Any) -> Any:
        """Read up to and including the end of the line."""
        return await self._ask("readline", *args)

    async def readlines(self, *args: Any) -> list[Any]:
        """Read the lines up to the end."""
        return list(await self._ask("readlines", *args))

    async def seek(self, *args: Any) -> int:
        """Move the position and return it."""
        return int(await self._ask("seek", *args))

    async def tell(self) -> int:
        """Return the position."""
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
        """Whether the file is closed."""
        return bool(self._spool.closed)

    @property
    def name(self) -> Any:
        """The descriptor, None while the file is in memory."""
        return getattr(self._spool, "name", None)

    @property
    def mode(self) -> str:
        """The mode as it was given; after moving to a file, that file's."""
        return str(getattr(self._spool, "mode", self._mode))

    @property
    def encoding(self) -> Any:
        """The encoding of text."""
        return self._spool.encoding

    @property
    def errors(self) -> Any:
        """The error handler of text."""
        return self._spool.errors

    @property
    def newlines(self) -> Any:
        """The kinds of newlines read so far, of text."""
        return self._spool.newlines


def TemporaryDirectory(
    suffix: str | None = None,
    prefix: str | None = None,
    dir: str | os.PathLike[str] | None = None,
    loop: Loop = None,
    executor: Executor | None = None,
    **options: Any,
) -> OpeningFolder:
    """Make a folder, and remove it with its content in the end, both in a thread; see `tempfile.TemporaryDirectory`.

    Args:
        suffix: see `tempfile.mkdtemp`.
        prefix: see `tempfile.mkdtemp`.
        dir: the folder for it.
        loop: an event loop, by default the running one.
        executor: provides the thread, by default the loop's own.
        options: ignore_cleanup_errors, and from Python 3.12 on delete.

    Returns:
        An object to be awaited for an `AsyncTemporaryDirectory`, or entered for the folder's name.
    """
    make = functools.partial(tempfile.TemporaryDirectory, suffix, prefix, dir, **options)

    async def make_in_thread() -> AsyncTemporaryDirectory:
        folder = await made_in_thread(loop, executor, make, tempfile.TemporaryDirectory.cleanup)
        return AsyncTemporaryDirectory(folder, loop or asyncio.get_running_loop(), executor)

    return OpeningFolder(make_in_thread)


# aiofiles' coroutine functions behind these, by their names there.


async def _temporary_file(named: bool = True, *args: Any, max_size: int = 0, **options: Any) -> Any:
    """Return a file of `NamedTemporaryFile`, or of `TemporaryFile` without named; max_size has no effect."""
    return await (NamedTemporaryFile if named else TemporaryFile)(*args, **options)


async def _spooled_temporary_file(*args: Any, **options: Any) -> SpooledFile:
    """Return a file of `SpooledTemporaryFile`."""
    return await SpooledTemporaryFile(*args, **options)


async def _temporary_directory(*args: Any, **options: Any) -> AsyncTemporaryDirectory:
    """Return a folder of `TemporaryDirectory`."""
    return await TemporaryDirectory(*args, **options)


AsyncSpooledTemporaryFile.register(SpooledFile)
AiofilesContextManagerTempDir.register(OpeningFolder)
