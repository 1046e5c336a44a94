"""What asyncio's own code does on this loop: sendfile, datagrams, pipes, subprocesses."""

import asyncio
import contextlib
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.variants import EVERY

from .helpers import LOCALHOST, Recorder, connected, pattern, socket_pair

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(pattern(1_000_000))
    return path


async def test_sendfile_keeps_the_order_with_what_is_written(file: Path) -> None:
    loop = asyncio.get_running_loop()
    async with connected(Recorder(), Recorder()) as (client, server):
        client.transport.write(b"before,")
        with file.open("rb") as opened:
            assert await loop.sendfile(client.transport, opened) == 1_000_000
        client.transport.write(b",after")
        await server.until_received(1_000_013)
        assert server.received == b"before," + pattern(1_000_000) + b",after"


async def test_sendfile_lets_both_directions_go_on(file: Path) -> None:
    loop = asyncio.get_running_loop()
    async with connected(Recorder(), Recorder()) as (client, server):
        with file.open("rb") as opened:
            sending = asyncio.create_task(loop.sendfile(client.transport, opened, 1000, 5000))
            await asyncio.sleep(0)
            server.transport.write(b"meanwhile")
            assert await sending == 5000
        await client.until_received(9)
        await server.until_received(5000)
        assert server.received == pattern(5000, 1000)
        assert client.received == b"meanwhile"


async def test_writing_during_a_sendfile_is_refused(file: Path) -> None:
    loop = asyncio.get_running_loop()
    async with connected(Recorder(), Recorder()) as (client, server):
        server.transport.pause_reading()
        client.transport.write(pattern(10_000_000))
        with file.open("rb") as opened:
            sending = asyncio.create_task(loop.sendfile(client.transport, opened))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="sendfile is in progress"):
                client.transport.write(b"x")
            server.transport.resume_reading()
            await sending
        await server.until_received(11_000_000)
        assert server.received == pattern(10_000_000) + pattern(1_000_000)


async def test_sock_sendfile(file: Path) -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right), file.open("rb") as opened:
        sending = asyncio.create_task(loop.sock_sendfile(left, opened))
        received = bytearray()
        while len(received) < 1_000_000:
            received += await loop.sock_recv(right, 1 << 20)
        assert await sending == 1_000_000
        assert received == pattern(1_000_000)


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
