"""`install`, and that everything of aiofiles is there: its names, its arguments."""

import importlib
import inspect
import os
from collections.abc import Iterator
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
#: What aiofiles uses inside, and nobody else could.
INSIDE = {"AiofilesContextManager", "AiofilesContextManagerTempDir", "cond_delegate_to_executor"}


@pytest.mark.usefixtures("_undone")
@pytest.mark.parametrize("name", AIOFILES)
def test_every_name_of_aiofiles(name: str) -> None:
    theirs = importlib.import_module(name)
    files.install()
    ours = importlib.import_module(name)
    assert ours.__name__.startswith("uringloop.files")
    public = set(getattr(theirs, "__all__", [])) | {
        own
        for own, value in vars(theirs).items()
        if not own.startswith("_") and getattr(value, "__module__", "") == name
    }
    assert {own for own in public - INSIDE if not hasattr(ours, own)} == set()
    files.uninstall()
    assert importlib.import_module(name) is theirs


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
