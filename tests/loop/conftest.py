"""What the tests of the loop share beside tests/conftest.py."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .spawning import has_children


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: a unix address has room for 108 bytes, and pytest's own folders have long names."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture
def no_child_left() -> Iterator[None]:
    """The test waits for every child of its own."""
    yield
    assert not has_children()
