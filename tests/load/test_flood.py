"""A small part of `python -m tests.load`: fast senders leave nobody unanswered."""

import pytest

from tests.variants import BACKENDS

from .flood import flood

pytestmark = pytest.mark.asyncio(loop_factories=("asyncio", *BACKENDS, "ring-plain", "ring-interrupting"))


async def test_no_question_beside_a_flood_stays_unanswered() -> None:
    answers = await flood(1.0, 60)
    assert answers.asked >= 100
    assert answers.unanswered == 0
    assert answers.wrong_pieces == 0
    assert answers.flooded_bytes > 1 << 20
