"""`install`, and that everything of aiofiles is there: its names, its arguments."""

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from tests.children import script
from uringloop import files
from uringloop.files import wrapping


@pytest.fixture
def _undone() -> Iterator[None]:
    yield
    files.uninstall()


AIOFILES = [
    "aiofiles",
    "aiofiles.base",
    "aiofiles.os",
    "aiofiles.ospath",
    "aiofiles.tempfile",
    "aiofiles.tempfile.temptypes",
    "aiofiles.threadpool",
    "aiofiles.threadpool.binary",
    "aiofiles.threadpool.text",
    "aiofiles.threadpool.utils",
]
#: The standard library's, or what `from ... import` of it has left behind.
STANDARD = sys.stdlib_module_names | {"builtins", "_io"}


def own_names(module: ModuleType) -> set[str]:
    """All that a module has, underscored or not, but for what it has from the standard library."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("__") and name != "_" and not is_standard(value)
    }


def is_standard(value: Any) -> bool:
    home = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return home is not None and home.partition(".")[0] in STANDARD


@pytest.mark.usefixtures("_undone")
@pytest.mark.parametrize("name", AIOFILES)
def test_every_name_of_aiofiles(name: str) -> None:
    theirs = importlib.import_module(name)
    files.install()
    ours = importlib.import_module(name)
    assert ours.__name__.startswith("uringloop.files")
    names = own_names(theirs) | set(getattr(theirs, "__all__", []))
    assert {own for own in names if not hasattr(ours, own)} == set()
    assert {own for own in names if callable(getattr(theirs, own)) and not callable(getattr(ours, own))} == set()
    files.uninstall()
    assert importlib.import_module(name) is theirs


@pytest.mark.usefixtures("_undone")
@pytest.mark.parametrize("name", AIOFILES)
def test_every_name_by_its_path(name: str) -> None:
    """`import aiofiles.threadpool.text`, and then `aiofiles.threadpool.text.AsyncTextIOWrapper`."""
    theirs = importlib.import_module(name)
    names = own_names(theirs)
    files.install()
    ours = functools.reduce(getattr, name.split(".")[1:], importlib.import_module("aiofiles"))
    assert {own for own in names if not hasattr(ours, own)} == set()


def test_what_is_returned_counts_as_aiofiles_kinds() -> None:
    answer = script(
        """
        import asyncio, os, tempfile
        from uringloop import files
        files.install()
        import aiofiles, aiofiles.base, aiofiles.tempfile.temptypes, aiofiles.threadpool.utils
        from aiofiles.base import AiofilesContextManager
        from aiofiles.threadpool import _open
        from aiofiles.tempfile import _temporary_file, _temporary_directory

        class Own(AiofilesContextManager):
            # As those who build on aiofiles do.
            async def size(self):
                self._obj = await self._coro
                return os.fstat(self._obj.fileno()).st_size

        async def main():
            opening = aiofiles.open(__import__("sys").executable, "rb")
            assert isinstance(opening, AiofilesContextManager)
            assert opening._obj is None
            async with opening as file:
                assert opening._obj is file
            async with AiofilesContextManager(_open("new", "w")) as file:
                await file.write("text")
            assert file.closed
            own = Own(_open("new"))
            assert await own.size() == 4
            async with own as file:
                assert await file.read() == "text"
            async with AiofilesContextManager(_temporary_file(named=True)) as file:
                assert os.path.exists(file.name)
            folder = await _temporary_directory()
            assert isinstance(folder, aiofiles.tempfile.temptypes.AsyncTemporaryDirectory)
            await folder.close()
            spooled = await aiofiles.tempfile.SpooledTemporaryFile()
            assert isinstance(spooled, aiofiles.tempfile.AsyncSpooledTemporaryFile)
            await spooled.close()
            wrapped = aiofiles.tempfile.AsyncSpooledTemporaryFile(tempfile.SpooledTemporaryFile(3), None, None)
            assert await wrapped.write(b"ab") == 2
            assert not wrapped._file._rolled
            await wrapped.write(b"cd")
            assert wrapped._file._rolled
            await wrapped.write(b"ef")
            await wrapped.seek(0)
            assert await wrapped.read() == b"abcdef"
            await wrapped.close()
            with tempfile.TemporaryFile() as plain:
                async with aiofiles.tempfile.wrap(plain, plain) as file:
                    await file.write(b"x")

        @aiofiles.threadpool.utils.delegate_to_executor("upper")
        class Shouting:
            _executor = None
            _file = "quiet"

            @property
            def _loop(self):
                return asyncio.get_running_loop()

        assert asyncio.run(Shouting().upper()) == "QUIET"
        os.chdir(tempfile.mkdtemp())
        asyncio.run(main())
        print("done")
    """
    )
    assert answer == "done\n"


def parameters(function: Any) -> list[tuple[str, Any]]:
    return [(name, parameter.default) for name, parameter in inspect.signature(function).parameters.items()]


def test_signatures_are_those_of_aiofiles_and_of_os() -> None:
    import aiofiles
    import aiofiles.tempfile

    assert parameters(files.open) == parameters(aiofiles.open)
    for name in ("TemporaryFile", "SpooledTemporaryFile", "NamedTemporaryFile"):
        theirs = parameters(getattr(aiofiles.tempfile, name))
        ours = parameters(getattr(files.tempfile, name))
        # One argument more from Python 3.12 on; one more of the standard library, by keyword.
        assert [own for own in ours if own in theirs] == theirs
        assert {name for name, _ in ours if name not in dict(theirs)} <= {"errors", "delete_on_close"}
    for module, original in ((files.os, os), (files.ospath, os.path)):
        for name in module.__all__:
            function = getattr(original, name, None)
            if name in ("path", "wrap") or hasattr(getattr(module, name), "__wrapped__"):
                continue
            if "os.name" in (getattr(function, "__text_signature__", None) or ""):
                continue  # a default that `inspect` cannot read: of `link`, from 3.14 on
            theirs = [own for own in parameters(function) if own[0] not in ("loop", "executor")]
            ours = [own for own in parameters(getattr(module, name)) if own[0] not in ("loop", "executor")]
            assert ours == theirs, name


def test_install_and_undo() -> None:
    import aiofiles

    try:
        files.install()
        files.install()
        import aiofiles as replaced
        import aiofiles.os as replaced_os
        from aiofiles.threadpool.text import AsyncTextIOWrapper

        assert replaced is files
        assert replaced_os is files.os
        assert AsyncTextIOWrapper is wrapping.AsyncTextIOWrapper
    finally:
        files.uninstall()
    files.uninstall()
    import aiofiles as original

    assert original is aiofiles
    assert original is not files


def test_install_where_aiofiles_is_not() -> None:
    answer = script(
        """
        import sys

        class Missing:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] == "aiofiles":
                    raise ModuleNotFoundError(name)

        sys.meta_path.insert(0, Missing())
        from uringloop import files
        files.install()
        import asyncio
        import aiofiles, aiofiles.os
        from aiofiles.tempfile import NamedTemporaryFile

        async def main():
            async with aiofiles.open("/etc/hostname") as file:
                assert await file.read() == open("/etc/hostname").read()
            async with NamedTemporaryFile() as file:
                assert await aiofiles.os.path.exists(file.name)

        asyncio.run(main())
        files.uninstall()
        try:
            import aiofiles
        except ModuleNotFoundError:
            print("gone")
    """.replace('open("/etc/hostname").read()', "__import__('pathlib').Path(\"/etc/hostname\").read_text()")
    )
    assert answer == "gone\n"
