"""Who may open the new content of a replaced file: at every step, nobody who could not open the file itself."""

import os
import stat
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from uringloop import files

from .conftest import WITH_THREADS, Run

pytestmark = pytest.mark.parametrize("run", WITH_THREADS, indirect=True)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to other users")
ACCESS_LIST = "system.posix_acl_access"
DEFAULT_LIST = "system.posix_acl_default"
READ, WRITE = 4, 2
USER, GROUP, OTHER_USER, OTHER_GROUP = 4001, 4002, 4003, 4004
#: Users and their groups, none of them the one that runs the tests.
SUBJECTS = [
    (user, frozenset(groups))
    for user in (USER, OTHER_USER)
    for groups in ((), (GROUP,), (OTHER_GROUP,), (GROUP, OTHER_GROUP))
]


def packed(*entries: tuple[int, int, int]) -> bytes:
    """An access control list: (tag, permissions, id) as in linux/posix_acl_xattr.h."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def access_list(user: int, named: dict[int, int], group: int, mask: int, other: int) -> bytes:
    nobody = 0xFFFFFFFF
    return packed(
        (0x01, user, nobody),
        *((0x02, bits, uid) for uid, bits in named.items()),
        (0x04, group, nobody),
        (0x10, mask, nobody),
        (0x20, other, nobody),
    )


@dataclass(frozen=True)
class Seen:
    """A file at one moment: what the kernel decides by."""

    mode: int
    uid: int
    gid: int
    entries: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, path: str) -> "Seen":
        status = os.stat(path)
        try:
            raw = os.getxattr(path, ACCESS_LIST)
        except OSError:
            raw = b""
        entries = tuple(struct.iter_unpack("<HHI", raw[4:]))
        return cls(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, entries)

    def allows(self, user: int, groups: frozenset[int]) -> int:
        """The permission bits of a user; see acl(5), "access check algorithm"."""
        mask, named, shared = self.mode >> 3 & 7, {}, self.mode >> 3 & 7
        for tag, bits, name in self.entries:
            if tag == 0x02:
                named[name] = bits & mask
            elif tag == 0x04:
                shared = bits & mask
        if user == self.uid:
            return self.mode >> 6 & 7
        if user in named:
            return named[user]
        return shared if self.gid in groups else self.mode & 7


class Watch:
    """Looks at the files of a folder before each step that Python announces to audit hooks."""

    def __init__(self) -> None:
        self.folder = ""
        self.seen: list[tuple[str, Seen]] = []
        self._looking = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder and not self._looking and (event == "open" or event.startswith("os.")):
            self._looking = True
            try:
                with os.scandir(self.folder) as entries:
                    self.seen += [(event, Seen.of(entry.path)) for entry in entries if entry.name.startswith(".")]
            finally:
                self._looking = False

    def during(self, folder: Path, run: Run, call: Callable[[], Any]) -> list[tuple[str, Seen]]:
        """What was seen of files with a leading dot, with the event, while a call ran."""

        async def main() -> None:
            self.folder, self.seen = str(folder), []
            try:
                await call()
            finally:
                self.folder = ""

        before = os.umask(0)
        try:
            run(main())
        finally:
            os.umask(before)
        return self.seen


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


def check(watch: Watch, run: Run, target: Path) -> Seen:
    """Replace a file; at each step its successor allows nobody more than the file did.  Returns the last step."""
    before = Seen.of(str(target))
    seen = watch.during(target.parent, run, lambda: files.replace_bytes(target, b"new secret", durable=False))
    assert seen
    for event, step in [*seen, ("end", Seen.of(str(target)))]:
        for user, groups in SUBJECTS:
            allowed, was_allowed = step.allows(user, groups), before.allows(user, groups)
            assert allowed & ~was_allowed == 0, (event, step, user, set(groups))
    assert target.read_bytes() == b"new secret"
    return Seen.of(str(target))


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o400, 0o604, 0o060, 0o000, 0o4750, 0o2750])
def test_nobody_sees_more(watch: Watch, run: Run, tmp_path: Path, mode: int) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"old secret")
    if os.geteuid() == 0:
        os.chown(target, USER, GROUP)
    target.chmod(mode)
    status = target.stat()
    assert check(watch, run, target) == Seen(mode, status.st_uid, status.st_gid, ())


@needs_root
@pytest.mark.parametrize("mode", [0o640, 0o660, 0o604, 0o664, 0o646, 0o6755])
@pytest.mark.parametrize("refused", [(USER,), (GROUP,), (USER, GROUP)])
def test_owner_or_group_that_cannot_be_given(
    watch: Watch, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, refused: tuple[int, ...]
) -> None:
    """As for a user who is not root: what the group may do is not given to another group."""
    own = os.fchown

    def fchown(fd: int, uid: int, gid: int) -> None:
        if uid in refused or gid in refused:
            raise PermissionError
        own(fd, uid, gid)

    monkeypatch.setattr(os, "fchown", fchown)
    # The new file's group, of which others are members.
    os.chown(tmp_path, 0, OTHER_GROUP)
    tmp_path.chmod(0o2777)
    target = tmp_path / "target"
    target.write_bytes(b"old secret")
    os.chown(target, USER, GROUP)
    target.chmod(mode)
    after = check(watch, run, target)
    assert (after.uid == USER, after.gid == GROUP) == (USER not in refused, GROUP not in refused)
    assert after.mode & 0o700 == mode & 0o700
    assert bool(after.mode & stat.S_ISUID) == (mode & stat.S_ISUID != 0 and USER not in refused)
    assert bool(after.mode & stat.S_ISGID) == (mode & stat.S_ISGID != 0 and GROUP not in refused)


def set_list(path: Path, value: bytes, name: str = ACCESS_LIST) -> None:
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        pytest.skip(f"no access control lists here: {error}")


@pytest.mark.parametrize("may_set", [True, False])
def test_access_control_list(
    watch: Watch, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, may_set: bool
) -> None:
    """Its mask stands where the group's bits are: without the list, those would be the group's."""
    target = tmp_path / "target"
    target.write_bytes(b"old secret")
    if os.geteuid() == 0:
        os.chown(target, USER, GROUP)
    wanted = access_list(6, {OTHER_USER: READ}, 0, READ, 0)
    set_list(target, wanted)
    before = Seen.of(str(target))
    assert before.mode == 0o640
    if not may_set:

        def refuse(*arguments: Any) -> None:
            raise PermissionError

        monkeypatch.setattr(os, "setxattr", refuse)
    after = check(watch, run, target)
    assert after == before if may_set else after.mode & 0o077 == 0


def test_list_that_a_folder_hands_down(watch: Watch, run: Run, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"old secret")
    target.chmod(0o640)
    set_list(tmp_path, access_list(7, {OTHER_USER: READ | WRITE}, 0, 7, 0), DEFAULT_LIST)
    after = check(watch, run, target)
    assert (after.mode, after.entries) == (0o640, ())


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_new_file_has_the_mode_of_open(run: Run, tmp_path: Path, umask: int) -> None:
    async def main() -> None:
        await files.replace_bytes(tmp_path / "new", b"content")

    before = os.umask(umask)
    try:
        run(main())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("kind", ["named", "nameless", "spooled", "folder"])
def test_temporary_files_are_their_owner_s_from_the_first_step(
    watch: Watch, run: Run, tmp_path: Path, kind: str
) -> None:
    async def make() -> None:
        temporary = files.tempfile
        where: dict[str, Any] = {"prefix": ".", "dir": tmp_path}
        if kind == "folder":
            async with temporary.TemporaryDirectory(**where):
                os.stat(tmp_path)
        else:
            make_file: Any = {
                "named": temporary.NamedTemporaryFile,
                "nameless": temporary.TemporaryFile,
                "spooled": temporary.SpooledTemporaryFile,
            }[kind]
            async with make_file(**where) as file:
                assert not stat.S_IMODE(os.fstat(_number(await _awaited(file.fileno()))).st_mode) & 0o077

    for event, step in watch.during(tmp_path, run, make):
        assert step.mode & 0o077 == 0, event


async def _awaited(value: Any) -> Any:
    return await value if hasattr(value, "__await__") else value


def _number(value: Any) -> int:
    assert isinstance(value, int)
    return value
