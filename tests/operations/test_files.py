"""Operations on open files."""

import asyncio
import errno
import mmap
import os
from pathlib import Path

import pytest

from tests.kernel import skip_without_nowait
from tests.operations.covering import fails, works
from tests.operations.helpers import opened, pipe, refused, running_loop, submit
from tests.variants import BACKENDS
from uringloop.operations import (
    Advise,
    AdviseMemory,
    Allocate,
    Close,
    Fsync,
    Open,
    Read,
    ReadMany,
    ReadVector,
    Stat,
    SyncFlag,
    SyncRange,
    Truncate,
    Write,
    WriteVector,
)

pytestmark = pytest.mark.asyncio(loop_factories=BACKENDS)
CONTENT = b"0123456789"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


@works(Open, Read, Write, Fsync, Close, Stat)
async def test_a_file_is_made_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "new"
    fd = await submit(Open(str(path), os.O_RDWR | os.O_CREAT, 0o640))
    assert not os.get_inheritable(fd)
    assert await submit(Write(fd, CONTENT, 0)) == len(CONTENT)
    assert await submit(Fsync(fd)) == await submit(Fsync(fd, data_only=True)) == 0
    buffer = bytearray(4)
    assert await submit(Read(fd, buffer, 3)) == 4
    assert buffer == CONTENT[3:7]
    assert (await submit(Stat(path))).st_size == (await submit(Stat(fd))).st_size == len(CONTENT)
    assert await submit(Close(fd)) == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@fails(Open, Stat)
async def test_what_is_not_there(tmp_path: Path) -> None:
    path = str(tmp_path / "missing")
    assert (await refused(Open(path, os.O_RDONLY), errno.ENOENT)).filename == path
    assert (await refused(Stat(path), errno.ENOENT)).filename == path


@fails(Read, Write, Fsync, Close, ReadVector, WriteVector, SyncRange, Allocate, Advise, Truncate)
async def test_no_such_descriptor() -> None:
    for operation in (
        Read(-1, bytearray(1)),
        Write(-1, b"x"),
        Fsync(-1),
        Close(-1),
        ReadVector(-1, [bytearray(1)]),
        WriteVector(-1, [b"x"]),
        SyncRange(-1, 0, 0, SyncFlag.WRITE),
        Allocate(-1, 0, 1),
        Advise(-1, 0, 0, os.POSIX_FADV_NORMAL),
        Truncate(-1, 0),
    ):
        await refused(operation, errno.EBADF)


@works(ReadVector, WriteVector)
async def test_vectors(file: Path) -> None:
    with opened(file) as fd:
        assert await submit(WriteVector(fd, [b"ab", b"", b"cde"], 2)) == 5
        first, second = bytearray(3), bytearray(20)
        assert await submit(ReadVector(fd, [first, second], 0)) == len(CONTENT)
        assert (first, second[:7]) == (b"01a", b"bcde789")


@works(Write, WriteVector)
@pytest.mark.parametrize("flags", [os.RWF_DSYNC, os.RWF_SYNC, os.RWF_APPEND])
async def test_flags_of_pwritev2(file: Path, flags: int) -> None:
    with opened(file) as fd:
        assert await submit(Write(fd, b"xy", 0, flags=flags)) == 2
        assert await submit(WriteVector(fd, [b"z"], 0, flags)) == 1
    expected = CONTENT + b"xyz" if flags == os.RWF_APPEND else b"zy" + CONTENT[2:]
    assert file.read_bytes() == expected


@fails(Read)
async def test_polled_completions_need_a_ring_for_them(file: Path) -> None:
    with opened(file) as fd:
        await refused(Read(fd, bytearray(1), 0, flags=os.RWF_HIPRI), errno.EINVAL)


@works(Read)
async def test_a_read_that_does_not_wait(file: Path) -> None:
    skip_without_nowait(file)
    buffer = bytearray(5)
    with opened(file) as fd:
        assert await submit(Read(fd, buffer, 0, flags=os.RWF_NOWAIT)) == 5
    with pipe() as (reading, _):
        await refused(Read(reading, buffer, flags=os.RWF_NOWAIT), errno.EAGAIN)


@fails(Read, Write)
async def test_unknown_flags_of_pwritev2(file: Path) -> None:
    with opened(file) as fd:
        await refused(Write(fd, b"x", 0, flags=1 << 30), errno.EOPNOTSUPP, errno.EINVAL)
        await refused(Read(fd, bytearray(1), 0, flags=1 << 30), errno.EOPNOTSUPP, errno.EINVAL)


@works(SyncRange, Allocate, Advise, Truncate)
async def test_the_size_of_a_file_and_its_pages(file: Path) -> None:
    with opened(file) as fd:
        await submit(Allocate(fd, 0, 8192))
        assert file.stat().st_size == 8192
        await submit(Truncate(fd, 5))
        assert file.read_bytes() == CONTENT[:5]
        everything = SyncFlag.WAIT_BEFORE | SyncFlag.WRITE | SyncFlag.WAIT_AFTER
        assert await submit(SyncRange(fd, 0, 0, everything)) == 0
        assert await submit(Advise(fd, 0, 0, os.POSIX_FADV_DONTNEED)) == 0


@fails(SyncRange, Allocate, Advise, Truncate)
async def test_what_a_file_cannot(file: Path) -> None:
    with opened(file) as fd:
        await refused(SyncRange(fd, 0, 0, SyncFlag(1 << 5)), errno.EINVAL)
        await refused(Allocate(fd, 0, 0), errno.EINVAL)
        await refused(Advise(fd, 0, 0, 100), errno.EINVAL)
        await refused(Truncate(fd, -1), errno.EINVAL)
    with pipe() as (reading, _):
        await refused(SyncRange(reading, 0, 0, SyncFlag.WRITE), errno.ESPIPE)


@works(AdviseMemory)
async def test_memory_that_is_not_needed_is_zero_afterwards() -> None:
    with mmap.mmap(-1, 8192, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory[:] = b"x" * 8192
        await submit(AdviseMemory(memory, mmap.MADV_DONTNEED))
        assert memory[:] == bytes(8192)


@fails(AdviseMemory)
async def test_unknown_advice_on_memory() -> None:
    with mmap.mmap(-1, 4096) as memory:
        await refused(AdviseMemory(memory, 12345), errno.EINVAL)


@works(ReadMany)
async def test_a_pipe_is_read_until_its_end() -> None:
    reading, writing = os.pipe()
    received = b""
    async with running_loop().submit_multishot(ReadMany(reading)) as chunks:
        os.write(writing, b"first")
        assert await anext(chunks) == b"first"
        os.write(writing, b"second")
        os.close(writing)
        async for chunk in chunks:
            received += chunk
    assert received == b"second"
    os.close(reading)


@fails(ReadMany)
async def test_a_regular_file_is_not_read_again_and_again(file: Path) -> None:
    with opened(file) as fd:
        chunks = running_loop().submit_multishot(ReadMany(fd))
        with pytest.raises(OSError, match="File descriptor in bad state"):
            await anext(chunks)
        with pytest.raises(StopAsyncIteration):
            await anext(chunks)


async def test_an_operation_in_a_worker_by_choice(file: Path) -> None:
    from uringloop.ring import SqeFlag

    with opened(file) as fd:
        read = Read(fd, buffer := bytearray(10), 0)
        read.modifiers |= SqeFlag.ASYNC
        assert await submit(read) == 10
        assert buffer == CONTENT


async def test_cancelled_opens_leave_no_descriptor(file: Path) -> None:
    for turns in range(3):
        task = asyncio.create_task(submit(Open(str(file), os.O_RDONLY, in_worker=True)))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
