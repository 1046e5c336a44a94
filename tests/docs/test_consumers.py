"""The table of docs/libraries.md has the rows, the switches and the versions of the tests that make it."""

import ast
import re
from pathlib import Path

import pytest

from tests.children import ROOT
from tests.consumers.rows import ROWS, Row
from tests.consumers.table import HEAD
from tests.consumers.told import PAGE, recipes

CONSUMERS = ROOT / "tests" / "consumers"


def table() -> list[list[str]]:
    """Return the cells of each row of the page's table."""
    rows = PAGE.read_text().partition(HEAD)[2].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def sources(row: Row) -> str:
    """Return the text of a row's tests and of the programs beside them."""
    paths = [_path(test) for test in row.tests]
    beside = {other for path in paths for other in path.parent.rglob("*.py") if not other.name.startswith("test_")}
    texts = [path.read_text() for path in [*paths, *beside] if path.name != "rows.py"]
    return "".join(texts).replace('", "', " ").replace("\\n", "")


def _path(test: str) -> Path:
    return (ROOT / test.partition("::")[0].replace(".", "/")).with_suffix(".py")


def pinned() -> dict[str, str]:
    lines = "".join(path.read_text() for path in CONSUMERS.glob("requirements*.txt"))
    return dict(re.findall(r"^([\w.-]+)(?:\[\w+\])?==(\S+)$", lines, flags=re.M))


def test_table_is_of_the_rows_and_of_the_versions_that_are_tested() -> None:
    versions = pinned()
    expected = [
        (", ".join(f"{package} {versions[package]}" for package in row.packages), row.switch, row.found) for row in ROWS
    ]
    assert [(name, switch, found) for name, switch, _, found in table()] == expected


def test_table_tells_of_tests_that_passed() -> None:
    for name, _, passed, _ in table():
        assert re.match(r"[1-9]\d* on io_uring, [1-9]\d* on epoll", passed), name


def test_rows_have_all_tests() -> None:
    of_rows = {test.partition("::")[0] for row in ROWS for test in row.tests}
    there = {f"tests.consumers.{path.stem}" for path in CONSUMERS.glob("test_*.py")}
    assert there <= of_rows
    for row in ROWS:
        for test in row.tests:
            names = [node.name for node in ast.walk(ast.parse(_path(test).read_text())) if hasattr(node, "name")]
            prefix = test.partition("::")[2] or "test_"
            assert any(name.startswith(prefix) for name in names), test


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.packages[0])
def test_switch_is_what_the_tests_say(row: Row) -> None:
    """Each piece of code, but for its words before the option; the recipes of the page count, since tests run them."""
    if row.switch.startswith("nothing"):
        return
    told = re.findall("`([^`]+)`", row.switch)
    told = [re.search(r"--loop \S+|-k \S+|loop=.*|run\(|\S+$", code)[0].removesuffix(")") for code in told]  # type: ignore[index]
    text = sources(row) + "".join(recipes().values())
    assert [code for code in told if code not in text] == []


def test_every_recipe_is_run() -> None:
    tests = "".join(path.read_text() for path in CONSUMERS.glob("test_*.py"))
    assert [title for title in recipes() if f'"{title}"' not in tests] == []
