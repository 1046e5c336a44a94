"""Imports point one way, ffi stays beside its C, modules stay small."""

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .sources import (
    ENTRANCES,
    FILE_LAYERS,
    LAYERS,
    PACKAGE,
    c_files,
    cython_files,
    file_layer,
    imports,
    layer,
    module_name,
    python_files,
    relative,
    tree,
)

#: "About 500".
LINES_MAX = 600
FFI_NAMES = {"ffi", "lib", "_cffi", "cffi"}

each_module = pytest.mark.parametrize("path", python_files(), ids=relative)
each_module_also_of_cython = pytest.mark.parametrize("path", [*python_files(), *cython_files()], ids=relative)


def test_every_room_is_on_the_plan() -> None:
    rooms = {layer(module_name(path)) for path in [*python_files(), *cython_files()]}
    assert rooms - set(LAYERS) - set(ENTRANCES) == set(), "a new module needs its place in LAYERS and on the page"


@each_module_also_of_cython
def test_imports_point_down(path: Path) -> None:
    order = [*ENTRANCES, *LAYERS]
    here = layer(module_name(path))
    upward = [
        f"{relative(path)}:{line} imports {module}"
        for line, module in imports(path)
        if here not in ENTRANCES and order.index(layer(module)) < order.index(here)
    ]
    assert not upward


each_layer_of_files = pytest.mark.parametrize(
    "path",
    [path for path in [*python_files(), *cython_files()] if path.parent == PACKAGE / "files" / "layers"],
    ids=relative,
)


def test_every_layer_of_files_is_on_the_plan() -> None:
    names = {module_name(path) for path in [*python_files(), *cython_files()]}
    assert {file_layer(name) for name in names} == {"", *FILE_LAYERS}


@each_layer_of_files
def test_layers_of_files_import_what_is_below_them(path: Path) -> None:
    own = module_name(path)
    below = FILE_LAYERS[FILE_LAYERS.index(file_layer(own)) + 1 :] if file_layer(own) else ()
    upward = [
        f"{relative(path)}:{line} imports {module}"
        for line, module in imports(path)
        if layer(module) == "files" and module != own and file_layer(module) not in below
    ]
    assert not upward


def test_modules_import_each_other_in_no_circle() -> None:
    def needed(path: Path) -> set[str]:
        # A package's __init__ gathers its modules, which do not need it.
        return {module for _, module in imports(path) if module != module_name(path)}

    graph: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter()
    for path in [*python_files(), *cython_files()]:
        if path.stem != "__init__":
            graph.add(module_name(path), *needed(path))
    try:
        graph.prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"imported in a circle: {' -> '.join(error.args[1])}")


@each_module
def test_ffi_stays_in_the_rooms_that_have_a_binding(path: Path) -> None:
    if path.is_relative_to(PACKAGE / "ring") or (path.parent / "_cffi.pyi").exists():
        return
    found = [f"{relative(path)}:{line} uses {name}" for line, name in _names(tree(path)) if name in FFI_NAMES]
    assert not found


def _names(module: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(module):
        if isinstance(node, ast.Name):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.Import | ast.ImportFrom):
            words = " ".join([getattr(node, "module", None) or "", *(alias.name for alias in node.names)])
            yield from ((node.lineno, word) for word in re.split(r"[ .]", words))


def test_modules_stay_small() -> None:
    sources = [*python_files(), *cython_files(), *c_files()]
    lengths = {relative(path): len(path.read_text().splitlines()) for path in sources}
    assert {path: lines for path, lines in lengths.items() if lines > LINES_MAX} == {}


@each_module
def test_module_says_what_lives_here(path: Path) -> None:
    assert ast.get_docstring(tree(path)), f"{relative(path)} opens without a docstring"
