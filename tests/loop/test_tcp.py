"""TCP through transports and protocols: the bytes, their order, and the end of a connection."""

import asyncio
import contextlib
import contextvars
import socket
import sys

import pytest

from tests.housekeeping import settle
from tests.variants import EVERY, RINGS

from .helpers import (
    BufferedRecorder,
    Echo,
    Recorder,
    close,
    connected,
    facing_socket,
    fill,
    listening_socket,
    pattern,
    reset,
    serving,
    unix_pair,
)

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)

#: Around the sizes that the send queue and the receive buffers treat differently.
SIZES = (1, 63, 64, 65, 1000, 16383, 16384, 16385, 32768, 65537, 300_001)


async def test_what_is_sent_comes_back() -> None:
    async with connected(Recorder(), Echo()) as (client, _):
        client.transport.write(b"hello")
        await client.until_received(5)
    assert client.received == b"hello"


async def test_writes_of_every_size_arrive_in_order() -> None:
    sent = b"".join(pattern(size_bytes, size_bytes) for size_bytes in SIZES)
    async with connected(Recorder(), Recorder()) as (client, server):
        for size_bytes in SIZES:
            client.transport.write(pattern(size_bytes, size_bytes))
        await server.until_received(len(sent))
    assert server.received == sent


async def test_both_directions_at_once() -> None:
    async with connected(Recorder(), Recorder()) as (client, server):
        client.transport.write(pattern(500_000))
        server.transport.write(pattern(400_000, 3))
        await server.until_received(500_000)
        await client.until_received(400_000)
    assert server.received == pattern(500_000)
    assert client.received == pattern(400_000, 3)


async def test_many_small_writes_arrive_in_order() -> None:
    sent = b"".join(b"%d," % number for number in range(3000))
    async with connected(Recorder(), Recorder()) as (client, server):
        for number in range(3000):
            client.transport.write(b"%d," % number)
        await server.until_received(len(sent))
    assert server.received == sent


async def test_writelines_keeps_the_order_of_all_kinds_of_bytes() -> None:
    pieces = [b"bytes,", bytearray(b"bytearray,"), memoryview(b"memoryview,"), b"", pattern(40_000)]
    async with connected(Recorder(), Recorder()) as (client, server):
        client.transport.write(b"first,")
        client.transport.writelines(pieces)
        client.transport.write(b"last")
        await server.until_received(sum(map(len, pieces)) + 10)
    assert server.received == b"first,bytes,bytearray,memoryview," + pattern(40_000) + b"last"


@pytest.mark.asyncio(loop_factories=RINGS)
async def test_writelines_refuses_all_pieces_with_one_that_is_not_contiguous() -> None:
    """asyncio closes the connection."""
    async with connected(Recorder(), Recorder()) as (client, server):
        client.transport.write(b"first,")
        with pytest.raises(BufferError):
            client.transport.writelines([b"refused", memoryview(b"abcdef")[::2]])
        client.transport.write(b"last")
        await server.until_received(10)
    assert server.received == b"first,last"


async def test_writelines_takes_more_pieces_than_one_call_of_the_kernel() -> None:
    pieces = [b"%d," % number for number in range(5000)]
    async with connected(Recorder(), Recorder()) as (client, server):
        client.transport.writelines(pieces)
        await server.until_received(sum(map(len, pieces)))
    assert server.received == b"".join(pieces)


@pytest.mark.parametrize("end", ["sent", "abort", "reset"])
async def test_written_bytes_are_let_go_of(end: str) -> None:
    data = pattern(1_000_000)
    references = sys.getrefcount(data)
    async with facing_socket(Recorder()) as (protocol, peer):
        protocol.transport.write(data)
        await asyncio.sleep(0)
        if end == "sent":
            protocol.transport.close()
            while await asyncio.get_running_loop().sock_recv(peer, 1 << 20):
                pass
        elif end == "abort":
            protocol.transport.abort()
        else:
            reset(peer)
        await protocol.until_called("connection_lost")
        assert await settle() == {}
        assert sys.getrefcount(data) == references


@pytest.mark.parametrize("size_bytes", [10, 100_000])
async def test_a_buffer_may_change_as_soon_as_write_returns(size_bytes: int) -> None:
    async with connected(Recorder(), Recorder()) as (client, server):
        buffer = bytearray(pattern(size_bytes))
        client.transport.write(buffer)
        buffer[:] = bytes(size_bytes)
        client.transport.write(memoryview(pattern(size_bytes)))
        await server.until_received(2 * size_bytes)
    assert server.received == pattern(size_bytes) * 2


