"""Writes for which there is no memory: all or nothing, and the connection goes on or is closed, never with a gap.

In a process of its own, whose address space is limited to little more than it has.
"""

import textwrap

import pytest

from tests.children import script

PREPARED = """
import asyncio, contextlib, os, resource, socket, sys
import uringloop
from tests.housekeeping import size_bytes

kind = sys.argv[1]
big = bytearray(b"B") * (64 << 20)
pinned = b"p" * (20 << 10)
before = bytes(range(256)) * (8 << 10)


class Protocol(asyncio.Protocol):
    lost = None

    def connection_made(self, transport):
        self.ended = asyncio.get_running_loop().create_future()

    def connection_lost(self, error):
        self.ended.set_result(type(error).__name__)


@contextlib.contextmanager
def little_memory():
    unlimited = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size_bytes() + (2 << 20), unlimited[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, unlimited)


def refused(call, data):
    with little_memory():
        try:
            call(data)
        except MemoryError:
            return
    raise AssertionError("there was memory")


async def open_transport():
    loop = asyncio.get_running_loop()
    if kind == "pipe":
        peer, ours = os.pipe()
        return *await loop.connect_write_pipe(Protocol, open(ours, "wb", 0)), open(peer, "rb", 0)
    ours, peer = socket.socketpair()
    with peer:
        return *await loop.connect_accepted_socket(Protocol, ours), peer.makefile("rb", 0)


async def read_until_end(peer):
    received = bytearray()
    with peer:
        while data := await asyncio.to_thread(peer.read, 1 << 20):
            received += data
    return received


async def read_all(transport, protocol, peer, expected):
    reading = asyncio.create_task(read_until_end(peer))
    transport.close()
    assert await protocol.ended == "NoneType", protocol.ended
    assert await reading == expected, "other bytes than were accepted"
"""

FINISH = """
try:
    uringloop.run(main())
except BaseException as error:
    print(repr(error))
else:
    print("right")
"""


@pytest.mark.parametrize("kind", ["stream", "pipe"])
def test_nothing_of_a_write_is_queued(kind: str) -> None:
    """There is room for its beginning behind the bytes that wait."""
    source = """
    async def main():
        transport, protocol, peer = await open_transport()
        transport.write(before)
        await asyncio.sleep(0.01)
        transport.write(b"first")
        size = transport.get_write_buffer_size()
        assert size > 5
        refused(transport.write, big)
        assert transport.get_write_buffer_size() == size
        transport.write(b"last")
        await read_all(transport, protocol, peer, before + b"first" + b"last")
    """
    assert run(source, kind) == "right\n"


@pytest.mark.parametrize("waiting", ["", "first"])
@pytest.mark.parametrize(
    "pieces", ["[b'1', big]", "[b'1' * 20000, b'2', pinned, big, b'3']", "[pinned, big]", "[big, b'3']"]
)
def test_nothing_of_several_pieces_is_queued(pieces: str, waiting: str) -> None:
    """A pipe's pieces are joined first, so that they are one write."""
    source = f"""
    async def main():
        transport, protocol, peer = await open_transport()
        transport.write(before)
        await asyncio.sleep(0.01)
        transport.write({waiting.encode()!r})
        size = transport.get_write_buffer_size()
        references = sys.getrefcount(pinned)
        refused(transport.writelines, {pieces})
        assert transport.get_write_buffer_size() == size
        assert sys.getrefcount(pinned) == references
        transport.writelines([b"la", pinned, b"st"])
        await read_all(transport, protocol, peer, before + {waiting.encode()!r} + b"la" + pinned + b"st")
    """
    assert run(source, "stream") == "right\n"


@pytest.mark.parametrize(
    ("kind", "method", "data"),
    [
        ("stream", "write", "big"),
        ("pipe", "write", "big"),
        ("stream", "writelines", "[b'first', big]"),
    ],
)
def test_a_part_was_sent(method: str, data: str, kind: str) -> None:
    """Nothing follows it."""
    source = f"""
    async def main():
        transport, protocol, peer = await open_transport()
        refused(transport.{method}, {data})
        assert transport.is_closing()
        transport.write(b"last")
        assert await protocol.ended == "MemoryError", protocol.ended
        received = await read_until_end(peer)
        sent = {data}
        assert (sent if sent is big else b"".join(sent)).startswith(received), "other bytes than were sent"
    """
    assert run(source, kind) == "right\n"


def run(source: str, kind: str) -> str:
    """Run a script; returns what it printed."""
    return script(PREPARED + textwrap.dedent(source) + FINISH, kind)
