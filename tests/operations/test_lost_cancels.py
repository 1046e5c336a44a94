"""A cancel that meets its multishot operation while that completes finds nothing: the ring cancels again."""

import asyncio
import socket
from typing import Any

import pytest

import uringloop
from tests.kernel import needs
from tests.variants import BACKENDS, EPOLL
from uringloop.operations import Accept, Cancel, MessageRing, Ready, Timeout, TimeoutRemove
from uringloop.ring import CqeFlag, Opcode, Pin, Ring, SqeFlag
from uringloop.ring.setup import Backend

from .helpers import running_loop, submit

on_loops = pytest.mark.asyncio(loop_factories=BACKENDS)
on_rings = pytest.mark.parametrize(
    "backend", [pytest.param("io_uring", marks=needs("io_uring")), *(("epoll",) if EPOLL else ())]
)

#: From far shorter than a system call, when no cancel finds it, to a few system calls.
INTERVALS_NS = (1, 500, 2_000, 20_000)
_PASS_FLAGS = 1 << 1  # IORING_MSG_RING_FLAGS_PASS
_TIMEOUT_MULTISHOT = 1 << 6


async def _ends(shots: Any) -> int:
    """How many more came after the cancel; fails if they go on."""
    shots.cancel()
    count = 0
    async with asyncio.timeout(10):
        async for _ in shots:
            count += 1
    return count


@on_loops
@pytest.mark.parametrize("interval_ns", INTERVALS_NS)
async def test_a_timeout_that_fires_ends(interval_ns: int) -> None:
    loop = running_loop()
    for _ in range(50):
        shots = loop.submit_multishot(Timeout(interval_ns))
        await anext(shots)
        await _ends(shots)
        await shots.aclose()


@on_loops
async def test_several_that_fire_end() -> None:
    loop = running_loop()
    for _ in range(10):
        several = [loop.submit_multishot(Timeout(interval_ns)) for interval_ns in INTERVALS_NS for _ in range(5)]
        for shots in several:
            await anext(shots)
        await asyncio.gather(*(_ends(shots) for shots in several))
    # On the other backend each cancel finds what it is for.
    assert (loop.statistics()["cancels_lost"] > 0) == (loop.backend == "io_uring")


@on_loops
async def test_a_timeout_that_fires_is_dropped() -> None:
    loop = running_loop()
    shots = loop.submit_multishot(Timeout(1))
    await anext(shots)
    del shots
    async with asyncio.timeout(10):
        while loop.statistics()["in_flight"]:
            await asyncio.sleep(0)


@on_loops
@pytest.mark.parametrize("interval_ns", [2_000, 50_000])
async def test_a_timeout_that_fires_is_removed(interval_ns: int) -> None:
    """By an operation whose answer the caller sees."""
    for kind in (TimeoutRemove, Cancel):
        timeout = Timeout(interval_ns)
        shots = running_loop().submit_multishot(timeout)
        await anext(shots)
        try:
            await submit(kind(timeout))
        except FileNotFoundError:
            # Never found: it fires faster than this machine asks.
            await shots.aclose()
            continue
        async with asyncio.timeout(10):
            with pytest.raises(OSError, match="Operation canceled"):
                async for _ in shots:
                    pass


@on_loops
async def test_counted_timeouts_count_right() -> None:
    """The kernel is asked for a few at once, but none is lost or too many."""
    for count in (1, 63, 64, 65, 200):
        shots = running_loop().submit_multishot(Timeout(1000, count=count))
        assert [shot async for shot in shots] == [True] * count


@pytest.mark.parametrize("interval_ns", INTERVALS_NS)
@pytest.mark.parametrize("sleep", ["ring", "selector"])
def test_a_loop_with_timeouts_that_fire_closes(sleep: Any, interval_ns: int) -> None:
    loop = uringloop.EventLoop(sleep=sleep)
    shots = [loop.submit_multishot(Timeout(interval_ns)) for _ in range(5)]
    loop.run_until_complete(anext(shots[0]))
    loop.close()


@on_rings
@pytest.mark.parametrize("interval_ns", INTERVALS_NS)
def test_an_iteration_by_hand_ends(interval_ns: int, backend: Backend) -> None:
    with Ring(8, backend=backend) as ring:
        for _ in range(20):
            results = ring.iterate(Timeout(interval_ns))
            for _ in range(3):
                assert next(results)
            results.close()  # type: ignore[attr-defined]  # it is a generator
        assert ring.in_flight == 0


