"""`files.tempfile` against `tempfile`: on uringloop, and on asyncio's loop with a ring beside it."""

import asyncio
import io
import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.variants import FILES
from uringloop.files import tempfile as atempfile

pytestmark = pytest.mark.asyncio(loop_factories=FILES)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def data_for(mode: str, text: str) -> Any:
    return text.encode() if "b" in mode else text


@pytest.mark.parametrize("mode", ["w+b", "r+b", "w+", "a+b", "x+"])
async def test_named(folder: Path, mode: str) -> None:
    async with atempfile.NamedTemporaryFile(mode, suffix=".end", prefix="begin", dir=folder) as file:
        path = Path(file.name)
        assert path.parent == folder
        assert path.name.startswith("begin")
        assert path.name.endswith(".end")
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert not os.get_inheritable(file.fileno())
        assert file.delete
        await file.write(data_for(mode, "first\nsecond\n"))
        await file.seek(0)
        assert [line async for line in file] == [data_for(mode, "first\n"), data_for(mode, "second\n")]
        assert not file.closed
    assert file.closed
    assert not path.exists()


@pytest.mark.parametrize(("delete", "delete_on_close"), [(True, True), (True, False), (False, True), (False, False)])
async def test_when_it_is_deleted(delete: bool, delete_on_close: bool) -> None:
    async with atempfile.NamedTemporaryFile(delete=delete, delete_on_close=delete_on_close) as file:
        path = Path(file.name)
        await file.write(b"content")
        await file.close()
        assert path.exists() == (not delete or not delete_on_close)
        await file.close()
    assert path.exists() == (not delete)


async def test_named_awaited(folder: Path) -> None:
    file = await atempfile.NamedTemporaryFile("w", encoding="latin-1", errors="replace", newline="\r\n")
    await file.write("ä\u20ac\n")
    await file.flush()
    assert Path(file.name).read_bytes() == b"\xe4?\r\n"
    os.unlink(file.name)
    # That somebody else has deleted it is no error.
    await file.close()


async def test_bytes_for_names(folder: Path) -> None:
    async with atempfile.NamedTemporaryFile(suffix=b".x", dir=os.fsencode(folder)) as file:
        assert file.name.endswith(b".x")


@pytest.mark.parametrize(
    "options",
    [{"mode": "zb"}, {"mode": "wb", "encoding": "utf-8"}, {"dir": "/nowhere"}, {"prefix": "a", "suffix": b"b"}],
)
@pytest.mark.parametrize("name", ["NamedTemporaryFile", "TemporaryFile"])
async def test_failures(folder: Path, name: str, options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, OSError, TypeError)) as expected:
        getattr(tempfile, name)(**options)
    with pytest.raises(expected.type):
        await getattr(atempfile, name)(**options)
    assert os.listdir(folder) == []


async def test_dropped(folder: Path) -> None:
    """The standard library's words are those of its kind of file."""
    kept = [await atempfile.NamedTemporaryFile()]
    assert len(os.listdir(folder)) == 1
    with pytest.warns(ResourceWarning):
        kept.clear()
    assert os.listdir(folder) == []
    await asyncio.sleep(0)


@pytest.mark.parametrize("turns", range(6))
async def test_cancelled_at_any_turn(folder: Path, turns: int) -> None:
    async def use() -> None:
        async with atempfile.NamedTemporaryFile() as file:
            await file.write(b"content")
            await file.flush()
            async with atempfile.TemporaryDirectory(), atempfile.TemporaryFile() as nameless:
                await nameless.write(b"content")

    for waits in (lambda: asyncio.sleep(0), lambda: asyncio.sleep(0.0002)):
        task = asyncio.ensure_future(use())
        for _ in range(turns):
            await waits()
        task.cancel()
        await asyncio.wait([task])
        assert os.listdir(folder) == []


@pytest.mark.parametrize("mode", ["w+b", "w+", "r+b"])
async def test_nameless(folder: Path, mode: str) -> None:
    async with atempfile.TemporaryFile(mode) as file:
        await file.write(data_for(mode, "first\nsecond\n"))
        await file.seek(0)
        assert await file.readline() == data_for(mode, "first\n")
        assert os.listdir(folder) == []
        assert file.name == file.fileno()
    assert file.closed


@pytest.mark.parametrize("mode", ["w+b", "w+"])
@pytest.mark.parametrize("max_size", [0, 5, 100])
async def test_spooled_as_the_standard_library_s(mode: str, max_size: int) -> None:
    def answers_of(theirs: Any) -> list[Any]:
        return [theirs.closed, theirs.mode, theirs._rolled]

    text = {} if "b" in mode else {"encoding": "utf-16", "newline": "\r\n"}
    with tempfile.SpooledTemporaryFile(max_size, mode, **text) as theirs:
        async with atempfile.SpooledTemporaryFile(max_size, mode, **text) as ours:
            for name, *arguments in [
                ("write", data_for(mode, "abc\n")),
                ("tell",),
                ("writelines", [data_for(mode, "d\n"), data_for(mode, "ef")]),
                ("seek", 0),
                ("read", 3),
                ("tell",),
                ("readline",),
                ("readlines",),
                ("isatty",),
                ("readable",),
                ("writable",),
                ("seekable",),
                ("flush",),
                ("truncate",),
                ("seek", 0),
                ("truncate", 60),
                ("seek", 0),
                ("read",),
                ("rollover",),
                ("seek", 0),
                ("read",),
                ("write", data_for(mode, "end")),
                ("seek", 0),
                ("readlines",),
            ]:
                expected = getattr(theirs, name)(*arguments)
                answer = await getattr(ours, name)(*arguments)
                assert answer == expected, name
                assert [ours.closed, ours.mode, ours._rolled] == answers_of(theirs), name
                assert (ours.name is None) == (theirs.name is None)
            assert await ours.fileno() == ours.name
        assert ours.closed
    with pytest.raises(ValueError, match="closed"):
        await ours.read()


async def test_spooled_text() -> None:
    async with atempfile.SpooledTemporaryFile(4, "w+", encoding="utf-8", errors="replace") as file:
        assert (file.encoding, file.errors, file.newlines) == ("utf-8", "replace", None)
        assert type(file._spool) is io.TextIOWrapper
        await file.write("äöü\n")
        await file.seek(0)
        assert [line async for line in file] == ["äöü\n"]
        assert (file.encoding, file.errors, file.newlines) == ("utf-8", "replace", "\n")
        assert file.name is not None


async def test_folder(folder: Path) -> None:
    async with atempfile.TemporaryDirectory("end", "begin", folder) as name:
        path = Path(name)
        assert path.parent == folder
        assert path.name.startswith("begin")
        assert path.name.endswith("end")
        (path / "file").write_bytes(b"content")
    assert not path.exists()
    made = await atempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    assert os.path.isdir(made.name)
    await made.close()
    assert os.listdir(folder) == []


@pytest.mark.skipif(sys.version_info < (3, 12), reason="an argument of Python 3.12")
async def test_folder_that_stays(folder: Path) -> None:
    async with atempfile.TemporaryDirectory(delete=False) as name:
        pass
    assert os.listdir(folder) == [os.path.basename(name)]
