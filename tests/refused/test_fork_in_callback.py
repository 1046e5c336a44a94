"""os.fork() in a callback: the child leaves it by an exception, or goes on in a loop that is its parent's.

In the child neither the queues of the ring nor the receive buffers are there, nor are the bytes of the event in hand.
"""

import sys

import pytest

from tests.children import script
from tests.kernel import needs

pytestmark = pytest.mark.usefixtures("backend")

#: `fork()` in each callback; a child leaves it as the first argument says, on the loop that the second one names.
COMMON = """
import asyncio, os, select, signal, socket, sys, tempfile, warnings
import uringloop
from tests.tls import client_context, server_context
from uringloop import files
from uringloop.operations import Poll

warnings.simplefilter("ignore")
way, name = sys.argv[1:]
parent = os.getpid()
children = []
FACTORIES = {
    "asyncio": asyncio.SelectorEventLoop,
    "uringloop": uringloop.EventLoop,
    "plain": lambda: uringloop.EventLoop(sleep="selector", without=["multishot_receive", "buffer_rings"]),
}

def fork():
    if os.getpid() != parent:
        return
    child = os.fork()
    if child == 0:
        os.close(2)  # what tasks of the parent say when they are dropped
        signal.alarm(20)
        if way == "exits":
            sys.exit(3)
    else:
        children.append(child)

def see_child_end():
    if os.getpid() == parent:
        os.waitid(os.P_PID, children[-1], os.WEXITED | os.WNOWAIT)

def statuses():
    return {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children}

def run(main):
    try:
        with asyncio.Runner(loop_factory=FACTORIES[name]) as runner:
            runner.run(main())
    except RuntimeError as error:
        if os.getpid() == parent:
            raise
        os._exit(5 if "fork()" in str(error) else 6)
    print(statuses())

class Base(asyncio.BaseProtocol):
    def __init__(self):
        self.received = bytearray()
        self.wanted = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def got(self, data):
        self.received += data
        if len(self.received) >= 6 and not self.wanted.done():
            self.wanted.set_result(None)

class Plain(Base, asyncio.Protocol):
    def data_received(self, data):
        fork()
        self.got(data)

class InGetBuffer(Base, asyncio.BufferedProtocol):
    def get_buffer(self, size_hint):
        fork()
        self.buffer = bytearray(100)
        return self.buffer

    def buffer_updated(self, size_bytes):
        self.got(self.buffer[:size_bytes])

class InBufferUpdated(InGetBuffer):
    def get_buffer(self, size_hint):
        self.buffer = bytearray(2)
        return self.buffer

    def buffer_updated(self, size_bytes):
        fork()
        super().buffer_updated(size_bytes)

class AtEnd(Base, asyncio.Protocol):
    def eof_received(self):
        fork()
        self.got(b"abcdef")

class Datagrams(Base, asyncio.DatagramProtocol):
    def datagram_received(self, data, address):
        fork()
        self.got(data)

async def stream(protocol):
    ours, peer = socket.socketpair()
    with peer:
        transport, protocol = await asyncio.get_running_loop().connect_accepted_socket(protocol, ours)
        peer.send(b"abc")
        await asyncio.sleep(0)
        peer.send(b"def")
        if isinstance(protocol, AtEnd):
            peer.shutdown(socket.SHUT_WR)
        await protocol.wanted
        assert protocol.received == b"abcdef", protocol.received
        transport.close()
        await asyncio.sleep(0.01)

async def plain(): await stream(Plain)
async def get_buffer(): await stream(InGetBuffer)
async def buffer_updated(): await stream(InBufferUpdated)
async def end(): await stream(AtEnd)

async def reader():
    ours, peer = socket.socketpair()
    with peer:
        reader, writer = await asyncio.open_connection(sock=ours)
        peer.send(b"abc")
        assert await reader.readexactly(3) == b"abc"
        fork()
        peer.send(b"def")
        assert await reader.readexactly(3) == b"def"
        writer.close()
        await writer.wait_closed()

async def pipe():
    read, write = os.pipe()
    with open(write, "wb", 0) as write:
        transport, protocol = await asyncio.get_running_loop().connect_read_pipe(Plain, open(read, "rb", 0))
        write.write(b"abcdef")
        await protocol.wanted
        assert protocol.received == b"abcdef", protocol.received
        transport.close()
        await asyncio.sleep(0.01)

async def datagram():
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        Datagrams, local_addr=("127.0.0.1", 0)
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for data in (b"abc", b"def"):
            peer.sendto(data, transport.get_extra_info("sockname"))
        await protocol.wanted
        assert protocol.received == b"abcdef", protocol.received
    transport.close()
    await asyncio.sleep(0.01)

async def tls():
    protocols = []
    def factory():
        protocols.append(Plain())
        return protocols[0]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(factory, "127.0.0.1", 0, ssl=server_context())
    reader, writer = await asyncio.open_connection(
        *server.sockets[0].getsockname(), ssl=client_context(), server_hostname="localhost"
    )
    writer.write(b"abcdef")
    while not protocols:
        await asyncio.sleep(0)
    await protocols[0].wanted
    assert protocols[0].received == b"abcdef", protocols[0].received
    writer.transport.abort()
    server.close()
    await asyncio.sleep(0.01)

async def file_in_flight():
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as folder:
        os.mkfifo(f"{folder}/fifo")
        with open(os.open(f"{folder}/fifo", os.O_RDWR), "wb", 0) as writer:
            file = await files.open(f"{folder}/fifo", "rb", buffering=0)
            read = asyncio.create_task(file.read(3))
            await asyncio.sleep(0.01)
            loop.call_soon(fork)
            loop.call_soon(see_child_end)
            loop.call_soon(writer.write, b"abc")
            assert await read == b"abc"
            await file.close()
"""

