"""The site that `make docs` builds: every page and every public name is in it, and its own steps are right.

The build itself needs Sphinx, and checks the rest: `docs/site/checks.py`.
"""

import os
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from docs.site import checks, docstrings, pages, reference
from tests.architecture.sources import PACKAGE, ROOT, python_files
from tests.compat.libraries.needs import library

#: Rooms with `__all__` for each other, which no program imports.
INTERNAL = {"uringloop.engine", "uringloop.names", "uringloop.sendfile"}


@pytest.fixture(autouse=True)
def metrics() -> None:
    library("prometheus_client")
    library("opentelemetry")


def test_every_page_is_in_the_navigation() -> None:
    kept = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "benchmarks/NOTES.md"]
    assert sorted(pages.sources()) == sorted(str(path.relative_to(ROOT)) for path in kept)
    names = [pages.name_of(source) for source in pages.sources()]
    assert len(set(names)) == len(names)


def test_every_public_name_has_an_entry() -> None:
    described = reference.names()
    values = {id(value) for value in described.values()}
    for path in python_files():
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if "\n__all__ = " in path.read_text() and name not in INTERNAL:
            module = import_module(name)
            left = [each for each in module.__all__ if id(getattr(module, each)) not in values]
            assert left == [], name
    entries = "".join(
        text for modules in reference.PAGES.values() for each in modules for text in reference.entries(each, {})
    )
    plain = {name for name, value in described.items() if isinstance(value, ModuleType)}
    assert [name for name in described if name not in plain and name.rpartition(".")[2] not in entries] == []


def test_compiled_names_have_the_signatures_of_their_stubs() -> None:
    operations, ring = import_module("uringloop.operations"), import_module("uringloop.ring")
    assert reference.stub_signature(operations.Nop) == "(answer: int=0)"
    assert reference.stub_signature(ring.Completion.result) == "() -> Any"
    assert reference.stub_signature(operations.Fsync) == ""
    assert reference.overloaded_signature(import_module("uringloop.files").open).startswith(
        "(file: FilePath, mode: str='r'"
    )
    assert reference.members(ring.Completion) == ["result", "more", "number", "buffer_id"]


def test_links_lead_to_pages_of_the_site(tmp_path: Path) -> None:
    names = {(ROOT / "README.md"): "index", (ROOT / "docs/loop.md"): "loop"}
    text = "[a](../README.md#install) `[b](loop.md)`\n[c](loop.md)\n[d](https://example.org/loop.md) [e](#here)\n"
    text += "![f](speed.svg) [g](../tools/docs)\n```\n[h](loop.md)\n```\n[i]: loop.md\n"
    assert pages.with_links_of_the_site(text, ROOT / "docs", tmp_path, names) == (
        "[a](index.md#install) `[b](loop.md)`\n[c](loop.md)\n[d](https://example.org/loop.md) [e](#here)\n"
        "![f](docs/speed.svg) [g](tools/docs)\n```\n[h](loop.md)\n```\n[i]: loop.md\n"
    )
    assert (tmp_path / "docs/speed.svg").exists()
    assert (tmp_path / "tools/docs").exists()


def test_public_names_lead_to_their_entries() -> None:
    text = "`uringloop.run` `uringloop.no` [`uringloop.run`](loop.md)\n```\nuringloop.run\n```\n"
    assert pages.with_links_to_the_reference(text, {"uringloop.run"}) == "{py:obj}" + text


def test_docstrings_become_restructured_text() -> None:
    lines = ["IORING_OP_*: `a*b`s of x_.", "", "    code(*it)", "", "Args:", "    a: a|b."]
    assert docstrings.as_restructured(lines) == [
        "IORING_OP\\_\\*: `a*b`\\ s of x\\_.",
        "",
        "::",
        "",
        "    code(*it)",
        "",
        "Args:",
        "    a: a\\|b.",
    ]
    assert docstrings.reference_elsewhere(os.getcwd) == ["See `os.getcwd`."]


def test_faults_of_a_site_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "names", lambda: {"a.b": 1, "a.c": 2, "a.d": 3})
    (tmp_path / "one.html").write_text(
        "<link href='https://fonts.example/x.css'><script src='//cdn.example/x.js'></script><p id='a.b'>"
        "<a href='two.html#module-a.c'></a><a href='two.html#no'></a><a href='three.html'></a><a href='#a.b'></a>"
        "<a href='https://example.org/#x'></a>"
    )
    (tmp_path / "two.html").write_text("<p id='module-a.c'>")
    (tmp_path / "site.css").write_text("@import 'https://fonts.example/y.css';")
    assert list(checks.faults(tmp_path)) == [
        "one.html: two.html#no leads nowhere",
        "one.html: three.html leads nowhere",
        "one.html: loads https://fonts.example/x.css",
        "one.html: loads //cdn.example/x.js",
        "site.css: loads from https:",
        "the reference lacks a.d",
    ]
