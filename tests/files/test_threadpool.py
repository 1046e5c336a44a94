"""`threadpool`: files of the standard library in threads, the standard streams, `sync_open`, `open` on any loop."""

import asyncio
import builtins
import io
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.variants import FILES
from uringloop import files
from uringloop.files import threadpool, wrapping

pytestmark = pytest.mark.asyncio(loop_factories=FILES)


@pytest.mark.parametrize(
    ("mode", "buffering", "kind"),
    [
        ("r+b", 0, wrapping.AsyncFileIO),
        ("rb", -1, wrapping.AsyncBufferedReader),
        ("r+b", -1, wrapping.AsyncBufferedReader),
        ("wb", -1, wrapping.AsyncBufferedIOBase),
        ("r", -1, wrapping.AsyncTextIOWrapper),
    ],
)
async def test_wrap(tmp_path: Path, mode: str, buffering: int, kind: type) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"first\nsecond\n")
    with builtins.open(path, mode, buffering) as sync:
        file = threadpool.wrap(sync)
        assert type(file) is kind
        assert (file.name, file.mode, file.closed, file.fileno()) == (sync.name, sync.mode, False, sync.fileno())
        if "w" not in mode:
            lines = [line async for line in file]
            assert lines == (["first\n", "second\n"] if mode == "r" else [b"first\n", b"second\n"])
        assert await file.seek(0) == 0
        async with file:
            pass
        assert file.closed
        # The same kind of file, opened by the ring, passes for one.
        assert isinstance(await opened_and_closed(path, mode, buffering), kind)


async def opened_and_closed(path: Path, mode: str, buffering: int) -> Any:
    async with files.open(path, mode, buffering) as file:
        return file


async def test_wrap_in_memory_and_nonsense() -> None:
    file = threadpool.wrap(io.BytesIO(b"content"))
    assert await file.read() == b"content"
    assert await threadpool.wrap(io.StringIO("text")).read() == "text"
    for nonsense in (3, [1], len, io.FileIO):
        with pytest.raises(TypeError):
            threadpool.wrap(nonsense)


async def test_wrapped_methods_run_in_the_executor() -> None:
    class Where(io.BytesIO):
        def read(self, size: Any = -1) -> bytes:
            return threading.current_thread().name.encode()

    with ThreadPoolExecutor(1, thread_name_prefix="mine") as executor:
        file = threadpool.wrap(Where(), loop=asyncio.get_running_loop(), executor=executor)
        assert (await file.read()).startswith(b"mine")


async def test_cancelled_read_of_a_stream_that_says_nothing() -> None:
    """It returns at once: a terminal may never say anything."""
    reader, writer = os.pipe()
    with builtins.open(reader, "rb") as sync:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await threadpool.wrap(sync).read(1)
        os.close(writer)
        await asyncio.get_running_loop().shutdown_default_executor()


async def test_standard_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        raw = io.BytesIO(b"input")
        monkeypatch.setattr(sys, name, io.TextIOWrapper(raw, write_through=True))
        if name == "stdin":
            assert await files.stdin.read() == "input"
            raw.seek(0)
            assert await files.stdin_bytes.read() == b"input"
        else:
            await getattr(files, name).write("text ")
            await getattr(files, f"{name}_bytes").write(b"bytes")
            assert raw.getvalue().endswith(b"bytes")
        assert getattr(files, name).encoding == getattr(sys, name).encoding
    assert "sys.stdout" not in repr(files.stdout)


async def test_somebody_else_s_sync_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """aiofiles' way to let tests pretend; also arguments are for it to judge."""
    monkeypatch.setattr(threadpool, "sync_open", lambda *arguments: io.BytesIO(repr(arguments[0]).encode()))
    async with files.open("pretended", "nonsense") as file:
        assert await file.read() == b"'pretended'"


async def test_open_on_every_loop(tmp_path: Path) -> None:
    """The whole of files is tested on uringloop; this is that it stands on the others too."""
    path = tmp_path / "file"
    async with files.open(path, "w", encoding="utf-8") as file:
        assert isinstance(file, wrapping.AsyncTextIOWrapper)
        await file.writelines(f"line {number}\n" for number in range(1000))
    async with files.open(path, "rb") as file:
        content = await file.read()
        await file.seek(5)
        assert await file.readline() == b"0\n"
    assert content == path.read_bytes()
    with pytest.raises(FileNotFoundError) as error:
        await files.open(tmp_path / "nowhere")
    assert error.value.filename == str(tmp_path / "nowhere")

    async def copy(number: int) -> None:
        async with files.open(path, "rb") as source, files.open(tmp_path / str(number), "wb") as target:
            while chunk := await source.read(1000):
                await target.write(chunk)

    await asyncio.gather(*(copy(number) for number in range(100)))
    assert {(tmp_path / str(number)).read_bytes() for number in range(100)} == {content}


async def test_an_opener_that_fails_after_a_cancel_is_not_reported(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    begun, cancelled = asyncio.Event(), threading.Event()

    def opener(path: str, flags: int) -> int:
        loop.call_soon_threadsafe(begun.set)
        cancelled.wait()
        raise OSError("too late")

    opening = asyncio.ensure_future(_open_by(tmp_path / "file", opener))
    await begun.wait()
    opening.cancel()
    await asyncio.sleep(0)
    cancelled.set()
    with pytest.raises(asyncio.CancelledError):
        await opening


async def _open_by(path: Path, opener: Callable[[str, int], int]) -> object:
    return await files.open(path, "wb", opener=opener)


async def test_reading_what_is_cached_lets_others_run(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100_000))
    turns = 0
    reading = True

    async def count() -> None:
        nonlocal turns
        while reading:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    async with files.open(path, "rb", 0) as file:
        for _ in range(20_000):
            await file.seek(0)
            await file.read(1)
            if turns > 20:
                break
    reading = False
    await counting
    assert turns > 20
