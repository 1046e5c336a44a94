"""When written bytes leave: at once as asyncio's, or, where many callbacks of a tick write, before it goes on for long.

The peer is a blocking socket that is read within the callback, so bytes that have not left are a timeout.
"""

import asyncio
import contextlib
import os
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel import needs
from tests.variants import EVERY, RINGS, TINY

from .helpers import LOCALHOST, Recorder, pattern, serving
from .test_tls import client_context, server_context

#: Callbacks of one tick that write.  Far more than a few.
MANY = 40
#: How long a callback computes, so that the tick has gone on for long.
COMPUTING_S = 0.005

#: The variants on io_uring.
IN_THE_KERNEL = tuple(name for name in EVERY if name != "asyncio" and not name.startswith("epoll"))

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)


def blocking(peer: socket.socket) -> socket.socket:
    peer.settimeout(2)
    return peer


@contextlib.contextmanager
def unix_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, peer = socket.socketpair()
    with ours, blocking(peer):
        yield ours, peer


@contextlib.contextmanager
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server((LOCALHOST, 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        peer, _ = listener.accept()
    with ours, blocking(peer):
        yield ours, peer


PAIRS = pytest.mark.parametrize("pair", [unix_pair, tcp_pair])
Pair = Callable[[], contextlib.AbstractContextManager[tuple[socket.socket, socket.socket]]]


async def transport_over(sock: socket.socket, protocol: asyncio.BaseProtocol | None = None) -> Any:
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol or asyncio.Protocol(), sock=sock)
    return transport


def compute() -> None:
    end = time.monotonic() + COMPUTING_S
    while time.monotonic() < end:
        pass


async def in_one_tick(*callbacks: Callable[[], object]) -> None:
    """Run callbacks in one tick; raises what the first of them raised."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = len(callbacks)

    def run(callback: Callable[[], object]) -> None:
        nonlocal left
        left -= 1
        try:
            callback()
        except Exception as error:
            if not done.done():
                done.set_exception(error)
        if left == 0 and not done.done():
            done.set_result(None)

    for callback in callbacks:
        loop.call_soon(run, callback)
    await done


@contextlib.asynccontextmanager
async def many_connections(count: int = MANY) -> Any:
    """Transports with their peers, after a tick in which all of them wrote: the loop takes itself for busy."""
    with contextlib.ExitStack() as stack:
        pairs = [stack.enter_context(unix_pair()) for _ in range(count)]
        transports = [await transport_over(ours) for ours, _ in pairs]
        peers = [peer for _, peer in pairs]
        try:
            await in_one_tick(*(lambda each=each: each.write(b"first ") for each in transports))  # type: ignore[misc]
            yield transports, peers
        finally:
            for transport in transports:
                transport.abort()
            await asyncio.sleep(0)


@PAIRS
async def test_two_writes_and_a_blocking_read_in_one_callback(pair: Pair) -> None:
    with pair() as (ours, peer):
        _, writer = await asyncio.open_connection(sock=ours)
        writer.write(b"one ")
        writer.write(b"two")
        await writer.drain()
        assert peer.recv(7, socket.MSG_WAITALL) == b"one two"
        writer.writelines([b"three ", bytearray(b"four "), memoryview(b"five")])
        await writer.drain()
        assert peer.recv(15, socket.MSG_WAITALL) == b"three four five"
        writer.close()
        await writer.wait_closed()


def data_packets(sock: socket.socket) -> int:
    """Return how many packets with bytes a TCP socket has sent: `tcpi_data_segs_out` of tcp(7)."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
    packets: int = struct.unpack_from("=I", info, 156)[0]
    return packets


@pytest.mark.asyncio(loop_factories=RINGS)
async def test_a_header_and_the_large_body_behind_it_are_one_packet() -> None:
    header, body = b"header", pattern(20_000)
    with tcp_pair() as (ours, peer):
        transport = await transport_over(ours)
        transport.writelines([header, body])
        assert peer.recv(20_006, socket.MSG_WAITALL) == header + body
        assert data_packets(ours) == 1

        def write_both() -> None:
            transport.write(header)
            transport.write(body)

        packets: list[int] = []
        async with many_connections() as (others, _):
            # The header of a tick that takes too long leaves by itself, so a busy machine may need several.
            while 1 not in packets and len(packets) < 20:
                before = data_packets(ours)
                await in_one_tick(*(lambda each=each: each.write(b"x") for each in others), write_both)  # type: ignore[misc]
                assert peer.recv(20_006, socket.MSG_WAITALL) == header + body
                packets.append(data_packets(ours) - before)
        assert packets[-1] == 1
        transport.abort()


async def test_a_socket_with_little_room_keeps_the_order_of_header_and_body() -> None:
    header, body = pattern(10_000), pattern(300_000)
    with unix_pair() as (ours, peer):
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        transport = await transport_over(ours)
        transport.writelines([header, body])
        loop, received = asyncio.get_running_loop(), b""
        while len(received) < 310_000:
            received += await loop.run_in_executor(None, peer.recv, 310_000)
        assert received == header + body
        transport.abort()


@PAIRS
@pytest.mark.parametrize("size_bytes", [1, 16_383, 16_384, 100_000])
async def test_small_and_large_in_turns(pair: Pair, size_bytes: int) -> None:
    with pair() as (ours, peer):
        transport = await transport_over(ours)
        for round_ in range(3):
            transport.write(b"head")
            transport.writelines([pattern(size_bytes, round_), b"middle"])
            transport.write(b"tail")
            expected = b"head" + pattern(size_bytes, round_) + b"middletail"
            assert peer.recv(len(expected), socket.MSG_WAITALL) == expected
        transport.abort()
        await asyncio.sleep(0)


async def test_the_end_after_the_last_write() -> None:
    with tcp_pair() as (ours, peer):
        transport = await transport_over(ours)
        transport.write(b"last")
        transport.write_eof()
        assert peer.recv(4, socket.MSG_WAITALL) == b"last"
        assert peer.recv(1) == b""
        transport.abort()
        await asyncio.sleep(0)


async def test_an_answer_within_data_received() -> None:
    class Answering(Recorder):
        answered = b""

        def data_received(self, data: bytes) -> None:
            self.transport.write(b"answer to ")
            self.transport.write(data)
            self.answered = peer.recv(18, socket.MSG_WAITALL)
            super().data_received(data)

    protocol = Answering()
    async with serving(lambda: protocol) as address:
        with blocking(socket.create_connection(address)) as peer:
            peer.send(b"question")
            await protocol.until_called("data_received")
            assert protocol.answered == b"answer to question"
            protocol.transport.abort()
            await protocol.until_called("connection_lost")


async def test_an_eager_task() -> None:
    with unix_pair() as (ours, peer):
        _, writer = await asyncio.open_connection(sock=ours)

        async def answer() -> bytes:
            writer.write(b"eager")
            await writer.drain()
            return peer.recv(5, socket.MSG_WAITALL)

        if sys.version_info >= (3, 12):
            loop = asyncio.get_running_loop()
            loop.set_task_factory(asyncio.eager_task_factory)
            task = loop.create_task(answer())
            loop.set_task_factory(None)
            assert task.done()
        else:
            task = asyncio.create_task(answer())
        assert await task == b"eager"
        writer.close()
        await writer.wait_closed()


async def test_tls() -> None:
    protocol = Recorder()
    async with serving(lambda: protocol, ssl=server_context()) as address:

        def connect() -> ssl.SSLSocket:
            return client_context().wrap_socket(socket.create_connection(address), server_hostname="localhost")

        with await asyncio.to_thread(connect) as peer:
            blocking(peer)
            await protocol.until_called("connection_made")
            await asyncio.sleep(0)
            protocol.transport.write(b"one ")
            protocol.transport.writelines([b"two ", b"three"])
            received = b""
            while len(received) < 13:
                received += peer.recv(100)
            assert received == b"one two three"
            protocol.transport.abort()
            await protocol.until_called("connection_lost")


async def test_what_was_written_before_start_tls_comes_before_the_handshake() -> None:
    loop = asyncio.get_running_loop()
    with tcp_pair() as (ours, peer):
        transport = await transport_over(ours)
        transport.write(b"STARTTLS\n")

        def answer() -> bytes:
            line = b"".join(iter(lambda: peer.recv(1), b"\n"))
            with server_context().wrap_socket(peer, server_side=True) as wrapped:
                blocking(wrapped)
                wrapped.send(line)
                return wrapped.recv(5)

        answering = loop.run_in_executor(None, answer)
        protocol = Recorder()
        upgraded = await loop.start_tls(transport, protocol, client_context(), server_hostname="localhost")
        assert upgraded is not None
        await protocol.until_received(8)
        upgraded.write(b"hello")
        assert (await answering, protocol.received) == (b"hello", b"STARTTLS")
        upgraded.abort()
        await protocol.until_called("connection_lost")


async def test_what_was_written_before_a_file_comes_before_it(folder: Path) -> None:
    path = folder / "file"
    path.write_bytes(b"file ")
    with tcp_pair() as (ours, peer):
        transport = await transport_over(ours)
        transport.write(b"head ")
        with path.open("rb") as file:
            await asyncio.get_running_loop().sendfile(transport, file)
        transport.write(b"tail")
        assert peer.recv(14, socket.MSG_WAITALL) == b"head file tail"
        transport.abort()
        await asyncio.sleep(0)


async def test_a_pipe() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as reader:
        pipe = os.fdopen(writing, "wb", buffering=0)
        transport, _ = await asyncio.get_running_loop().connect_write_pipe(asyncio.BaseProtocol, pipe)
        transport.write(b"one ")
        transport.write(b"two")
        assert reader.read(7) == b"one two"
        transport.close()
        await asyncio.sleep(0)


async def test_standard_input_of_a_child() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as reader:
        child = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=writing)
        os.close(writing)
        assert child.stdin is not None
        child.stdin.write(b"to the child")
        await child.stdin.drain()
        assert reader.read(12) == b"to the child"
        child.stdin.close()
        await child.wait()


