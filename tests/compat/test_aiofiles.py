"""aiofiles' own tests with `uringloop.files` in its place, on each loop, and with aiofiles itself as the control.

Deselect them with `-m "not compat"`.  They are fetched once; where that cannot be done they are skipped.
"""

from __future__ import annotations

import fcntl
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.children import ROOT, environment
from tests.compat import aiofiles
from tests.compat.aiofiles import UnavailableError, fetch_tests
from tests.variants import EPOLL, EPOLL_ONCE

pytestmark = [pytest.mark.compat, pytest.mark.timeout(400)]


def passed_by(*arguments: str, **variables: str) -> int:
    """Run the suite; how many tests passed.  None may fail."""
    try:
        fetch_tests()
    except UnavailableError as error:
        pytest.skip(f"aiofiles' source distribution cannot be had: {error}")
    finished = subprocess.run(
        [sys.executable, "-m", "tests.compat.aiofiles", *arguments],
        cwd=ROOT,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout
    summary = re.search(r"(\d+) passed", finished.stdout.splitlines()[-1])
    assert summary, finished.stdout
    return int(summary[1])


@functools.cache
def passed_by_aiofiles() -> int:
    return passed_by("--control", "--loop", "asyncio")


def test_one_process_at_a_time_fetches_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fetched = []

    def fetch(version: str, folder: Path) -> None:
        with (tmp_path / "aiofiles.lock").open("a") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (folder / "tests").mkdir(parents=True)
        fetched.append(version)

    monkeypatch.setattr(aiofiles, "_CACHE", tmp_path)
    monkeypatch.setattr(aiofiles, "_fetch", fetch)
    assert fetch_tests() == fetch_tests()
    assert len(fetched) == 1


def test_control() -> None:
    assert passed_by_aiofiles() > 200


@pytest.mark.parametrize(
    "arguments",
    [
        ("--loop", "uringloop", "--sleep", "selector"),
        ("--loop", "uringloop", "--sleep", "ring"),
        ("--loop", "asyncio"),
        ("--loop", "uvloop"),
    ],
    ids=" ".join,
)
def test_uringloop_files(arguments: tuple[str, ...]) -> None:
    assert passed_by(*arguments) == passed_by_aiofiles()


@pytest.mark.skipif(not EPOLL, reason="the backend epoll is tested on another Python")
@pytest.mark.parametrize("loop", ["uringloop"] if EPOLL_ONCE else ["uringloop", "asyncio"])
def test_uringloop_files_where_io_uring_is_refused(loop: str) -> None:
    assert passed_by("--loop", loop, "--refuse") == passed_by_aiofiles()


@pytest.mark.skipif(not EPOLL or EPOLL_ONCE, reason="they run where io_uring is refused")
@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (("--loop", "uringloop", "--backend", "epoll"), {}),
        (("--loop", "uringloop"), {"URINGLOOP_BACKEND": "epoll"}),
        (("--loop", "asyncio"), {"URINGLOOP_BACKEND": "epoll"}),
        (("--loop", "asyncio"), {"URINGLOOP_DISABLE": "1"}),
    ],
    ids=["argument", "variable", "variable beside asyncio", "disabled"],
)
def test_uringloop_files_on_epoll(arguments: tuple[str, ...], variables: dict[str, str]) -> None:
    assert passed_by(*arguments, **variables) == passed_by_aiofiles()
