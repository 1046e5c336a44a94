"""A moment of `python -m tests.load --cancels SECONDS`: everything that is cancelled ends."""

import pytest

from tests.variants import BACKENDS

from .cancels import cancels

pytestmark = pytest.mark.asyncio(loop_factories=BACKENDS)


async def test_what_is_cancelled_while_it_fires_ends() -> None:
    counts = await cancels(2)
    assert counts.forgotten == 0
    assert counts.ended > 0
