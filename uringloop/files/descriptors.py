"""Functions of `os` on open descriptors, awaitable; part of `files.os`.

The functions neither use nor move a position, so any number of tasks may read and write one file at the same time.  As
with threads, the descriptor must stay open until they return.  A cancelled call returns after its operation has ended.
"""

import asyncio
import functools
import os
import stat as stat_module
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

from ..companion import Submitter, submitter
from ..operations.file import Advise, Allocate, Fsync, Truncate
from ..operations.read_write import ReadVector, WriteVector, transferred
from ..ring import Opcode
from .layers.cached import status_now
from .layers.waiting import in_thread
from .paths import Loop, is_descriptor, stat

__all__ = [
    "fdatasync",
    "fstat",
    "fsync",
    "ftruncate",
    "posix_fadvise",
    "posix_fallocate",
    "pread",
    "preadv",
    "pwrite",
    "pwritev",
]

_T = TypeVar("_T")

_OFFSET_MAX = (1 << 63) - 1
_SIZE_MAX_BYTES = 0x7FFFF000
_SHORT_SIZE_MAX_BYTES = (1 << 32) - 1
_VECTOR_MAX = 1024
_TRANSFERS = {Opcode.READ, Opcode.READV, Opcode.WRITE, Opcode.WRITEV}


def _ring_for(loop: Loop, opcode: Opcode, fd: Any, *numbers: Any) -> Submitter | None:
    """Return the ring for an operation on a descriptor; None if `os` has to do the call, or to refuse it."""
    ring = submitter(loop or asyncio.get_running_loop())
    if ring is None or opcode not in ring.opcodes or not is_descriptor(fd):
        return None
    if opcode in _TRANSFERS and not _has_positions(fd):
        return None
    for number in numbers:
        if type(number) is not int or not 0 <= number <= _OFFSET_MAX:
            return None
    return ring


def _has_positions(fd: int) -> bool:
    """Return whether fd is a file on disk.

    Others refuse a position, which the ring ignores, or never report that they are ready.
    """
    try:
        mode = status_now(fd)[0]
    except OSError:
        return False
    return stat_module.S_ISREG(mode) or stat_module.S_ISBLK(mode)


async def _thread(loop: Loop, executor: Executor | None, function: Callable[..., _T], *arguments: Any) -> _T:
    return await in_thread(loop or asyncio.get_running_loop(), executor, functools.partial(function, *arguments))


async def fstat(fd: int, *, loop: Loop = None, executor: Executor | None = None) -> os.stat_result:
    """Return the status of an open file; see `os.fstat`."""
    if not is_descriptor(fd):
        return await _thread(loop, executor, os.fstat, fd)
    try:
        return await stat(fd, loop=loop, executor=executor)
    except OSError as error:
        error.filename = None
        raise


async def pread(fd: int, length: int, offset: int, /, *, loop: Loop = None, executor: Executor | None = None) -> bytes:
    """Read at most length bytes at an offset in bytes; see `os.pread`."""
    ring = _ring_for(loop, Opcode.READ, fd, length, offset)
    if ring is None or length > _SIZE_MAX_BYTES:
        return await _thread(loop, executor, os.pread, fd, length, offset)
    space = bytearray(length)
    count = await ring.read_at(fd, space, offset)
    return bytes(memoryview(space)[:count])


async def pwrite(fd: int, buffer: Any, offset: int, /, *, loop: Loop = None, executor: Executor | None = None) -> int:
    """Write a buffer at an offset in bytes, and return the number of bytes; see `os.pwrite`.

    The buffer must not change until the call returns.
    """
    ring = _ring_for(loop, Opcode.WRITE, fd, offset)
    if ring is None:
        return await _thread(loop, executor, os.pwrite, fd, buffer, offset)
    return await transferred(ring.begin_write(fd, buffer, offset))


async def preadv(
    fd: int,
    buffers: Sequence[Any],
    offset: int,
    flags: int = 0,
    /,
    *,
    loop: Loop = None,
    executor: Executor | None = None,
) -> int:
    """Read into writable buffers, one after the other, and return the number of bytes; see `os.preadv`."""
    ring = _ring_for(loop, Opcode.READV, fd, offset, flags)
    if ring is None or not 0 < len(buffers) <= _VECTOR_MAX:
        return await _thread(loop, executor, os.preadv, fd, buffers, offset, flags)
    if len(buffers) == 1 and not flags:
        return await ring.read_at(fd, buffers[0], offset)
    return int(await ring.submit(ReadVector(fd, buffers, offset, flags)))


async def pwritev(
    fd: int,
    buffers: Sequence[Any],
    offset: int,
    flags: int = 0,
    /,
    *,
    loop: Loop = None,
    executor: Executor | None = None,
) -> int:
    """Write buffers, one after the other, and return the number of bytes; see `os.pwritev`."""
    ring = _ring_for(loop, Opcode.WRITEV, fd, offset, flags)
    if ring is None or not 0 < len(buffers) <= _VECTOR_MAX:
        return await _thread(loop, executor, os.pwritev, fd, buffers, offset, flags)
    return int(await ring.submit(WriteVector(fd, buffers, offset, flags)))


async def fsync(fd: int, *, loop: Loop = None, executor: Executor | None = None) -> None:
    """Force content and metadata to the disk; see `os.fsync`."""
    ring = _ring_for(loop, Opcode.FSYNC, fd)
    if ring is None:
        await _thread(loop, executor, os.fsync, fd)
        return
    await ring.submit(Fsync(fd))


async def fdatasync(fd: int, *, loop: Loop = None, executor: Executor | None = None) -> None:
    """Force content to the disk, and the metadata needed to read it; see `os.fdatasync`."""
    ring = _ring_for(loop, Opcode.FSYNC, fd)
    if ring is None:
        await _thread(loop, executor, os.fdatasync, fd)
        return
    await ring.submit(Fsync(fd, data_only=True))


async def ftruncate(fd: int, length: int, /, *, loop: Loop = None, executor: Executor | None = None) -> None:
    """Change the size of an open file to length bytes; see `os.ftruncate`."""
    ring = _ring_for(loop, Opcode.FTRUNCATE, fd, length)
    if ring is None:
        await _thread(loop, executor, os.ftruncate, fd, length)
        return
    await ring.submit(Truncate(fd, length))


async def posix_fallocate(
    fd: int, offset: int, length: int, /, *, loop: Loop = None, executor: Executor | None = None
) -> None:
    """Reserve space on the disk for a part of the file, offset and length in bytes; see `os.posix_fallocate`.

    If the file system cannot do that, `os` asks it once more, and writes zeros.
    """
    ring = _ring_for(loop, Opcode.FALLOCATE, fd, offset, length)
    if ring is not None:
        try:
            await ring.submit(Allocate(fd, offset, length))
        except OSError:
            # EOPNOTSUPP, or an error that `os` will raise.
            pass
        else:
            return
    await _thread(loop, executor, os.posix_fallocate, fd, offset, length)


async def posix_fadvise(
    fd: int,
    offset: int,
    length: int,
    advice: int,
    /,
    *,
    loop: Loop = None,
    executor: Executor | None = None,
) -> None:
    """Announce the use of a part of the file, offset and length in bytes; see `os.posix_fadvise`."""
    ring = _ring_for(loop, Opcode.FADVISE, fd, offset, length, advice)
    if ring is None or length > _SHORT_SIZE_MAX_BYTES:
        await _thread(loop, executor, os.posix_fadvise, fd, offset, length, advice)
        return
    await ring.submit(Advise(fd, offset, length, advice))
