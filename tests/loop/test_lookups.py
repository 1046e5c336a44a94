"""Look-ups that go on: beside others, cancelled, for long."""

import asyncio
import socket

import pytest

import uringloop
from tests.pool.jobs import Gate, counts, wait_until
from tests.variants import EVERY, RINGS

from .gated import FOUND, addresses, begin, begun

pytestmark = pytest.mark.asyncio(loop_factories=RINGS)


@pytest.mark.asyncio(loop_factories=EVERY)
async def test_a_held_lookup_lets_the_loop_go_on(gate: Gate) -> None:
    held = begin("a.held.gated")
    await begun(gate, 1)
    assert await addresses("b.gated") == FOUND
    assert not held.done()
    gate.open(1)
    assert await held == FOUND


@pytest.mark.asyncio(loop_factories=EVERY)
async def test_many_lookups_at_once(name_service: None) -> None:
    names = ["a.gated", "missing.gated", "again.gated", "localhost"] * 50
    found = await asyncio.gather(*map(addresses, names), return_exceptions=True)
    assert found[:2] == [FOUND, found[1]]
    for place, result in enumerate(found):
        assert repr(result) == repr(found[place % 4])
    assert repr(found[1]) == repr(socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    assert repr(found[2]) == repr(socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"))


async def test_a_cancel_frees_the_waiter_of_a_lookup_that_runs(gate: Gate) -> None:
    held = begin("a.held.gated")
    await begun(gate, 1)
    held.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held
    assert counts()["stuck"] == 1
    gate.open(1)
    assert await addresses("a.gated") == FOUND


async def test_a_cancelled_lookup_that_has_not_begun_never_runs(gate: Gate, one_thread: None) -> None:
    first = begin("first.held.gated")
    await begun(gate, 1)
    second = begin("second.held.gated")
    while counts()["queued"] == 0:
        await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.open(1)
    assert await first == FOUND
    assert await addresses("a.gated") == FOUND
    assert not gate.has_begun()


async def test_a_cancel_after_the_end_of_the_lookup(gate: Gate) -> None:
    """The loop learns of the end and of the cancel in the same tick."""
    held = begin("a.held.gated")
    await begun(gate, 1)
    gate.open(1)
    wait_until(lambda: counts()["idle"] == counts()["threads"])
    held.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held
    assert await addresses("a.gated") == FOUND


async def test_a_coroutine_that_is_closed_abandons_its_lookup(gate: Gate) -> None:
    coroutine = addresses("a.held.gated")
    coroutine.send(None)
    await begun(gate, 1)
    coroutine.close()
    assert counts()["stuck"] == 1
    gate.open(1)


async def test_others_get_threads_while_lookups_go_on_for_long(gate: Gate, one_thread: None) -> None:
    held = [begin(f"{name}.held.gated") for name in "abc"]
    assert await addresses("a.gated") == FOUND
    await begun(gate, 3)
    assert not any(task.done() for task in held)
    gate.open(3)
    assert await asyncio.gather(*held) == [FOUND] * 3
    assert await addresses("a.gated") == FOUND


async def test_names_of_addresses_are_looked_up_beside_held_names(gate: Gate) -> None:
    loop = asyncio.get_running_loop()
    held = begin("a.held.gated")
    await begun(gate, 1)
    assert await loop.getnameinfo(("127.0.0.1", 80)) == socket.getnameinfo(("127.0.0.1", 80), 0)
    with pytest.raises(socket.gaierror, match="Name or service not known"):
        await loop.getnameinfo(("::1", 80, 0, 0), socket.NI_NAMEREQD)
    gate.open(1)
    await held


async def test_a_connection_to_a_name(name_service: None) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        transport, _ = await loop.create_connection(asyncio.Protocol, "a.gated", port, family=0)
        assert transport.get_extra_info("peername") == ("127.0.0.1", port)
        transport.close()


async def test_waiting_lookups_are_not_in_flight(gate: Gate) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, uringloop.EventLoop)
    before = loop.statistics()["in_flight"]
    held = begin("a.held.gated")
    await begun(gate, 1)
    assert loop.statistics()["in_flight"] == before
    gate.open(1)
    await held


async def test_the_loop_waits_awake_as_before_after_a_lookup(gate: Gate) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, uringloop.EventLoop)
    spin_ns = loop._dispatcher.spin_ns
    held = begin("a.held.gated")
    await asyncio.sleep(0)
    assert loop._dispatcher.spin_ns == 0
    gate.open(1)
    assert await held == FOUND
    assert loop._dispatcher.spin_ns == spin_ns > 0
    held = begin("b.held.gated")
    await asyncio.sleep(0)
    held.cancel()
    await asyncio.wait([held])
    assert loop._dispatcher.spin_ns == spin_ns
