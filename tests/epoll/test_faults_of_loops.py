"""Faults that a loop on epoll meets: errors that stay, signals, and very many connections."""

import asyncio
import contextlib
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import uringloop
from tests.kernel import room_for_descriptors
from tests.loop.datagrams import Recorder as DatagramRecorder
from tests.loop.helpers import LOCALHOST, Recorder, serving
from uringloop import files

each_loop = pytest.mark.asyncio(loop_factories=["epoll", "epoll-ring"])
CONNECTIONS = 10_000
IP_RECVERR = 11
#: SO_TIMESTAMPING: a report when a packet is sent, which holds no copy of the packet.
TIMESTAMPING, SENT_WITHOUT_DATA = 37, 1 << 1 | 1 << 4 | 1 << 11


async def is_idle() -> bool:
    """Return whether epoll has nothing to tell, once the loop has looked."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, uringloop.EventLoop)
    for _ in range(5):
        await asyncio.sleep(0)
    assert loop._ring is not None
    return not select.select([loop._ring.fd], [], [], 0)[0]


@each_loop
async def test_an_error_queue_keeps_no_stream_busy() -> None:
    loop = asyncio.get_running_loop()
    server = Recorder()
    async with serving(lambda: server) as address:
        transport, protocol = await loop.create_connection(Recorder, *address)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, TIMESTAMPING, SENT_WITHOUT_DATA)
        transport.write(b"question")
        await server.until_called("data_received")
        poll = select.poll()
        poll.register(sock.fileno(), 0)
        assert poll.poll(10_000) == [(sock.fileno(), select.POLLERR)]
        assert await is_idle()
        server.transport.write(b"answer")
        await protocol.until_called("data_received")
        assert await is_idle()
        transport.close()
        await server.until_called("connection_lost")


@each_loop
async def test_an_error_queue_keeps_no_datagram_socket_busy() -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind((LOCALHOST, 0))
        target = gone.getsockname()
    transport, protocol = await loop.create_datagram_endpoint(DatagramRecorder, (LOCALHOST, 0))
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    transport.sendto(b"to no socket", target)
    await protocol.until_called("error_received")
    poll = select.poll()
    poll.register(sock.fileno(), 0)
    assert poll.poll(10_000) == [(sock.fileno(), select.POLLERR)]
    assert await is_idle()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.sendto(b"datagram", transport.get_extra_info("sockname"))
    await protocol.until_called("datagram_received")
    assert await is_idle()
    transport.close()
    await protocol.until_called("connection_lost")


@each_loop
async def test_signals_interrupt_no_wait() -> None:
    loop = asyncio.get_running_loop()
    heard = 0

    def hear(*_: object) -> None:
        nonlocal heard
        heard += 1

    before = signal.signal(signal.SIGALRM, hear)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours, theirs:
            while heard < 20:
                receiving = asyncio.ensure_future(loop.sock_recv(ours, 10))
                await asyncio.sleep(0.002)
                theirs.send(b"words")
                assert await receiving == b"words"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


_CLIENTS = """
import socket, sys
address, count = ("127.0.0.1", int(sys.argv[1])), int(sys.argv[2])
socks = [socket.create_connection(address) for _ in range(count)]
for number, sock in enumerate(socks):
    sock.send(number.to_bytes(4, "big"))
for number, sock in enumerate(socks):
    assert sock.recv(4, socket.MSG_WAITALL) == number.to_bytes(4, "big"), number
for sock in socks:
    sock.close()
print("over")
"""


class Counting(asyncio.Protocol):
    """Sends everything back, and counts the connections."""

    open_count = 0
    most = 0

    def __init__(self, over: asyncio.Future[None]) -> None:
        self.over = over

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        Counting.open_count += 1
        Counting.most = max(Counting.most, Counting.open_count)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        Counting.open_count -= 1
        if not Counting.open_count and Counting.most == CONNECTIONS:
            self.over.set_result(None)


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    with room_for_descriptors(CONNECTIONS + 200):
        yield


@pytest.mark.asyncio(loop_factories=["epoll"])
async def test_ten_thousand_connections(many_descriptors: None) -> None:
    over = asyncio.get_running_loop().create_future()
    Counting.open_count = Counting.most = 0
    async with serving(lambda: Counting(over), backlog=1024) as (_, port):
        command = [sys.executable, "-c", _CLIENTS, str(port), str(CONNECTIONS)]
        clients = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        answer, _ = await clients.communicate()
        assert answer == b"over\n"
        await over
    assert Counting.most == CONNECTIONS


def run_in_a_thread(loop: asyncio.AbstractEventLoop, coroutine: Any) -> Any:
    """Run a coroutine on the loop in another thread; return its result."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(loop.run_until_complete, coroutine).result()


@pytest.mark.parametrize("sleep", ["ring", "selector"])
def test_a_loop_goes_on_in_another_thread(sleep: Any, tmp_path: Path) -> None:
    """All that waits goes with it: a receive, a timer, a call in the pool."""
    loop = uringloop.EventLoop(backend="epoll", sleep=sleep)
    path = tmp_path / "file"

    async def begin() -> list[asyncio.Future[Any]]:
        ours.setblocking(False)
        tasks = [loop.sock_recv(ours, 10), files.write_bytes(path, b"words"), asyncio.sleep(0.01, "slept")]
        begun: list[asyncio.Future[Any]] = [asyncio.ensure_future(task) for task in tasks]
        await asyncio.sleep(0)
        return begun

    async def finish(tasks: list[asyncio.Future[Any]]) -> list[Any]:
        theirs.send(b"question")
        return await asyncio.gather(*tasks)

    ours, theirs = socket.socketpair()
    with ours, theirs, contextlib.closing(loop):
        for _ in range(2):
            tasks = loop.run_until_complete(begin())
            assert run_in_a_thread(loop, finish(tasks)) == [b"question", 5, "slept"]
            tasks = run_in_a_thread(loop, begin())
            assert loop.run_until_complete(finish(tasks)) == [b"question", 5, "slept"]
