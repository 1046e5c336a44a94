"""Whole files in one call: read them, write them, copy them, many at a time; and walk a tree."""

import asyncio
import errno
import functools
import io
import os
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from ..operations.path import Path
from .layers.encoding import encoded
from .layers.waiting import in_thread
from .os import stat
from .threadpool import open

__all__ = [
    "copy_file",
    "read_bytes",
    "read_many",
    "read_text",
    "walk",
    "write_bytes",
    "write_text",
]

_COPY_BYTES = 1 << 20
#: In one call of a thread: cancelling waits for the end of it.
_COPY_IN_KERNEL_BYTES = 64 << 20
_NOT_IN_KERNEL = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ETXTBSY}


async def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        OSError: as from `open` and `read`.
    """
    async with open(path, "rb", 0) as file:
        return await file.read()


async def read_text(
    path: Path, encoding: str | None = None, errors: str | None = None, newline: str | None = None
) -> str:
    """The content of a text file; arguments as of `open`."""
    encoding = io.text_encoding(encoding)
    content = await read_bytes(path)
    with io.TextIOWrapper(io.BytesIO(content), encoding, errors, newline) as text:
        return text.read()


async def write_bytes(path: Path, data: Any) -> int:
    """Make these bytes the content of a file, in place; returns their number."""
    view = memoryview(data).cast("B")
    async with open(path, "wb", 0) as file:
        await _write_all(file, view)
    return len(view)


async def write_text(
    path: Path, data: str, encoding: str | None = None, errors: str | None = None, newline: str | None = None
) -> int:
    """Make this text the content of a file, in place; returns the number of its characters.  Arguments as of `open`."""
    await write_bytes(path, encoded(data, encoding, errors, newline))
    return len(data)


async def _write_all(file: Any, view: memoryview) -> None:
    while view:
        view = view[await file.write(view) :]


async def copy_file(source: Path, target: Path) -> int:
    """Copy the content of a file, and no more than that; returns the number of bytes.  See `shutil.copyfile`.

    The kernel copies, or shares the blocks where the file system can, with copy_file_range(2); elsewhere it is read and
    written.

    Raises:
        OSError: as from `open`, `read` and `write`.
        ValueError: both are the same file.
    """
    loop = asyncio.get_running_loop()
    async with open(source, "rb", 0) as reader:
        try:
            if os.path.samestat(await stat(reader.fileno()), await stat(target)):
                raise ValueError(f"{source!r} and {target!r} are the same file")
        except FileNotFoundError:
            pass
        async with open(target, "wb", 0) as writer:
            copied = 0
            try:
                while count := await in_thread(
                    loop, None, os.copy_file_range, reader.fileno(), writer.fileno(), _COPY_IN_KERNEL_BYTES
                ):
                    copied += count
            except OSError as error:
                if error.errno not in _NOT_IN_KERNEL:
                    error.filename, error.filename2 = os.fspath(source), os.fspath(target)
                    raise
            # Also files that are longer than they say, such as those of /proc: to the kernel they are empty.
            space = bytearray(_COPY_BYTES)
            while count := await reader.readinto(space):
                await _write_all(writer, memoryview(space)[:count])
                copied += count
            return copied


async def read_many(
    paths: Iterable[Path], *, limit: int = 64, missing: Callable[[Path, OSError], Any] | None = None
) -> list[Any]:
    """The contents of many files, in the order of their paths.

    Args:
        paths: of the files.
        limit: how many are open at a time.
        missing: called for a file that cannot be read, with its path and the error; what it returns stands for the
            content.  Without it the first error ends everything.

    Raises:
        OSError: a file cannot be read, alone, as from `read_bytes`.
        ValueError: a limit below 1.
    """
    if limit < 1:
        raise ValueError("limit must be at least 1")
    queue = enumerate(paths)
    contents: dict[int, Any] = {}

    async def read_on() -> None:
        for place, path in queue:
            try:
                contents[place] = await read_bytes(path)
            except OSError as error:
                if missing is None:
                    raise
                contents[place] = missing(path, error)

    tasks = [asyncio.ensure_future(read_on()) for _ in range(limit)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return [contents[place] for place in sorted(contents)]


async def walk(
    top: Path,
    topdown: bool = True,
    onerror: Callable[[OSError], object] | None = None,
    followlinks: bool = False,
) -> AsyncIterator[tuple[Any, list[Any], list[Any]]]:
    """The folders of a tree, each with the names of the folders and the files in it; see `os.walk`.

    Folders are listed in threads.
    """
    thread = functools.partial(in_thread, asyncio.get_running_loop(), None)
    # Folders still to be looked at, and answers to be given on the way back.
    pending: list[Any] = [os.fspath(top)]
    while pending:
        folder = pending.pop()
        if isinstance(folder, tuple):
            yield folder
            continue
        try:
            folders, files = await thread(_list, folder)
        except OSError as error:
            if onerror is not None:
                onerror(error)
            continue
        if topdown:
            yield folder, folders, files
        else:
            pending.append((folder, folders, files))
        # As they are now: whoever walks may have taken some out.
        pending += await thread(_below, folder, list(reversed(folders)), followlinks)


def _list(folder: Any) -> tuple[list[Any], list[Any]]:
    """The names of the folders, also by way of a symbolic link, and of all else in a folder."""
    folders: list[Any] = []
    files: list[Any] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                is_folder = entry.is_dir()
            except OSError:
                is_folder = False
            (folders if is_folder else files).append(entry.name)
    return folders, files


def _below(folder: Any, names: list[Any], follow: bool) -> list[Any]:
    paths = [os.path.join(folder, name) for name in names]
    return [path for path in paths if follow or not os.path.islink(path)]
