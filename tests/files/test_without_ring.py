"""The same on a loop that can have no companion: everything goes to threads."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from uringloop import files
from uringloop.files import threadpool

from .conftest import do_without
from .test_os import *  # noqa: F403  # the tests
from .test_tempfile import *  # noqa: F403
from .test_threadpool import *  # noqa: F403

# A thread goes on when its await is cancelled, and what is dropped is the standard library's to report.
del test_cancel, test_dropped  # noqa: F821

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])


@pytest_asyncio.fixture(autouse=True)
async def _without_companion() -> None:
    do_without(asyncio.get_running_loop())


async def test_file_that_is_opened_too_late_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    begun = asyncio.Event()
    submit = threadpool.unjoined.submit

    def submit_and_tell(function: Callable[[], Any]) -> "Future[Any]":
        begun.set()
        return submit(function)

    monkeypatch.setattr(threadpool.unjoined, "submit", submit_and_tell)
    task = asyncio.ensure_future(opened(fifo))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # The thread waits for a writer, and gets one; what it opened is nobody's.
    writer = await asyncio.to_thread(os.open, fifo, os.O_WRONLY)
    os.set_blocking(writer, False)
    with pytest.raises(BrokenPipeError):
        await write_on(writer)
    os.close(writer)


async def opened(path: Path | int) -> Any:
    return await files.open(path, "rb")


async def write_on(fd: int) -> None:
    while True:
        with contextlib.suppress(BlockingIOError):
            os.write(fd, b"x")
        await asyncio.sleep(0)


@pytest.mark.parametrize("by_exit", [False, True])
async def test_close_that_is_cancelled_before_a_thread_is_free_closes(tmp_path: Path, by_exit: bool) -> None:
    with ThreadPoolExecutor(1) as executor:
        file = await files.open(tmp_path / "file", "wb", executor=executor)
        await file.write(b"content")
        busy = threading.Event()
        executor.submit(busy.wait)
        closing = asyncio.ensure_future(file.__aexit__(None, None, None) if by_exit else file.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        busy.set()
        await asyncio.wrap_future(executor.submit(bool))
    assert file.closed
    assert (tmp_path / "file").read_bytes() == b"content"


async def test_descriptor_whose_opening_is_cancelled_is_closed_by_its_owner_alone() -> None:
    for _ in range(2):
        reader, writer = os.pipe()
        opening = asyncio.ensure_future(opened(reader))
        await asyncio.sleep(0)
        opening.cancel()
        try:
            await (await opening).close()
        except asyncio.CancelledError:
            os.close(reader)
        os.close(writer)