@on_rings
@pytest.mark.parametrize("interval_ns", INTERVALS_NS)
def test_a_ring_by_hand_closes(interval_ns: int, backend: Backend) -> None:
    """Filled in by hand, they fire for ever, and a cancel may never find them."""
    ring = Ring(64, backend=backend)
    timespec = bytearray(8) + interval_ns.to_bytes(8, "little")
    for _ in range(5):
        sqe = ring.get_sqe()
        pin = Pin(timespec)
        sqe.hold(pin)
        sqe.prep(Opcode.TIMEOUT, -1, pin.address, 1, 0, _TIMEOUT_MULTISHOT)
    assert ring.wait_cqe().more
    ring.close()
    assert ring.closed


class Lost:
    """An operation that no cancel finds, because it has ended in silence; its completions are fed by hand."""

    def __init__(self, ring: Ring, sender: Ring) -> None:
        self._ring, self._sender = ring, sender
        self._sqe = ring.get_sqe()
        self._sqe.prep(Opcode.NOP, -1, flags=SqeFlag.CQE_SKIP_SUCCESS)
        ring.submit()

    def cancel(self) -> None:
        self._ring._queues.cancel(self._sqe.user_data)

    def complete(self, flags: int) -> None:
        sqe = self._sender.get_sqe()
        sqe.prep(
            Opcode.MSG_RING, self._ring.fd, 0, 1, self._sqe.user_data, _PASS_FLAGS if flags else 0, file_index=flags
        )
        assert self._sender.wait_cqe().result() == 0

    def take(self) -> None:
        assert self._ring.wait_cqe().operation is self._sqe


@needs(MessageRing)
def test_each_completion_after_an_answer_asks_again() -> None:
    with Ring(16) as ring, Ring(8) as sender:
        lost = Lost(ring, sender)
        lost.complete(CqeFlag.MORE)
        lost.take()
        assert ring.statistics()["cancels_lost"] == 0
        lost.cancel()
        for _ in range(5):
            # The answers, and what is asked again because of them.
            ring.submit()
            assert ring.peek_cqe() is None
        # One that found nothing is asked again once: it may go on without a completion.
        assert ring.statistics()["cancels_lost"] == 1
        for number in range(2, 6):
            lost.complete(CqeFlag.MORE)
            lost.take()
            for _ in range(5):
                ring.submit()
                assert ring.peek_cqe() is None
            # One for the completion, one because that found nothing either.
            assert ring.statistics()["cancels_lost"] == 2 * number - 1
        lost.complete(0)
        lost.take()
        before = ring.statistics()["submitted"]
        ring.submit()
        assert ring.statistics()["submitted"] == before
        assert ring.in_flight == 0


@needs(MessageRing)
def test_a_cancel_is_asked_again_behind_a_row_of_links() -> None:
    """Never within it: it would become a part of the chain."""
    # Shared, so that a message is a CQE at once, and no enter makes one of it.
    with Ring(16, shared=True) as ring, Ring(8) as sender:
        lost = Lost(ring, sender)
        lost.cancel()
        for _ in range(3):
            ring.submit()
            assert ring.peek_cqe() is None
        lost.complete(CqeFlag.MORE)
        first = ring.get_sqe()
        first.prep(Opcode.NOP, -1, flags=SqeFlag.IO_LINK)
        before = ring.statistics()["cancels_lost"]
        completion = ring.peek_cqe()
        assert completion is not None
        assert completion.more
        assert ring.statistics()["cancels_lost"] == before
        ring.get_sqe().prep(Opcode.NOP, -1)
        ring.submit(2)
        ring.submit()
        assert ring.statistics()["cancels_lost"] > before
        assert [ring.wait_cqe().res for _ in range(2)] == [0, 0]
        lost.complete(0)
        lost.take()


@on_loops
async def test_many_cancels_at_once_are_each_heard() -> None:
    """A thousand targets at a time, and nothing is asked twice that was found."""
    loop = running_loop()
    pairs = [socket.socketpair() for _ in range(100)]
    with socket.create_server(("127.0.0.1", 0)) as server:
        operations = [Ready(ours.fileno(), 1) for ours, _ in pairs for _ in range(9)]
        all_shots = [loop.submit_multishot(operation) for operation in [*operations, Accept(server.fileno())]]
        await asyncio.sleep(0)
        for shots in all_shots:
            await shots.aclose()
    assert loop.statistics()["cancels_lost"] == 0
    for ours, theirs in pairs:
        ours.close()
        theirs.close()
