"""What a loop takes of RLIMIT_MEMLOCK: little until it needs more, and it bears that more is refused.

As root nothing is charged, so each test becomes another user, without CAP_IPC_LOCK.
"""

import os

import pytest

from tests.children import script
from tests.kernel import needs

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user; root is charged nothing")

PREPARED = """
import asyncio, errno, os, socket, sys
import uringloop
from tests.refused import seccomp, unprivileged
from uringloop.ring import Register, Ring

async def echo():
    "A stream, a datagram and a waiting sock_recv, of which each receives."
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(bytes(300_000))
        assert await reader.readexactly(300_000) == bytes(300_000)
        writer.close()
        await writer.wait_closed()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        task = asyncio.create_task(loop.sock_recv(ours, 100))
        await asyncio.sleep(0.001)
        theirs.send(b"bytes")
        assert await task == b"bytes"
    heard = loop.create_future()
    class Hearing(asyncio.DatagramProtocol):
        def datagram_received(self, data, address):
            heard.done() or heard.set_result(data)
    transport, _ = await loop.create_datagram_endpoint(Hearing, ("127.0.0.1", 0))
    with socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.sendto(b"datagram", transport.get_extra_info("sockname"))
    assert await heard == b"datagram"
    transport.close()
    await asyncio.sleep(0.001)

async def answer(reader, writer):
    writer.write(await reader.readexactly(300_000))
    await writer.drain()
    writer.close()
    await writer.wait_closed()
"""


@needs("io_uring")
def test_many_loops_with_the_usual_limit() -> None:
    source = """
unprivileged.become_nobody(memory_bytes=8 << 20)
loops = []
try:
    while len(loops) < 300:
        loops.append(uringloop.EventLoop(backend="io_uring"))
except uringloop.RingUnavailableError:
    pass
further = uringloop.EventLoop()
further.run_until_complete(asyncio.sleep(0.001))
print(further.backend)
for loop in [further, *loops]:
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
print(len(loops))
"""
    backend, made = script(PREPARED + source).splitlines()
    assert backend == "epoll"
    assert int(made) >= 3 * 55


@pytest.mark.parametrize("kib", [64, 96, 128])
@needs("io_uring")
def test_one_loop_with_little(kib: int) -> None:
    """There is no room for its buffers: it receives without them."""
    source = """
uringloop.run(echo())
unprivileged.become_nobody(memory_bytes=int(sys.argv[1]) << 10)
uringloop.run(echo(), backend="io_uring")
print("received")
"""
    assert script(PREPARED + source, str(kib)) == "received\n"


@pytest.mark.parametrize("sleep", ["ring", "selector"])
@pytest.mark.parametrize("error", ["ENOMEM", "EPERM"])
@needs("io_uring")
def test_buffers_that_are_refused_when_they_are_needed(sleep: str, error: str) -> None:
    source = """
loop = uringloop.EventLoop(sleep=sys.argv[1])
loop.run_until_complete(asyncio.sleep(0))
seccomp.refuse_register(getattr(errno, sys.argv[2]), Register.PBUF_RING)
loop.run_until_complete(echo())
assert loop.statistics()["buffers"] == 0
loop.close()
print("received")
"""
    assert script(PREPARED + source, sleep, error) == "received\n"


@pytest.mark.parametrize("sleep", ["ring", "selector"])
def test_a_larger_queue_that_is_refused(sleep: str) -> None:
    source = """
from uringloop.operations import Nop
loop = uringloop.EventLoop(sleep=sys.argv[1])
before = loop.ring.entries[1]
loop.run_until_complete(asyncio.sleep(0))
seccomp.refuse_register(errno.ENOMEM, 33)
async def main():
    for _ in range(3):
        assert await loop.submit_many([Nop(1) for _ in range(5000)]) == [1] * 5000
loop.run_until_complete(main())
assert loop.ring.entries[1] == before
loop.close()
print("completed")
"""
    assert script(PREPARED + source, sleep) == "completed\n"
