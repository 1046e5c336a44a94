"""What importing the package, or a room of it, brings along."""

import pickle
import subprocess
import sys
from collections.abc import Iterable

import pytest

import uringloop

from .sources import PACKAGE, ROOT

#: Imports the ring below a package that imports nothing itself, and prints what came along.
SCRIPT = """
import sys, types

package = types.ModuleType("uringloop")
package.__path__ = [sys.argv[1]]
sys.modules["uringloop"] = package
import uringloop.ring

print(*sys.modules)
"""


def test_the_ring_brings_no_event_loop_along() -> None:
    command = [sys.executable, "-c", SCRIPT, str(PACKAGE)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    rooms = {name.split(".")[1] for name in loaded if name.startswith("uringloop.")}
    # The dispatcher of a loop asks its meter and has the queue of its handles; these need nothing else of the package.
    assert rooms == {"meter", "ready", "ring"}
    assert not {"asyncio", "ssl"} & set(loaded)


def loaded(*statements: str) -> set[str]:
    """Return the modules that are loaded after some statements, beside those of an interpreter that ran none."""

    def after(lines: Iterable[str]) -> set[str]:
        command = [sys.executable, "-c", "\n".join(["import sys", *lines, "print(*sys.modules)"])]
        finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return set(finished.stdout.split())

    return after(statements) - after([])


def test_importing_the_package_loads_nothing_else_of_it() -> None:
    modules = loaded("import uringloop")
    assert {name for name in modules if name.startswith("uringloop")} == {"uringloop"}
    assert not {"asyncio", "dataclasses", "ssl"} & modules


def test_asking_whether_a_loop_can_be_made_loads_the_ring_alone() -> None:
    modules = loaded("import uringloop", "uringloop.is_available()")
    rooms = {name.split(".")[1] for name in modules if name.startswith("uringloop.")}
    assert rooms == {"meter", "ready", "ring"}
    assert not {"asyncio", "ssl"} & modules


def test_the_loop_loads_little_beside_asyncio() -> None:
    """A new name here costs time in every program: let it be imported where it is used, if that is rare."""
    modules = loaded("import uringloop", "uringloop.EventLoop") - loaded("import asyncio")
    ours = ("uringloop", "_cffi_backend", "cython_runtime", "_cython")
    until_python_3_14 = {"_struct", "_typing", "array", "struct", "typing"}  # asyncio itself loads them there
    others = {name for name in modules if not name.startswith(ours)}
    assert others <= {"copy", "dataclasses", "gc", "mmap"} | until_python_3_14
    assert not {name for name in modules if name.startswith("uringloop.files")}


def test_each_public_name_is_there() -> None:
    names: dict[str, object] = {}
    exec("from uringloop import *", names)
    assert names.keys() - {"__builtins__"} == set(uringloop.__all__) <= set(dir(uringloop))
    assert pickle.loads(pickle.dumps([names[name] for name in uringloop.__all__])) == [
        getattr(uringloop, name) for name in uringloop.__all__
    ]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = uringloop.nothing  # type: ignore[attr-defined]
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        from uringloop import nothing  # type: ignore[attr-defined]  # noqa: F401
