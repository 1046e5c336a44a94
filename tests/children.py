"""Python in a process of its own, where a test may refuse system calls, fork, or be killed."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: The backend of the loops of a run of tests, where it is not each test's own choice.
BACKEND_VARIABLE = "URINGLOOP_TEST_BACKEND"
_TIMEOUT_SECONDS = 60


def environment(**variables: str) -> dict[str, str]:
    """This process's, in which the checkout can be imported, and no setting of uringloop is inherited but the run's."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("URINGLOOP_")}
    if backend := os.environ.get(BACKEND_VARIABLE):
        own |= {BACKEND_VARIABLE: backend, "URINGLOOP_BACKEND": backend}
    path = os.pathsep.join([str(ROOT), *filter(None, [own.get("PYTHONPATH")])])
    return {**own, "PYTHONPATH": path, **variables}


def python(arguments: Sequence[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments, warnings being errors, and these variables set; returns when it has ended.

    Not in its development mode: asyncio would complain about callbacks that take long on a busy machine.
    """
    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_SECONDS,
    )


def script(source: str, *arguments: str, **variables: str) -> str:
    """Run a script that must end well and say nothing on standard error; returns what it printed."""
    finished = python(["-c", textwrap.dedent(source), *arguments], **variables)
    died = signal.Signals(-finished.returncode).name if finished.returncode < 0 else finished.returncode
    assert (died, finished.stderr) == (0, ""), f"{finished.stdout}{finished.stderr}"
    return finished.stdout
