"""Functions of `os`, awaitable; see `aiofiles.os`.

Arguments, results, audit events and exceptions are those of `os`.  Each function takes two more keywords: loop, an
event loop, by default the running one; and executor, whose threads do the calls that the ring does not.

A call goes through the ring if io_uring has an operation for it.  Kernel workers run these operations.  An operation
that has begun runs to its end; a cancelled await returns after that.  Every other call goes to a thread.  So does a
call with unusual arguments, such as a null byte in a path or a negative descriptor: `os` itself judges them.
"""

import asyncio
import os
import sys
from concurrent.futures import Executor
from functools import partial
from typing import Any

from ..operations.file import Truncate
from ..operations.path import Link, MakeFolder, Path, Rename, Symlink, Unlink
from ..ring import Opcode
from . import ospath as path
from .descriptors import (
    fdatasync,
    fstat,
    fsync,
    ftruncate,
    posix_fadvise,
    posix_fallocate,
    pread,
    preadv,
    pwrite,
    pwritev,
)
from .layers.waiting import in_thread, made_in_thread
from .paths import Loop, is_descriptor, ring_for, stat
from .wrapping import wrap

__all__ = [
    "access",
    "fdatasync",
    "fstat",
    "fsync",
    "ftruncate",
    "getcwd",
    "link",
    "listdir",
    "lstat",
    "makedirs",
    "mkdir",
    "path",
    "posix_fadvise",
    "posix_fallocate",
    "pread",
    "preadv",
    "pwrite",
    "pwritev",
    "readlink",
    "remove",
    "removedirs",
    "rename",
    "renames",
    "replace",
    "rmdir",
    "scandir",
    "sendfile",
    "stat",
    "statvfs",
    "symlink",
    "truncate",
    "unlink",
    "wrap",
]

_MODE_MAX = 0o7777
_SIZE_MAX_BYTES = (1 << 63) - 1
#: The descriptor that audit hooks get for no folder.
_NO_FOLDER = -1
#: Whether `os.link` of a symbolic link makes another name of its target.  Before 3.14.10 it was documented so.  But
#: without a folder it called link(2), which on Linux never follows a symbolic link.
_LINK_FOLLOWS = "os.name" in str(getattr(os.link, "__text_signature__", None))

access = wrap(os.access)
listdir = wrap(os.listdir)
readlink = wrap(os.readlink)
statvfs = wrap(os.statvfs)
# Each has several steps: one way to a thread and back is shorter than one way to the ring for each step.
makedirs = wrap(os.makedirs)
removedirs = wrap(os.removedirs)
renames = wrap(os.renames)


async def getcwd(*, loop: Loop = None, executor: Executor | None = None) -> str:
    """Return the working directory; see `os.getcwd`, which does not block."""
    return os.getcwd()


async def scandir(path: Any = None, *, loop: Loop = None, executor: Executor | None = None) -> Any:
    """List a folder; see `os.scandir`.  The caller closes the iterator or uses it up; a cancelled call closes it."""
    return await made_in_thread(loop, executor, partial(os.scandir, path), lambda entries: entries.close())


async def lstat(
    path: Path, *, dir_fd: int | None = None, loop: Loop = None, executor: Executor | None = None
) -> os.stat_result:
    """Return the status of a path, of a symbolic link itself; see `os.lstat`."""
    if isinstance(path, int):
        return await wrap(os.lstat)(path, dir_fd=dir_fd, loop=loop, executor=executor)
    return await stat(path, dir_fd=dir_fd, follow_symlinks=False, loop=loop, executor=executor)


async def mkdir(
    path: Path,
    mode: int = 0o777,
    *,
    dir_fd: int | None = None,
    loop: Loop = None,
    executor: Executor | None = None,
) -> None:
    """Make a folder; see `os.mkdir`."""
    ring = ring_for(loop, Opcode.MKDIRAT, (path,), (dir_fd,))
    if ring is None or type(mode) is not int or not 0 <= mode <= _MODE_MAX:
        await wrap(os.mkdir)(path, mode, dir_fd=dir_fd, loop=loop, executor=executor)
        return
    sys.audit("os.mkdir", os.fspath(path), mode, _audited(dir_fd))
    await ring.submit(MakeFolder(path, mode, dir_fd))


async def rmdir(path: Path, *, dir_fd: int | None = None, loop: Loop = None, executor: Executor | None = None) -> None:
    """Remove an empty folder; see `os.rmdir`."""
    ring = ring_for(loop, Opcode.UNLINKAT, (path,), (dir_fd,))
    if ring is None:
        await wrap(os.rmdir)(path, dir_fd=dir_fd, loop=loop, executor=executor)
        return
    sys.audit("os.rmdir", os.fspath(path), _audited(dir_fd))
    await ring.submit(Unlink(path, dir_fd, is_folder=True))


