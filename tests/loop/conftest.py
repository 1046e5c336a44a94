"""What the tests of the loop share beside tests/conftest.py."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

import uringloop


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: a unix address has room for 108 bytes, and pytest's own folders have long names."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture(autouse=True)
def _no_datagram_socket_left_if_async(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("asyncio") is not None:
        request.getfixturevalue("no_datagram_socket_left")


@pytest_asyncio.fixture
async def no_datagram_socket_left(loop_goes_quiet: None) -> AsyncIterator[None]:
    yield
    loop = asyncio.get_running_loop()
    if isinstance(loop, uringloop.EventLoop):
        for _ in range(100):
            if not loop.statistics()["datagrams"]:
                return
            await asyncio.sleep(0.001)
        assert loop.statistics()["datagrams"] == 0
