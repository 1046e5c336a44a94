"""What a loop makes when it first needs it: receive buffers, and room for many completions."""

import asyncio

import pytest

import uringloop
from tests.loop.helpers import Recorder, connected, pattern
from tests.variants import BACKENDS, RINGS
from uringloop.operations import Nop


def _loop() -> uringloop.EventLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, uringloop.EventLoop)
    return loop


@pytest.mark.asyncio(loop_factories=RINGS)
async def test_buffers_come_with_the_first_connection() -> None:
    loop = _loop()
    assert loop.statistics()["buffers"] == 0
    async with connected(Recorder(), Recorder()) as (client, server):
        client.transport.write(pattern(100_000))
        await server.until_received(100_000)
        assert server.received == pattern(100_000)
    assert (loop.statistics()["buffers"] > 0) == ("buffer_rings" in loop.ring.features.enabled)


@pytest.mark.asyncio(loop_factories=BACKENDS)
async def test_the_completion_queue_grows_when_it_overflowed() -> None:
    loop = _loop()
    first = loop.ring.entries[1]
    for _ in range(3):
        results = await loop.submit_many([Nop(number + 1) for number in range(6000)])
        assert results == list(range(1, 6001))
    assert loop.statistics()["overflows"] > 0
    # Linux before 6.13 has the whole queue from the beginning.
    assert loop.ring.entries[1] == 4096
    assert first in (1024, 4096)


@pytest.mark.asyncio(loop_factories=BACKENDS)
async def test_streams_go_on_while_the_queue_grows() -> None:
    loop = _loop()
    async with connected(Recorder(), Recorder()) as (client, server):
        for _ in range(20):
            client.transport.write(pattern(50_000))
            await loop.submit_many([Nop() for _ in range(2000)])
        await server.until_received(1_000_000)
        assert server.received == pattern(50_000) * 20
