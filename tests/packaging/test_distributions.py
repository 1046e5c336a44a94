"""The sdist holds what the build needs, the wheel what running needs, and both install into a fresh venv."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "uringloop"
#: Written by cffi.
GENERATED = ("_cffi.c",)
#: What a clean clone does not have, or the build does not need.
BUILT = shutil.ignore_patterns(
    ".*", "__pycache__", "build", "dist", "*.egg-info", "*.so", *GENERATED, "tests", "benchmarks"
)

#: Optimizing takes half of a build, and the installation of this checkout has shown that it works.
QUICKLY = "-O0"

#: Run by an installed package, far from the checkout.
SMOKE = Path(__file__).with_name("smoke.py").read_text()

pytestmark = pytest.mark.timeout(600)


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command as a user would, with nothing of this checkout in its environment; its standard output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_NO_"))}
    environment["CFLAGS"] = QUICKLY
    finished = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, f"{finished.stdout}\n{finished.stderr}"
    return finished.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout as a clean clone has it, with what is not committed yet."""
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("clone") / "uringloop", ignore=BUILT))


@pytest.fixture(scope="module")
def distributions(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel built from the sdist alone; one for all processes of the run."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "distributions"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(folder.glob("*.whl")):
            run(sys.executable, "-m", "build", "--outdir", folder, clone, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def fresh_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of a venv that has nothing but pip."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def in_wheel(distributions: Path) -> set[str]:
    with zipfile.ZipFile(next(distributions.glob("*.whl"))) as wheel:
        return set(wheel.namelist())


@pytest.fixture(scope="module")
def in_sdist(distributions: Path) -> set[str]:
    with tarfile.open(next(distributions.glob("*.tar.gz"))) as sdist:
        return {name.partition("/")[2] for name in sdist.getnames()}


def sources(pattern: str) -> set[str]:
    """Files of the package by their paths in a distribution."""
    return {str(path.relative_to(ROOT)) for path in PACKAGE.rglob(pattern) if path.name not in GENERATED}


def test_sdist_holds_what_the_build_needs(in_sdist: set[str]) -> None:
    patterns = ("*.py", "*.pyi", "*.pyx", "*.pxd", "*.pxi", "*.c", "*.h", "py.typed")
    needed = {"pyproject.toml", "setup.py", "README.md", "LICENSE"}.union(*map(sources, patterns))
    assert needed - in_sdist == set()


def test_sdist_holds_nothing_that_was_built(in_sdist: set[str]) -> None:
    assert {name for name in in_sdist if name.endswith((".so", *GENERATED))} == set()


def test_wheel_holds_the_package_and_its_types(in_wheel: set[str]) -> None:
    needed = sources("*.py") | sources("*.pyi") | sources("py.typed")
    assert needed - in_wheel == set()


def test_wheel_holds_all_extensions_and_no_sources(in_wheel: set[str]) -> None:
    compiled = {name for name in in_wheel if name.endswith(".so")}
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    bindings = {name.removesuffix(".pyi") + suffix for name in sources("_cffi.pyi")}
    extensions = {name.removesuffix(".pyx") + suffix for name in sources("*.pyx")}
    assert compiled == {f"uringloop/liburingloop{suffix}"} | bindings | extensions
    assert {name for name in in_wheel if re.search(r"\.(c|h|pyx|pxd|pxi)$", name)} == set()


def test_installs_from_a_clean_clone(fresh_python: Path, clone: Path, tmp_path: Path) -> None:
    run(fresh_python, "-m", "pip", "install", "--quiet", clone, cwd=tmp_path)
    smoke(fresh_python, tmp_path)


def test_installs_from_the_sdist(fresh_python: Path, distributions: Path, tmp_path: Path) -> None:
    sdist = next(distributions.glob("*.tar.gz"))
    run(fresh_python, "-m", "pip", "install", "--quiet", "--force-reinstall", sdist, cwd=tmp_path)
    smoke(fresh_python, tmp_path)


def smoke(python: Path, folder: Path) -> None:
    """The installed package works, is the one in the venv, and brought nothing but cffi with it."""
    imported = run(python, "-c", SMOKE, cwd=folder).strip()
    assert Path(imported).is_relative_to(python.parent.parent)
    listed = run(python, "-m", "pip", "list", "--format=freeze", cwd=folder)
    names = {line.partition("==")[0].lower() for line in listed.split()}
    assert names <= {"uringloop", "cffi", "pycparser", "pip", "setuptools"}
