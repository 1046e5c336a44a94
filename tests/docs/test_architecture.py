"""ARCHITECTURE.md's tree is the package, and every name on the page exists."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.sources import LAYERS, PACKAGE, ROOT, c_files, cython_files, python_files

PAGE = (ROOT / "ARCHITECTURE.md").read_text()
INDENT = 2
CODE = (".py", ".pyx", ".pxd", ".pxi", ".c", ".h")


def listed() -> Iterator[Path]:
    """Yield every file and folder of the tree, in its order."""
    folders: list[Path] = []
    tree = PAGE[PAGE.index(f"    {PACKAGE.name}/\n") :].partition("\n\n")[0]
    for line in tree.splitlines():
        matched = re.match(r" {4}( *)([\w./]+)", line)
        assert matched, line
        del folders[len(matched[1]) // INDENT :]
        path = (folders[-1] if folders else ROOT) / matched[2]
        if matched[2].endswith("/"):
            folders.append(path)
        yield path


def sources() -> set[Path]:
    """Return the files with a line of their own: not a room's `__init__`, nor the declarations beside a source."""
    python = {path for path in python_files() if path.stem != "__init__" or path.parent == PACKAGE}
    cython = {path for path in cython_files() if path.suffix != ".pxd" or not _has_source(path)}
    return python | cython | set(c_files())


def _has_source(path: Path) -> bool:
    return any(path.with_suffix(ending).exists() for ending in (".pyx", ".h"))


def test_the_tree_is_the_package() -> None:
    found = list(listed())
    assert [path for path in found if not path.exists()] == []
    files = [path for path in found if path.is_file()]
    assert sources() - set(files) == set(), "a new file needs its line in ARCHITECTURE.md"
    assert len(files) == len(set(files))


def test_each_line_says_what_is_there() -> None:
    tree = PAGE[PAGE.index(f"    {PACKAGE.name}/\n") :].partition("\n\n")[0].splitlines()[1:]
    assert [line for line in tree if not re.match(r" +[\w./]+ {2,}\S", line)] == []


def test_rooms_are_in_the_order_of_the_imports() -> None:
    sentence = PAGE[PAGE.index("Imports point down") :].partition(".")[0]
    parts = [room for room in LAYERS if not room.startswith("scheduler_")]
    assert re.findall(r"`(\w+)`", sentence) == parts


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md", "docs/decisions.md", "docs/kernel.md"])
def test_names_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    places = [PACKAGE, *(ROOT / name for name in ("tests", "benchmarks", "tools", "docs"))]
    beside = [ROOT / "setup.py", ROOT / "Makefile"]
    paths = [path for place in places for path in place.rglob("*.*") if path.suffix in CODE]
    code = "".join(path.read_text() for path in paths)
    words = set(re.findall(r"\w+", code))

    files = set(re.findall(r"\b\w+\.(?:pyx|pxi|pxd|py|c|h)\b", text))
    assert files - {path.name for path in [*paths, *beside]} == set()
    functions = set(re.findall(r"\bul_\w+", text))
    classes = {name for dotted in re.findall(r"`([A-Z][\w.]+)[`(]", text) for name in dotted.split(".")}
    kernel = {name for name in classes if name.isupper()}
    assert (functions | classes) - words - kernel == set()
