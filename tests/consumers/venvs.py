"""Venvs that tools/consumers makes of `requirements-NAME.txt`, for a library whose pins exclude those of the others."""

from pathlib import Path

from tests.children import ROOT


def python_of(name: str) -> Path:
    """Return the Python of one."""
    return ROOT / ".venvs" / f"consumers-{name}" / "bin" / "python"


def packages_of(name: str) -> list[str]:
    """Return the folders of its packages."""
    return [str(folder) for folder in python_of(name).parents[1].glob("lib/python*/site-packages")]
