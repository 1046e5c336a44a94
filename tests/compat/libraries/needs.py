"""What may be missing where the tests run: a skip by name, or a failure where everything must be there."""

import importlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

EVERYTHING_VARIABLE = "URINGLOOP_TEST_EVERYTHING"


def missing(name: str, remedy: str) -> None:
    """Skip the test or module because something is not there; fail it where everything has to be."""
    reason = f"{name} is not here ({remedy})"
    if os.environ.get(EVERYTHING_VARIABLE, "0") not in ("", "0"):
        pytest.fail(f"{reason}, and {EVERYTHING_VARIABLE} is set", pytrace=False)
    pytest.skip(reason, allow_module_level=True)


def library(name: str) -> Any:
    """Import a library of the extra `compat`, or skip the test module that needs it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        missing(name, "pip install -e '.[compat]'")


def program(name: str, package: str, *folders: Path) -> str:
    """The path of a program from a Debian package, or skip; it is looked for in these folders, then in PATH."""
    path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", os.defpath)])
    found = shutil.which(name, path=path)
    if found is None:
        missing(name, f"apt-get install {package}")
    assert found is not None
    return found
