"""What `read`, `readline`, `write`, `seek` and iteration return behaves as a coroutine, also where it is compiled."""

import asyncio
import collections.abc
import inspect
import os
import sys
import weakref
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from uringloop import files

from .conftest import Run

# How the loop sleeps is of no consequence.
pytestmark = pytest.mark.parametrize("run", ["ring"], indirect=True)

CONTENT = b"one\ntwo\nthree\n" * 1000

CALLS: dict[str, Callable[[Any], Coroutine[Any, Any, Any]]] = {
    "read": lambda file: file.read(4),
    "readline": lambda file: file.readline(),
    "__anext__": lambda file: anext(file),
    "write": lambda file: file.write(b"1234"),
    "seek": lambda file: file.seek(4),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(CONTENT)
    return tmp_path / "file"


@pytest.fixture(params=CALLS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def opened(path: Path, name: str) -> Any:
    return files.open(path, "wb" if name == "write" else "rb")


def test_nothing_happens_before_it_is_awaited(run: Run, path: Path, name: str) -> None:
    async def main() -> None:
        async with opened(path, name) as file:
            # The second one finds the buffer as the first one left it.
            for _ in range(2):
                before = await file.tell()
                call = CALLS[name](file)
                assert inspect.isawaitable(call)
                assert isinstance(call, collections.abc.Coroutine)
                assert await file.tell() == before
                await call
                assert await file.tell() == 4 if name == "seek" else before + 4
                await file.seek(0)

    run(main())


def test_cancelled_before_it_began(run: Run, path: Path, name: str) -> None:
    async def main() -> None:
        async with opened(path, name) as file:
            await CALLS[name](file)
            before = await file.tell()
            task = asyncio.create_task(CALLS[name](file))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await file.tell() == before

    run(main())


def test_as_a_task(run: Run, path: Path, name: str) -> None:
    async def main() -> None:
        async with opened(path, name) as file:
            task = asyncio.create_task(CALLS[name](file))
            assert f"{name}()" in repr(task)
            expected = {"read": b"one\n", "readline": b"one\n", "__anext__": b"one\n"}.get(name, 4)
            assert await task == expected
            assert await asyncio.wait_for(CALLS[name](file), 60) == {"readline": b"two\n", "__anext__": b"two\n"}.get(
                name, b"two\n" if name == "read" else 4
            )

    run(main())


def test_only_once(run: Run, path: Path, name: str) -> None:
    async def main() -> None:
        async with opened(path, name) as file:
            call = CALLS[name](file)
            await call
            with pytest.raises(RuntimeError, match="already awaited"):
                await call
            thrown = CALLS[name](file)
            with pytest.raises(KeyError):
                thrown.throw(KeyError("thrown"))
            with pytest.raises(RuntimeError, match="already awaited"):
                await thrown
            closed = CALLS[name](file)
            closed.close()
            with pytest.raises(RuntimeError, match="already awaited"):
                closed.send(None)

    run(main())


@pytest.mark.parametrize("name", sorted(CALLS.keys() - {"__anext__"}))
def test_never_awaited(run: Run, path: Path, name: str) -> None:
    async def main() -> None:
        async with opened(path, name) as file:
            with pytest.warns(RuntimeWarning, match=f"coroutine '.*{name}' was never awaited"):
                CALLS[name](file)

    run(main())


def test_two_that_await_one(run: Run) -> None:
    async def main() -> None:
        reader, writer = os.pipe()
        async with files.open(reader, "rb") as file:
            call = file.read(1)

            async def waiting() -> bytes:
                return bytes(await call)

            first = asyncio.create_task(waiting())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="being awaited already"):
                await waiting()
            os.write(writer, b"x")
            assert await first == b"x"
        os.close(writer)

    run(main())


def test_a_stop_that_is_kept(run: Run, path: Path) -> None:
    """The StopIteration that carries the value is used again, but not while somebody has it."""

    async def main() -> None:
        async with files.open(path, "rb") as file:
            kept = []
            call = file.read(4)
            try:
                call.send(None)
            except StopIteration as stop:
                kept.append(stop)
            assert await file.read(4) == b"two\n"
            assert kept[0].value == b"one\n"

    run(main())


def test_nothing_keeps_what_was_read_or_opened(run: Run, path: Path) -> None:
    async def main() -> None:
        path.write_bytes(bytes(1_000_000))
        nobody_else_s = object()
        count = sys.getrefcount(nobody_else_s)
        async with files.open(path, "rb") as file:
            data = await file.read()
            assert sys.getrefcount(data) == count
        opened = await files.open(path, "rb")
        await opened.close()
        assert sys.getrefcount(opened) == count

    run(main())


def test_nothing_keeps_what_was_being_handled(run: Run, path: Path) -> None:
    """Every StopIteration may become the one that is used again, and its context would hold frames."""

    class Handled(Exception):
        pass

    async def main() -> None:
        async with files.open(path, "rb") as file:
            await file.read(1)
            try:
                raise Handled
            except Handled as error:
                reference = weakref.ref(error)
                await file.read(4)
            assert reference() is None

    run(main())
