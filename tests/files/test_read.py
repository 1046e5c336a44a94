"""Reading: whole files, pieces, lines; files that are not as long as they say; pipes; far offsets."""

import asyncio
import io
import os
import random
from pathlib import Path

import pytest

from uringloop import files

from .conftest import Run

CONTENT = random.Random(1).randbytes(300_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    return path


def submitted(before: int = 0) -> int:
    return asyncio.get_running_loop().statistics()["submitted"] - before


@pytest.mark.parametrize("size", [0, 1, 4096, 65_536, 300_000])
def test_cached_file_is_read_without_the_ring(run: Run, path: Path, size: int) -> None:
    path.write_bytes(CONTENT[:size])

    async def main() -> None:
        # However slow this machine is: nobody else is to have a turn.
        asyncio.get_running_loop().has_budget = lambda: True
        await asyncio.sleep(0)
        before = submitted()
        async with files.open(path, "rb") as file:
            assert await file.read() == CONTENT[:size]
        assert submitted(before) == 0

    run(main())


@pytest.mark.parametrize("buffering", [-1, 0, 1000])
def test_second_read_is_empty_until_seek(run: Run, path: Path, buffering: int) -> None:
    async def main() -> None:
        async with files.open(path, "rb", buffering) as file:
            assert await file.read() == CONTENT
            assert await file.read() == b""
            assert await file.read(10) == b""
            assert await file.seek(-5, os.SEEK_END) == len(CONTENT) - 5
            assert await file.read() == CONTENT[-5:]

    run(main())


@pytest.mark.parametrize("buffering", [-1, 0, 1000, 7])
@pytest.mark.parametrize("size", [1, 10, 999, 4096, 65_536, 100_000])
def test_pieces(run: Run, path: Path, size: int, buffering: int) -> None:
    content = CONTENT[: min(300_000, size * 300)]
    path.write_bytes(content)

    async def main() -> None:
        async with files.open(path, "rb", buffering) as file:
            for start in range(0, len(content), size):
                assert await file.tell() == start
                assert await file.read(size) == content[start : start + size]
            assert await file.read(size) == b""

    run(main())


@pytest.mark.parametrize("buffering", [-1, 0, 1000])
@pytest.mark.parametrize("size", [0, 1, 100, 65_536, 400_000])
def test_readinto(run: Run, path: Path, size: int, buffering: int) -> None:
    async def main() -> None:
        async with files.open(path, "rb", buffering) as file:
            target = bytearray(size)
            count = await file.readinto(target)
            assert count == min(size, len(CONTENT))
            assert target[:count] == CONTENT[:count]
            assert await file.read(3) == CONTENT[count : count + 3]

    run(main())


@pytest.mark.parametrize("buffering", [-1, 0])
def test_readinto_what_cannot_be_written(run: Run, path: Path, buffering: int) -> None:
    async def main() -> None:
        async with files.open(path, "rb", buffering) as file:
            for wrong in (b"", b"bytes", bytes(100_000), "text", 5):
                with pytest.raises(TypeError):
                    await file.readinto(wrong)
            assert await file.tell() == 0

    run(main())


def test_read_from_the_buffer_does_not_reach_the_kernel(run: Run, path: Path) -> None:
    async def main() -> None:
        # However slow this machine is: nobody else is to have a turn.
        asyncio.get_running_loop().has_budget = lambda: True
        async with files.open(path, "rb") as file:
            assert await file.read(1) == CONTENT[:1]
            before = submitted()
            for start in range(1, 60_000, 1000):
                reading = file.read(1000)
                # It does not wait for the loop either.
                with pytest.raises(StopIteration) as stopped:
                    reading.send(None)
                assert stopped.value.value == CONTENT[start : start + 1000]
            assert submitted(before) == 0

    run(main())


@pytest.mark.parametrize("buffering", [-1, 0, 10])
def test_lines(run: Run, path: Path, buffering: int) -> None:
    lines = [b"\n", b"one\n", b"x" * 200_000 + b"\n", b"\r\n", b"\0\n", b"no newline"]
    path.write_bytes(b"".join(lines))

    async def main() -> None:
        async with files.open(path, "rb", buffering) as file:
            assert [line async for line in file] == lines
            await file.seek(0)
            assert await file.readline() == b"\n"
            assert await file.readline(2) == b"on"
            assert await file.readline(2) == b"e\n"
            assert await file.readline(0) == b""
            assert await file.readline(100) == b"x" * 100
            assert await file.readline(None) == b"x" * 199_900 + b"\n"
            assert await file.tell() == 1 + 4 + 200_001

    run(main())


@pytest.mark.parametrize(
    "name", ["/proc/self/status", "/proc/filesystems", "/sys/kernel/mm/transparent_hugepage/enabled"]
)
@pytest.mark.parametrize("buffering", [-1, 0])
def test_size_lies(run: Run, name: str, buffering: int) -> None:
    async def main() -> bytes:
        async with files.open(name, "rb", buffering) as file:
            return await file.read()

    content = run(main())
    assert content
    if "status" not in name:
        assert content == Path(name).read_bytes()


def test_proc_file_of_many_pages(run: Run) -> None:
    """A page at a time is what the kernel gives, whatever is asked for."""
    size = 100_000

    async def main() -> bytes:
        async with files.open("/proc/kallsyms", "rb") as file:
            return await file.read(size)

    with Path("/proc/kallsyms").open("rb") as file:
        assert run(main()) == file.read(size)


def test_file_that_grew_and_shrank_after_opening(run: Run, path: Path) -> None:
    async def main() -> None:
        async with files.open(path, "rb") as file:
            with path.open("ab") as other:
                other.write(CONTENT)
            assert await file.read() == CONTENT * 2
        async with files.open(path, "rb") as file:
            os.truncate(path, 1000)
            assert await file.read() == CONTENT[:1000]
            os.truncate(path, 500)
            await file.seek(0)
            assert await file.read() == CONTENT[:500]

    run(main())


@pytest.mark.parametrize("buffering", [-1, 0])
def test_offset_beyond_4_gib(run: Run, tmp_path: Path, buffering: int) -> None:
    path = tmp_path / "sparse"
    far = (5 << 30) + 12_345

    async def main() -> None:
        async with files.open(path, "w+b", buffering) as file:
            assert await file.seek(far) == far
            assert await file.write(b"far away") == 8
            assert await file.tell() == far + 8
            assert await file.seek(far - 4) == far - 4
            assert await file.read() == b"\0\0\0\0far away"
            assert await file.seek(-4, os.SEEK_CUR) == far + 4
            assert await file.read(100) == b"away"
            assert await file.seek(0, os.SEEK_DATA) <= far
            assert await file.seek(0, os.SEEK_HOLE) == 0
            assert await file.truncate(far + 2) == far + 2
            assert await file.seek(0, os.SEEK_END) == far + 2

    run(main())
    assert path.stat().st_size == far + 2
    assert path.stat().st_blocks * 512 < 1 << 20


def test_devices(run: Run) -> None:
    async def main() -> None:
        async with files.open("/dev/zero", "rb") as file:
            assert await file.read(100_000) == bytes(100_000)
        async with files.open("/dev/null", "r+b") as file:
            assert await file.read() == b""
            await file.write(b"gone" * 100_000)

    run(main())


@pytest.mark.parametrize("buffering", [-1, 0])
def test_fifo(run: Run, tmp_path: Path, buffering: int) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)

    async def write() -> None:
        async with files.open(path, "wb", buffering) as file:
            assert not await file.seekable()
            for part in (b"one\ntw", b"o\n", CONTENT):
                view = memoryview(part)
                while view:
                    view = view[await file.write(view) :]
                await file.flush()

    async def read() -> None:
        async with files.open(path, "rb", buffering) as file:
            assert [await file.readline() for _ in range(2)] == [b"one\n", b"two\n"]
            assert await file.read() == CONTENT
            with pytest.raises((io.UnsupportedOperation, OSError)):
                await file.seek(0)
            with pytest.raises(OSError, match="Illegal seek"):
                await file.tell()

    async def main() -> None:
        await asyncio.gather(write(), read())

    run(main())


