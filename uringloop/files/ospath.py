"""Functions of `os.path`, awaitable; see `aiofiles.ospath`.

They rest on one or two `stat`s, which go through the ring.  The keywords loop and executor are those of `files.os`.
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
    """See `os.path.abspath`, which does not block."""
    return os.path.abspath(path)  # noqa: ASYNC240


async def getatime(filename: Path | int, *, loop: Loop = None, executor: Executor | None = None) -> float:
    """See `os.path.getatime`."""
    return (await stat(filename, loop=loop, executor=executor)).st_atime


async def getctime(filename: Path | int, *, loop: Loop = None, executor: Executor | None = None) -> float:
    """See `os.path.getctime`."""
    return (await stat(filename, loop=loop, executor=executor)).st_ctime


async def getmtime(filename: Path | int, *, loop: Loop = None, executor: Executor | None = None) -> float:
    """See `os.path.getmtime`."""
    return (await stat(filename, loop=loop, executor=executor)).st_mtime


async def getsize(filename: Path | int, *, loop: Loop = None, executor: Executor | None = None) -> int:
    """See `os.path.getsize`."""
    return (await stat(filename, loop=loop, executor=executor)).st_size


async def exists(path: Path | int, *, loop: Loop = None, executor: Executor | None = None) -> bool:
    """See `os.path.exists`."""
    return await _mode(path, True, loop, executor) is not None


async def isdir(s: Path | int, *, loop: Loop = None, executor: Executor | None = None) -> bool:
    """See `os.path.isdir`."""
    return modes.S_ISDIR(await _mode(s, True, loop, executor) or 0)


async def isfile(path: Path | int, *, loop: Loop = None, executor: Executor | None = None) -> bool:
    """See `os.path.isfile`."""
    return modes.S_ISREG(await _mode(path, True, loop, executor) or 0)


async def islink(path: Path, *, loop: Loop = None, executor: Executor | None = None) -> bool:
    """See `os.path.islink`."""
    if isinstance(path, int):
        # No descriptor may be given.
        return await wrap(os.path.islink)(path, loop=loop, executor=executor)
    return modes.S_ISLNK(await _mode(path, False, loop, executor) or 0)


async def _mode(path: Path | int, follow_symlinks: bool, loop: Loop, executor: Executor | None) -> int | None:
    """st_mode, None for what is not there or cannot be asked for."""
    try:
        return (await stat(path, follow_symlinks=follow_symlinks, loop=loop, executor=executor)).st_mode
    except (OSError, ValueError):
        return None


async def samefile(f1: Path | int, f2: Path | int, *, loop: Loop = None, executor: Executor | None = None) -> bool:
    """See `os.path.samefile`."""
    first = await stat(f1, loop=loop, executor=executor)
    return os.path.samestat(first, await stat(f2, loop=loop, executor=executor))


# fstat(2), and what asks for the real path of what lies above a symbolic link.
sameopenfile = wrap(os.path.sameopenfile)
ismount = wrap(os.path.ismount)
