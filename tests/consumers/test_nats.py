"""nats-py against Debian's nats-server: subjects, requests, cancelled waits, a drained connection."""

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import nats
import pytest

from .load import check_engine, statistics
from .nats_server import nats_server

pytestmark = pytest.mark.asyncio(loop_factories=("auto", "epoll"))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with nats_server() as address:
        yield address


async def test_messages_in_order(address: str) -> None:
    before = statistics()
    async with await nats.connect(address) as client:
        subscription = await client.subscribe("numbers.*")
        bodies = [os.urandom(size * 50) for size in range(1000)]
        for number, body in enumerate(bodies):
            await client.publish(f"numbers.{number}", body)
        received = [await subscription.next_msg(timeout=30) for _ in bodies]
        assert [(message.subject, message.data) for message in received] == [
            (f"numbers.{number}", body) for number, body in enumerate(bodies)
        ]
    check_engine(before)


async def test_requests_of_many_clients_some_cancelled(address: str) -> None:
    async def answer(message: Any) -> None:
        await message.respond(message.data[::-1])

    async def ask(client: Any, number: int) -> None:
        body = b"%d" % number * 100
        if number % 10 == 0:
            asking = asyncio.ensure_future(client.request("backwards", body, timeout=30))
            for _ in range(number % 4):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
        assert (await client.request("backwards", body, timeout=30)).data == body[::-1]

    server = await nats.connect(address)
    await server.subscribe("backwards", cb=answer)
    await server.flush()
    clients = [await nats.connect(address) for _ in range(8)]
    await asyncio.gather(*(ask(clients[number % 8], number) for number in range(200)))
    for client in clients:
        await client.close()
    await server.drain()
