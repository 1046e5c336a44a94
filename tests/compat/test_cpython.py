"""CPython's asyncio tests on uringloop, in both places where it sleeps, on both backends, and a few on asyncio as the
control.

Deselect them with `-m "not compat"`. For a part of them `python -m tests.compat.cpython` is handier: its
docstring shows how.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel import needs
from tests.variants import EPOLL, EPOLL_ONCE

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.compat

# One test for each way in which CPython's classes come by their loop.
CONTROL = (
    "BaseSockTestsMixin.test_sock_accept",
    "BaseTestBufferedProtocol",
    "CTask_CFuture_Tests.test_task_basics",
    "DecimalContextTest",
    "SleepTests",
    "StreamTests.test_feed_nonempty_data",
    "SubprocessMixin.test_shell",
    "SubprocessTestsMixin.test_subprocess_exec",
    "TestCGetEventLoop",
    "TestTaskGroup.test_taskgroup_01",
)


def run_suite(*arguments: str, **variables: str) -> None:
    command = [sys.executable, "-m", "tests.compat.cpython", *arguments]
    finished = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert finished.returncode == 0, finished.stdout


def test_control_on_asyncio() -> None:
    patterns = [word for name in CONTROL for word in ("-k", name)]
    run_suite("--loop", "asyncio", *patterns)


def test_streams_of_ours() -> None:
    """Tests of streams, with `uringloop.streams` in the place of asyncio's."""
    chosen = ("StreamTests", "SubprocessMixin.test_pause_reading", "SubprocessMixin.test_communicate")
    run_suite("--loop", "uringloop", "--streams", "-v", *(word for name in chosen for word in ("-k", name)))


@needs("io_uring")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("sleep", ["selector", "ring"])
def test_uringloop(sleep: str) -> None:
    run_suite("--loop", "uringloop", "--sleep", sleep, "-v")


@pytest.mark.skipif(not EPOLL, reason="the backend epoll is tested on another Python")
@pytest.mark.timeout(1200)
def test_uringloop_where_io_uring_is_refused() -> None:
    run_suite("--loop", "uringloop", "--refuse", "-v")


@pytest.mark.skipif(not EPOLL or EPOLL_ONCE, reason="they run where io_uring is refused")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("by", ["argument", "variable"])
def test_uringloop_on_epoll(by: str) -> None:
    backend = "epoll" if by == "argument" else "auto"
    run_suite("--loop", "uringloop", "--backend", backend, "-v", URINGLOOP_BACKEND="epoll" if by == "variable" else "")
