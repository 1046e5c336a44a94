"""Random calls on a reader, each given to asyncio's class and to ours: results, errors and the rest are the same."""

import asyncio
import random
import sys
from typing import Any

import pytest

from uringloop import streams

SEQUENCES = 60
CALLS = 40
LIMIT_BYTES = 12
SEPARATORS: list[Any] = [b"\n", b"|", b"ab", b"aab", b"\n\n"]
if sys.version_info >= (3, 13):
    SEPARATORS += [(b"|", b"ab"), (b"aab", b"\n")]


class Source:
    """A transport that counts how often it was paused and resumed."""

    paused = resumed = 0

    def pause_reading(self) -> None:
        self.paused += 1

    def resume_reading(self) -> None:
        self.resumed += 1


class Model:
    """One reader, the read that waits, and all outcomes so far."""

    def __init__(self, kind: Any) -> None:
        self.reader = kind(limit=LIMIT_BYTES, loop=asyncio.get_running_loop())
        self.reader.set_transport(Source())
        self.waiting: asyncio.Task[Any] | None = None
        self.log: list[Any] = []

    async def do(self, call: str, *arguments: Any) -> None:
        if call == "cancel":
            if self.waiting is not None:
                self.waiting.cancel()
        elif call.startswith("feed"):
            getattr(self.reader, call)(*arguments)
        elif self.waiting is None or not self.reader._buffer:
            # asyncio's search goes on at the wrong place if another read takes bytes meanwhile.
            task = asyncio.ensure_future(getattr(self.reader, call)(*arguments))
            await self.settle()
            if task.done():
                self.log.append((call, arguments, self.outcome(task)))
            else:
                assert self.waiting is None, "two reads wait"
                self.waiting = task
        await self.settle()
        if self.waiting is not None and self.waiting.done():
            self.log.append(("woken", self.outcome(self.waiting)))
            self.waiting = None
        reader = self.reader
        self.log.append((bytes(reader._buffer), reader._paused, reader.at_eof(), reader._eof, reader._waiter is None))

    async def settle(self) -> None:
        for _ in range(4):
            await asyncio.sleep(0)

    @staticmethod
    def outcome(task: "asyncio.Task[Any]") -> Any:
        if task.cancelled():
            return "cancelled"
        error = task.exception()
        if error is None:
            return task.result()
        return type(error), str(error), error.args, getattr(error, "partial", None), type(error.__context__)


def calls(seed: int) -> list[tuple[Any, ...]]:
    """Return the calls of one sequence; nothing is fed after the end."""
    chosen = random.Random(seed)
    made: list[tuple[Any, ...]] = []
    ended = False
    for number in range(CALLS):
        if number == CALLS - 6 and not ended:
            made.append(("feed_eof",))
            ended = True
        feed = ("feed_data", bytes(chosen.choices(b"ab|\nx", k=chosen.choice([0, 1, 2, 5, 9, 30]))))
        others: list[tuple[Any, ...]] = [
            ("read", chosen.choice([0, 1, 3, 100, True])),
            ("readexactly", chosen.choice([0, 1, 4, 26, 60, -1])),
            ("readline",),
            ("readuntil", chosen.choice(SEPARATORS)),
            ("cancel",),
        ]
        made.append(chosen.choice(others if ended else [feed, feed, feed, *others]))
    return made


@pytest.mark.asyncio(loop_factories=("asyncio", "auto"))
async def test_readers_are_alike() -> None:
    for seed in range(SEQUENCES):
        theirs, ours = Model(asyncio.StreamReader), Model(streams.StreamReader)
        for call in calls(seed):
            await theirs.do(*call)
            await ours.do(*call)
            assert ours.log == theirs.log, f"seed {seed}: {call}"
        for model in (theirs, ours):
            if model.waiting is not None:
                model.waiting.cancel()