async def test_a_datagram() -> None:
    with blocking(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as peer:
        peer.bind((LOCALHOST, 0))
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=peer.getsockname()
        )
        transport.sendto(b"at once")
        assert peer.recv(100) == b"at once"
        transport.close()
        await asyncio.sleep(0)


async def test_a_single_writer_among_many_callbacks() -> None:
    """However many handles are ready, what one of them writes leaves before it computes."""
    with unix_pair() as (ours, peer):
        transport = await transport_over(ours)
        received: list[bytes] = []

        def write_and_look() -> None:
            transport.write(b"alone")
            received.append(peer.recv(5, socket.MSG_WAITALL))

        await in_one_tick(*[lambda: None] * MANY, write_and_look, *[lambda: None] * MANY)
        assert received == [b"alone"]
        transport.abort()
        await asyncio.sleep(0)


async def test_many_writes_of_a_tick_leave_before_it_goes_on_for_long() -> None:
    async with many_connections() as (transports, peers):
        received: list[bytes] = []

        def look() -> None:
            received.extend(peer.recv(10, socket.MSG_WAITALL) for peer in peers)

        writes = [lambda each=each: each.write(b"next") for each in transports]  # type: ignore[misc]
        await in_one_tick(*writes, compute, look)
        assert received == [b"first next"] * MANY


