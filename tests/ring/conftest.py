"""What the tests of the bare ring share."""

import socket
from collections.abc import Iterator

import pytest

import uringloop
from uringloop.ring import Ring


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not uringloop.is_available():
        for item in items:
            item.add_marker(pytest.mark.skip(reason="no io_uring here"))


@pytest.fixture
def ring() -> Iterator[Ring]:
    """A small ring, on which nothing may be in flight at the end of a test."""
    with Ring(8, cq_entries=16) as ring:
        yield ring
        if not ring.closed:
            assert ring.in_flight == 0


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs
