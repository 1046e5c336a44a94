"""`files.os` and `files.ospath` against `os`: the same calls in two equal folders, the same ends.

On uringloop, and on asyncio's loop with a ring beside it.
"""

import asyncio
import gc
import os
import random
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.variants import FILES
from uringloop.files import os as aos
from uringloop.files import ospath as aospath

pytestmark = pytest.mark.asyncio(loop_factories=FILES)

SCHEDULES = 500

_heard: list[tuple[str, tuple[Any, ...]]] | None = None


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _heard is not None and event.startswith("os."):
        _heard.append((event, arguments))


sys.addaudithook(_hear)


def furnish(folder: Path) -> None:
    """A folder with one of everything."""
    folder.mkdir()
    (folder / "file").write_bytes(b"content")
    (folder / "file").chmod(0o640)
    (folder / "other").write_bytes(b"")
    (folder / "empty").mkdir()
    (folder / "full").mkdir()
    (folder / "full" / "inside").write_bytes(b"inside")
    (folder / "link").symlink_to("file")
    (folder / "link to folder").symlink_to("full")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "round").symlink_to("round")
    (folder / "ünïcode").write_bytes(b"")
    (folder / os.fsdecode(b"not utf-8 \xff")).write_bytes(b"")
    os.mkfifo(folder / "fifo")


def tree(folder: Path) -> dict[str, Any]:
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        found[str(path.relative_to(folder))] = (stat.filemode(status.st_mode), status.st_nlink, content_of(path))
    return found


def content_of(path: Path) -> Any:
    if path.is_symlink():
        return os.readlink(path)
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return path.stat().st_size, file.read(100)


class Fail:
    """An object that is neither a path nor a number, and equal in both runs."""

    def __repr__(self) -> str:
        return "Fail()"


FAIL = Fail()


def in_folder(name: str) -> Callable[[], int]:
    """A descriptor, opened anew for each run; called where it stands among the arguments."""
    return lambda: os.open(name, os.O_RDWR if name == "file" else os.O_RDONLY)


HERE, FULL, A_FILE = in_folder("."), in_folder("full"), in_folder("file")

