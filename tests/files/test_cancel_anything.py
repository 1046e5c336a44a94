"""A cancel in each operation on files, after any number of turns: 500 schedules, each from its seed.

Whatever the cancel met, the disk is as it was, or as the operation makes it, or in between as far as it promises; the
caller's memory is free; no descriptor and no temporary file is left.
"""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.housekeeping import open_descriptors
from uringloop import files

from .conftest import WITH_ASYNCIO, Run, quiet

SCHEDULES = int(os.environ.get("URINGLOOP_SCHEDULES", "500"))
OLD = random.Random(1).randbytes(150_000)
NEW = random.Random(2).randbytes(200_000)
TEXT = "line äöü\n" * 20_000

Disk = dict[str, bytes]


@dataclass
class World:
    """A folder with one file in it.

    Attributes:
        memory: buffers that are free when the operation is over.
        expected: whether the folder may look like this, by the names of what is in it; None if it must look as before.
    """

    folder: Path
    choice: random.Random
    memory: list[bytearray] = field(default_factory=list)
    expected: Callable[[Disk], bool] | None = None

    @property
    def path(self) -> Path:
        return self.folder / "file"

    def buffer(self, content: bytes) -> bytearray:
        self.memory.append(bytearray(content))
        return self.memory[-1]

    def size(self) -> int:
        return self.choice.choice([0, 1, 999, 4096, 70_000, len(NEW)])

    def buffering(self) -> int:
        return self.choice.choice([-1, 0, 10, 5000])


def is_prefix(part: bytes, whole: bytes) -> bool:
    return whole.startswith(part)


def is_partly(content: bytes, new: bytes, offset: int = 0) -> bool:
    """Whether a first part of new was written over OLD, from an offset on."""
    written = content[offset:]
    count = next((place for place, pair in enumerate(zip(written, new, strict=False)) if pair[0] != pair[1]), len(new))
    return content == OLD[:offset] + new[:count] + OLD[offset + count :]


# Each of these says what the disk may look like, if not as before, and returns what is cancelled.

Operation = Callable[[World], Awaitable[Any]]
OPERATIONS: list[Operation] = []


def operation(function: Operation) -> Operation:
    OPERATIONS.append(function)
    return function


@operation
async def open_to_read(world: World) -> None:
    async with files.open(world.path, "rb", world.buffering()):
        pass


@operation
async def open_to_update(world: World) -> None:
    await (await files.open(world.path, world.choice.choice(["r+b", "ab"]), world.buffering())).close()


@operation
async def open_to_write(world: World) -> None:
    world.expected = lambda disk: disk == {"file": b""}
    async with files.open(world.path, "wb"):
        pass


@operation
async def open_to_make(world: World) -> None:
    world.expected = lambda disk: disk == {"file": OLD, "new": b""}
    async with files.open(world.folder / "new", "xb"):
        pass


@operation
async def open_with_an_opener(world: World) -> None:
    async with files.open(world.path, opener=os.open):
        pass


@operation
async def read(world: World) -> None:
    async with files.open(world.path, "rb", world.buffering()) as file:
        await file.seek(world.choice.randrange(1000))
        await file.read(world.size())
        await world.choice.choice([file.read, file.readline, file.readlines])()
        await file.seek(0)
        await file.readinto(world.buffer(bytes(100_000)))


@operation
async def read_text(world: World) -> None:
    async with files.open(world.path, encoding="latin-1", newline=world.choice.choice([None, "", "\n"])) as file:
        await file.read(world.size())
        await file.readline()
        await file.tell()
        async for _ in file:
            if world.choice.random() < 0.01:
                break


@operation
async def write(world: World) -> None:
    world.expected = lambda disk: list(disk) == ["file"] and is_prefix(disk["file"], NEW)
    data = world.buffer(NEW)
    async with files.open(world.path, "wb", -1) as file:
        for start in range(0, len(NEW), step := max(world.size(), 999)):
            await file.write(memoryview(data)[start : start + step])
            if world.choice.random() < 0.2:
                await file.flush()


@operation
async def append(world: World) -> None:
    world.expected = lambda disk: list(disk) == ["file"] and is_prefix(disk["file"], OLD + NEW)
    async with files.open(world.path, "ab", world.choice.choice([-1, 10, 5000])) as file:
        await file.write(NEW[:1000])
        await file.write(NEW[1000:])


