"""A small part of `python -m tests.load`: nothing stays of what came and went."""

import pytest

from tests.variants import BACKENDS

from .churn import growth, short_connections, timers

pytestmark = pytest.mark.asyncio(loop_factories=("asyncio", *BACKENDS))

#: What the interpreter and the allocator keep for themselves, whatever comes and goes.
_SLACK_BLOCKS = 1000
_SLACK_BYTES = 4 << 20


async def test_short_connections_leave_nothing() -> None:
    left = await growth(short_connections, 300, 3000)
    assert left.descriptors == 0
    assert left.blocks < _SLACK_BLOCKS
    assert left.resident_bytes < _SLACK_BYTES


async def test_timers_leave_nothing() -> None:
    left = await growth(timers, 10_000, 50_000)
    assert left.descriptors == 0
    assert left.blocks < _SLACK_BLOCKS
    assert left.resident_bytes < _SLACK_BYTES