CALLS: list[tuple[Any, ...]] = [
    ("mkdir", "new"),
    ("mkdir", b"new"),
    ("mkdir", Path("new")),
    ("mkdir", "new", 0o700),
    ("mkdir", "new", 0o1777),
    ("mkdir", "new", -1),
    ("mkdir", "new", "mode"),
    ("mkdir", "new", 1 << 40),
    ("mkdir", "file"),
    ("mkdir", "file/new"),
    ("mkdir", "nowhere/new"),
    ("mkdir", ""),
    ("mkdir", "x" * 300),
    ("mkdir", "x/" * 3000),
    ("mkdir", "null\0byte"),
    ("mkdir", FAIL),
    ("mkdir", 3),
    ("mkdir", "\ud800"),
    ("mkdir", "new", {"dir_fd": FULL}),
    ("mkdir", "new", {"dir_fd": A_FILE}),
    ("mkdir", "new", {"dir_fd": 9999}),
    ("mkdir", "new", {"dir_fd": -1}),
    ("mkdir", "new", {"dir_fd": -100}),
    ("mkdir", "new", {"dir_fd": 1 << 40}),
    ("mkdir", "new", {"dir_fd": "full"}),
    ("rmdir", "empty"),
    ("rmdir", "full"),
    ("rmdir", "file"),
    ("rmdir", "link to folder"),
    ("rmdir", "nowhere"),
    ("rmdir", "inside", {"dir_fd": FULL}),
    ("rmdir", b"nu\0ll"),
    ("remove", "file"),
    ("remove", b"file"),
    ("remove", "link"),
    ("remove", "dangling"),
    ("remove", "fifo"),
    ("remove", "full"),
    ("remove", "nowhere"),
    ("remove", "round/file"),
    ("remove", os.fsdecode(b"not utf-8 \xff")),
    ("remove", os.fsdecode(b"nowhere \xff")),
    ("remove", "ünïcode"),
    ("remove", "inside", {"dir_fd": FULL}),
    ("remove", None),
    ("remove", 3),
    ("unlink", "file"),
    ("unlink", Path("nowhere")),
    ("unlink", "inside", {"dir_fd": FULL}),
    ("rename", "file", "renamed"),
    ("rename", "file", "other"),
    ("rename", b"file", b"renamed"),
    ("rename", Path("file"), "renamed"),
    ("rename", "nowhere", "renamed"),
    ("rename", Path("nowhere"), b"renamed"),
    ("rename", "file", "full"),
    ("rename", "full", "empty"),
    ("rename", "empty", "full"),
    ("rename", "full", "full/inside"),
    ("rename", "file", "nowhere/renamed"),
    ("rename", "file", "inside", {"dst_dir_fd": FULL}),
    ("rename", "inside", "outside", {"src_dir_fd": FULL}),
    ("rename", "inside", "outside", {"src_dir_fd": FULL, "dst_dir_fd": FULL}),
    ("rename", "inside", "outside", {"src_dir_fd": FULL, "dst_dir_fd": -1}),
    ("rename", "a\0b", "c"),
    ("rename", "file", FAIL),
    ("replace", "file", "other"),
    ("replace", "nowhere", "other"),
    ("replace", "file", "a\0b"),
    ("link", "file", "again"),
    ("link", "file", "other"),
    ("link", "nowhere", "again"),
    ("link", "full", "again"),
    ("link", "link", "again"),
    ("link", "link", "again", {"follow_symlinks": True}),
    ("link", "link", "again", {"follow_symlinks": False}),
    ("link", "link", "again", {"src_dir_fd": HERE}),
    ("link", "link", "again", {"dst_dir_fd": FULL, "follow_symlinks": False}),
    ("link", "inside", "again", {"src_dir_fd": FULL}),
    ("link", "file", "again", {"src_dir_fd": -1}),
    ("symlink", "anywhere", "pointer"),
    ("symlink", b"anywhere", b"pointer"),
    ("symlink", "anywhere", "file"),
    ("symlink", "", "pointer"),
    ("symlink", "anywhere", "pointer", True),
    ("symlink", "anywhere", "pointer", {"dir_fd": FULL}),
    ("symlink", "any\0where", "pointer"),
    ("truncate", "file", 3),
    ("truncate", "file", 30),
    ("truncate", "full", 3),
    ("truncate", "fifo", 3),
    ("truncate", "nowhere", 3),
    ("truncate", A_FILE, 3),
    ("truncate", A_FILE, 5_000_000_000),
    ("truncate", A_FILE, -1),
    ("truncate", A_FILE, -(1 << 63)),
    ("truncate", A_FILE, 1 << 63),
    ("truncate", A_FILE, "3"),
    ("truncate", HERE, 3),
    ("truncate", 9999, 3),
    ("truncate", -1, 3),
    ("makedirs", "a/b/c"),
    ("makedirs", "full/inside/c"),
    ("makedirs", "full", 0o777, True),
    ("removedirs", "empty"),
    ("removedirs", "full"),
    ("renames", "full/inside", "a/b/c"),
    ("readlink", "link"),
    ("readlink", b"link"),
    ("readlink", "file"),
    ("readlink", "inside", {"dir_fd": FULL}),
    ("listdir", "full"),
    ("listdir", b"full"),
    ("listdir", "file"),
    ("access", "file", os.R_OK),
    ("access", "nowhere", os.F_OK),
    ("access", "link", os.W_OK, {"follow_symlinks": False}),
    ("access", "inside", os.R_OK, {"dir_fd": FULL}),
    ("stat", "nowhere"),
    ("stat", Path("nowhere")),
    ("stat", b"nowhere"),
    ("stat", "round"),
    ("stat", "file/x"),
    ("stat", ""),
    ("stat", "nu\0ll"),
    ("stat", FAIL),
    ("stat", None),
    ("stat", 9999),
    ("stat", -1),
    ("stat", 1 << 40),
    ("stat", A_FILE, {"dir_fd": FULL}),
    ("stat", A_FILE, {"follow_symlinks": False}),
    ("stat", "inside", {"dir_fd": A_FILE}),
    ("stat", "inside", {"dir_fd": -1}),
    ("stat", "\ud800"),
    ("statvfs", "nowhere"),
]
PATH_CALLS: list[tuple[Any, ...]] = [
    (name, *argument)
    for name in ("exists", "isdir", "isfile", "islink", "ismount", "getsize", "abspath")
    for argument in (
        *[("file",), ("full",), ("link",), ("link to folder",), ("dangling",), ("round",), ("nowhere",), ("fifo",)],
        *[(".",), ("/",), ("/proc",), (b"file",), (b"/proc",), (Path("full"),), ("nu\0ll",), ("",), ("\ud800",)],
        *[(A_FILE,), (HERE,), (9999,), (-1,), (FAIL,), (None,)],
    )
] + [
    ("getatime", "nowhere"),
    ("getmtime", "round"),
    ("getctime", FAIL),
    ("samefile", "file", "link"),
    ("samefile", "file", "other"),
    ("samefile", "file", "nowhere"),
    ("samefile", A_FILE, "file"),
    ("sameopenfile", A_FILE, A_FILE),
    ("sameopenfile", A_FILE, HERE),
    ("sameopenfile", A_FILE, 9999),
]


