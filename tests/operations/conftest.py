"""Fixtures that the tests of operations share."""

import socket
from collections.abc import Iterator

import pytest

from tests.loop.helpers import listening_socket


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A TCP socket that listens on some port of this host and does not block."""
    with listening_socket() as sock:
        sock.setblocking(False)
        yield sock