@operation
async def update(world: World) -> None:
    offset = world.choice.randrange(len(OLD))
    world.expected = lambda disk: list(disk) == ["file"] and is_partly(disk["file"], NEW, offset)
    async with files.open(world.path, "r+b") as file:
        await file.seek(offset)
        await file.read(world.size())
        await file.seek(offset)
        await file.write(NEW)
        await file.flush()


@operation
async def write_text(world: World) -> None:
    world.expected = lambda disk: list(disk) == ["file"] and is_prefix(disk["file"], TEXT.encode())
    async with files.open(world.path, "w", encoding="utf-8", newline="\n") as file:
        await file.write(TEXT[:5])
        await file.write(TEXT[5:])


@operation
async def truncate(world: World) -> None:
    world.expected = lambda disk: disk == {"file": OLD[:5]}
    async with files.open(world.path, "r+b", world.buffering()) as file:
        await file.truncate(5)


@operation
async def seek(world: World) -> None:
    async with files.open(world.path, "rb", world.buffering()) as file:
        for whence, offset in ((2, -10), (1, -50), (0, 77), (3, 0), (4, 0)):
            await file.seek(offset, whence)
            await file.tell()


@operation
async def raw_write(world: World) -> None:
    world.expected = lambda disk: is_prefix(disk["file"], NEW)
    async with files.open(world.path, "wb", 0) as file:
        await file.write(world.buffer(NEW))


@operation
async def positional_reads(world: World) -> None:
    fd = os.open(world.path, os.O_RDONLY)
    try:
        await files.os.pread(fd, world.size(), 100)
        await files.os.preadv(fd, [world.buffer(bytes(5)), world.buffer(bytes(90_000))], 70)
        await files.os.fstat(fd)
        await files.os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


@operation
async def positional_writes(world: World) -> None:
    world.expected = lambda disk: is_partly(disk["file"], NEW, 100)
    fd = os.open(world.path, os.O_WRONLY)
    try:
        await files.os.pwrite(fd, world.buffer(NEW[:50_000]), 100)
        await files.os.pwritev(fd, [world.buffer(NEW[50_000:50_001]), world.buffer(NEW[50_001:])], 50_100)
        await world.choice.choice([files.os.fsync, files.os.fdatasync])(fd)
    finally:
        os.close(fd)


@operation
async def sizes(world: World) -> None:
    zeros = bytes(50_000)
    world.expected = lambda disk: disk["file"] in (OLD + zeros, (OLD + zeros)[:160_000])
    fd = os.open(world.path, os.O_RDWR)
    try:
        await files.os.posix_fallocate(fd, len(OLD), len(zeros))
        await files.os.ftruncate(fd, 160_000)
    finally:
        os.close(fd)


@operation
async def send(world: World) -> None:
    world.expected = lambda disk: is_prefix(disk["sent"], OLD) and disk["file"] == OLD
    source, target = os.open(world.path, os.O_RDONLY), os.open(world.folder / "sent", os.O_WRONLY | os.O_CREAT)
    try:
        await files.os.sendfile(target, source, 0, len(OLD))
    finally:
        os.close(source)
        os.close(target)


@operation
async def ask(world: World) -> None:
    path = world.path
    for name in world.choice.sample(["stat", "lstat", "statvfs", "access", "readlink"], 5):
        try:
            await getattr(files.os, name)(path, *([os.R_OK] if name == "access" else []))
        except OSError:
            assert name == "readlink"
    for name in ("exists", "getsize", "isfile", "islink", "ismount"):
        await getattr(files.os.path, name)(path)
    await files.os.path.samefile(path, path)
    await files.os.listdir(world.folder)
    with await files.os.scandir(world.folder):
        pass


@operation
async def rename(world: World) -> None:
    world.expected = lambda disk: disk == {"other": OLD}
    await world.choice.choice([files.os.rename, files.os.replace, files.os.renames])(
        str(world.path), str(world.folder / "other")
    )


@operation
async def link(world: World) -> None:
    world.expected = lambda disk: disk == {"file": OLD, "link": OLD}
    await world.choice.choice([files.os.link, files.os.symlink])(world.path, world.folder / "link")


@operation
async def remove(world: World) -> None:
    world.expected = lambda disk: disk == {}
    await world.choice.choice([files.os.unlink, files.os.remove, files.Path.unlink])(files.Path(world.path))


@operation
async def folders(world: World) -> None:
    world.expected = lambda disk: set(disk) <= {"file", "folder/", "folder/below/"} and disk["file"] == OLD
    await files.os.mkdir(world.folder / "folder")
    await files.os.makedirs(world.folder / "folder" / "below")
    await files.os.rmdir(world.folder / "folder" / "below")
    await files.os.removedirs(world.folder / "folder")


