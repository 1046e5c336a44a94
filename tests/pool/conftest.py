"""An empty pool before and after each test, ports and gates that end with it, and every job freed once."""

from collections.abc import Callable, Iterator

import pytest

from uringloop.pool._cffi import lib

from .jobs import Gate, Port, counts, shim, wait_until

IDLE_MAX_MS = 60_000
STUCK_MAX = 32


@pytest.fixture(autouse=True)
def pool(no_descriptor_left: None) -> Iterator[None]:
    """Start with no thread, the usual limits, and no end of idle threads during the test."""
    lib.ul_pool_limits(0, STUCK_MAX)
    lib.ul_pool_idle_limit(IDLE_MAX_MS)
    before = shim().jobs_alive()
    yield
    lib.ul_pool_idle_limit(0)
    wait_until(lambda: counts()["threads"] == 0)
    assert counts() == {"threads": 0, "idle": 0, "stuck": 0, "queued": 0}
    assert shim().jobs_alive() == before, "a job was not freed"


@pytest.fixture
def gate(pool: None) -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open(1000)
    wait_until(lambda: counts()["stuck"] == 0)
    made.close()


@pytest.fixture
def open_port(gate: Gate) -> Iterator[Callable[[], Port]]:
    """Return a function that opens ports; they are closed after the test."""
    ports: list[Port] = []

    def opened() -> Port:
        ports.append(Port())
        return ports[-1]

    yield opened
    for port in ports:
        port.close()


@pytest.fixture
def port(open_port: Callable[[], Port]) -> Port:
    return open_port()
