"""Monitors of slow callbacks, which replace `asyncio.events.Handle._run`, see every callback, as on asyncio's loop."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.variants import BOTH_SLEEPS

pytestmark = pytest.mark.asyncio(loop_factories=("asyncio", *BOTH_SLEEPS))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What a monitor says of each handle that was run, from now on."""
    shown: list[str] = []
    original: Any = asyncio.Handle._run

    def watched(handle: asyncio.Handle) -> None:
        original(handle)
        shown.append(repr(handle))

    monkeypatch.setattr(asyncio.events.Handle, "_run", watched)
    yield shown
    shown.clear()


def count(seen: list[str], name: str) -> int:
    return sum(name in text for text in seen)


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def told() -> None:
    """A callback that is known by its name."""


async def test_every_kind_of_handle_is_seen(seen: list[str]) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0)
    loop.call_soon(told)
    loop.call_soon_threadsafe(told)
    loop.call_later(0, told)
    await turn()
    assert count(seen, "told()") == 3


async def test_one_that_was_cancelled_is_not_run(seen: list[str]) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0)
    loop.call_soon(told).cancel()
    loop.call_later(0, told).cancel()
    await turn()
    assert count(seen, "told()") == 0


async def test_each_step_of_a_task_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    task: Any = None
    original: Any = asyncio.Handle._run

    def watched(handle: asyncio.Handle) -> None:
        nonlocal steps
        steps += getattr(handle._callback, "__self__", None) is task  # type: ignore[attr-defined]
        original(handle)

    async def work() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    monkeypatch.setattr(asyncio.events.Handle, "_run", watched)
    await asyncio.sleep(0)
    task = asyncio.create_task(work())
    await task
    assert steps == 3


async def test_the_original_serves_again_when_it_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    seen: list[asyncio.Handle] = []
    original: Any = asyncio.Handle._run
    for _ in range(2):
        with monkeypatch.context() as patched:
            patched.setattr(asyncio.events.Handle, "_run", lambda handle: (seen.append(handle), original(handle)))
            await asyncio.sleep(0)
            handle = loop.call_soon(told)
            await turn()
            assert handle in seen
        await asyncio.sleep(0)
        seen.clear()
        loop.call_soon(told)
        await turn()
        assert seen == []


async def test_one_of_timers_alone_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    seen: list[asyncio.Handle] = []
    original: Any = asyncio.Handle._run
    monkeypatch.setattr(
        asyncio.TimerHandle, "_run", lambda handle: (seen.append(handle), original(handle)), raising=False
    )
    await asyncio.sleep(0)
    loop.call_soon(told)
    timer = loop.call_later(0, told)
    await turn()
    assert seen == [timer]
