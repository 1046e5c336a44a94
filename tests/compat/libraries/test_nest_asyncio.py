"""nest_asyncio and nest_asyncio2: `run_until_complete` within a running loop, as notebooks have it."""

import subprocess
import sys

import pytest

from tests.children import ROOT, environment
from tests.variants import BOTH_SLEEPS

from .needs import library

pytestmark = pytest.mark.compat

_TIMEOUT_SECONDS = 60

each_library = pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            "nest_asyncio",
            marks=pytest.mark.skipif(
                sys.version_info >= (3, 14),
                reason="nest_asyncio knows no Python after 3.13: current_task() is None there",
            ),
        ),
        "nest_asyncio2",
    ],
)


def run(name: str, loop: str, case: str) -> None:
    library(name)
    command = [sys.executable, "-W", "error", "-m", "tests.compat.libraries.nesting", name, loop, case]
    ended = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=_TIMEOUT_SECONDS
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")


@each_library
@pytest.mark.parametrize("loop", ["asyncio", "auto", *BOTH_SLEEPS])
@pytest.mark.parametrize("case", ["everything", "signals", "written"])
def test_a_run_within_a_run(name: str, loop: str, case: str) -> None:
    run(name, loop, case)


@each_library
@pytest.mark.parametrize("loop", ["auto", *BOTH_SLEEPS])
def test_a_run_within_a_callback_of_a_connection_receives_for_it(name: str, loop: str) -> None:
    """On asyncio's loop its context cannot be entered twice."""
    run(name, loop, "one_connection")
