"""Operations on names in folders, and on extended attributes."""

import errno
import os
from pathlib import Path

import pytest

from tests.kernel import skip_without_attributes
from tests.operations.covering import fails, works
from tests.operations.helpers import opened, refused, submit
from tests.variants import BACKENDS
from uringloop.operations import (
    GetAttribute,
    GetFileAttribute,
    Link,
    MakeFolder,
    OpenWithin,
    Rename,
    RenameFlag,
    Resolve,
    SetAttribute,
    SetFileAttribute,
    Symlink,
    Unlink,
)

pytestmark = pytest.mark.asyncio(loop_factories=BACKENDS)


@works(MakeFolder, Symlink, Link, Rename, Unlink)
async def test_names_come_and_go(tmp_path: Path) -> None:
    await submit(MakeFolder(tmp_path / "folder"))
    (tmp_path / "folder" / "file").write_bytes(b"content")
    await submit(Symlink("file", tmp_path / "folder" / "symbolic"))
    await submit(Link(tmp_path / "folder" / "file", tmp_path / "hard"))
    await submit(Rename(tmp_path / "hard", tmp_path / "folder" / "renamed"))
    assert (tmp_path / "folder" / "symbolic").read_bytes() == (tmp_path / "folder" / "renamed").read_bytes()
    for name in ("file", "symbolic", "renamed"):
        await submit(Unlink(tmp_path / "folder" / name))
    await submit(Unlink(tmp_path / "folder", is_folder=True))
    assert list(tmp_path.iterdir()) == []


@works(Rename)
async def test_names_that_change_places(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    await submit(Rename(tmp_path / "one", tmp_path / "two", flags=RenameFlag.EXCHANGE))
    assert (tmp_path / "one").read_text() == "two"
    await refused(Rename(tmp_path / "one", tmp_path / "two", flags=RenameFlag.NOREPLACE), errno.EEXIST)


@fails(MakeFolder, Symlink, Link, Rename, Unlink)
async def test_what_folders_refuse(tmp_path: Path) -> None:
    missing, here = tmp_path / "missing", tmp_path / "here"
    here.mkdir()
    await refused(MakeFolder(here), errno.EEXIST)
    await refused(Symlink("anything", here), errno.EEXIST)
    assert (await refused(Link(missing, tmp_path / "new"), errno.ENOENT)).filename2 == str(tmp_path / "new")
    await refused(Rename(missing, here), errno.ENOENT)
    await refused(Unlink(here), errno.EISDIR)
    assert (await refused(Unlink(missing), errno.ENOENT)).filename == str(missing)


@works(OpenWithin)
async def test_a_path_that_keeps_to_rules(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with opened(tmp_path, os.O_RDONLY) as folder:
        fd = await submit(OpenWithin("file", os.O_RDONLY, resolve=Resolve.BENEATH, dir_fd=folder))
        assert os.read(fd, 100) == b"content"
        assert not os.get_inheritable(fd)
        os.close(fd)


@fails(OpenWithin)
async def test_a_path_that_does_not(tmp_path: Path) -> None:
    with opened(tmp_path, os.O_RDONLY) as folder:
        escaping = OpenWithin("../anything", os.O_RDONLY, resolve=Resolve.BENEATH, dir_fd=folder)
        assert (await refused(escaping, errno.EXDEV)).filename == "../anything"
        await refused(OpenWithin("missing", os.O_RDONLY, dir_fd=folder), errno.ENOENT)
        await refused(OpenWithin("file", os.O_RDONLY, mode=0o600, dir_fd=folder), errno.EINVAL)


@works(SetAttribute, GetAttribute, SetFileAttribute, GetFileAttribute)
async def test_extended_attributes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with opened(path) as fd:
        skip_without_attributes(path)
        await submit(SetAttribute(path, "user.one", b"first"))
        await submit(SetFileAttribute(fd, "user.two", b"second"))
        assert os.getxattr(path, "user.one") == b"first"
        assert await submit(GetFileAttribute(fd, "user.one")) == b"first"
        assert await submit(GetAttribute(path, "user.two")) == b"second"


@fails(SetAttribute, GetAttribute, SetFileAttribute, GetFileAttribute)
async def test_extended_attributes_that_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with opened(path) as fd:
        skip_without_attributes(path)
        assert (await refused(GetAttribute(path, "user.none"), errno.ENODATA)).filename == str(path)
        await refused(GetFileAttribute(fd, "user.none"), errno.ENODATA)
        await refused(SetAttribute(path, "user.none", b"x", os.XATTR_REPLACE), errno.ENODATA)
        os.setxattr(path, "user.long", b"x" * 100)
        await refused(SetFileAttribute(fd, "user.long", b"x", os.XATTR_CREATE), errno.EEXIST)
        await refused(GetAttribute(path, "user.long", size_max_bytes=10), errno.ERANGE)