async def test_write_refuses_what_is_not_bytes() -> None:
    async with connected(Recorder(), Recorder()) as (client, _):
        wanted = "bytes, bytearray, or memoryview" if sys.version_info >= (3, 14) else "bytes-like"
        with pytest.raises(TypeError, match=f"^data argument must be a {wanted} object, not 'str'$"):
            client.transport.write("text")


async def test_an_empty_write_sends_nothing() -> None:
    async with connected(Recorder(), Echo()) as (client, server):
        client.transport.write(b"")
        client.transport.writelines([])
        assert client.transport.get_write_buffer_size() == 0
        client.transport.write(b"x")
        await client.until_received(1)
    assert server.received == b"x"


@pytest.mark.parametrize("buffer_size_bytes", [1, 7, 64, 100_000])
async def test_a_buffered_protocol_gets_every_byte(buffer_size_bytes: int) -> None:
    size_bytes = min(buffer_size_bytes * 1000, 100_000)
    async with connected(Recorder(), BufferedRecorder(buffer_size_bytes)) as (client, server):
        client.transport.write(pattern(size_bytes))
        await server.until_received(size_bytes)
    assert server.received == pattern(size_bytes)


async def test_set_protocol_hands_the_connection_over() -> None:
    async with connected(Recorder(), Recorder()) as (client, first):
        second, third = BufferedRecorder(3), Recorder()
        for protocol, message in ((first, b"first"), (second, b"second"), (third, b"third")):
            first.transport.set_protocol(protocol)
            assert first.transport.get_protocol() is protocol
            client.transport.write(message)
            await protocol.until_received(len(message))
        third.transport = first.transport
        await close(third)
        first._called("connection_lost")
    assert (first.received, second.received, third.received) == (b"first", b"second", b"third")


# The life of a connection


async def test_callbacks_come_in_order_once_each() -> None:
    async with connected(Recorder(), Recorder()) as (client, server):
        client.transport.write(b"x")
        await server.until_received(1)
        client.transport.close()
        await server.until_called("connection_lost")
        await client.until_called("connection_lost")
    assert server.calls == ["connection_made", "data_received", "eof_received", "connection_lost"]
    assert client.calls == ["connection_made", "connection_lost"]
    assert (server.lost_with, client.lost_with) == (None, None)


async def test_bytes_sent_before_the_accept_come_after_connection_made() -> None:
    server = Recorder()
    async with serving(lambda: server) as address:
        with socket.create_connection(address) as peer:
            peer.sendall(b"early")
            peer.shutdown(socket.SHUT_WR)
            await server.until_called("connection_lost")
    assert server.calls == ["connection_made", "data_received", "eof_received", "connection_lost"]


async def test_close_sends_what_is_queued() -> None:
    async with connected(Recorder(), Recorder()) as (client, server):
        client.transport.write(pattern(2_000_000))
        client.transport.close()
        await server.until_called("connection_lost")
        await client.until_called("connection_lost")
    assert server.received == pattern(2_000_000)
    assert client.lost_with is None


async def test_close_delivers_nothing_more() -> None:
    async with facing_socket(Recorder()) as (protocol, peer):
        peer.send(b"never seen")
        protocol.transport.close()
        assert protocol.transport.is_closing()
        assert not protocol.transport.is_reading()
        await protocol.until_called("connection_lost")
        assert protocol.calls == ["connection_made", "connection_lost"]


async def test_abort_drops_what_is_queued() -> None:
    # TCP takes a few bytes more when the peer acknowledges, which may come 40 ms late.
    async with facing_socket(Recorder(), unix_pair) as (protocol, peer):
        fill(protocol.transport.get_extra_info("socket")._sock)
        protocol.transport.write(pattern(1_000_000))
        assert protocol.transport.get_write_buffer_size() > 0
        protocol.transport.abort()
        await protocol.until_called("connection_lost")
        assert protocol.lost_with is None
        received = bytearray()
        # The peer sees the end of the connection, and no byte of what was dropped.
        with contextlib.suppress(ConnectionResetError):
            while data := await asyncio.get_running_loop().sock_recv(peer, 1 << 20):
                received += data
        assert not received.strip(b"\0")


async def test_what_was_written_just_before_an_abort_is_sent() -> None:
    class Refusing(Recorder):
        def data_received(self, data: bytes) -> None:
            self.transport.write(data)
            # Copied, referenced, and both again: all that the socket has room for.
            for size_bytes in (1, 20_000, 3, 30_000):
                self.transport.write(pattern(size_bytes))
            self.transport.abort()

    async with serving(Refusing) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"hello")
        assert await reader.read() == b"hello" + b"".join(map(pattern, (1, 20_000, 3, 30_000)))
        writer.close()
        await writer.wait_closed()