def named(call: tuple[Any, ...]) -> str:
    return "-".join(str(part)[:20] if not callable(part) else "fd" for part in call)


class Heard:
    """The audit events of one run; descriptors have other numbers in the other."""

    def __enter__(self) -> "Heard":
        global _heard
        self.events = _heard = []
        return self

    def __exit__(self, *_: object) -> None:
        global _heard
        _heard = None


async def outcome(folder: Path, function: Callable[..., Any], call: tuple[Any, ...]) -> tuple[Any, Any]:
    """How a call ends within a folder, and the audit events on the way."""
    opened: dict[int, int] = {}

    def settle(value: Any) -> Any:
        if callable(value):
            fd = value()
            opened[fd] = len(opened)
            return fd
        return value

    def neutral(value: Any) -> Any:
        return f"fd {opened[value]}" if type(value) is int and value in opened else value

    before = os.getcwd()
    os.chdir(folder)
    try:
        options = {key: settle(value) for key, value in call[-1].items()} if isinstance(call[-1], dict) else {}
        arguments = [settle(part) for part in call[1:] if not isinstance(part, dict)]
        with Heard() as heard:
            try:
                result: Any = function(*arguments, **options)
                if asyncio.iscoroutine(result):
                    result = await result
                if call[0] == "abspath":
                    result = str(Path(os.fsdecode(result)).relative_to(folder.parent))
            except Exception as error:
                named = [neutral(getattr(error, name, None)) for name in ("errno", "filename", "filename2")]
                result = (type(error), "" if isinstance(error, TypeError) else neutral(error.args[0]), named)
        return result, [(event, [neutral(part) for part in parts]) for event, parts in heard.events]
    finally:
        os.chdir(before)
        for fd in opened:
            os.close(fd)


@pytest.mark.parametrize("call", CALLS, ids=named)
async def test_os(call: tuple[Any, ...], tmp_path: Path) -> None:
    furnish(tmp_path / "theirs")
    furnish(tmp_path / "ours")
    expected = await outcome(tmp_path / "theirs", getattr(os, call[0]), call)
    assert await outcome(tmp_path / "ours", getattr(aos, call[0]), call) == expected
    assert tree(tmp_path / "ours") == tree(tmp_path / "theirs")


@pytest.mark.parametrize("call", PATH_CALLS, ids=named)
async def test_ospath(call: tuple[Any, ...], tmp_path: Path) -> None:
    furnish(tmp_path / "both")
    expected = await outcome(tmp_path / "both", getattr(os.path, call[0]), call)
    assert await outcome(tmp_path / "both", getattr(aospath, call[0]), call) == expected


# stat


