"""Functions of `os` on open descriptors, awaitable; part of `files.os`.

They neither use nor move a position, so any number of tasks may read and write one file at the same time.  As with
threads, the descriptor must stay open until they have returned; a cancelled one returns when the kernel is done.
"""

import asyncio
import functools
import os
import stat as stat_module
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

from ..companion import Submitter, submitter
from ..operations.file import Advise, Allocate, Fsync, ReadVector, Truncate, Write, WriteVector
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
    """Where an operation on a descriptor goes; None if it is for `os` to do, or to refuse."""
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
    """Whether it is a file on disk: others refuse a position, which the ring ignores, or are never said to be ready."""
    try:
        mode = status_now(fd)[0]
    except OSError:
        return False
    return stat_module.S_ISREG(mode) or stat_module.S_ISBLK(mode)


async def _thread(loop: Loop, executor: Executor | None, function: Callable[..., _T], *arguments: Any) -> _T:
    return await in_thread(loop or asyncio.get_running_loop(), executor, functools.partial(function, *arguments))


async def fstat(fd: int, *, loop: Loop = None, executor: Executor | None = None) -> os.stat_result:
    """See `os.fstat`."""
    if not is_descriptor(fd):
        return await _thread(loop, executor, os.fstat, fd)
    try:
        return await stat(fd, loop=loop, executor=executor)
    except OSError as error:
        error.filename = None
        raise


async def pread(fd: int, length: int, offset: int, /, *, loop: Loop = None, executor: Executor | None = None) -> bytes:
    """See `os.pread`: at most length bytes from an offset on."""
    ring = _ring_for(loop, Opcode.READ, fd, length, offset)
    if ring is None or length > _SIZE_MAX_BYTES:
        return await _thread(loop, executor, os.pread, fd, length, offset)
    space = bytearray(length)
    count = await ring.read_at(fd, space, offset)
    return bytes(memoryview(space)[:count])


async def pwrite(fd: int, buffer: Any, offset: int, /, *, loop: Loop = None, executor: Executor | None = None) -> int:
    """See `os.pwrite`: bytes to an offset; returns how many were written.  They must stay as they are until then."""
    ring = _ring_for(loop, Opcode.WRITE, fd, offset)
    if ring is None:
        return await _thread(loop, executor, os.pwrite, fd, buffer, offset)
    return int(await ring.submit(Write(fd, buffer, offset)))


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
    """See `os.preadv`: into writable buffers, one after the other; returns how many bytes."""
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
    """See `os.pwritev`: from buffers, one after the other; returns how many bytes."""
    ring = _ring_for(loop, Opcode.WRITEV, fd, offset, flags)
    if ring is None or not 0 < len(buffers) <= _VECTOR_MAX:
        return await _thread(loop, executor, os.pwritev, fd, buffers, offset, flags)
    return int(await ring.submit(WriteVector(fd, buffers, offset, flags)))


async def fsync(fd: int, *, loop: Loop = None, executor: Executor | None = None) -> None:
    """See `os.fsync`: content and metadata are on the disk when it returns."""
    ring = _ring_for(loop, Opcode.FSYNC, fd)
    if ring is None:
        await _thread(loop, executor, os.fsync, fd)
        return
    await ring.submit(Fsync(fd))


async def fdatasync(fd: int, *, loop: Loop = None, executor: Executor | None = None) -> None:
    """See `os.fdatasync`: content is on the disk when it returns, and what of the metadata is needed to read it."""
    ring = _ring_for(loop, Opcode.FSYNC, fd)
    if ring is None:
        await _thread(loop, executor, os.fdatasync, fd)
        return
    await ring.submit(Fsync(fd, data_only=True))


async def ftruncate(fd: int, length: int, /, *, loop: Loop = None, executor: Executor | None = None) -> None:
    """See `os.ftruncate`."""
    ring = _ring_for(loop, Opcode.FTRUNCATE, fd, length)
    if ring is None:
        await _thread(loop, executor, os.ftruncate, fd, length)
        return
    await ring.submit(Truncate(fd, length))


async def posix_fallocate(
    fd: int, offset: int, length: int, /, *, loop: Loop = None, executor: Executor | None = None
) -> None:
    """See `os.posix_fallocate`: have space on the disk for this part of the file.

    A file system that cannot do that is asked once more by `os`, which then writes zeros.
    """
    ring = _ring_for(loop, Opcode.FALLOCATE, fd, offset, length)
    if ring is not None:
        try:
            await ring.submit(Allocate(fd, offset, length))
        except OSError:
            # EOPNOTSUPP, and what `os` says of all else.
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
    """See `os.posix_fadvise`: say how a part of the file is going to be used."""
    ring = _ring_for(loop, Opcode.FADVISE, fd, offset, length, advice)
    if ring is None or length > _SHORT_SIZE_MAX_BYTES:
        await _thread(loop, executor, os.posix_fadvise, fd, offset, length, advice)
        return
    await ring.submit(Advise(fd, offset, length, advice))
