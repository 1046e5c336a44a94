"""What is awaited looks so to `inspect` and `asyncio`: libraries ask before they call."""

import asyncio
import inspect
import os
import types
import warnings
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import aiofiles
import aiofiles.os
import aiofiles.tempfile
import pytest

from uringloop import files

from .conftest import WITH_THREADS, Run

pytestmark = pytest.mark.parametrize("run", WITH_THREADS, indirect=True)

MODES = [("r", -1), ("w", -1), ("r+", -1), ("rb", -1), ("wb", -1), ("r+b", -1), ("rb", 0), ("wb", 0), ("r+b", 0)]
#: Methods that Python calls for `async with` and `async for`.
SPECIAL = ("__aenter__", "__aexit__", "__anext__")


def awaited(thing: Any, names: Any) -> dict[str, bool]:
    """Which of a thing's methods `inspect` and `asyncio` take for coroutine functions; both must agree."""
    answers = {}
    for name in names:
        method = getattr(thing, name, None)
        if callable(method):
            answers[name] = inspect.iscoroutinefunction(method)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of asyncio's, from Python 3.14 on
                assert asyncio.iscoroutinefunction(method) is answers[name], name
    return answers


def names_of(thing: Any) -> list[str]:
    return [name for name in dir(thing) if not name.startswith("_") or (name in SPECIAL and hasattr(thing, name))]


@pytest.mark.parametrize(("mode", "buffering"), MODES)
def test_methods_as_with_aiofiles(run: Run, tmp_path: Path, mode: str, buffering: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one\ntwo\n")

    async def main() -> None:
        async with aiofiles.open(path, mode, buffering) as theirs, files.open(path, mode, buffering) as ours:
            names = names_of(theirs)
            assert awaited(ours, names) == awaited(theirs, names)
            assert inspect.iscoroutinefunction(type(ours).read)
            assert awaited(ours, SPECIAL) == dict.fromkeys(SPECIAL, True)

    run(main())


@pytest.mark.parametrize("make", ["NamedTemporaryFile", "TemporaryFile", "SpooledTemporaryFile", "TemporaryDirectory"])
def test_temporary_files_as_with_aiofiles(run: Run, make: str) -> None:
    async def main() -> None:
        theirs, ours = await getattr(aiofiles.tempfile, make)(), await getattr(files.tempfile, make)()
        names = [name for name in names_of(theirs) if name not in ("loop", "executor", "__anext__", "detach")]
        assert awaited(ours, names) == awaited(theirs, names)
        await theirs.close()
        await ours.close()

    run(main())


def test_openings_and_functions(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        opening = files.open(tmp_path / "file", "wb")
        assert awaited(opening, ("__aenter__", "__aexit__")) == {"__aenter__": True, "__aexit__": True}
        assert inspect.isawaitable(opening)
        await (await opening).close()

    run(main())
    for module, own in ((aiofiles.os, files.os), (aiofiles.os.path, files.ospath)):
        names = [name for name in module.__all__ if name not in ("path", "wrap")]
        assert awaited(own, names) == awaited(module, names)


CALLS = [("read", ()), ("readline", ()), ("seek", (0,)), ("write", (b"x",)), ("close", ()), ("__anext__", ())]


@pytest.mark.parametrize(("name", "arguments"), CALLS, ids=[name for name, _ in CALLS])
def test_a_call_looks_like_the_coroutine_that_it_is(
    run: Run, tmp_path: Path, name: str, arguments: tuple[Any, ...]
) -> None:
    async def main() -> None:
        async with files.open(tmp_path / "file", "w+b") as file:
            await file.write(b"one\ntwo\n")
            await file.seek(0)
            call = getattr(file, name)(*arguments)
            assert inspect.iscoroutine(call)
            assert asyncio.iscoroutine(call)
            assert inspect.isawaitable(call)
            assert isinstance(call, types.CoroutineType)
            assert isinstance(call, Coroutine)
            assert inspect.getcoroutinestate(call) == inspect.CORO_CREATED
            assert call.cr_code.co_name
            assert call.cr_frame is not None
            await call
            assert inspect.getcoroutinestate(call) == inspect.CORO_CLOSED
            assert call.cr_frame is None

    run(main())


def test_a_call_that_waits(run: Run) -> None:
    """Tools that show where tasks are look into it."""

    async def main() -> None:
        reader, writer = os.pipe()
        async with files.open(reader, "rb") as source, files.open(writer, "wb", 0) as sink:
            call: Any = source.read(1)
            task = asyncio.ensure_future(call)
            while inspect.getcoroutinestate(call) == inspect.CORO_CREATED:
                await asyncio.sleep(0)
            assert inspect.getcoroutinestate(call) == inspect.CORO_SUSPENDED
            assert [frame.f_code.co_name for frame in task.get_stack()]
            assert "running at" in repr(task)
            await sink.write(b"x")
            assert await task == b"x"

    run(main())