async def test_a_write_late_in_a_tick_of_many_leaves_at_once() -> None:
    async with many_connections() as (transports, peers):
        received: list[bytes] = []

        def write_and_look() -> None:
            compute()
            transports[0].write(b"late")
            received.append(peers[0].recv(14, socket.MSG_WAITALL))

        writes = [lambda each=each: each.write(b"next") for each in transports]  # type: ignore[misc]
        await in_one_tick(*writes, write_and_look)
        assert received == [b"first nextlate"]


async def test_what_a_tick_wrote_has_left_in_the_next() -> None:
    """Also what one connection wrote in many pieces, which is more than one send carries."""
    async with many_connections() as (transports, peers):
        writes = [lambda each=each: each.write(b"next") for each in transports]  # type: ignore[misc]
        pieces = [lambda: transports[0].write(pattern(1000))] * 50
        await in_one_tick(*writes, *pieces)
        for peer in peers[1:]:
            assert peer.recv(10, socket.MSG_WAITALL) == b"first next"
        assert peers[0].recv(50_010, socket.MSG_WAITALL) == b"first next" + pattern(1000) * 50


async def test_a_storm_of_callbacks_after_a_write() -> None:
    loop = asyncio.get_running_loop()
    async with many_connections() as (transports, peers):
        for transport in transports:
            loop.call_soon(transport.write, b"next")
        for _ in range(1000):
            loop.call_soon(lambda: None)
        # The first comes back in the tick of the writes.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for peer in peers:
            assert peer.recv(10, socket.MSG_WAITALL) == b"first next"


