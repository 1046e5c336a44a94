"""What the kernel refuses, and files that change or lie: errno and filename, nothing left open, the bytes on the disk.

What one file alone does at an error is in test_open, test_read and test_write.
"""

import errno
import os
import random
import resource
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.housekeeping import open_descriptors
from uringloop import files

from .conftest import Run

CONTENT = random.Random(3).randbytes(300_000)
FAR = (5 << 30) + 12_345

pytestmark = pytest.mark.parametrize("run", ["ring", "selector", "asyncio"], indirect=True)


async def failure(call: Awaitable[Any]) -> tuple[int | None, Any]:
    """The errno and the filename of an OSError."""
    with pytest.raises(OSError) as caught:  # noqa: PT011  # whoever calls looks at the errno
        await call
    return caught.value.errno, caught.value.filename


# A full file system


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB with room for five files more."""
    folder = tmp_path / "small"
    folder.mkdir()
    options = "size=64k,nr_inodes=6"
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", options, "t", folder]).returncode:
        pytest.skip("cannot mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_no_space_for_what_is_buffered(run: Run, small: Path) -> None:
    """It stays buffered, and is written when there is space."""
    (small / "other").write_bytes(bytes(60_000))

    async def main() -> None:
        file = await files.open(small / "file", "wb", 40_000)
        await file.write(CONTENT[:30_000])
        assert await failure(file.flush()) == (errno.ENOSPC, str(small / "file"))
        written = (small / "file").read_bytes()
        assert CONTENT.startswith(written)
        assert len(written) < 30_000
        assert await file.tell() == 30_000
        os.unlink(small / "other")
        await file.write(CONTENT[30_000:35_000])
        await file.close()
        assert (small / "file").read_bytes() == CONTENT[:35_000]

    run(main())


@pytest.mark.parametrize("mode", ["w", "wb", "ab"])
def test_no_space_when_it_closes(run: Run, small: Path, mode: str) -> None:
    (small / "other").write_bytes(bytes(60_000))
    text = "line äöü\n" * 2_000

    async def main() -> None:
        options = {} if "b" in mode else {"encoding": "utf-8"}
        file = await files.open(small / "file", mode, **options)
        fd = file.fileno()
        await file.write(text if mode == "w" else text.encode())
        assert await failure(file.close()) == (errno.ENOSPC, str(small / "file"))
        assert file.closed
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
        await file.close()
        assert text.encode().startswith((small / "file").read_bytes())

    run(main())


def test_no_space_for_whole_files(run: Run, small: Path, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(CONTENT)
    path = small / "file"

    async def main() -> None:
        await files.write_bytes(path, b"old")
        assert await failure(files.replace_bytes(path, CONTENT)) == (errno.ENOSPC, str(path))
        assert os.listdir(small) == ["file"]
        assert path.read_bytes() == b"old"
        assert await failure(files.copy_file(tmp_path / "large", small / "copy")) == (errno.ENOSPC, str(small / "copy"))
        os.unlink(small / "copy")
        assert await failure(files.write_bytes(path, CONTENT)) == (errno.ENOSPC, str(path))
        assert path.read_bytes() == CONTENT[:65_536]

    run(main())


def test_no_space_for_descriptors(run: Run, small: Path) -> None:
    async def main() -> None:
        fd = os.open(small / "file", os.O_RDWR | os.O_CREAT)
        try:
            assert await failure(files.os.posix_fallocate(fd, 0, 1 << 20)) == (errno.ENOSPC, None)
            assert os.fstat(fd).st_size == 0
            assert await files.os.pwrite(fd, CONTENT, 0) == 65_536
            assert await failure(files.os.pwrite(fd, CONTENT, 65_536)) == (errno.ENOSPC, None)
            assert await failure(files.os.pwritev(fd, [CONTENT], 65_536)) == (errno.ENOSPC, None)
        finally:
            os.close(fd)
        assert (small / "file").read_bytes() == CONTENT[:65_536]

    run(main())


def test_no_space_for_names(run: Run, small: Path) -> None:
    async def main() -> None:
        for number in range(5):
            await files.write_bytes(small / str(number), b"")
        path = str(small / "more")
        assert await failure(files.write_bytes(path, b"")) == (errno.ENOSPC, path)
        assert await failure(files.os.mkdir(path)) == (errno.ENOSPC, path)
        assert await failure(files.replace_bytes(small / "0", b"new")) == (errno.ENOSPC, str(small / "0"))
        number, name = await failure(_temporary(files.tempfile.NamedTemporaryFile, small))
        assert (number, os.path.dirname(name)) == (errno.ENOSPC, str(small))
        assert len(os.listdir(small)) == 5

    run(main())


async def _temporary(kind: Any, folder: Path) -> None:
    async with kind(dir=folder):
        pass


# Too many open files


def test_no_descriptor_left_to_open(run: Run, tmp_path: Path) -> None:
    """Each call that opens several fails at its first, second, ... one, and leaves none open."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    (tmp_path / "folder").mkdir()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "read_bytes": lambda: files.read_bytes(path),
        "read_many": lambda: files.read_many([path] * 20, limit=10),
        "replace_bytes": lambda: files.replace_bytes(path, CONTENT),
        "copy_file": lambda: files.copy_file(path, tmp_path / "copy"),
        "scandir": lambda: files.os.scandir(tmp_path),
        "TemporaryFile": lambda: _temporary(files.tempfile.TemporaryFile, tmp_path),
        "NamedTemporaryFile": lambda: _temporary(files.tempfile.NamedTemporaryFile, tmp_path),
    }

    def fill(room: int) -> list[int]:
        """Use up all descriptors but some."""
        opened = []
        try:
            while True:
                opened.append(os.dup(0))
        except OSError:
            for _ in range(room):
                os.close(opened.pop())
        return opened

    async def main() -> None:
        # What is made on first use is there.
        await files.os.listdir(tmp_path)
        await files.os.stat(tmp_path)
        before = len(open_descriptors())
        for name, call in calls.items():
            resource.setrlimit(resource.RLIMIT_NOFILE, (before + 20, limits[1]))
            failed: list[OSError] = []
            try:
                for room in range(12):
                    opened = fill(room)
                    try:
                        answer = await call()
                        if name == "scandir":
                            answer.close()
                    except OSError as error:
                        failed.append(error)
                    finally:
                        for fd in opened:
                            os.close(fd)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert 0 < len(failed) < 12, name
            assert {error.errno for error in failed} == {errno.EMFILE}, name
            # A file without a name has none to tell.
            assert name == "TemporaryFile" or all(error.filename for error in failed), name
            assert len(open_descriptors()) == before, name
        assert path.read_bytes() == CONTENT

    run(main())


