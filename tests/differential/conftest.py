"""What the differential tests share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder with a short name: a unix address has room for 108 bytes."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)
