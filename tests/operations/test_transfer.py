"""Bytes moved between descriptors, and pipes for that."""

import asyncio
import errno
import os
from pathlib import Path

import pytest

from tests.kernel import needs
from tests.operations.covering import fails, works
from tests.operations.helpers import opened, pipe, refused, submit
from tests.variants import BACKENDS
from uringloop.operations import Descriptor, MakePipe, Splice, Tee

pytestmark = pytest.mark.asyncio(loop_factories=BACKENDS)


def borrowed(fd: int) -> Descriptor:
    return Descriptor(fd, owned=False)


@works(MakePipe, Splice, Tee)
async def test_a_file_through_two_pipes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    one, two = await submit(MakePipe()), await submit(MakePipe(os.O_NONBLOCK))
    ends = [Descriptor(fd) for fd in (*one, *two)]
    assert [os.get_blocking(end.fd) for end in ends] == [True, True, False, False]
    assert not any(os.get_inheritable(end.fd) for end in ends)
    with opened(tmp_path / "file") as fd:
        assert await submit(Splice(borrowed(fd), ends[1], 100, offset=3)) == 7
    assert await submit(Tee(ends[0], ends[3], 4)) == 4
    assert os.read(two[0], 100) == b"3456"
    assert os.read(one[0], 100) == b"3456789"
    for end in ends:
        end.close()


@fails(MakePipe, Splice, Tee)
async def test_what_cannot_be_moved(tmp_path: Path) -> None:
    await refused(MakePipe(1 << 30), errno.EINVAL)
    with opened(tmp_path / "file") as fd, pipe() as (reading, writing):
        await refused(Splice(borrowed(fd), borrowed(fd), 10), errno.EINVAL)
        await refused(Tee(borrowed(fd), borrowed(writing), 10), errno.EINVAL)
        await refused(Tee(borrowed(reading), borrowed(-1), 10), errno.EBADF)


@needs(MakePipe)
async def test_a_pipe_that_nobody_got_is_closed() -> None:
    for turns in range(3):
        task = asyncio.create_task(submit(MakePipe()))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        try:
            ends = await task
        except asyncio.CancelledError:
            continue
        for end in ends:
            os.close(end)
