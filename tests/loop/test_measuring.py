"""A loop measures itself: counts, lag, ticks, slow callbacks, and the handler of these.

No time is waited for: a callback that "takes" some computes until the clock says so, and only lower bounds are asked.
"""

import asyncio
import socket
import time
from functools import partial
from typing import Any

import pytest

import uringloop
from tests.tls import client_context, server_context
from tests.variants import BACKENDS
from uringloop.meter import name_of

from .helpers import LOCALHOST, socket_pair

pytestmark = pytest.mark.asyncio(loop_factories=BACKENDS)

_LONG_NS = 2_000_000


def take(duration_ns: int = _LONG_NS) -> None:
    end_ns = time.monotonic_ns() + duration_ns
    while time.monotonic_ns() < end_ns:
        pass


def running() -> uringloop.EventLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, uringloop.EventLoop)
    return loop


def measured(loop: uringloop.EventLoop) -> Any:
    numbers = loop.statistics()["measured"]
    assert numbers is not None
    return numbers


def slowest(loop: uringloop.EventLoop) -> dict[str, int]:
    """The longest call of each name, without its module."""
    return {one["name"].partition(".")[2]: one["longest_ns"] for one in measured(loop)["slowest"]}


class Slow(asyncio.Protocol):
    def __init__(self) -> None:
        self.heard = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        take()
        self.heard.set_result(data)


class SlowBuffered(asyncio.BufferedProtocol):
    def __init__(self) -> None:
        self.heard = asyncio.get_running_loop().create_future()

    def get_buffer(self, sizehint: int) -> bytearray:
        return bytearray(16)

    def buffer_updated(self, size: int) -> None:
        take()
        self.heard.set_result(size)


class SlowDatagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.heard = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, address: Any) -> None:
        take()
        self.heard.set_result(data)


async def test_nothing_is_measured_unless_asked_for() -> None:
    loop = running()
    assert loop.statistics()["measured"] is None
    loop.start_measuring()
    assert measured(loop)["ticks"] == 0
    loop.stop_measuring()
    assert loop.statistics()["measured"] is None
    loop.stop_measuring()


async def test_counts_since_a_moment() -> None:
    loop = running()
    loop.start_measuring()
    before_ns = measured(loop)["since_ns"]
    for _ in range(10):
        await asyncio.sleep(0)
    numbers = measured(loop)
    # The first of the ten ticks had begun before.
    assert numbers["callbacks"] >= 9
    assert numbers["ticks"] >= 9
    assert sum(numbers["lag"]["counts"]) == numbers["callbacks"] + numbers["completions"]
    assert sum(numbers["tick_lengths"]["counts"]) == numbers["ticks"]
    assert len(numbers["lag"]["counts"]) == len(numbers["lag"]["bounds_ns"]) + 1
    loop.start_measuring()
    assert measured(loop)["since_ns"] > before_ns
    assert measured(loop)["callbacks"] == 0


async def test_time_busy_and_asleep() -> None:
    loop = running()
    loop.start_measuring()
    while not measured(loop)["asleep_ns"]:
        await asyncio.sleep(0.001)
    take()
    await asyncio.sleep(0)
    numbers = measured(loop)
    assert numbers["busy_ns"] >= _LONG_NS
    assert numbers["busy_ns"] + numbers["asleep_ns"] <= time.monotonic_ns() - numbers["since_ns"]
    assert numbers["tick_lengths"]["longest_ns"] >= _LONG_NS


async def test_lag_of_callbacks_timers_and_completions() -> None:
    loop = running()
    with socket_pair() as (ours, theirs):
        for make_late in ("callback", "timer", "completion"):
            await asyncio.sleep(0)
            loop.start_measuring()
            waiter = loop.create_future()
            if make_late == "callback":
                loop.call_soon(take)
                loop.call_soon(waiter.set_result, None)
                await waiter
            elif make_late == "timer":
                loop.call_later(0, waiter.set_result, None)
                take()
                await waiter
            else:
                # The callback that is ready before the sleep runs before the completion that the sleep brings.
                task = loop.create_task(loop.sock_recv(ours, 10))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                theirs.send(b"x")
                loop.call_soon(take)
                await task
            assert measured(loop)["lag"]["longest_ns"] >= _LONG_NS * 0.9, make_late