@PAIRS
async def test_a_reset_that_a_write_meets_is_told_as_such(pair: Pair) -> None:
    protocol = Recorder()
    with pair() as (ours, peer):
        transport = await transport_over(ours, protocol)
        transport.write(b"unread")
        peer.close()  # with bytes unread: a reset
        transport.write(b"x")
        transport.write(b"y")
        await protocol.until_called("connection_lost")
    assert isinstance(protocol.lost_with, ConnectionResetError | BrokenPipeError)
    if pair is tcp_pair:
        assert isinstance(protocol.lost_with, ConnectionResetError)


async def test_after_many_short_connections_a_longer_one_waits_for_no_more_than_its_callback() -> None:
    """A server that closes each connection with its answer sends the two together."""
    received: list[bytes] = []

    class Short(Recorder):
        def data_received(self, data: bytes) -> None:
            self.transport.write(b"answer")
            if data == b"short":
                self.transport.close()
            else:
                asyncio.get_running_loop().call_soon(lambda: received.append(peer.recv(6, socket.MSG_WAITALL)))
            super().data_received(data)

    protocols: list[Short] = []

    def make() -> Short:
        protocols.append(Short())
        return protocols[-1]

    async with serving(make) as address:
        for _ in range(30):
            with blocking(socket.create_connection(address)) as peer:
                peer.send(b"short")
                assert await asyncio.to_thread(peer.recv, 10) == b"answer"
                assert await asyncio.to_thread(peer.recv, 10) == b""
        with blocking(socket.create_connection(address)) as peer:
            peer.send(b"longer")
            while not received:
                await asyncio.sleep(0)
            protocols[-1].transport.abort()
            await protocols[-1].until_called("connection_lost")
        for protocol in protocols:
            await protocol.until_called("connection_lost")
    assert received == [b"answer"]


@pytest.mark.asyncio(loop_factories=tuple(name for name in IN_THE_KERNEL if name not in TINY))
@needs("io_uring")
async def test_many_writes_of_a_tick_share_an_enter() -> None:
    loop: Any = asyncio.get_running_loop()
    async with many_connections() as (transports, peers):
        for peer in peers:
            assert peer.recv(6, socket.MSG_WAITALL) == b"first "
        writes = [lambda each=each: each.write(b"next") for each in transports]  # type: ignore[misc]
        # A tick that the machine interrupts hurries its writes out one by one.
        for _ in range(50):
            before = loop.statistics()
            await in_one_tick(*writes)
            after = loop.statistics()
            for peer in peers:
                assert peer.recv(4, socket.MSG_WAITALL) == b"next"
            shared = after["submitted"] - before["submitted"] >= MANY // 2
            if shared and after["enters"] - before["enters"] < MANY // 2:
                return
        pytest.fail("no tick's writes shared an enter")