@operation
async def whole_read(world: World) -> None:
    await files.read_bytes(world.path)
    await files.read_text(world.path, "latin-1")
    await files.read_many([world.path] * 10, limit=world.choice.choice([1, 3, 20]))
    async for _ in files.walk(world.folder):
        pass


@operation
async def whole_write(world: World) -> None:
    world.expected = lambda disk: list(disk) == ["file"] and is_prefix(disk["file"], NEW)
    await files.write_bytes(world.path, world.buffer(NEW))


@operation
async def whole_text(world: World) -> None:
    world.expected = lambda disk: list(disk) == ["file"] and is_prefix(disk["file"], TEXT.encode())
    await files.write_text(world.path, TEXT, "utf-8", newline="\n")


@operation
async def replace(world: World) -> None:
    world.expected = lambda disk: disk == {"file": NEW}
    await files.replace_bytes(world.path, world.buffer(NEW), durable=world.choice.random() < 0.3)


@operation
async def copy(world: World) -> None:
    world.expected = lambda disk: disk["file"] == OLD and is_prefix(disk["copy"], OLD)
    await files.copy_file(world.path, world.folder / "copy")


@operation
async def temporary(world: World) -> None:
    where = {"dir": world.folder}
    kinds: list[Any] = [files.tempfile.TemporaryFile, files.tempfile.NamedTemporaryFile]
    async with world.choice.choice([*kinds, files.tempfile.SpooledTemporaryFile])(**where) as file:
        await file.write(NEW)
        await file.seek(0)
        await file.read()


@operation
async def temporary_folder(world: World) -> None:
    async with files.tempfile.TemporaryDirectory(dir=world.folder) as folder:
        await files.write_bytes(Path(folder, "file"), NEW)


def contents(folder: Path) -> Disk:
    disk = {}
    for where, folders, names in os.walk(folder):
        relative = Path(where).relative_to(folder)
        disk.update({str(relative / name): Path(where, name).read_bytes() for name in names})
        if not names and not folders and where != str(folder):
            disk[f"{relative}/"] = b""
    return disk


async def cancelled_sometime(call: Awaitable[Any], choice: random.Random) -> bool:
    """Whether it was; a call may also end first."""
    task = asyncio.ensure_future(call)
    # Most end within some turns; what goes to a thread takes longer.
    patience = choice.choice([4, 12, 40])
    for turn in range(choice.randrange(patience)):
        if task.done():
            break
        await asyncio.sleep(0 if turn < 10 else 0.0001)
    task.cancel()
    await asyncio.wait((task,))
    if task.cancelled():
        return True
    await task
    return False


async def check(world: World, number: int, descriptors: Iterable[str]) -> bool:
    """Whether it was cancelled."""
    world.path.write_bytes(OLD)
    cancelled = await cancelled_sometime(OPERATIONS[number](world), world.choice)
    # The loop may have to hear of it, and to dispose of what nobody awaits.
    await asyncio.sleep(0)
    for memory in world.memory:
        memory.clear()
    await quiet()
    assert open_descriptors() == descriptors, "descriptors"
    disk = contents(world.folder)
    unchanged = disk == {"file": OLD}
    if world.expected is None:
        assert unchanged
    elif not unchanged or not cancelled:
        assert world.expected(disk), {name: len(content) for name, content in disk.items()}
    return cancelled


@pytest.mark.parametrize("run", WITH_ASYNCIO, indirect=True)
def test_cancel_in_each_operation(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        # Threads of the executor hold nothing; what else is opened on first use is there from here on.
        await files.os.listdir(tmp_path)
        # The port of the pool, and a timer beside another loop, on the backend of epoll(7).
        await files.os.mkdir(tmp_path / "first")
        await files.os.rmdir(tmp_path / "first")
        await quiet()
        descriptors = open_descriptors()
        cancelled = dict.fromkeys(range(len(OPERATIONS)), 0)
        for seed in range(SCHEDULES):
            number = seed % len(OPERATIONS)
            world = World(tmp_path / str(seed), random.Random(seed))
            world.folder.mkdir()
            try:
                cancelled[number] += await check(world, number, descriptors)
            except BaseException as error:
                error.add_note(f"schedule {seed}: {OPERATIONS[number].__name__}")
                raise
        assert {OPERATIONS[number].__name__ for number, count in cancelled.items() if not count} == set()

    run(main())
