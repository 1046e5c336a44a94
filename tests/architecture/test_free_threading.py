"""Every compiled module says that it needs no GIL: `import uringloop` leaves it off where Python can do without."""

import subprocess
import sys

import pytest

from tests.kernel import FREE_THREADED

from .sources import PACKAGE, ROOT, cython_files, relative

IMPORT_ALL = """
import importlib, pkgutil, sys
import uringloop
for module in pkgutil.walk_packages(uringloop.__path__, "uringloop."):
    if module.name.endswith(("__main__", ".liburingloop")):
        continue
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as missing:
        assert not missing.name.startswith("uringloop"), missing
    assert not sys._is_gil_enabled(), module.name
"""


def test_the_build_declares_every_cython_module() -> None:
    assert '"freethreading_compatible"' in (ROOT / "setup.py").read_text()
    modules = [path for path in cython_files() if path.suffix == ".pyx"]
    assert [relative(path) for path in modules if "freethreading_compatible" in path.read_text()] == []


def test_no_extension_is_built_in_another_way() -> None:
    """cffi declares its modules from 2.0 on; any other extension would need a declaration of its own."""
    initialized = [path for path in PACKAGE.rglob("*.c") if path.name != "_cffi.c" and "PyInit_" in path.read_text()]
    assert [path for path in initialized if not path.with_suffix(".pyx").exists()] == []


@pytest.mark.skipif(not FREE_THREADED, reason="this Python is built with the GIL")
def test_importing_all_modules_leaves_the_gil_off() -> None:
    finished = subprocess.run([sys.executable, "-c", IMPORT_ALL], cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