WAYS = {"exits": 3, "goes on": 5}
each_way = pytest.mark.parametrize("way", WAYS)
CALLBACKS = ["plain", "get_buffer", "buffer_updated", "end", "pipe", "datagram", "tls"]


@each_way
@pytest.mark.parametrize("name", ["uringloop", "plain"])
@pytest.mark.parametrize("callback", CALLBACKS)
def test_child_of_a_callback(callback: str, name: str, way: str) -> None:
    """It ends as it says, or is told that the loop is its parent's; the parent receives what it would have."""
    assert script(f"{COMMON}\nrun({callback})", way, name) == f"{{{WAYS[way]}}}\n"


@each_way
def test_child_of_a_task(way: str) -> None:
    """From Python 3.14 on asyncio's task itself loses a SystemExit of the child: a fork resets the running loop."""
    status = WAYS[way] if sys.version_info < (3, 14) else WAYS["goes on"]
    assert script(f"{COMMON}\nrun(reader)", way, "uringloop") == f"{{{status}}}\n"


@pytest.mark.parametrize("name", ["uringloop", "asyncio"])
def test_child_while_a_file_is_read(name: str) -> None:
    """Also beside a companion: in the child asyncio's loop ends the tasks, but the read is the parent's.

    The child closes its loop before the read ends: both processes have one epoll set.
    """
    assert script(f"{COMMON}\nrun(file_in_flight)", "exits", name) == "{3}\n"


OPERATIONS = """
import sys
from uringloop.operations import Nop, Poll

loop = uringloop.EventLoop()
read, write = os.pipe()

def called():
    fork()
    if os.getpid() == parent:
        os.read(read, 1)
        loop.stop()

poll = Poll(read, select.POLLIN, True, called)
poll.submit(loop._dispatcher)
os.write(write, b"a")
loop.run_forever()
poll.abandon()
loop.close()
print(statuses())
"""


@each_way
def test_child_of_an_operations_callback(way: str) -> None:
    source = f"{COMMON}\ntry:{OPERATIONS.replace(chr(10), chr(10) + '    ')}\n"
    source += "except RuntimeError:\n    os._exit(5)\n"
    assert script(source, way, "uringloop") == f"{{{WAYS[way]}}}\n"


BY_HAND = """
from uringloop.operations import Nop
from uringloop.ring import Opcode, Ring, SqeFlag

ours, peer = socket.socketpair()
ring = Ring()
group = ring.open_group(4, 64)
peer.send(b"abc")
ring.get_sqe().prep(Opcode.RECV, ours.fileno(), flags=SqeFlag.BUFFER_SELECT, buf_index=group.group_id)
loan = group.lend(ring.wait_cqe())
for _ in range(3):
    ring.prepare(Nop())
ring.submit(wait_for=3)
assert ring.wait_cqe().res == 0
child = os.fork()
if child == 0:
    refused = 0
    for call in (ring.wait_cqe, ring.peek_cqe, ring.submit, ring.get_sqe, lambda: group.lend(ring.wait_cqe())):
        try:
            call()
        except RuntimeError:
            refused += 1
    assert bytes(loan) == b"abc"
    loan.recycle()
    ring.close()
    os._exit(refused)
children.append(child)
assert ring.wait_cqe().res == ring.wait_cqe().res == 0
loan.recycle()
ring.close()
print(statuses())
"""


@needs("io_uring")
def test_child_with_a_ring_by_hand() -> None:
    """It may not take what its parent has not seen yet; what was lent it may look at and drop."""
    assert script(COMMON + BY_HAND, "exits", "uringloop") == "{5}\n"
