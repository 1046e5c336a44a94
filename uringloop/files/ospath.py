"""Functions of `os.path`, awaitable; see `aiofiles.ospath`.

Most of them call `stat` once or twice, through the ring.  The keywords loop and executor are those of `files.os`.
"""

import os
import stat as modes
from concurrent.futures import Executor
from typing import AnyStr

from ..operations.path import Path
from .paths import Loop, stat
from .wrapping import wrap

__all__ = [
    "abspath",
    "exists",
    "getatime",
    "getctime",
    "getmtime",
    "getsize",
    "isdir",
    "isfile",
    "islink",
    "ismount",
    "samefile",
    "sameopenfile",
]


async def abspath(path: AnyStr | os.PathLike[AnyStr], *, loop: Loop = None, executor: Executor | None = None) -> AnyStr:
    """Return the absolute path; see `os.path.abspath`, which does not block."""
    return os.path.abspath(path)  # noqa: ASYNC240


async def getatime(filename: Path | int, *, loop: Loop = None, executor: Executor | None = None) -> float:
    """Return the time of the last access, in seconds; see `os.path.getatime`."""
    return (await stat(filename, loop=loop, executor=executor)).st_atime


async def getctime(filename: Path | int, *, loop: Loop = None, executor: Executor | None = None) -> float:
    """Return the time of the last change of metadata, in seconds; see `os.path.getctime`."""
    return (await stat(filename, loop=loop, executor=executor)).st_ctime


async def getmtime(filename: Path | int, *, loop: Loop = None, executor: Executor | None = None) -> float:
    """Return the time of the last modification, in seconds; see `os.path.getmtime`."""
    return (await stat(filename, loop=loop, executor=executor)).st_mtime


async def getsize(filename: Path | int, *, loop: Loop = None, executor: Executor | None = None) -> int:
    """Return the size in bytes; see `os.path.getsize`."""
    return (await stat(filename, loop=loop, executor=executor)).st_size


async def exists(path: Path | int, *, loop: Loop = None, executor: Executor | None = None) -> bool:
    """Return whether the path exists; see `os.path.exists`."""
    return await _mode(path, True, loop, executor) is not None


async def isdir(s: Path | int, *, loop: Loop = None, executor: Executor | None = None) -> bool:
    """Return whether the path is a folder; see `os.path.isdir`."""
    return modes.S_ISDIR(await _mode(s, True, loop, executor) or 0)


async def isfile(path: Path | int, *, loop: Loop = None, executor: Executor | None = None) -> bool:
    """Return whether the path is a regular file; see `os.path.isfile`."""
    return modes.S_ISREG(await _mode(path, True, loop, executor) or 0)


async def islink(path: Path, *, loop: Loop = None, executor: Executor | None = None) -> bool:
    """Return whether the path is a symbolic link; see `os.path.islink`."""
    if isinstance(path, int):
        # `os.path.islink` refuses a descriptor.
        return await wrap(os.path.islink)(path, loop=loop, executor=executor)
    return modes.S_ISLNK(await _mode(path, False, loop, executor) or 0)


async def _mode(path: Path | int, follow_symlinks: bool, loop: Loop, executor: Executor | None) -> int | None:
    """Return st_mode, None if the path does not exist or cannot be looked at."""
    try:
        return (await stat(path, follow_symlinks=follow_symlinks, loop=loop, executor=executor)).st_mode
    except (OSError, ValueError):
        return None


async def samefile(f1: Path | int, f2: Path | int, *, loop: Loop = None, executor: Executor | None = None) -> bool:
    """Return whether both paths are the same file; see `os.path.samefile`."""
    first = await stat(f1, loop=loop, executor=executor)
    return os.path.samestat(first, await stat(f2, loop=loop, executor=executor))


# One is fstat(2); the other looks up the real path of the folder above.
sameopenfile = wrap(os.path.sameopenfile)
ismount = wrap(os.path.ismount)