async def test_received_data_bears_the_name_of_the_method() -> None:
    loop = running()
    loop.start_measuring(slow_ns=_LONG_NS)
    for factory, name in ((Slow, "data_received"), (SlowBuffered, "buffer_updated")):
        with socket_pair() as (ours, theirs):
            transport, protocol = await loop.create_connection(factory, sock=ours)
            theirs.send(b"x")
            await protocol.heard  # type: ignore[attr-defined]
            transport.close()
        await asyncio.sleep(0)
        assert slowest(loop)[f"loop.test_measuring.{factory.__name__}.{name}"] >= _LONG_NS


async def test_datagrams_and_tls_do_too() -> None:
    loop = running()
    loop.start_measuring(slow_ns=_LONG_NS)
    transport, protocol = await loop.create_datagram_endpoint(SlowDatagrams, local_addr=(LOCALHOST, 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", transport.get_extra_info("sockname"))
        await protocol.heard
    transport.close()
    protocols: list[Slow] = []

    def accept() -> Slow:
        protocols.append(Slow())
        return protocols[-1]

    server = await loop.create_server(accept, LOCALHOST, 0, ssl=server_context())
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=client_context())
    writer.write(b"x")
    while not protocols:
        await asyncio.sleep(0)
    await protocols[0].heard
    writer.close()
    server.close()
    await writer.wait_closed()
    names = slowest(loop)
    assert names["loop.test_measuring.SlowDatagrams.datagram_received"] >= _LONG_NS
    assert names["loop.test_measuring.Slow.data_received"] >= _LONG_NS


@pytest.mark.parametrize("debug", [False, True])
async def test_the_handler_hears_of_slow_callbacks(debug: bool, caplog: pytest.LogCaptureFixture) -> None:
    loop = running()
    heard: list[dict[str, Any]] = []
    loop.set_debug(debug)
    loop.slow_callback_duration = _LONG_NS * 1e-9
    loop.set_slow_callback_handler(lambda loop, context: heard.append(context))
    assert loop.get_slow_callback_handler() is not None
    with socket_pair() as (ours, theirs):
        transport, protocol = await loop.create_connection(Slow, sock=ours)
        theirs.send(b"x")
        await protocol.heard
        transport.close()
    loop.call_soon(take)

    async def step() -> None:
        take()

    task = asyncio.create_task(step())
    await task
    await asyncio.sleep(0)
    found = {context["name"].rpartition(".")[2]: context for context in heard}
    assert found["data_received"]["source"] is protocol
    assert found["take"]["source"] is take
    assert found["step"]["source"] is task
    assert all(context["duration"] >= _LONG_NS * 1e-9 for context in heard)
    assert loop.statistics()["measured"] is None
    loop.set_slow_callback_handler(None)
    assert loop.get_slow_callback_handler() is None
    heard.clear()
    loop.call_soon(take)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    loop.set_debug(False)
    assert heard == []


async def test_a_handler_that_raises(unexpected: list[dict[str, Any]]) -> None:
    loop = running()

    def fail(loop: Any, context: dict[str, Any]) -> None:
        raise ValueError("of the handler")

    loop.set_slow_callback_handler(fail)
    loop.slow_callback_duration = 0
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    loop.set_slow_callback_handler(None)
    assert unexpected
    assert all(isinstance(context["exception"], ValueError) for context in unexpected)
    unexpected.clear()


async def test_arguments() -> None:
    loop = running()
    with pytest.raises(TypeError):
        loop.set_slow_callback_handler(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="negative"):
        loop.start_measuring(slow_ns=-1)
    loop.set_slow_callback_handler(None)
    closed = uringloop.EventLoop()
    closed.close()
    with pytest.raises(RuntimeError):
        closed.start_measuring()


async def test_names() -> None:
    assert name_of(take) == f"{__name__}.take"
    assert name_of(partial(partial(take), 1)) == f"{__name__}.take"
    assert name_of(Slow.data_received) == f"{__name__}.Slow.data_received"
    assert name_of(print) == "builtins.print"
