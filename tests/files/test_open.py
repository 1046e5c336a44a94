"""Opening: arguments and errors are the built-in's; nothing leaks when it fails."""

import builtins
import errno
import io
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from uringloop import files

from .conftest import Run


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("f", ""), {}),
        (("f", "b"), {}),
        (("f", "rwb"), {}),
        (("f", "rbb"), {}),
        (("f", "zb"), {}),
        (("f", "Ub"), {}),
        (("f", "rb++"), {}),
        (("f", "rbt"), {}),
        (("f", "rb"), {"encoding": "utf-8"}),
        (("f", "rb"), {"errors": "strict"}),
        (("f", "rb"), {"newline": "\n"}),
        (("f", "rb"), {"closefd": False}),
        (("f\0g", "rb"), {}),
        ((b"f\0g", "rb"), {}),
        ((-1, "rb"), {}),
        ((None, "rb"), {}),
        ((1.5, "rb"), {}),
        (("f", None), {}),
        (("f", "rb", "big"), {}),
        (("f", "rb", None), {}),
        (("/dev/null", "r", 0), {}),
        (("/dev/null", "r"), {"encoding": "no such encoding"}),
        (("/dev/null", "r"), {"encoding": "hex"}),
        (("/dev/null", "r"), {"encoding": 5}),
        (("/dev/null", "r"), {"errors": 5}),
        (("/dev/null", "r"), {"newline": "no"}),
        (("/dev/null", "r"), {"newline": 5}),
    ],
)
def test_wrong_arguments_as_the_built_in(arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Before anything happens: without a loop."""
    with pytest.raises((ValueError, TypeError, LookupError)) as expected:
        builtins.open(*arguments, **options)  # noqa: SIM115  # it does not open
    with pytest.raises(expected.type):
        files.open(*arguments, **options)


@pytest.mark.parametrize("mode", ["rb", "r+b", "wb", "w+b", "ab", "a+b", "xb", "x+b", "br", "+wb"])
@pytest.mark.parametrize("buffering", [-1, 0])
def test_modes(run: Run, tmp_path: Path, mode: str, buffering: int) -> None:
    for name in ("ours", "theirs"):
        if "x" not in mode:
            (tmp_path / name).write_bytes(b"content")
    with builtins.open(tmp_path / "theirs", mode, buffering) as theirs:
        expected = (
            theirs.mode,
            theirs.readable(),
            theirs.writable(),
            theirs.seekable(),
            theirs.isatty(),
            theirs.tell(),
        )

    async def main() -> None:
        async with files.open(tmp_path / "ours", mode, buffering) as ours:
            facts = [
                ours.readable(),
                *[await fact() for fact in (ours.writable, ours.seekable, ours.isatty, ours.tell)],
            ]
            assert (ours.mode, *facts) == expected
            assert ours.name == tmp_path / "ours"
            assert os.get_inheritable(ours.fileno()) is False
            if not ours.readable():
                for call in (ours.read(), ours.read(1), ours.readline(), ours.readinto(bytearray(1))):
                    with pytest.raises(io.UnsupportedOperation):
                        await call
            if not await ours.writable():
                for call in (ours.write(b"x"), ours.truncate()):
                    with pytest.raises(io.UnsupportedOperation):
                        await call
            assert not ours.closed
        assert ours.closed
        assert "closed" in repr(ours)

    run(main())
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "theirs").stat().st_mode


@pytest.mark.parametrize("kind", [str, bytes, Path, os.fsencode])
def test_kinds_of_paths(run: Run, tmp_path: Path, kind: Any) -> None:
    name = kind(os.fsencode(tmp_path / "näme") if kind is bytes else str(tmp_path / "näme"))

    async def main() -> None:
        async with files.open(name, "wb") as file:
            await file.write(b"content")
            assert file.name == name

    run(main())
    assert (tmp_path / "näme").read_bytes() == b"content"


def test_odd_file_names(run: Run, tmp_path: Path) -> None:
    """Bytes that are no UTF-8 come back in the error as they were given."""
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe")

    async def main() -> None:
        with pytest.raises(FileNotFoundError) as caught:
            await files.open(name, "rb")
        assert caught.value.filename == name
        async with files.open(name, "xb"):
            pass

    run(main())
    assert os.path.exists(name)


def _same_error(run: Run, path: Any, mode: str) -> OSError:
    with pytest.raises(OSError) as expected:  # noqa: PT011  # whatever it is, ours is the same
        builtins.open(path, mode)  # noqa: SIM115  # it does not open

    async def main() -> None:
        with pytest.raises(OSError) as caught:  # noqa: PT011
            await files.open(path, mode)
        ours, theirs = caught.value, expected.value
        assert type(ours) is type(theirs)
        assert str(ours) == str(theirs)
        assert (ours.errno, ours.filename, ours.filename2) == (theirs.errno, theirs.filename, theirs.filename2)

    run(main())
    return expected.value


@pytest.mark.parametrize("mode", ["rb", "r+b"])
def test_missing(run: Run, tmp_path: Path, mode: str) -> None:
    assert _same_error(run, str(tmp_path / "missing"), mode).errno == errno.ENOENT
    assert _same_error(run, os.fsencode(tmp_path / "missing"), mode).errno == errno.ENOENT


@pytest.mark.parametrize("mode", ["rb", "wb", "r+b", "ab"])
def test_directory(run: Run, tmp_path: Path, mode: str) -> None:
    assert _same_error(run, str(tmp_path), mode).errno == errno.EISDIR


def test_other_errors(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert _same_error(run, str(file), "xb").errno == errno.EEXIST
    assert _same_error(run, str(file / "below"), "rb").errno == errno.ENOTDIR
    assert _same_error(run, str(tmp_path / ("n" * 256)), "wb").errno == errno.ENAMETOOLONG
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert _same_error(run, str(tmp_path / "loop"), "rb").errno == errno.ELOOP


_AS_NOBODY = """
import os, sys, uringloop
from uringloop import files
path, loop = sys.argv[1], uringloop.EventLoop()
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
async def main():
    try:
        await files.open(path, sys.argv[2])
    except PermissionError as error:
        print(error.errno, error.filename == path)
loop.run_until_complete(main())
loop.close()
"""


@pytest.mark.parametrize("mode", ["rb", "wb"])
def test_permission(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"secret")
    path.chmod(0)
    for parent in (tmp_path, *tmp_path.parents[:-2]):
        parent.chmod(0o755)
    command = [sys.executable, "-c", _AS_NOBODY, path, mode]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (answer.stdout, answer.stderr) == (f"{errno.EACCES} True\n", "")
    assert path.stat().st_size == 6


def test_out_of_descriptors(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def main() -> None:
        opened = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
        try:
            with pytest.raises(OSError, match="Too many open files") as caught:  # noqa: PT012
                while True:
                    opened.append(await files.open(path, "rb"))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert caught.value.errno == errno.EMFILE
        assert caught.value.filename == str(path)
        assert len(opened) > 10
        for file in opened:
            assert await file.read() == b"content"
            await file.close()

    run(main())


def test_updating_a_fifo_with_buffers(run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")

    async def main() -> None:
        with pytest.raises(io.UnsupportedOperation, match="not seekable"):
            await files.open(tmp_path / "fifo", "r+b")
        async with files.open(tmp_path / "fifo", "r+b", 0) as file:
            assert await file.write(b"echo") == 4
            assert await file.read(100) == b"echo"

    run(main())


def test_descriptors(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")

    async def main() -> None:
        fd = os.open(path, os.O_RDONLY)
        os.lseek(fd, 3, os.SEEK_SET)
        async with files.open(fd, "rb", closefd=False) as file:
            assert await file.read() == b"3456789"
        os.lseek(fd, 5, os.SEEK_SET)
        async with files.open(fd, "rb") as file:
            assert await file.read() == b"56789"
        with pytest.raises(OSError, match="Bad file descriptor") as caught:
            await files.open(fd, "rb")
        assert (caught.value.errno, caught.value.filename) == (errno.EBADF, fd)
        directory = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(IsADirectoryError):
            await files.open(directory, "rb")
        # A descriptor that was given and refused is still the caller's.
        os.close(directory)

    run(main())


def test_opener(run: Run, tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)

    def opener(path: str, flags: int) -> int:
        return os.open(path, flags, 0o600, dir_fd=folder)

    async def main() -> None:
        async with files.open("file", "wb", opener=opener) as file:
            await file.write(b"content")
        with pytest.raises(ValueError, match="opener returned -3"):
            await files.open("file", "rb", opener=lambda path, flags: -3)
        with pytest.raises(TypeError, match="expected integer from opener"):
            await files.open("file", "rb", opener=lambda path, flags: "no")  # type: ignore[arg-type,return-value]
        with pytest.raises(FileNotFoundError):
            await files.open("missing", "rb", opener=opener)
        with pytest.raises(IsADirectoryError):
            await files.open(".", "rb", opener=opener)

    run(main())
    os.close(folder)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_awaited_or_entered_once(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    async def main() -> None:
        files.open(tmp_path / "file", "rb")  # never awaited: nothing happens, and nothing warns
        opening = files.open(tmp_path / "file", "rb")
        file = await opening
        assert await opening is file
        async with opening as entered:
            assert entered is file
        assert file.closed
        with pytest.raises(ZeroDivisionError):
            async with files.open(tmp_path / "file", "rb") as file:
                raise ZeroDivisionError
        assert file.closed
        for call in (file.read(), file.seek(0), file.tell(), file.flush(), file.truncate(), file.peek()):
            with pytest.raises(ValueError, match="closed file"):
                await call
        with pytest.raises(ValueError, match="closed file"):
            file.fileno()

    run(main())


def test_audit_event(run: Run, tmp_path: Path) -> None:
    heard = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and arguments[0] == str(tmp_path / "file"):
            heard.append(arguments)

    sys.addaudithook(hook)

    async def main() -> None:
        async with files.open(tmp_path / "file", "wb"):
            pass

    run(main())
    assert heard == [(str(tmp_path / "file"), "wb", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)]