def kinds(folder: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Files of many kinds, with what `os.stat` takes beside them."""
    furnish(folder)
    for name in ("file", "empty", "full", "link", "fifo", "ünïcode"):
        yield folder / name, {}
        yield os.fsencode(folder / name), {}
    for name in ("file", "link", "dangling", "round", "link to folder"):
        yield folder / name, {"follow_symlinks": False}
    with (folder / "sparse").open("wb") as sparse:
        sparse.truncate(5 << 30)
    yield folder / "sparse", {}
    os.link(folder / "file", folder / "again")
    yield folder / "again", {}
    for number, times in enumerate([(0, 0), (1, -1), (-1_500_000_001, 999_999_999), (2**33 * 10**9 + 123_456_789, 7)]):
        timed = folder / f"timed {number}"
        timed.touch()
        os.utime(timed, ns=times)
        yield timed, {}
    for number, mode in enumerate([0, 0o4755, 0o2711, 0o1777]):
        (folder / f"mode {number}").touch(mode)
        (folder / f"mode {number}").chmod(mode)
        yield folder / f"mode {number}", {}
    if os.getuid() == 0:
        owned = folder / "owned"
        owned.touch()
        os.chown(owned, 65534, 4_000_000_000)
        yield owned, {}
    for special in ("/", "/dev/null", "/dev/tty", "/dev", "/proc", "/proc/self/status", "/sys/kernel", "/dev/shm"):
        if os.path.exists(special):
            yield special, {}
    for device in sorted(Path("/dev").glob("[svl][do]*"))[:5]:
        yield device, {}


async def test_stat_is_os_stat_to_the_last_field(tmp_path: Path) -> None:
    seen = 0
    for path, options in kinds(tmp_path / "folder"):
        while True:
            # The kernel's own files may change meanwhile.
            expected = os.stat(path, **options)
            ours = await aos.stat(path, **options)
            if expected == os.stat(path, **options):
                break
        fields = [name for name in dir(expected) if name.startswith("st_")]
        assert {name: getattr(ours, name) for name in fields} == {name: getattr(expected, name) for name in fields}
        assert type(ours) is type(expected)
        assert tuple(ours) == tuple(expected)
        assert ours.__reduce__() == expected.__reduce__()
        assert repr(ours) == repr(expected)
        seen += 1
    assert seen > 30


async def test_stat_of_descriptors(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket"))
        reader, writer = os.pipe()
        folder = os.open(tmp_path, os.O_RDONLY)
        by_path = os.open(tmp_path / "file", os.O_PATH)
        for fd in (file.fileno(), unix.fileno(), reader, writer, folder, by_path):
            assert await aos.stat(fd) == os.stat(fd)
        assert await aos.stat("file", dir_fd=folder) == os.stat(tmp_path / "file")
        assert await aos.stat(tmp_path / "socket") == os.stat(tmp_path / "socket")
        for fd in (reader, writer, folder, by_path):
            os.close(fd)


# Everything else


async def test_umask_and_working_directory_are_the_process_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    previous = os.umask(0o027)
    try:
        monkeypatch.chdir(tmp_path)
        await aos.mkdir("folder")
        assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750
        assert await aos.getcwd() == os.getcwd()
    finally:
        os.umask(previous)


async def test_scandir_and_statvfs(tmp_path: Path) -> None:
    furnish(tmp_path / "folder")
    entries = await aos.scandir(tmp_path / "folder")
    with entries:
        assert {entry.name for entry in entries} == set(os.listdir(tmp_path / "folder"))
    assert (await aos.statvfs(tmp_path)).f_bsize == os.statvfs(tmp_path).f_bsize


async def test_sendfile(tmp_path: Path) -> None:
    (tmp_path / "from").write_bytes(b"0123456789")
    with (tmp_path / "from").open("rb") as source, (tmp_path / "to").open("wb") as target:
        assert await aos.sendfile(target.fileno(), source.fileno(), 2, 5) == 5
    assert (tmp_path / "to").read_bytes() == b"23456"
    with pytest.raises(OSError, match="Bad file descriptor"):
        await aos.sendfile(9999, 9998, 0, 1)


async def test_keywords_of_aiofiles(tmp_path: Path) -> None:
    """An executor is used for what goes to a thread."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, thread_name_prefix="mine") as executor:
        await aos.mkdir(tmp_path / "folder", loop=loop, executor=executor)
        assert await aos.path.isdir(tmp_path / "folder", loop=loop, executor=executor)
        assert await aos.listdir(tmp_path, loop=loop, executor=executor) == ["folder"]

        def thread() -> str:
            import threading

            return threading.current_thread().name

        assert (await aos.wrap(thread)(executor=executor)).startswith("mine")


async def test_a_path_that_is_changed_after_the_call(tmp_path: Path) -> None:
    """The kernel reads the path when the operation is submitted, which is later."""
    for number in range(100):
        path = bytes(os.fsencode(tmp_path / f"folder {number}"))
        making = asyncio.ensure_future(aos.mkdir(path))
        await asyncio.sleep(0)
        del path
        gc.collect()
        garbage = [bytes(os.fsencode(tmp_path / f"garbag {number}")) for number in range(20)]
        await making
        del garbage
    assert len(os.listdir(tmp_path)) == 100


async def test_many_at_once(tmp_path: Path) -> None:
    await asyncio.gather(*(aos.mkdir(tmp_path / str(number)) for number in range(300)))
    assert len(await aos.listdir(tmp_path)) == 300
    found = await asyncio.gather(*(aos.path.exists(tmp_path / str(number)) for number in range(600)))
    assert found == [True] * 300 + [False] * 300


async def test_cancel(tmp_path: Path) -> None:
    """Whatever a cancel meets, the folder is as if the call happened or as if it did not, and the next one works."""
    ends = {True: 0, False: 0}
    for seed in range(SCHEDULES):
        choice = random.Random(seed)
        name = tmp_path / str(seed)
        calls = [
            partial(aos.mkdir, name),
            partial(aos.symlink, "somewhere", name),
        ]
        task = asyncio.ensure_future(choice.choice(calls)())
        for _ in range(choice.randrange(5)):
            await asyncio.sleep(0)
        if choice.random() < 0.3:
            await asyncio.sleep(choice.random() * 0.0003)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            ends[False] += 1
        else:
            ends[True] += 1
            assert name.name in os.listdir(tmp_path)
        if os.listdir(tmp_path):
            await aos.rename(name, tmp_path / "renamed")
            remove = aos.rmdir if await aos.path.isdir(tmp_path / "renamed") else aos.remove
            await remove(tmp_path / "renamed")
    assert ends[False] > 50
    assert os.listdir(tmp_path) == []
