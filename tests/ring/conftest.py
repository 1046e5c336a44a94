"""What the tests of the bare ring share."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel import needs
from tests.variants import EPOLL
from uringloop.ring import Ring
from uringloop.ring.setup import Backend

_FOLDER = Path(__file__).parent
#: Of the fixture `ring`; a test that makes its own rings takes `backend`.
BACKENDS: tuple[Backend, ...] = ("io_uring", "epoll") if EPOLL else ("io_uring",)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark those here that make rings by hand without asking for the backend on epoll."""
    for item in items:
        if item.path.parent == _FOLDER and "epoll" not in item.name:
            item.add_marker(needs("io_uring"))


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    """The carrier of a ring's operations."""
    chosen: Backend = request.param
    return chosen


@pytest.fixture
def ring(backend: Backend) -> Iterator[Ring]:
    """A small ring, on which nothing may be in flight at the end of a test."""
    with Ring(8, cq_entries=16, backend=backend) as ring:
        yield ring
        if not ring.closed:
            assert ring.in_flight == 0


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs
