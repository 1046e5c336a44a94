"""The counts of a soak, and the conversation that most of them have: each answer must be the question."""

import asyncio
import contextlib
import gc
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.housekeeping import open_descriptors

LATE_S = 1.0
LOST_S = 10.0
#: A connection that was aborted ends in a few turns; there is no event for "all of them have".
_SETTLE_S = 5.0


@dataclass
class Counts:
    """The outcomes of the calls of a soak.

    Attributes:
        done: How many were answered.
        wrong: How many of these got what was not theirs.
        lost: How many were not answered within ten seconds, or failed.
        late: How many took longer than a second.
        leaked: Descriptors and children that stayed.
        grown_kib: By how much the resident memory grew, in KiB, where a soak asks.
    """

    done: int = 0
    wrong: int = 0
    lost: int = 0
    late: int = 0
    leaked: int = 0
    grown_kib: int = 0


async def judge(counts: Counts, asking: Coroutine[Any, Any, bool]) -> None:
    """Wait for a call that returns whether its answer is right, and count what became of it."""
    start = time.monotonic()
    try:
        async with asyncio.timeout(LOST_S):
            right = await asking
    except (OSError, asyncio.IncompleteReadError):  # TimeoutError is an OSError
        counts.lost += 1
        return
    counts.done += 1
    counts.wrong += not right
    counts.late += time.monotonic() - start > LATE_S


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each line by itself, until the client is gone."""
    with contextlib.suppress(OSError):
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    writer.close()


def question(random: Random, who: int, number: int) -> bytes:
    """Return a line that no other client sends, short or of several packets."""
    return b"%d %d " % (who, number) + b"x" * random.choice((1, 100, 20_000)) + b"\n"


async def ask_streams(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: bytes) -> bool:
    """Ask by a stream; return whether the answer is the question, or raise ConnectionResetError if there is none."""
    writer.write(line)
    await writer.drain()
    answer = await reader.readline()
    if not answer.endswith(b"\n"):
        raise ConnectionResetError
    return answer == line


def children() -> int:
    """Return how many children this process has, with those that have ended and wait to be reaped."""
    return sum(len(path.read_text().split()) for path in Path("/proc/self/task").glob("*/children"))


def held() -> int:
    """Return how many descriptors and children this process has."""
    gc.collect()
    return len(open_descriptors()) + children()


async def leaked(before: int) -> int:
    """Return how many more descriptors and children there are than before, once what was closed has ended."""
    deadline = time.monotonic() + _SETTLE_S
    while held() > before and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    return max(0, held() - before)
