"""`make clean` leaves a checkout as a clean clone has it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.children import ROOT

from .test_distributions import BUILT

#: Of each place that something is made in.
MADE = (
    ".asan/build.log",
    ".docs/html/index.html",
    ".free-threaded/python",
    ".kernels/root.log",
    ".newer/root.log",
    ".venvs/3.13/installed",
    ".wheels/venv/installed",
    "benchmarks/.build/echo",
    "benchmarks/.results/report.html",
    "build/temp/cython/call.c",
    "dist/uringloop.whl",
    "uringloop/ring/core/_cffi.c",
    "uringloop/ring/core/_cffi.so",
    "uringloop/__pycache__/loop.pyc",
    "uringloop.egg-info/PKG-INFO",
)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_made_files_are_removed_and_no_others(tmp_path: Path) -> None:
    clone = Path(shutil.copytree(ROOT, tmp_path / "clone", ignore=BUILT))
    kept = files(clone)
    assert "uringloop/engine/stream.c" in kept
    for name in MADE:
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).touch()
    subprocess.run(["make", "--silent", "clean"], cwd=clone, check=True)
    assert files(clone) == kept
