"""A small part of `python -m tests.load --writes`: no write waits for a computation, none is lost."""

import pytest

from tests.variants import BACKENDS

from .writing import Counts, write_and_compute

pytestmark = pytest.mark.asyncio(loop_factories=("asyncio", *BACKENDS))


async def test_peers_have_what_was_written_by_the_time_they_look() -> None:
    counts = await write_and_compute(1)
    assert counts.writes > 100
    assert counts == Counts(counts.ticks, counts.writes)
