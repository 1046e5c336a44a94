"""The same on asyncio's loop where io_uring is refused: everything goes to threads."""

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from uringloop import files

from .test_os import *  # noqa: F403  # the tests
from .test_tempfile import *  # noqa: F403
from .test_threadpool import *  # noqa: F403

# A thread goes on when its await is cancelled, and what is dropped is the standard library's to report.
del test_cancel, test_dropped  # noqa: F821

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])


@pytest.fixture(autouse=True)
def _refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("URINGLOOP_DISABLE", "1")


async def test_file_that_is_opened_too_late_is_closed(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    task = asyncio.ensure_future(opened(fifo))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # The thread waits for a writer, and gets one; what it opened is nobody's.
    writer = await asyncio.to_thread(os.open, fifo, os.O_WRONLY)
    os.set_blocking(writer, False)
    with pytest.raises(BrokenPipeError):
        await write_on(writer)
    os.close(writer)


async def opened(path: Path) -> Any:
    return await files.open(path, "rb")


async def write_on(fd: int) -> None:
    while True:
        with contextlib.suppress(BlockingIOError):
            os.write(fd, b"x")
        await asyncio.sleep(0)
