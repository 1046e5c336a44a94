"""The root of a guest: Debian trixie with Python, the package from a wheel, and the tests."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from kernels import HOME, MIRROR, ROOT, unpack, update

SUITE = "trixie"
#: The Python of that suite.
PYTHON = "3.13"
_SIZE = "2G"
#: Of the tests' environment: few shapes of the loop, on both backends.
_VARIABLE = "URINGLOOP_TEST_SHAPES=both"
_HERE = Path(__file__).parent


def busybox() -> Path:
    """Return the path of a busybox that needs no libraries."""
    folder = HOME / "busybox"
    if not folder.exists():
        update(SUITE)
        unpack(SUITE, ["busybox-static"], folder)
    return folder / "usr/bin/busybox"


def make(wheel: Path, arguments: Sequence[str], seconds: float) -> Path:
    """Return an image of the root, as an ext4 file system.

    Args:
        wheel: the package, for the root's Python.
        arguments: those of pytest.
        seconds: how long pytest may run.
    """
    root = _debian()
    ours = root / "uringloop"
    shutil.rmtree(ours, ignore_errors=True)
    shutil.copytree(_installed(wheel), ours / "site")
    # Not the sources of the package: the tests are to find the installed one.
    shutil.copytree(ROOT / "tests", ours / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", ours)
    shutil.copy(_HERE / "guest", ours)
    (ours / "arguments").write_text(shlex.join(arguments))
    (ours / "variable").write_text(_VARIABLE)
    (ours / "seconds").write_text(f"{seconds:.0f}")
    _compile(root, arguments)
    image = HOME / "root.ext4"
    image.unlink(missing_ok=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", root, image, _SIZE], check=True)
    return image


def _debian() -> Path:
    root, log = HOME / "root", HOME / "root.log"
    made = HOME / "root.made"
    if not made.exists():
        print(f"making a Debian root in {root} ...", file=sys.stderr)
        shutil.rmtree(root, ignore_errors=True)
        command = ["debootstrap", "--variant=minbase", "--include=python3", SUITE, root, MIRROR]
        with log.open("w") as output:
            code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
        if code:
            raise SystemExit(f"that failed; all of its output is in {log}")
        made.touch()
    return root


def _installed(wheel: Path) -> Path:
    """Return a folder with the wheel and what its tests need, for the root's Python, which this one may differ from."""
    site, stamp = HOME / "site", HOME / "site.wheel"
    if not stamp.exists() or stamp.read_bytes() != wheel.read_bytes():
        stamp.unlink(missing_ok=True)
        shutil.rmtree(site, ignore_errors=True)
        platforms = [f"--platform=manylinux_{version}_x86_64" for version in ("2_17", "2_28", "2_34")]
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        pip += [
            "--root-user-action=ignore",
            "--only-binary=:all:",
            "--implementation=cp",
            f"--python-version={PYTHON}",
            *platforms,
        ]
        subprocess.run([*pip, "--target", site, f"{wheel}[test]"], check=True)
        shutil.copy(wheel, stamp)
    return site


def _compile(root: Path, arguments: Sequence[str]) -> None:
    """Collect the tests once, so that Python's and pytest's compiled files are there for the guest, which is slow."""
    command = ["chroot", root, "/bin/sh", "-c", 'cd /uringloop && exec "$@"', "sh"]
    command += ["env", "-i", "PATH=/usr/bin:/bin", "PYTHONPATH=site", "LC_ALL=C.UTF-8", _VARIABLE]
    command += ["python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
