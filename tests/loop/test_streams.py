"""asyncio's streams on top of the transports."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.variants import EVERY

from .helpers import LOCALHOST, Recorder, facing_socket, fill, listening_socket, pattern, reset

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


@contextlib.asynccontextmanager
async def streams(
    serve: Callable[[Reader, Writer], Awaitable[None]], **options: int
) -> AsyncIterator[tuple[Reader, Writer]]:
    """A client's streams; the server's end is closed when `serve` returns."""

    async def handle(reader: Reader, writer: Writer) -> None:
        await serve(reader, writer)
        writer.close()
        await writer.wait_closed()
        handled.set()

    handled = asyncio.Event()
    server = await asyncio.start_server(handle, LOCALHOST, 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), **options)
    try:
        yield reader, writer
    except BaseException:
        writer.transport.abort()
        server.close()
        raise
    writer.close()
    await writer.wait_closed()
    await handled.wait()
    server.close()
    await server.wait_closed()


async def echo(reader: Reader, writer: Writer) -> None:
    while data := await reader.read(10_000):
        writer.write(data)
        await writer.drain()


async def test_lines_come_back_one_by_one() -> None:
    async with streams(echo) as (reader, writer):
        for number in range(50):
            writer.write(b"line %d\n" % number)
        for number in range(50):
            assert await reader.readline() == b"line %d\n" % number


async def test_readexactly_and_readuntil_cut_where_they_are_told() -> None:
    async with streams(echo) as (reader, writer):
        writer.write(b"0123456789one;two;")
        assert await reader.readexactly(10) == b"0123456789"
        assert await reader.readuntil(b";") == b"one;"
        assert await reader.readuntil(b";") == b"two;"


async def test_write_eof_lets_the_rest_be_read() -> None:
    async def count(reader: Reader, writer: Writer) -> None:
        writer.write(b"%d" % len(await reader.read()))

    async with streams(count) as (reader, writer):
        writer.write(pattern(1_000_000))
        writer.write_eof()
        assert await reader.read() == b"1000000"


async def test_an_end_in_the_middle_says_what_there_was() -> None:
    async def cut(reader: Reader, writer: Writer) -> None:
        writer.write(b"half")

    async with streams(cut) as (reader, _):
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readexactly(8)
        assert caught.value.partial == b"half"
        assert reader.at_eof()


async def test_a_line_beyond_the_limit_is_an_error() -> None:
    async with streams(echo, limit=100) as (reader, writer):
        writer.write(pattern(150).replace(b"\n", b"n") + b"\n")
        with pytest.raises(ValueError, match="limit"):
            await reader.readline()


async def test_a_megabyte_passes_a_small_limit() -> None:
    async with streams(echo, limit=64) as (reader, writer):
        writer.write(pattern(1_000_000))
        writer.write_eof()
        received = bytearray()
        while data := await reader.read(100_000):
            received += data
        assert received == pattern(1_000_000)


async def test_drain_waits_for_a_slow_reader() -> None:
    go_on = asyncio.Event()
    received = bytearray()

    async def slow(reader: Reader, writer: Writer) -> None:
        await go_on.wait()
        while data := await reader.read(1 << 20):
            received.extend(data)

    async with streams(slow) as (_, writer):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        zeros = fill(writer.get_extra_info("socket")._sock)
        writer.write(pattern(3_000_000))
        draining = asyncio.create_task(writer.drain())
        await asyncio.sleep(0)
        assert not draining.done()
        go_on.set()
        await draining
        writer.write_eof()
    assert received[zeros:] == pattern(3_000_000)


@contextlib.asynccontextmanager
async def streams_facing_socket() -> AsyncIterator[tuple[Reader, Writer, socket.socket]]:
    with contextlib.closing(listening_socket()) as listener:
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        peer, _ = listener.accept()
    with peer:
        yield reader, writer, peer
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_drain_raises_when_the_peer_resets() -> None:
    async with streams_facing_socket() as (_, writer, peer):
        fill(writer.get_extra_info("socket")._sock)
        writer.write(bytes(5_000_000))
        draining = asyncio.create_task(writer.drain())
        await asyncio.sleep(0)
        reset(peer)
        with pytest.raises(ConnectionError):
            await draining
        with pytest.raises(ConnectionError):
            await writer.drain()


async def test_read_raises_when_the_peer_resets() -> None:
    async with streams_facing_socket() as (reader, writer, peer):
        reset(peer)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        assert isinstance(reader.exception(), ConnectionResetError)
        assert writer.is_closing()


async def test_what_arrived_before_the_reset_can_still_be_read() -> None:
    async with streams_facing_socket() as (reader, _, peer):
        peer.sendall(b"last words")
        assert await reader.readexactly(4) == b"last"
        reset(peer)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(100)


async def test_wait_closed_raises_what_ended_the_connection() -> None:
    async with streams_facing_socket() as (reader, writer, peer):
        reset(peer)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        with pytest.raises(ConnectionResetError):
            await writer.wait_closed()


async def test_a_cancelled_read_loses_nothing() -> None:
    async with streams_facing_socket() as (reader, _, peer):
        for number in range(20):
            reading = asyncio.create_task(reader.readexactly(4))
            await asyncio.sleep(0)
            peer.send(b"%04d" % number)
            if number % 2:
                await asyncio.sleep(0)
            reading.cancel()
            try:
                assert await reading == b"%04d" % number
            except asyncio.CancelledError:
                assert await reader.readexactly(4) == b"%04d" % number


async def test_a_read_that_is_cancelled_just_before_its_bytes_arrive_loses_nothing() -> None:
    class Canceller(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            reading.cancel()

    async with streams_facing_socket() as (reader, _, peer), facing_socket(Canceller()) as (protocol, before):
        reading = asyncio.create_task(reader.readexactly(4))
        await asyncio.sleep(0)
        # Both in one tick: the reader's waiter is cancelled when the bytes come, and the task has not run.
        before.send(b"x")
        peer.send(b"kept")
        await protocol.until_received(1)
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await reader.readexactly(4) == b"kept"


async def test_an_error_in_the_handler_is_told(unexpected: list[dict[str, object]]) -> None:
    async def broken(reader: Reader, writer: Writer) -> None:
        writer.close()
        raise ValueError("in the handler")

    server = await asyncio.start_server(broken, LOCALHOST, 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    # 3.11 leaves it to the task to tell, when it is collected.
    unexpected[:] = [context for context in unexpected if not isinstance(context["exception"], ValueError)]


async def test_a_reader_of_another_kind_and_a_replaced_method_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting(Reader):
        fed = 0

        def feed_data(self, data: bytes) -> None:
            self.fed += len(data)
            super().feed_data(data)

    fed: list[bytes] = []
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    counting = Counting(loop=loop)
    transport, _ = await loop.create_connection(lambda: asyncio.StreamReaderProtocol(counting), sock=near)
    with far:
        far.send(b"for its own class")
        assert await counting.readexactly(17) == b"for its own class"
        assert counting.fed == 17
        original = Reader.feed_data
        monkeypatch.setattr(Reader, "feed_data", lambda self, data: (fed.append(data), original(self, data)))
        transport.set_protocol(asyncio.StreamReaderProtocol(reader := Reader(loop=loop)))
        far.send(b"for the replaced method")
        assert await reader.readexactly(23) == b"for the replaced method"
        assert fed == [b"for the replaced method"]
        monkeypatch.undo()
        transport.close()
