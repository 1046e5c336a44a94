"""What asyncio's own code does on this loop: datagrams, pipes, subprocesses."""

import asyncio
import contextlib
import os
import socket
import subprocess
from typing import Any

import pytest

from tests.variants import EVERY

from .helpers import LOCALHOST, Recorder, connected, pattern

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)


class Datagrams(asyncio.DatagramProtocol):
    """Keeps what it receives."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()
        self.lost = asyncio.Event()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.put_nowait((data, addr))

    def connection_lost(self, error: BaseException | None) -> None:
        self.lost.set()


async def test_datagram_endpoints_exchange_datagrams() -> None:
    loop = asyncio.get_running_loop()
    left, left_protocol = await loop.create_datagram_endpoint(Datagrams, local_addr=(LOCALHOST, 0))
    right, right_protocol = await loop.create_datagram_endpoint(Datagrams, remote_addr=left.get_extra_info("sockname"))
    for number in range(20):
        right.sendto(b"%d" % number)
        data, address = await left_protocol.received.get()
        assert data == b"%d" % number
        left.sendto(b"back", address)
        assert (await right_protocol.received.get())[0] == b"back"
    for transport, protocol in ((left, left_protocol), (right, right_protocol)):
        transport.close()
        await protocol.lost.wait()


async def test_pipes_carry_bytes_both_ways() -> None:
    loop = asyncio.get_running_loop()
    reading_end, writing_end = os.pipe()
    _, reader = await loop.connect_read_pipe(Recorder, os.fdopen(reading_end, "rb", buffering=0))
    writing, writer = await loop.connect_write_pipe(Recorder, os.fdopen(writing_end, "wb", buffering=0))
    writing.write(pattern(500_000))
    writing.close()
    await reader.until_called("connection_lost")
    await writer.until_called("connection_lost")
    assert reader.received == pattern(500_000)


async def test_a_subprocess_takes_and_gives_bytes_and_reports_its_end() -> None:
    process = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    output, _ = await process.communicate(pattern(200_000))
    assert output == pattern(200_000)
    assert process.returncode == 0


async def test_a_subprocess_can_be_killed() -> None:
    process = await asyncio.create_subprocess_exec("sleep", "1000")
    process.kill()
    assert await process.wait() == -9


async def test_a_watched_descriptor_and_a_connection_end_together() -> None:
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    with left, right, contextlib.ExitStack() as cleanup:
        readable = asyncio.Event()
        loop.add_reader(left, readable.set)
        cleanup.callback(loop.remove_reader, left)
        async with connected(Recorder(), Recorder()) as (client, server):
            right.shutdown(socket.SHUT_WR)
            client.transport.close()
            await readable.wait()
            await server.until_called("connection_lost")
