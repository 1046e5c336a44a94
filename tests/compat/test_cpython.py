"""CPython's asyncio tests on uringloop, in both places where it sleeps, and a few on asyncio as the control.

Deselect them with `-m "not compat"`. For a part of them `python -m tests.compat.cpython` is handier: its
docstring shows how.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import uringloop

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


def run_suite(*arguments: str) -> None:
    command = [sys.executable, "-m", "tests.compat.cpython", *arguments]
    finished = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert finished.returncode == 0, finished.stdout


def test_control_on_asyncio() -> None:
    patterns = [word for name in CONTROL for word in ("-k", name)]
    run_suite("--loop", "asyncio", *patterns)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("sleep", ["selector", "ring"])
def test_uringloop(sleep: str) -> None:
    if not uringloop.is_available():
        pytest.skip("no io_uring here")
    run_suite("--loop", "uringloop", "--sleep", sleep, "-v")
