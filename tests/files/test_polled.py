"""Direct files whose completions are asked of the device.

A device without polled queues still completes what needs no device: holes, and the end of the file.  So all of that way
is run on any; only reads of blocks that are on the disk need such a device.
"""

import asyncio
import errno
import os
import random
from pathlib import Path

import pytest

from tests.housekeeping import open_descriptors
from tests.kernel import needs
from uringloop import files
from uringloop.files import direct, polled
from uringloop.operations.compiled import Read
from uringloop.ring import LoopRing, Ring, RingUnavailableError, allocate

from .conftest import Run

BLOCK_BYTES = 4096
BLOCKS = 300

pytestmark = [needs("polled devices"), pytest.mark.parametrize("run", ["ring", "selector", "asyncio"], indirect=True)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that is one hole."""
    path = tmp_path / "file"
    path.write_bytes(b"")
    os.truncate(path, BLOCKS * BLOCK_BYTES)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError:
        pytest.skip("this file system has no O_DIRECT")
    try:
        with Ring(io_poll=True) as ring:
            ring.run(Read(fd, allocate(BLOCK_BYTES), 0))
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        pytest.skip("this file system does not poll")
    finally:
        os.close(fd)
    return path


@pytest.fixture
def on_disk(path: Path) -> Path:
    """The same with content, of which nothing is cached."""
    with path.open("wb") as file:
        file.write(b"x" * BLOCKS * BLOCK_BYTES)
        os.fsync(file.fileno())
    return path


@pytest.fixture
def said_to_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "has_polled_queue", lambda fd: True)


def device_polls(path: Path) -> bool:
    with path.open("rb") as file:
        return polled.has_polled_queue(file.fileno())


def descriptors() -> int:
    return len(open_descriptors())


@pytest.mark.usefixtures("said_to_poll")
def test_read(run: Run, path: Path) -> None:
    async def main() -> None:
        async with files.open_direct(path) as file:
            assert file.is_polled
            assert file.has_registered_buffers
            offsets = range(0, BLOCKS * BLOCK_BYTES, BLOCK_BYTES)
            assert set(await asyncio.gather(*(file.pread(1000, offset) for offset in offsets))) == {bytes(1000)}
            assert await file.pread(10, BLOCKS * BLOCK_BYTES) == b""
            assert file._polled is not None
            assert file._polled.ring.statistics()["completed"] == BLOCKS + 1
            assert file.is_polled

    run(main())


@pytest.mark.usefixtures("said_to_poll")
def test_writes_are_not_polled_for(run: Run, path: Path) -> None:
    """Also not those of files that are read that way."""

    async def main() -> None:
        blocks = [random.Random(number).randbytes(16 * BLOCK_BYTES) for number in range(20)]
        async with files.open_direct(path, "w+b") as file:
            for number, block in enumerate(blocks):
                assert await file.pwrite(block, number * len(block)) == len(block)
            assert file._polled is not None
            assert file._polled.ring.statistics()["submitted"] == 0
            for number in reversed(range(20)):
                assert await file.pread(100, number * len(blocks[0])) == blocks[number][:100]
            assert file._polled.ring.statistics()["submitted"] > 0
        assert path.read_bytes() == b"".join(blocks)

    run(main())


@pytest.mark.usefixtures("said_to_poll")
def test_what_the_kernel_refuses_goes_the_usual_way(run: Run, on_disk: Path) -> None:
    async def main() -> None:
        async with files.open_direct(on_disk, "r+b") as file:
            parts = await asyncio.gather(*(file.pread(BLOCK_BYTES, n * BLOCK_BYTES) for n in range(BLOCKS)))
            assert set(parts) == {b"x" * BLOCK_BYTES}
            assert file.is_polled == device_polls(on_disk)
            assert await file.pwrite(b"y" * BLOCK_BYTES, 0) == BLOCK_BYTES
            assert await file.pread(2, BLOCK_BYTES - 1) == b"yx"

    run(main())


def test_polling_that_must_be(run: Run, on_disk: Path) -> None:
    async def main() -> None:
        async with files.open_direct(on_disk, poll=True) as file:
            if device_polls(on_disk):
                assert await file.pread(BLOCK_BYTES, 0) == b"x" * BLOCK_BYTES
                return
            with pytest.raises(OSError, match=r"no polled queues.*poll_queues=N.*poll=None") as refused:
                await file.pread(BLOCK_BYTES, 0)
            assert (refused.value.errno, refused.value.filename) == (errno.EOPNOTSUPP, str(on_disk))

    run(main())


def test_only_where_the_device_says_so(run: Run, path: Path) -> None:
    async def main() -> None:
        async with files.open_direct(path) as file:
            assert file.is_polled == device_polls(path)
        async with files.open_direct(path, poll=False) as file:
            assert not file.is_polled

    run(main())


def test_the_ring_closes_with_the_last_file(run: Run, path: Path) -> None:
    async def main() -> None:
        # The usual buffers, and what else is made once.
        async with files.open_direct(path, poll=False) as file:
            await file.pread(1, 0)
        before = descriptors()
        first = await files.open_direct(path, poll=True)
        second = await files.open_direct(path, poll=True)
        assert first._polled is second._polled
        assert descriptors() == before + 3
        await first.close()
        assert await second.pread(1, 0) == b"\0"
        await second.close()
        assert descriptors() == before
        async with files.open_direct(path, poll=True) as file:
            assert await file.pread(1, 0) == b"\0"
        with pytest.raises(FileNotFoundError):
            await files.open_direct(path.with_name("missing"), poll=True)
        assert descriptors() == before

    run(main())


@pytest.mark.usefixtures("said_to_poll")
def test_cancel(run: Run, path: Path) -> None:
    """Every buffer comes back, and the ring with the file."""

    async def main() -> None:
        before = 0
        for seed in range(60):
            choice = random.Random(seed)
            file = await files.open_direct(path, "r+b")
            both = [file._buffers_for(ways) for ways in (direct._READ, direct._WRITE)]
            assert both[0] is not both[1]
            size = seed * 8 * BLOCK_BYTES
            tasks = [
                asyncio.ensure_future(call)
                for call in (file.pread(200_000, 0), file.pwrite(bytes(8 * BLOCK_BYTES), BLOCKS * BLOCK_BYTES + size))
            ]
            for _ in range(choice.randrange(8)):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            closing = asyncio.ensure_future(file.close())
            await asyncio.sleep(0)
            if seed % 2:
                closing.cancel()
            await asyncio.wait([*tasks, closing])
            assert [len(buffers._free) for buffers in both] == [direct.BUFFERS] * 2
            before = before or descriptors()
            assert descriptors() == before
        assert before

    run(main())


@pytest.mark.parametrize("poll", [True, None])
@pytest.mark.usefixtures("said_to_poll")
def test_no_such_ring(run: Run, path: Path, monkeypatch: pytest.MonkeyPatch, poll: bool | None) -> None:
    def refused(**options: bool) -> LoopRing:
        raise RingUnavailableError(errno.EPERM, "refused", "none")

    async def main() -> None:
        async with files.open_direct(path, poll=False):
            pass
        monkeypatch.setattr(polled, "LoopRing", refused)
        before = descriptors()
        if poll:
            with pytest.raises(RingUnavailableError):
                await files.open_direct(path, poll=poll)
            assert descriptors() == before
            return
        async with files.open_direct(path, poll=poll) as file:
            assert not file.is_polled
            assert await file.pread(1, 0) == b"\0"

    run(main())


@pytest.mark.parametrize(
    ("places", "answer"),
    [({"": "1"}, True), ({"": "0"}, False), ({"..": "1"}, True), ({}, False)],
    ids=["disk", "unpolled", "partition", "unknown"],
)
def test_asking_the_device(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, places: dict[str, str], answer: bool
) -> None:
    async def main() -> None:
        file = tmp_path / "file"
        file.write_bytes(b"")
        device = file.stat().st_dev
        disk = tmp_path / "disk" / "partition"
        disk.mkdir(parents=True)
        monkeypatch.setattr(polled, "BLOCK_DEVICES", tmp_path / "block")
        polled.BLOCK_DEVICES.mkdir()
        (polled.BLOCK_DEVICES / f"{os.major(device)}:{os.minor(device)}").symlink_to(disk)
        for place, says in places.items():
            (disk / place / "queue").mkdir()
            (disk / place / "queue" / "io_poll").write_text(f"{says}\n")
        with file.open("rb") as opened:
            assert polled.has_polled_queue(opened.fileno()) == answer

    run(main())
