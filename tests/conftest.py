"""What every test gets: the loop variants, and a house that must be as clean afterwards as it was before.

For each async test three fixtures look after that, in this order from the outside in:

`no_descriptor_left`   after the loop was closed, the process has the descriptors that it had before
`loop_goes_quiet`      before the loop is closed: no task, no stream, nothing in flight, no buffer lent
`unexpected`           what the loop's exception handler heard; a test that expects something takes it out
"""

import asyncio
import faulthandler
import gc
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest
import pytest_asyncio

from tests.housekeeping import open_descriptors, settle
from tests.kernel import missing
from tests.variants import FACTORIES, USUAL, LoopFactory, named


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    """All variants for a test that names some (pytest-asyncio picks), else the usual ones."""
    marker = item.get_closest_marker("asyncio")
    chosen = marker is not None and "loop_factories" in marker.kwargs
    return named(FACTORIES if chosen else USUAL)


_stderr = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_stderr] = os.dup(sys.stderr.fileno())


def pytest_runtest_setup(item: pytest.Item) -> None:
    reason = missing(item)
    if reason is not None:
        pytest.skip(reason)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """End a process that hangs where pytest-timeout's exception has no effect, and show where it does.

    A loop's exception handler may get that exception, and the timer is off while the fixtures are torn down.
    """
    marker = item.get_closest_marker("timeout")
    usual_s = float(item.config.getoption("timeout") or item.config.getini("timeout"))
    limit_s = marker.args[0] if marker is not None and marker.args else usual_s
    faulthandler.dump_traceback_later(2 * limit_s + 60, exit=True, file=item.config.stash[_stderr])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> None:
    """Every test ends with a full garbage collection; what earlier modules left for good is not looked at."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def unexpected() -> list[dict[str, Any]]:
    """Contexts that the loop's exception handler was called with.  What is still here at the end fails the test."""
    return []


@pytest.fixture(autouse=True)
def no_descriptor_left() -> Iterator[None]:
    before = open_descriptors()
    yield
    # A transport or socket that was dropped without being closed warns here, and a warning is an error.
    gc.collect()
    left = {fd: what for fd, what in open_descriptors().items() if before.get(fd) != what}
    assert not left, "descriptors were left open"


@pytest.fixture(autouse=True)
def _loop_goes_quiet_if_async(no_descriptor_left: None, request: pytest.FixtureRequest) -> None:
    # Asked for only here, because an async fixture would give sync tests a loop as well.
    if request.node.get_closest_marker("asyncio") is not None:
        request.getfixturevalue("loop_goes_quiet")


@pytest_asyncio.fixture
async def loop_goes_quiet(unexpected: list[dict[str, Any]]) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: unexpected.append(context))
    yield
    assert await settle() == {}
    assert not unexpected, "the loop's exception handler was called"
