"""The runner itself: a test that crashes, hangs or misses its loop is reported, and hides no other."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from asyncio import base_events
from pathlib import Path
from typing import Any

import pytest

from tests.compat.loops import Census

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.compat


def run_broken(name: str, tmp_path: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "tests.compat.cpython", "--loop", f"tests.compat.broken_loops:{name}"]
    finished = subprocess.run(
        [*command, "--json", str(report), *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    tests = json.loads(report.read_text())["tests"] if report.exists() else []
    return finished.returncode, {test["test_id"]: test for test in tests}, finished.stderr


def test_crash_hides_no_other_test(tmp_path: Path) -> None:
    # The second of the two never runs its loop.
    status, tests, _ = run_broken("Crashing", tmp_path, "-k", "SleepTests", "-k", "test_add_reader_invalid")
    assert status == 1
    assert tests["SleepTests.test_sleep_zero"]["status"] == "crashed"
    assert tests["SleepTests.test_sleep_zero"]["reason"] == "killed by SIGSEGV"
    assert "Fatal Python error" in tests["SleepTests.test_sleep_zero"]["output"]
    assert tests["TestFunctional.test_add_reader_invalid_argument"]["status"] == "passed"


def test_hang_ends_with_the_stacks_of_its_threads(tmp_path: Path) -> None:
    status, tests, _ = run_broken("Hanging", tmp_path, "-k", "SleepTests", "--timeout", "2")
    assert status == 1
    assert tests["SleepTests.test_sleep_zero"]["status"] == "timed out"
    assert "broken_loops.py" in tests["SleepTests.test_sleep_zero"]["output"]


def test_crash_after_the_test_counts(tmp_path: Path) -> None:
    status, tests, _ = run_broken("CrashingAtEnd", tmp_path, "-k", "DecimalContextTest")
    assert status == 1
    assert [test["status"] for test in tests.values()] == ["crashed"]


def test_loop_that_cannot_be_made_is_no_result(tmp_path: Path) -> None:
    status, tests, stderr = run_broken("Unavailable", tmp_path, "-k", "SleepTests")
    assert (status, tests) == (2, {})
    assert "no ring here" in stderr


def test_unknown_loop_is_no_result(tmp_path: Path) -> None:
    status, _, stderr = run_broken("Missing", tmp_path)
    assert status == 2
    assert "Missing" in stderr


class TestCensus:
    @pytest.fixture
    def census(self, monkeypatch: pytest.MonkeyPatch) -> Census:
        # `watch` patches for the life of a process; this undoes it.
        monkeypatch.setattr(base_events.BaseEventLoop, "__init__", base_events.BaseEventLoop.__init__)
        census = Census()
        census.watch()
        return census

    def test_counts_a_loop_of_the_factory(self, census: Census) -> None:
        census.counting(asyncio.SelectorEventLoop)().close()
        assert census.verdict() is None

    def test_refuses_a_test_without_a_loop(self, census: Census) -> None:
        assert "never made" in str(census.verdict())

    def test_refuses_a_loop_made_elsewhere(self, census: Census) -> None:
        census.counting(asyncio.SelectorEventLoop)().close()
        asyncio.SelectorEventLoop().close()
        assert "_UnixSelectorEventLoop" in str(census.verdict())