async def unlink(path: Path, *, dir_fd: int | None = None, loop: Loop = None, executor: Executor | None = None) -> None:
    """Remove a file; see `os.unlink`."""
    ring = ring_for(loop, Opcode.UNLINKAT, (path,), (dir_fd,))
    if ring is None:
        await wrap(os.unlink)(path, dir_fd=dir_fd, loop=loop, executor=executor)
        return
    sys.audit("os.remove", os.fspath(path), _audited(dir_fd))
    await ring.submit(Unlink(path, dir_fd))


async def remove(path: Path, *, dir_fd: int | None = None, loop: Loop = None, executor: Executor | None = None) -> None:
    """Remove a file; see `os.remove`."""
    await unlink(path, dir_fd=dir_fd, loop=loop, executor=executor)


async def rename(
    src: Path,
    dst: Path,
    *,
    src_dir_fd: int | None = None,
    dst_dir_fd: int | None = None,
    loop: Loop = None,
    executor: Executor | None = None,
) -> None:
    """Give a file another name; see `os.rename`."""
    await _rename(os.rename, src, dst, src_dir_fd, dst_dir_fd, loop, executor)


async def replace(
    src: Path,
    dst: Path,
    *,
    src_dir_fd: int | None = None,
    dst_dir_fd: int | None = None,
    loop: Loop = None,
    executor: Executor | None = None,
) -> None:
    """Give a file another name; see `os.replace`."""
    await _rename(os.replace, src, dst, src_dir_fd, dst_dir_fd, loop, executor)


async def _rename(
    function: Any,
    src: Path,
    dst: Path,
    src_dir_fd: int | None,
    dst_dir_fd: int | None,
    loop: Loop,
    executor: Executor | None,
) -> None:
    ring = ring_for(loop, Opcode.RENAMEAT, (src, dst), (src_dir_fd, dst_dir_fd))
    if ring is None:
        call = wrap(function)
        await call(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, loop=loop, executor=executor)
        return
    sys.audit("os.rename", os.fspath(src), os.fspath(dst), _audited(src_dir_fd), _audited(dst_dir_fd))
    await ring.submit(Rename(src, dst, src_dir_fd, dst_dir_fd))


async def link(
    src: Path,
    dst: Path,
    *,
    src_dir_fd: int | None = None,
    dst_dir_fd: int | None = None,
    follow_symlinks: bool = True,
    loop: Loop = None,
    executor: Executor | None = None,
) -> None:
    """Make another name of a file; see `os.link`."""
    folders = (src_dir_fd, dst_dir_fd)
    ring = ring_for(loop, Opcode.LINKAT, (src, dst), folders)
    if ring is None:
        options = {"src_dir_fd": src_dir_fd, "dst_dir_fd": dst_dir_fd, "follow_symlinks": follow_symlinks}
        await wrap(os.link)(src, dst, **options, loop=loop, executor=executor)
        return
    sys.audit("os.link", os.fspath(src), os.fspath(dst), *map(_audited, folders))
    follows = follow_symlinks and (_LINK_FOLLOWS or folders != (None, None))
    await ring.submit(Link(src, dst, src_dir_fd, dst_dir_fd, follows))


async def symlink(
    src: Path,
    dst: Path,
    target_is_directory: bool = False,
    *,
    dir_fd: int | None = None,
    loop: Loop = None,
    executor: Executor | None = None,
) -> None:
    """Make a symbolic link; see `os.symlink`."""
    ring = ring_for(loop, Opcode.SYMLINKAT, (src, dst), (dir_fd,))
    if ring is None:
        await wrap(os.symlink)(src, dst, target_is_directory, dir_fd=dir_fd, loop=loop, executor=executor)
        return
    sys.audit("os.symlink", os.fspath(src), os.fspath(dst), _audited(dir_fd))
    await ring.submit(Symlink(src, dst, dir_fd))


async def truncate(path: Path | int, length: int, *, loop: Loop = None, executor: Executor | None = None) -> None:
    """Change a file's size to length bytes; see `os.truncate`.  The ring takes a descriptor, a thread takes a path."""
    ring = ring_for(loop, Opcode.FTRUNCATE, (), ())
    if ring is None or not is_descriptor(path) or type(length) is not int or abs(length) > _SIZE_MAX_BYTES:
        await in_thread(loop or asyncio.get_running_loop(), executor, os.truncate, path, length)
        return
    sys.audit("os.truncate", path, length)
    await ring.submit(Truncate(path, length))


async def sendfile(
    out_fd: int,
    in_fd: int,
    offset: int | None,
    count: int,
    *,
    loop: Loop = None,
    executor: Executor | None = None,
) -> int:
    """Copy bytes from one descriptor to another; see `os.sendfile`.  A cancelled call returns after the copying."""
    call = partial(os.sendfile, out_fd, in_fd, offset, count)
    return await in_thread(loop or asyncio.get_running_loop(), executor, call)


def _audited(dir_fd: int | None) -> int:
    return _NO_FOLDER if dir_fd is None else dir_fd
