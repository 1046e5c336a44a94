"""A moment of `python -m tests.threads`: loops in threads lose nothing."""

from collections.abc import Callable

import pytest

from tests.variants import BACKENDS, FACTORIES, LoopFactory

from .calls import call_from_threads
from .stress import PARTS


@pytest.mark.parametrize("variant", BACKENDS)
def test_no_call_from_a_thread_is_lost_or_overtaken(variant: str) -> None:
    received = call_from_threads(20_000, 8, 4, FACTORIES[variant])
    assert sum(one.count for one in received) == 20_000
    assert sum(one.out_of_order for one in received) == 0


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_loops_in_threads(part: Callable[[float, int, LoopFactory], int]) -> None:
    assert part(0.15, 3, FACTORIES["auto"]) > 0
