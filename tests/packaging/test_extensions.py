"""A checkout whose extensions are missing, or do not fit, says so; and building it anew helps."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .test_distributions import BUILT, QUICKLY, ROOT

pytestmark = pytest.mark.timeout(600)


def python(checkout: Path, *arguments: str) -> tuple[int, str, str]:
    """Run this Python in a checkout; the exit code and what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "CFLAGS": QUICKLY}
    command = [sys.executable, "-B", *arguments]
    finished = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    return finished.returncode, finished.stdout, finished.stderr


@pytest.fixture
def unbuilt(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT, tmp_path / "checkout", ignore=BUILT))


@pytest.mark.parametrize("arguments", [("-c", "import uringloop"), ("-m", "uringloop")], ids=["import", "doctor"])
def test_an_unbuilt_checkout_says_how_to_build_it(unbuilt: Path, arguments: tuple[str, ...]) -> None:
    code, _, errors = python(unbuilt, *arguments)
    assert code == 1
    last = errors.splitlines()[-1]
    assert f"{unbuilt}/uringloop has no uringloop." in last
    assert "`python -m pip install -e .`" in last
    assert "ModuleNotFoundError" not in errors


def test_a_changed_header_rebuilds_the_core_and_what_uses_it(unbuilt: Path) -> None:
    def build() -> None:
        code, _, errors = python(unbuilt, "setup.py", "-q", "build_ext", "--inplace")
        assert code == 0, errors

    def built() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in (unbuilt / "uringloop").rglob("*.so")}

    build()
    first = built()
    with (unbuilt / "uringloop" / "ring" / "core" / "internal.h").open("a") as header:
        header.write("/* Changed. */\n")
    build()
    second = built()
    changed = {name.partition(".")[0] for name in first if first[name] != second[name]}
    assert {"liburingloop", "dispatcher", "scheduler"} <= changed
    assert "line_reader" not in changed
    code, _, errors = python(unbuilt, "-c", "import uringloop.loop")
    assert code == 0, errors
