"""`Path` against `pathlib.Path`: the same calls in two equal folders."""

import pathlib
from typing import Any

import pytest

from tests.variants import FILES
from uringloop import files

from .test_os import furnish, tree

pytestmark = pytest.mark.asyncio(loop_factories=FILES)

CALLS: list[tuple[Any, ...]] = [
    ("file", "stat"),
    ("link", "lstat"),
    ("link", "stat", {"follow_symlinks": False}),
    ("nowhere", "stat"),
    *(
        (name, question)
        for name in ("file", "full", "link", "dangling", "nowhere", "null\0byte")
        for question in ("exists", "is_file", "is_dir", "is_symlink")
    ),
    ("full", "is_mount"),
    ("link", "readlink"),
    ("file", "readlink"),
    ("link to folder/inside", "resolve"),
    ("nowhere", "resolve", True),
    ("new", "mkdir"),
    ("new", "mkdir", 0o700),
    ("a/b/c", "mkdir"),
    ("a/b/c", "mkdir", {"parents": True}),
    ("full", "mkdir"),
    ("full", "mkdir", {"exist_ok": True}),
    ("file", "mkdir", {"exist_ok": True}),
    ("file/a", "mkdir", {"parents": True}),
    ("empty", "rmdir"),
    ("full", "rmdir"),
    ("file", "unlink"),
    ("nowhere", "unlink"),
    ("nowhere", "unlink", True),
    ("new", "touch"),
    ("file", "touch", {"exist_ok": False}),
    ("file", "chmod", 0o600),
    ("pointer", "symlink_to", "file"),
    ("file", "read_bytes"),
    ("file", "read_text", "utf-8"),
    ("file", "write_bytes", b"new"),
    ("file", "write_text", "new", "utf-16"),
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: "-".join(map(str, call)).replace("\0", "0"))
async def test_as_pathlib(call: tuple[Any, ...], tmp_path: pathlib.Path) -> None:
    ends = []
    for folder in (tmp_path / "theirs", tmp_path / "ours"):
        furnish(folder)
        path: Any = (files.Path if folder.name == "ours" else pathlib.Path)(folder) / call[0]
        options = call[-1] if isinstance(call[-1], dict) else {}
        arguments = [part for part in call[2:] if not isinstance(part, dict)]
        try:
            result = getattr(path, call[1])(*arguments, **options)
            end: Any = await result if hasattr(result, "__await__") else result
        except OSError as error:
            end = type(error), error.errno, str(error.filename).removeprefix(str(folder))
        if isinstance(end, pathlib.PurePath):
            end = str(end).removeprefix(str(folder))
        elif hasattr(end, "st_mode"):
            end = end.st_mode, end.st_size
        ends.append((end, tree(folder)))
    assert ends[1] == ends[0]


async def test_paths_of_paths(tmp_path: pathlib.Path) -> None:
    furnish(tmp_path / "folder")
    top = files.Path(tmp_path) / "folder"
    assert type(top.parent) is files.Path
    theirs = pathlib.Path(top)
    assert {str(path) async for path in top.iterdir()} == {str(path) for path in theirs.iterdir()}
    assert {str(path) async for path in top.glob("f*")} == {str(path) for path in theirs.glob("f*")}
    assert {str(path) async for path in top.rglob("in*")} == {str(path) for path in theirs.rglob("in*")}
    assert {folder async for folder, _, _ in top.walk()} == {top, top / "empty", top / "full"}
    moved = await (top / "file").rename(top / "moved")
    assert type(moved) is files.Path
    assert await moved.read_bytes() == b"content"
    assert await (await moved.replace(top / "file")).samefile(top / "link")
    await (top / "again").hardlink_to(top / "file")
    assert (await (top / "again").stat()).st_nlink == 2
    await (top / "file").replace_bytes(b"replaced", durable=False)
    async with (top / "file").open("rb") as file:
        assert await file.read() == b"replaced"
    assert await (top / "again").read_text() == "content"
