"""Whole files in one call; what `replace_bytes` leaves behind, whatever happens; `walk` against `os.walk`."""

import asyncio
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.variants import FILES
from uringloop import files
from uringloop.companion import submitter
from uringloop.files import atomic

pytestmark = pytest.mark.asyncio(loop_factories=FILES)

CONTENT = random.Random(1).randbytes(3_000_000)


@pytest.mark.parametrize("size", [0, 1, 4096, 65536, len(CONTENT)])
async def test_bytes(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    assert await files.write_bytes(path, CONTENT[:size]) == size
    assert path.read_bytes() == CONTENT[:size]
    assert await files.read_bytes(path) == CONTENT[:size]
    assert await files.write_bytes(os.fsencode(path), bytearray(b"shorter")) == 7
    assert await files.read_bytes(str(path)) == b"shorter"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
@pytest.mark.parametrize("newline", [None, "", "\n", "\r\n"])
async def test_text(tmp_path: Path, encoding: str, newline: str | None) -> None:
    text = "first\nsecond\r\nthird äöü\rend"
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    with theirs.open("w", encoding=encoding, newline=newline) as file:
        expected = file.write(text)
    assert await files.write_text(ours, text, encoding, newline=newline) == expected
    assert ours.read_bytes() == theirs.read_bytes()
    with theirs.open(encoding=encoding, newline=newline) as file:
        assert await files.read_text(ours, encoding, newline=newline) == file.read()
    assert await files.replace_text(ours, text, encoding, newline=newline) == expected
    assert ours.read_bytes() == theirs.read_bytes()


async def test_errors_are_those_of_open(tmp_path: Path) -> None:
    for call in (files.read_bytes(tmp_path / "nowhere"), files.write_bytes(tmp_path / "nowhere" / "file", b"")):
        with pytest.raises(FileNotFoundError) as error:
            await call
        assert error.value.filename.startswith(str(tmp_path / "nowhere"))
    with pytest.raises(IsADirectoryError):
        await files.read_text(tmp_path)
    with pytest.raises(UnicodeEncodeError):
        await files.write_text(tmp_path / "file", "ä", "ascii")
    assert os.listdir(tmp_path) == []


async def test_proc_files() -> None:
    """They say that they are empty."""
    assert b"Pid:" in await files.read_bytes("/proc/self/status")


# replace


@pytest.mark.parametrize("durable", [True, False])
async def test_replace(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "file"
    assert await files.replace_bytes(path, b"first", durable=durable) == 5
    assert path.read_bytes() == b"first"
    path.chmod(0o604)
    (tmp_path / "link").symlink_to("file")
    with path.open("rb") as before:
        await files.replace_bytes(tmp_path / "link", CONTENT, durable=durable)
        assert before.read() == b"first"
    assert path.read_bytes() == CONTENT
    assert os.stat(path).st_mode & 0o7777 == 0o604
    assert sorted(os.listdir(tmp_path)) == ["file", "link"]


async def test_replace_that_fails_leaves_everything(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        await files.replace_bytes(tmp_path / "folder", b"new")
    with pytest.raises(FileNotFoundError):
        await files.replace_bytes(tmp_path / "nowhere" / "file", b"new")
    with pytest.raises(TypeError):
        await files.replace_bytes(tmp_path / "file", "text")
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.parametrize(("durable", "links"), [(True, 4), (False, 2)])
async def test_replace_is_one_chain(tmp_path: Path, durable: bool, links: int) -> None:
    """Write, sync, rename, sync the folder."""
    ring: Any = submitter(asyncio.get_running_loop())
    await files.replace_bytes(tmp_path / "file", b"first")
    before = ring.statistics()["submitted"]
    await files.replace_bytes(tmp_path / "file", CONTENT, durable=durable)
    # The self-pipe's poll, which says that a thread has ended, may be armed again meanwhile.
    assert links <= ring.statistics()["submitted"] - before <= links + 3


@pytest.mark.parametrize("size", [0, 999, 1000, 1001, 2000, 2001, 10_000])
async def test_replace_with_more_than_is_written_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(atomic, "_PIECE_BYTES", 1000)
    monkeypatch.setattr(atomic, "_PIECES", 2)
    await files.replace_bytes(tmp_path / "file", CONTENT[:size])
    assert (tmp_path / "file").read_bytes() == CONTENT[:size]
    assert os.listdir(tmp_path) == ["file"]


async def test_replace_by_threads_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel has no renames in the ring."""
    monkeypatch.setattr(atomic, "_OPCODES", {"not there"})
    for durable in (True, False):
        assert await files.replace_bytes(tmp_path / "file", CONTENT, durable=durable) == len(CONTENT)
        assert (tmp_path / "file").read_bytes() == CONTENT
    with pytest.raises(FileNotFoundError) as caught:
        await files.replace_bytes(tmp_path / "nowhere" / "file", b"")
    assert caught.value.filename == str(tmp_path / "nowhere" / "file")


async def test_cancelled_replace_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "file"
    seen = set()
    for seed in range(200):
        choice = random.Random(seed)
        path.write_bytes(b"old")
        task = asyncio.ensure_future(files.replace_bytes(path, b"new" * 10_000, durable=choice.random() < 0.5))
        for _ in range(choice.randrange(12)):
            await asyncio.sleep(choice.choice([0, 0.0001]))
        task.cancel()
        await asyncio.wait([task])
        content = path.read_bytes()
        assert content in (b"old", b"new" * 10_000)
        seen.add(content)
        assert os.listdir(tmp_path) == ["file"]
    assert len(seen) == 2


async def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a" * 50_000)
    writing = True

    async def write() -> None:
        nonlocal writing
        for letter in b"bcdefghij":
            await files.replace_bytes(path, bytes([letter]) * 50_000, durable=False)
        writing = False

    async def read() -> None:
        while writing:
            content = await files.read_bytes(path)
            assert len(content) == 50_000
            assert len(set(content)) == 1

    await asyncio.gather(write(), read(), read())


# copy


@pytest.mark.parametrize("size", [0, 1, len(CONTENT)])
async def test_copy(tmp_path: Path, size: int) -> None:
    (tmp_path / "from").write_bytes(CONTENT[:size])
    (tmp_path / "to").write_bytes(b"old" * 10)
    assert await files.copy_file(tmp_path / "from", tmp_path / "to") == size
    assert (tmp_path / "to").read_bytes() == CONTENT[:size]


async def test_copy_to_another_file_system_and_from_proc(tmp_path: Path) -> None:
    (tmp_path / "from").write_bytes(CONTENT)
    memory = Path("/dev/shm") / f"uringloop-{os.getpid()}"
    try:
        await files.copy_file(tmp_path / "from", memory)
        assert memory.read_bytes() == CONTENT
    finally:
        os.unlink(memory)
    await files.copy_file("/proc/self/mounts", tmp_path / "mounts")
    assert (tmp_path / "mounts").read_bytes()


async def test_copy_refuses(tmp_path: Path) -> None:
    (tmp_path / "from").write_bytes(b"content")
    os.link(tmp_path / "from", tmp_path / "same")
    with pytest.raises(ValueError, match="are the same file"):
        await files.copy_file(tmp_path / "from", tmp_path / "same")
    with pytest.raises(FileNotFoundError):
        await files.copy_file(tmp_path / "nowhere", tmp_path / "to")
    assert not (tmp_path / "to").exists()
    assert (tmp_path / "from").read_bytes() == b"content"


# many


async def test_read_many(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(300)]
    for number, path in enumerate(paths):
        path.write_bytes(b"%d" % number)
    expected = [b"%d" % number for number in range(300)]
    assert await files.read_many(paths) == expected
    assert await files.read_many(iter(paths), limit=1) == expected
    assert await files.read_many([]) == []
    os.unlink(paths[7])
    with pytest.raises(FileNotFoundError):
        await files.read_many(paths)
    heard: list[Any] = []
    answer = await files.read_many(paths, missing=lambda path, error: heard.append((path, type(error))))
    assert answer == [*expected[:7], None, *expected[8:]]
    assert heard == [(paths[7], FileNotFoundError)]
    with pytest.raises(ValueError, match="limit"):
        await files.read_many(paths, limit=0)


# walk


def grown(top: Path) -> Path:
    for folder in ("a/b/c", "a/d", "e"):
        (top / folder).mkdir(parents=True)
        (top / folder / "file").touch()
    (top / "link").symlink_to("a")
    (top / "dangling").symlink_to("nowhere")
    return top


@pytest.mark.parametrize("topdown", [True, False])
@pytest.mark.parametrize("followlinks", [True, False])
async def test_walk(tmp_path: Path, topdown: bool, followlinks: bool) -> None:
    top = grown(tmp_path / "top")
    for path in (top, str(top), os.fsencode(top)):
        theirs = list(os.walk(path, topdown, followlinks=followlinks))
        assert [step async for step in files.walk(path, topdown, followlinks=followlinks)] == theirs


async def test_walk_where_one_likes(tmp_path: Path) -> None:
    top = grown(tmp_path / "top")
    seen = []
    async for folder, folders, _ in files.walk(top):
        folders[:] = sorted(set(folders) - {"a"})
        seen.append(os.path.relpath(folder, top))
    assert seen == [".", "e"]


async def test_walk_reports_what_it_cannot_list(tmp_path: Path) -> None:
    failed: list[OSError] = []
    assert [step async for step in files.walk(tmp_path / "nowhere")] == []
    assert [step async for step in files.walk(tmp_path / "nowhere", onerror=failed.append)] == []
    assert [type(error) for error in failed] == [FileNotFoundError]
    top = grown(tmp_path / "top")
    async for folder, folders, _ in files.walk(top):
        if folder == str(top):
            folders[:] = ["a"]
            shutil.rmtree(top / "a")