# Wrong paths


@pytest.mark.parametrize("number", [errno.EISDIR, errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG], ids=os.strerror)
def test_wrong_paths_for_whole_files(run: Run, tmp_path: Path, number: int) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    names = {errno.EISDIR: ".", errno.ELOOP: "loop", errno.ENOTDIR: "file/below", errno.ENAMETOOLONG: "n" * 256}
    path = os.path.join(tmp_path, names[number])
    other = str(tmp_path / "other")

    async def main() -> None:
        for call in (
            files.open(path),
            files.open(path, "r+b", 0),
            files.read_bytes(path),
            files.write_bytes(path, b""),
            files.write_text(path, "", "utf-8"),
            files.replace_bytes(path, b""),
            files.copy_file(path, other),
            files.copy_file(tmp_path / "file", path),
            files.read_many([path]),
            files.os.truncate(path, 0),
        ):
            assert await failure(call) == (number, path)
        assert not os.path.exists(other)

    run(main())


# Files that change while they are read


def is_cleared(read: bytes) -> bool:
    """Whether each byte is that of CONTENT, or zero."""
    return len(read) <= len(CONTENT) and all(byte in (0, once) for byte, once in zip(read, CONTENT, strict=False))


@pytest.mark.parametrize("buffering", [-1, 0, 1000])
def test_truncated_while_being_read(run: Run, tmp_path: Path, buffering: int) -> None:
    """What a read gives was once in the file, at that place; at the new end, wherever that is, there is nothing.

    The kernel clears the rest of the new last page, and a read that copies it meanwhile gives zeros.
    """
    path = tmp_path / "file"

    async def main() -> None:
        for seed in range(60):
            choice = random.Random(seed)
            path.write_bytes(CONTENT)
            steps = [choice.randrange(len(CONTENT)) for _ in range(3)]
            steps.sort(reverse=True)
            truncating = threading.Thread(target=lambda: [os.truncate(path, size) for size in steps])  # noqa: B023
            async with files.open(path, "rb", buffering) as file:
                read = b""
                while True:
                    if choice.random() < 0.2 and not truncating.ident:
                        truncating.start()
                    data = await choice.choice([file.read, file.readline])(choice.choice([10, 5_000, 80_000]))
                    if not data:
                        break
                    read += data
                    assert await file.tell() == len(read)
                assert CONTENT.startswith(read) or is_cleared(read), seed
                if truncating.ident:
                    truncating.join()
                    assert len(read) >= steps[-1]
                    assert await file.read() == b""
                    await file.seek(0)
                    assert await file.read() == CONTENT[: steps[-1]]

    run(main())


def test_truncated_within_what_is_read_ahead(run: Run, tmp_path: Path) -> None:
    """As with the standard library: what is in the buffer is given out, and the position may be beyond the end."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT)

    async def main() -> None:
        async with files.open(path, "rb", 50_000) as file:
            assert await file.read(10) == CONTENT[:10]
            os.truncate(path, 5)
            assert await file.read(1_000) == CONTENT[10:1_010]
            assert await file.read() == CONTENT[1_010:50_000]
            assert await file.tell() == 50_000
            assert await file.seek(0, os.SEEK_END) == 5

    run(main())


# Beyond 4 GiB


def test_text_and_appending_beyond_4_gib(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, FAR)

    async def main() -> None:
        async with files.open(path, "a+", encoding="utf-8") as file:
            assert await file.tell() == FAR
            await file.write("first ü\nsecond\n")
            await file.seek(FAR)
            assert await file.readline() == "first ü\n"
            place = await file.tell()
            assert place == FAR + 9
            assert await file.read(3) == "sec"
            assert await file.seek(place) == place
            assert await file.read() == "second\n"
        async with files.open(path, "ab", 0) as file:
            await file.write(b"third\n")
            assert await file.tell() == FAR + 22
            assert await file.truncate(FAR + 16) == FAR + 16
        async with files.open(path, "rb") as file:
            await file.seek(-16, os.SEEK_END)
            assert await file.readlines() == ["first ü\n".encode(), b"second\n"]
        fd = os.open(path, os.O_RDWR)
        try:
            assert await files.os.pwrite(fd, b"FIRST", FAR) == 5
            space = bytearray(9)
            assert await files.os.preadv(fd, [space], FAR - 4) == 9
            assert space == bytes(4) + b"FIRST"
            await files.os.ftruncate(fd, FAR)
        finally:
            os.close(fd)
        assert await files.os.path.getsize(path) == FAR

    run(main())
    assert path.stat().st_blocks * 512 < 1 << 20