async def test_abort_after_close_gives_up_on_what_is_queued() -> None:
    async with facing_socket(Recorder()) as (protocol, _):
        protocol.transport.write(bytes(50_000_000))
        protocol.transport.close()
        protocol.transport.abort()
        await protocol.until_called("connection_lost")
        assert protocol.calls.count("connection_lost") == 1


async def test_close_in_connection_made_ends_the_connection() -> None:
    class Closing(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            transport.close()

    server = Closing()
    async with serving(lambda: server) as address:
        reader, writer = await asyncio.open_connection(*address)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        await server.until_called("connection_lost")
    assert server.calls == ["connection_made", "connection_lost"]


async def test_close_in_data_received_delivers_nothing_more() -> None:
    class Closing(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.close()

    async with facing_socket(Closing()) as (protocol, peer):
        for _ in range(50):
            peer.send(pattern(100))
        await protocol.until_called("connection_lost")
        assert protocol.count("data_received") == 1


async def test_writing_after_close_is_ignored_and_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    async with connected(Recorder(), Recorder()) as (client, server):
        client.transport.abort()
        for _ in range(10):
            client.transport.write(b"lost")
        await server.until_called("connection_lost")
        assert not server.received
    # The first four are silent.
    assert [record.message for record in caplog.records] == ["socket.send() raised exception."] * 6


# Half a connection


async def test_write_eof_ends_one_direction_after_what_is_queued() -> None:
    async with connected(Recorder(), Recorder()) as (client, server):
        server.keep_open_at_eof = True
        assert client.transport.can_write_eof()
        client.transport.write(pattern(2_000_000))
        client.transport.write_eof()
        await server.until_called("eof_received")
        assert server.received == pattern(2_000_000)
        server.transport.write(b"still here")
        await client.until_received(10)
        assert client.received == b"still here"
        server.transport.close()
        await client.until_called("connection_lost")
    assert server.count("eof_received") == 1


async def test_writing_after_write_eof_is_refused() -> None:
    async with connected(Recorder(), Recorder()) as (client, _):
        client.transport.write_eof()
        client.transport.write_eof()
        with pytest.raises(RuntimeError, match="after write_eof"):
            client.transport.write(b"x")


async def test_close_after_write_eof_flushes() -> None:
    async with connected(Recorder(), Recorder()) as (client, server):
        client.transport.write(pattern(1_000_000))
        client.transport.write_eof()
        client.transport.close()
        await server.until_called("connection_lost")
        await client.until_called("connection_lost")
    assert server.received == pattern(1_000_000)
    assert server.calls[-2:] == ["eof_received", "connection_lost"]


# What a transport tells


async def test_extra_info_names_both_ends() -> None:
    async with connected(Recorder(), Recorder()) as (client, server):
        ours, theirs = client.transport, server.transport
        assert ours.get_extra_info("sockname") == theirs.get_extra_info("peername")
        assert ours.get_extra_info("peername") == theirs.get_extra_info("sockname")
        assert ours.get_extra_info("socket").getsockname() == ours.get_extra_info("sockname")
        assert ours.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert ours.get_extra_info("nothing", "default") == "default"


async def test_is_closing_and_is_reading_follow_the_state() -> None:
    async with connected(Recorder(), Recorder()) as (client, _):
        transport = client.transport
        assert (transport.is_closing(), transport.is_reading()) == (False, True)
        transport.pause_reading()
        assert not transport.is_reading()
        transport.resume_reading()
        assert transport.is_reading()
        transport.close()
        assert (transport.is_closing(), transport.is_reading()) == (True, False)


async def test_callbacks_run_in_the_context_that_connected() -> None:
    who = contextvars.ContextVar("who", default="nobody")
    seen = []

    class Looking(Recorder):
        def data_received(self, data: bytes) -> None:
            seen.append(who.get())
            super().data_received(data)

        def connection_lost(self, error: BaseException | None) -> None:
            seen.append(who.get())
            super().connection_lost(error)

    async with serving(Echo) as address:
        client = Looking()
        who.set("the one who connects")
        await asyncio.get_running_loop().create_connection(lambda: client, *address)
        who.set("somebody else")
        client.transport.write(b"x")
        await client.until_received(1)
        client.transport.write_eof()
        await client.until_called("connection_lost")
    assert seen == ["the one who connects"] * 2


async def test_from_python_3_15_on_the_callbacks_of_a_connection_share_one_context() -> None:
    name = contextvars.ContextVar("name", default="nobody")

    class Naming(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.seen = [name.get()]
            name.set("connected")
            super().connection_made(transport)

        def data_received(self, data: bytes) -> None:
            self.seen.append(name.get())
            super().data_received(data)

        def connection_lost(self, error: BaseException | None) -> None:
            self.seen.append(name.get())
            super().connection_lost(error)

    name.set("made")
    async with connected(Naming(), Naming()) as (client, server):
        client.transport.write(b"x")
        server.transport.write(b"x")
        await client.until_received(1)
        await server.until_received(1)
    later = "connected" if sys.version_info >= (3, 15) else "made"
    assert client.seen == server.seen == ["made", later, later]
    assert name.get() == "made"


# Ways to a connection


async def test_connect_accepted_socket_takes_a_socket_that_is_already_connected() -> None:
    async with facing_socket(Echo()) as (protocol, peer):
        await asyncio.get_running_loop().sock_sendall(peer, b"hello")
        assert await asyncio.get_running_loop().sock_recv(peer, 100) == b"hello"
        assert protocol.transport.get_extra_info("peername") == peer.getsockname()


async def test_create_connection_takes_a_connected_socket_or_a_local_address() -> None:
    loop = asyncio.get_running_loop()
    async with serving(Echo) as address:
        sock = socket.create_connection(address)
        sock.setblocking(False)
        with contextlib.closing(listening_socket()) as free:
            local = free.getsockname()
        for options in ({"sock": sock}, {"host": address[0], "port": address[1], "local_addr": local}):
            client = Recorder()
            await loop.create_connection(lambda client=client: client, **options)
            client.transport.write(b"hello")
            await client.until_received(5)
            await close(client)
    assert client.transport.get_extra_info("sockname") == local


async def test_a_unix_socket_carries_the_same_bytes(tmp_path: object) -> None:
    loop = asyncio.get_running_loop()
    path = f"{tmp_path}/socket"
    server = await loop.create_unix_server(Echo, path)
    client = Recorder()
    await loop.create_unix_connection(lambda: client, path)
    client.transport.write(pattern(100_000))
    await client.until_received(100_000)
    assert client.received == pattern(100_000)
    await close(client)
    server.close()
    await server.wait_closed()


async def test_a_refused_connection_is_an_error_that_names_the_address() -> None:
    with contextlib.closing(listening_socket()) as listener:
        address = listener.getsockname()
    with pytest.raises(ConnectionRefusedError, match=rf"Connect call failed \('127.0.0.1', {address[1]}\)"):
        await asyncio.get_running_loop().create_connection(Recorder, *address)


async def test_the_second_address_is_tried_when_the_first_refuses() -> None:
    loop = asyncio.get_running_loop()
    client = Recorder()
    with contextlib.closing(listening_socket()) as listener:
        refused = listener.getsockname()
    async with serving(Echo) as address:
        entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", target) for target in (refused, address)]

        async def both(*arguments: object, **options: object) -> list[object]:
            return list(entries)

        loop.getaddrinfo = both  # type: ignore[method-assign,assignment]
        for delay_s in (None, 10):
            client = Recorder()
            await loop.create_connection(
                lambda client=client: client,
                "two.example",
                1,
                happy_eyeballs_delay=delay_s,
            )
            assert client.transport.get_extra_info("peername") == address
            await close(client)


async def test_a_transport_owns_its_descriptor() -> None:
    loop = asyncio.get_running_loop()
    async with connected(Recorder(), Recorder()) as (client, _):
        sock = client.transport.get_extra_info("socket")
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(sock.fileno(), print)


async def test_sock_recv_refuses_the_socket_of_a_transport() -> None:
    loop = asyncio.get_running_loop()
    async with connected(Recorder(), Recorder()) as (client, _), asyncio.timeout(1):
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.sock_recv(client.transport.get_extra_info("socket")._sock, 1)


@pytest.mark.asyncio(loop_factories=RINGS)
async def test_statistics_count_the_bytes_of_streams() -> None:
    loop = asyncio.get_running_loop()
    async with connected(Recorder(), Recorder()) as (client, server):
        client.transport.write(pattern(10_000))
        await server.until_received(10_000)
        statistics = loop.statistics()  # type: ignore[attr-defined]
        assert statistics["streams"] == 2
        assert statistics["bytes_received"] == 10_000
    assert loop.statistics()["bytes_sent"] == 10_000  # type: ignore[attr-defined]
