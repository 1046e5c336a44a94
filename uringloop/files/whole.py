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
    """Return the content of a file.

    Raises:
        OSError: as from `open` and `read`.
    """
    async with open(path, "rb", 0) as file:
        return await file.read()


async def read_text(
    path: Path, encoding: str | None = None, errors: str | None = None, newline: str | None = None
) -> str:
    """Return the content of a text file; see `open` for encoding, errors and newline."""
    encoding = io.text_encoding(encoding)
    content = await read_bytes(path)
    with io.TextIOWrapper(io.BytesIO(content), encoding, errors, newline) as text:
        return text.read()


async def write_bytes(path: Path, data: Any) -> int:
    """Replace the content of a file in place.

    Args:
        path: of the file, which is made if it does not exist.
        data: the bytes, a buffer in one piece.

    Returns:
        The number of bytes.

    Raises:
        OSError: as from `open` and `write`.
    """
    view = memoryview(data).cast("B")
    async with open(path, "wb", 0) as file:
        await _write_all(file, view)
    return len(view)


async def write_text(
    path: Path, data: str, encoding: str | None = None, errors: str | None = None, newline: str | None = None
) -> int:
    """Replace the content of a text file in place; see `open` for encoding, errors and newline.

    Returns:
        The number of characters.

    Raises:
        OSError: as from `open` and `write`.
        TypeError: data is not a string.
        UnicodeEncodeError: the encoding has no such character.
    """
    await write_bytes(path, encoded(data, encoding, errors, newline))
    return len(data)


async def _write_all(file: Any, view: memoryview) -> None:
    while view:
        view = view[await file.write(view) :]


async def copy_file(source: Path, target: Path) -> int:
    """Copy the content of a file, and nothing else; see `shutil.copyfile`.

    The kernel copies the bytes with copy_file_range(2), or shares the blocks if the file system can.  Otherwise this
    function reads and writes them.

    Args:
        source: path of the file to read.
        target: path of the file to write, which is made if it does not exist.

    Returns:
        The number of bytes.

    Raises:
        OSError: as from `open`, `read` and `write`.
        ValueError: both paths are the same file.
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
            # Files of /proc are longer than they state: the kernel copies nothing of them.
            space = bytearray(_COPY_BYTES)
            while count := await reader.readinto(space):
                await _write_all(writer, memoryview(space)[:count])
                copied += count
            return copied


async def read_many(
    paths: Iterable[Path], *, limit: int = 64, missing: Callable[[Path, OSError], Any] | None = None
) -> list[Any]:
    """Return the contents of many files, in the order of their paths.

    Args:
        paths: of the files.
        limit: the largest number of files open at a time.
        missing: a function of the path and the error of a file that cannot be read; its result takes the place of the
            content.  Without it, the first error ends the call.

    Raises:
        OSError: a file cannot be read; as from `read_bytes`, the error itself and not a group.
        ValueError: limit is below 1.
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
    """Yield each folder of a tree with the names of the folders and of the files in it; see `os.walk`.

    Threads list the folders.
    """
    thread = functools.partial(in_thread, asyncio.get_running_loop(), None)
    # Folders to list, and results to yield on the way back.
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
        # As the list is now: the caller may have taken some out.
        pending += await thread(_below, folder, list(reversed(folders)), followlinks)


def _list(folder: Any) -> tuple[list[Any], list[Any]]:
    """Return the names of the folders in a folder, symbolic links to folders among them, and those of all else."""
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
