"""A checkout whose extensions are missing, or do not fit, says so; and building it anew helps."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .test_distributions import ABI3_SUFFIX, BUILT, ROOT

pytestmark = pytest.mark.timeout(600)


def python(checkout: Path, *arguments: str) -> tuple[int, str, str]:
    """Run this Python in a checkout; the exit code and what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
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


def test_extensions_of_different_cores_are_refused_and_a_build_mends_it(unbuilt: Path) -> None:
    show = "import uringloop.ring.hot; print(uringloop.ring.hot.BUILD)"

    def build() -> None:
        code, _, errors = python(unbuilt, "setup.py", "-q", "build_ext", "--inplace")
        assert code == 0, errors

    build()
    code, first, errors = python(unbuilt, "-c", show)
    assert code == 0, errors

    binding = unbuilt / "uringloop" / "ring" / f"_cffi{ABI3_SUFFIX}"
    old_binding = shutil.copy(binding, unbuilt / "old.so")
    # Only a header: what includes it must be built anew too.
    with (unbuilt / "uringloop" / "ring" / "_core" / "internal.h").open("a") as header:
        header.write("/* Changed. */\n")
    build()
    code, second, errors = python(unbuilt, "-c", show)
    assert code == 0, errors
    assert first != second

    shutil.copy(old_binding, binding)
    code, _, errors = python(unbuilt, "-c", show)
    assert code == 1
    assert errors.splitlines()[-1].startswith("ImportError: uringloop's extensions _cffi and hot were built from")
