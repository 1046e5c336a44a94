"""A small part of `python -m tests.load.workers`: no client is stranded, and all workers get some."""

import asyncio

import pytest

from .workers import command, soak, spread

each_loop = pytest.mark.parametrize("variant", ["asyncio", "auto", "selector"])
#: asyncio's own worker now and then ends without a word to a client that it had accepted.
each_of_ours = pytest.mark.parametrize("variant", ["auto", "selector"])
each_kind = pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])


@each_kind
@each_of_ours
def test_no_client_is_stranded(variant: str, unix: bool) -> None:
    outcome = asyncio.run(soak(command(variant), 3, unix))
    assert (outcome.unanswered, outcome.refused, outcome.reset) == (0, 0, 0), outcome
    assert outcome.answered.total() > 0


@each_kind
@each_loop
def test_all_workers_get_connections(variant: str, unix: bool) -> None:
    # Of 320 each gets some tens, but a busy machine may let one of them sleep for so long.
    counts = asyncio.run(spread(variant, 5000, unix, until_all=True))
    assert min(counts) > 0, counts
