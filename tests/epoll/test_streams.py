"""Streams on epoll: what they do in other ways than on io_uring, with the same effect."""

import asyncio
import socket
from typing import Any

import pytest

from tests.loop.test_leaving import MANY, in_one_tick, many_connections

pytestmark = pytest.mark.asyncio(loop_factories=["epoll", "epoll-tiny"])


async def test_writes_need_no_sqe() -> None:
    """Each send is a system call in any case, and a send(2) costs less without an SQE and a CQE."""
    loop: Any = asyncio.get_running_loop()
    async with many_connections() as (transports, peers):
        await asyncio.sleep(0)
        before = loop.statistics()
        await in_one_tick(*(lambda each=each: each.write(b"next") for each in transports))  # type: ignore[misc]
        after = loop.statistics()
        for peer in peers:
            assert peer.recv(10, socket.MSG_WAITALL) == b"first next"
        assert after["submitted"] == before["submitted"]
        assert after["bytes_sent"] == before["bytes_sent"] + 4 * MANY