def test_fifo_waits_for_its_writer(run: Run, tmp_path: Path) -> None:
    """As open(2): also when the kernel has the path in its cache, and when the writer writes nothing."""
    path = tmp_path / "fifo"
    os.mkfifo(path)

    async def main() -> None:
        for _ in range(3):
            opening = asyncio.ensure_future(_opened(path))
            await asyncio.sleep(0.05)
            assert not opening.done()
            writer = os.open(path, os.O_WRONLY)
            file = await opening
            os.write(writer, b"content")
            os.close(writer)
            assert await file.read() == b"content"
            await file.close()

    run(main())


def test_fifo_whose_writer_was_quick(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)

    def write() -> None:
        with path.open("wb") as file:
            file.write(b"here and gone")

    async def main() -> None:
        for _ in range(50):
            writing = asyncio.get_running_loop().run_in_executor(None, write)
            async with files.open(path, "rb") as file:
                assert await file.read() == b"here and gone"
            await writing

    run(main())


async def _opened(path: Path) -> files.BufferedReader:
    return await files.open(path, "rb")


def test_descriptor_that_does_not_block(run: Run) -> None:
    """EAGAIN is waited out."""

    async def main() -> None:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        async with files.open(reader, "rb") as source, files.open(writer, "wb") as sink:
            reading = asyncio.ensure_future(source.read(len(CONTENT)))
            await asyncio.sleep(0.01)
            await sink.write(CONTENT)
            await sink.flush()
            assert await reading == CONTENT

    run(main())


def test_newlines_after_telling_a_position(run: Run, tmp_path: Path) -> None:
    """As the standard library: a decoder that went to the start of the file for that has forgotten some."""
    path = tmp_path / "file"
    path.write_bytes(b"\n\r\n")

    async def main() -> None:
        with path.open(encoding="utf-8") as theirs:
            async with files.open(path, encoding="utf-8") as ours:
                for _ in range(3):
                    assert await ours.read(1) == theirs.read(1)
                    assert await ours.tell() == theirs.tell()
                    assert ours.newlines == theirs.newlines

    run(main())


def test_the_position_after_a_line_that_cannot_be_decoded(run: Run, tmp_path: Path) -> None:
    """All of the line is read again, also what was decoded."""
    path = tmp_path / "file"
    path.write_bytes(b"\n\xc3")

    async def main() -> None:
        with open(path, encoding="utf-8", newline="\r") as theirs:
            async with files.open(path, encoding="utf-8", newline="\r") as ours:
                for _ in range(2):
                    with pytest.raises(UnicodeDecodeError):
                        theirs.readline()
                    with pytest.raises(UnicodeDecodeError):
                        await ours.readline()
                    assert await ours.tell() == theirs.tell() == 0

    run(main())
