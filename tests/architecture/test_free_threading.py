"""Every compiled module says that it needs no GIL: `import uringloop` leaves it off where Python can do without."""

import subprocess
import sys

import pytest

from tests.kernel import FREE_THREADED
from uringloop.immortal import share

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

#: Classes and functions that all loops use, and a class of the program.
FIND_MORTAL = """
import asyncio, gc, sys
import uringloop
from uringloop import files, streams
from uringloop.files import opening
from uringloop.transports.stream import StreamTransport

class Own(asyncio.Protocol):
    pass

hidden = [value for value in gc.get_referents(sys.modules["_asyncio"]) if isinstance(value, type)]
shared = [asyncio.Task, asyncio.sleep, uringloop.EventLoop, vars(StreamTransport)["get_extra_info"], StreamTransport]
shared += [files.open, streams.StreamReader, vars(streams.StreamReader.__base__)["readline"], *hidden]
shared += [opening.parse_mode("rb"), opening.parse_layers("rb", -1, None, None, None)]
gc.collect()
assert [each for each in shared if not sys._is_immortal(each)] == []
assert not sys._is_immortal(Own)
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


@pytest.mark.skipif(not FREE_THREADED, reason="this Python is built with the GIL")
def test_classes_and_functions_of_all_loops_are_immortal() -> None:
    command = [sys.executable, "-c", FIND_MORTAL]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.skipif(FREE_THREADED, reason="this Python is built without the GIL")
def test_nothing_becomes_immortal_with_the_gil() -> None:
    assert share("asyncio", "uringloop") == 0
