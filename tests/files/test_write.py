"""Writing: buffers, appending, truncating, sharing the descriptor, and a kernel that refuses."""

import asyncio
import dataclasses
import errno
import gc
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from uringloop import files
from uringloop.companion import submitter

from .conftest import Run

CONTENT = random.Random(2).randbytes(300_000)


@pytest.mark.parametrize("buffering", [-1, 1000])
@pytest.mark.parametrize("size", [1, 999, 1000, 65_535, 65_536, 300_000])
def test_pieces(run: Run, tmp_path: Path, size: int, buffering: int) -> None:
    path = tmp_path / "file"
    content = CONTENT[: size * 300]

    async def main() -> None:
        async with files.open(path, "wb", buffering) as file:
            for start in range(0, len(content), size):
                part = content[start : start + size]
                assert await file.write(part) == len(part)
                assert await file.tell() == start + len(part)

    run(main())
    assert path.read_bytes() == content


@pytest.mark.parametrize("mode", ["wb", "r+b", "w+b"])
def test_small_writes_are_buffered_and_do_not_wait(run: Run, tmp_path: Path, mode: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")

    async def main() -> None:
        # However slow this machine is: nobody else is to have a turn.
        asyncio.get_running_loop().has_budget = lambda: True
        async with files.open(path, mode) as file:
            for _ in range(100):
                with pytest.raises(StopIteration):
                    file.write(b"ten bytes!").send(None)
            assert path.read_bytes() == b""
            await file.flush()
            assert path.read_bytes() == b"ten bytes!" * 100

    run(main())


def test_update_in_small_pieces(run: Run, tmp_path: Path) -> None:
    """Written here and there, read in between: the buffer alone takes the writes, until something else is asked."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    expected = bytearray(CONTENT)

    async def main() -> None:
        async with files.open(path, "r+b") as file:
            choice = random.Random(4)
            for _ in range(60):
                place = choice.randrange(len(CONTENT) - 1000)
                await file.seek(place)
                if choice.random() < 0.5:
                    assert await file.read(10) == expected[place : place + 10]
                    place += 10
                for _ in range(20):
                    await file.write(b"0123456789")
                expected[place : place + 200] = b"0123456789" * 20
                assert await file.tell() == place + 200
                assert await file.read(100) == expected[place + 200 : place + 300]
        assert path.read_bytes() == expected

    run(main())


def test_buffers_of_one_file_after_the_other(run: Run, tmp_path: Path) -> None:
    """Large buffers are used again: of many files at once, one in the other's, longer and shorter."""

    async def write(number: int) -> None:
        path = tmp_path / str(number)
        content = bytes([number]) * (33_000 * (number % 10 + 1))
        async with files.open(path, "wb") as file:
            for start in range(0, len(content), 1000):
                await file.write(content[start : start + 1000])
                if start % 50_000 == 0:
                    await asyncio.sleep(0)
            if number % 3 == 0:
                await file.flush()
        assert path.read_bytes() == content

    async def main() -> None:
        for _ in range(3):
            await asyncio.gather(*map(write, range(20)))

    run(main())


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_kinds_of_buffers(run: Run, tmp_path: Path, kind: type) -> None:
    path = tmp_path / "file"

    async def main() -> None:
        async with files.open(path, "wb") as file:
            for data in (b"", b"small", CONTENT):
                assert await file.write(kind(data)) == len(data)
            wide = memoryview(bytearray(16)).cast("I")
            assert await file.write(wide) == 16
            for wrong in ("text", 5, None):
                with pytest.raises(TypeError):
                    await file.write(wrong)

    run(main())
    assert path.read_bytes() == b"small" + CONTENT + bytes(16)


def test_buffered_data_is_a_copy(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "file"

    async def main() -> None:
        async with files.open(path, "wb") as file:
            data = bytearray(b"before")
            await file.write(data)
            data[:] = b"after!"
            data.extend(b"resized")

    run(main())
    assert path.read_bytes() == b"before"


@pytest.mark.parametrize("buffering", [-1, 0])
def test_append(run: Run, tmp_path: Path, buffering: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"start ")

    async def main() -> None:
        async with files.open(path, "a+b", buffering) as file:
            assert await file.tell() == 6
            await file.write(b"one ")
            await file.flush()
            with path.open("ab") as other:
                other.write(b"other ")
            await file.seek(0)
            await file.write(b"two")
            await file.flush()
            assert await file.tell() == 19
            await file.seek(6)
            assert await file.read() == b"one other two"

    run(main())
    assert path.read_bytes() == b"start one other two"


def test_truncate(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "file"

    async def main() -> None:
        async with files.open(path, "w+b") as file:
            await file.write(b"0123456789")
            assert await file.truncate(5) == 5
            assert await file.tell() == 10
            assert path.read_bytes() == b"01234"
            await file.seek(2)
            assert await file.read(1) == b"2"
            assert await file.truncate() == 3
            assert path.read_bytes() == b"012"
            assert await file.truncate(6) == 6
            assert await file.read() == b"\0\0\0"
            with pytest.raises(OSError, match="Invalid argument") as caught:
                await file.truncate(-1)
            assert caught.value.errno == errno.EINVAL
            with pytest.raises(OverflowError):
                await file.truncate(1 << 64)

    run(main())


def test_truncate_without_the_kernels_operation(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "file"

    async def main() -> None:
        own: Any = submitter(asyncio.get_running_loop())
        ring = own.ring
        ring.features = dataclasses.replace(ring.features, opcodes=frozenset())
        async with files.open(path, "wb") as file:
            await file.write(b"0123456789")
            assert await file.truncate(5) == 5

    run(main())
    assert path.read_bytes() == b"01234"


def test_others_may_use_the_descriptor(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "file"

    async def main() -> None:
        async with files.open(path, "w+b") as file:
            await file.write(b"mine ")
            await file.flush()
            process = await asyncio.create_subprocess_exec("echo", "-n", "theirs ", stdout=file.fileno())
            assert await process.wait() == 0
            await file.write(b"mine")
            await file.flush()
            assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == await file.tell() == 16
            await file.seek(5)
            assert await file.read(6) == b"theirs"

    run(main())
    assert path.read_bytes() == b"mine theirs mine"


def test_given_descriptor_keeps_its_position(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "file"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.write(fd, b"before ")

    async def main() -> None:
        async with files.open(fd, "wb", closefd=False) as file:
            assert file.name == fd
            assert await file.tell() == 7
            await file.write(b"during ")

    run(main())
    os.write(fd, b"after")
    os.close(fd)
    assert path.read_bytes() == b"before during after"


@pytest.mark.parametrize("buffering", [-1, 0])
def test_full_device(run: Run, buffering: int) -> None:
    async def main() -> None:
        file = await files.open("/dev/full", "wb", buffering)
        with pytest.raises(OSError, match="No space left on device: '/dev/full'") as caught:  # noqa: PT012
            await file.write(b"small")
            await file.flush()
        assert caught.value.errno == errno.ENOSPC
        with pytest.raises(OSError, match="No space left"):
            await file.write(bytes(300_000))
        if buffering:
            # What could not be written is still there, and more may come although the error is remembered here.
            with pytest.raises(OSError, match="No space left"):
                await file.close()
        await file.close()
        assert file.closed

    run(main())


def test_error_at_the_end_of_a_with_block(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(OSError, match="No space left"):
            async with files.open("/dev/full", "wb") as file:
                await file.write(b"small")
        assert file.closed

    run(main())


def test_small_filesystem(run: Run, tmp_path: Path) -> None:
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "t", tmp_path]).returncode:
        pytest.skip("cannot mount a tmpfs")

    async def main() -> None:
        file = await files.open(tmp_path / "file", "wb")
        with pytest.raises(OSError, match="No space left") as caught:
            await file.write(CONTENT)
        assert caught.value.filename == str(tmp_path / "file")
        # The short write before the error counts.
        written = await file.tell()
        assert written == 65_536
        await file.close()
        assert (tmp_path / "file").read_bytes() == CONTENT[:written]

    try:
        run(main())
    finally:
        subprocess.run(["umount", tmp_path], check=True)


_LIMITED = """
import errno, resource, sys, uringloop
from uringloop import files
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
async def main(path):
    file = await files.open(path, "wb")
    try:
        await file.write(bytes(250_000))
    except OSError as error:
        assert (error.errno, error.filename) == (errno.EFBIG, path), error
    else:
        raise SystemExit("no error")
    assert await file.tell() == 100_000
    await file.close()
    return "refused"
print(uringloop.run(main(sys.argv[1])))
"""


def test_file_size_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    answer = subprocess.run([sys.executable, "-c", _LIMITED, path], capture_output=True, text=True, check=True)
    assert (answer.stdout, answer.stderr) == ("refused\n", "")
    assert path.stat().st_size == 100_000


def test_broken_pipe(run: Run) -> None:
    async def main() -> None:
        reader, writer = os.pipe()
        os.close(reader)
        file = await files.open(writer, "wb")
        await file.write(b"to nobody")
        with pytest.raises(BrokenPipeError):
            await file.flush()
        with pytest.raises(BrokenPipeError):
            await file.close()
        assert file.closed

    run(main())


@pytest.mark.parametrize("mode", ["wb", "ab", "r+b"])
def test_dropped_file_is_written_and_closed_with_a_warning(run: Run, tmp_path: Path, mode: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old ")

    async def main() -> None:
        file = await files.open(path, mode)
        await file.seek(0, os.SEEK_END)
        await file.write(b"new")
        with pytest.warns(ResourceWarning, match="unclosed file <uringloop.files.Buffered.* name="):  # noqa: PT031
            del file
            gc.collect()

    run(main())
    assert path.read_bytes() == (b"new" if mode == "wb" else b"old new")


def test_many_files_at_once(run: Run, tmp_path: Path) -> None:
    async def copy(number: int) -> None:
        path = tmp_path / str(number)
        async with files.open(path, "wb") as file:
            await file.write(CONTENT[number:])
        async with files.open(path, "rb") as file:
            assert await file.read() == CONTENT[number:]

    async def main() -> None:
        await asyncio.gather(*(copy(number) for number in range(200)))

    run(main())


@pytest.mark.parametrize("buffering", [-1, 0])
def test_calls_on_one_file_wait_for_each_other(run: Run, tmp_path: Path, buffering: int) -> None:
    path = tmp_path / "file"

    async def main() -> None:
        async with files.open(path, "w+b", buffering) as file:
            parts = [CONTENT[start : start + 1000] for start in range(0, 300_000, 1000)]
            assert await asyncio.gather(*map(file.write, parts)) == [1000] * 300
            await file.seek(0)
            assert await asyncio.gather(*(file.read(1000) for _ in parts)) == parts

    run(main())


def test_close_waits_for_calls_in_progress(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "file"

    async def main() -> None:
        file = await files.open(path, "wb")
        writes = [asyncio.ensure_future(file.write(CONTENT)) for _ in range(5)]
        await asyncio.sleep(0)
        await file.close()
        assert [await write for write in writes[:1]] == [len(CONTENT)]
        with pytest.raises(ValueError, match="closed file"):
            await file.write(b"late")
        results = await asyncio.gather(*writes, return_exceptions=True)
        written = sum(result for result in results if isinstance(result, int))
        assert path.stat().st_size == written
        await file.close()

    run(main())


@pytest.mark.parametrize("call", ["read", "readline", "readinto", "readall"])
def test_a_read_whose_flush_fails_keeps_what_is_to_be_written(run: Run, call: str) -> None:
    """It is told again by the next flush, as in the standard library."""

    async def main() -> None:
        file = await files.open("/dev/full", "r+b")
        await file.write(b"content")
        arguments = {"read": (100,), "readinto": (bytearray(100),)}.get(call, ())
        for attempt in (lambda: getattr(file, call)(*arguments), file.flush, file.close):
            with pytest.raises(OSError, match="No space left") as caught:
                await attempt()
            assert caught.value.errno == errno.ENOSPC
        assert file.closed

    run(main())
