"""What transports may know of the loop."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from .sources import PACKAGE, relative, tree

TRANSPORTS = sorted((PACKAGE / "transports").glob("*.py"))


def private_names_of_the_loop(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            owner = node.value
            if isinstance(owner, ast.Name | ast.Attribute):
                name = owner.id if isinstance(owner, ast.Name) else owner.attr
                if name in ("loop", "_loop"):
                    yield node.lineno, f"{name}.{node.attr}"


@pytest.mark.parametrize("path", TRANSPORTS, ids=relative)
def test_transports_read_no_private_name_of_the_loop(path: Path) -> None:
    assert list(private_names_of_the_loop(path)) == []
