"""What the tests of the loop share beside tests/conftest.py."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pool.jobs import Gate, counts, wait_until
from uringloop.pool._cffi import lib

from . import gated
from .spawning import has_children

_STUCK_MAX = 32


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


@pytest.fixture
def name_service() -> None:
    """Names below .gated have answers of their own; see `gated`."""
    gated.load()


@pytest.fixture
def gate(name_service: None) -> Iterator[Gate]:
    """A gate for the names below .held.gated; it opens, and all look-ups end, after the test."""
    made = Gate()
    gated.use(made)
    yield made
    made.open(1000)
    wait_until(lambda: counts()["stuck"] == counts()["queued"] == 0)
    made.close()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let the pool have one thread beside those that are stuck."""
    lib.ul_pool_limits(1, _STUCK_MAX)
    yield
    lib.ul_pool_limits(0, _STUCK_MAX)
