"""A read or an open that finds the budget spent lets other callbacks run, and then goes on without the ring."""

import asyncio
import contextlib
import inspect
from pathlib import Path
from typing import Any

import pytest

from uringloop import files

from .conftest import Run

DATA = bytes(range(256)) * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


def spend(file: Any) -> None:
    """Let the file find the budget spent from now on."""
    file.raw.has_budget = lambda: False


def ended(call: Any) -> Any:
    """Return the result of a call that ends with its next step."""
    with pytest.raises(StopIteration) as stop:
        call.send(None)
    return stop.value.value


def test_other_calls_on_the_file_come_after_it(run: Run, path: Path) -> None:
    async def main() -> None:
        async with files.open(path, "rb") as file:
            spend(file)
            order: list[str] = []

            async def read(name: str, size: int) -> bytes:
                data = await file.read(size)
                order.append(name)
                return data

            tasks = [asyncio.create_task(read(name, 5000)) for name in ("first", "second")]
            asyncio.get_running_loop().call_soon(order.append, "callback")
            rest = asyncio.create_task(read("rest", -1))
            parts = await asyncio.gather(*tasks, rest)
            assert b"".join(parts) == DATA
            assert [len(part) for part in parts] == [5000, 5000, len(DATA) - 10_000]
            assert order[0] == "callback"
            assert order[1:] == ["first", "second", "rest"]

    run(main())


def test_a_call_that_waits_for_its_turn_is_suspended(run: Run, path: Path) -> None:
    async def main() -> None:
        async with files.open(path, "rb") as file:
            spend(file)
            call: Any = file.read()
            assert call.send(None) is None
            assert inspect.getcoroutinestate(call) == inspect.CORO_SUSPENDED
            with pytest.raises(RuntimeError, match="being awaited already"):
                call.__await__()
            assert ended(call) == DATA
            assert inspect.getcoroutinestate(call) == inspect.CORO_CLOSED

    run(main())


@pytest.mark.parametrize("way", ["cancelled", "closed", "dropped"])
def test_a_call_that_gives_up_its_turn_frees_the_file(run: Run, path: Path, way: str) -> None:
    async def main() -> None:
        async with files.open(path, "rb") as file:
            spend(file)
            call: Any = file.read(5000)
            call.send(None)
            if way == "cancelled":
                with pytest.raises(asyncio.CancelledError):
                    call.throw(asyncio.CancelledError())
            elif way == "closed":
                call.close()
            del call
            async with asyncio.timeout(10):
                assert await file.read(5000) == DATA[:5000]

    run(main())


def test_a_file_that_is_closed_or_detached_meanwhile(run: Run, path: Path) -> None:
    async def main() -> None:
        async with files.open(path, "rb") as file:
            spend(file)
            call: Any = file.read(5000)
            call.send(None)
            closing = asyncio.create_task(file.close())
            await asyncio.sleep(0)
            # The close waits for the read.
            assert ended(call) == DATA[:5000]
            await closing
        file = await files.open(path, "rb")
        spend(file)
        call = file.read(5000)
        call.send(None)
        with contextlib.closing(file.detach()), pytest.raises(ValueError, match="detached"):
            call.send(None)

    run(main())
