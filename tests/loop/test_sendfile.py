"""`loop.sendfile` and `loop.sock_sendfile`: the right bytes, once, behind what was written before, however it ends."""

import asyncio
import contextlib
import fcntl
import io
import os
import random
import resource
import socket
import struct
import sys
import termios
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from tests.housekeeping import open_descriptors, settle
from tests.variants import BACKENDS
from uringloop.sendfile import fallback, sending, transfer
from uringloop.sendfile.sender import NOT_CACHED

from .helpers import LOCALHOST, Recorder, close, connected, facing_socket, pattern, reset, serving, socket_pair
from .test_cancel import interrupted, turns
from .test_page_cache import evict
from .test_sockets import begun, cancelled
from .test_tls import client_context, server_context

#: Nothing goes through the receive buffers here, so fewer shapes differ.
RINGS = (*BACKENDS, "selector-interrupting", "ring-tiny")

pytestmark = pytest.mark.asyncio(loop_factories=("asyncio", *RINGS))

_SIZE_BYTES = 1_000_000
_GIB = 1 << 30


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(pattern(_SIZE_BYTES))
    return path


@pytest.fixture
def file(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as opened:
        yield opened


Send = Callable[..., Awaitable[int]]


@contextlib.asynccontextmanager
async def sender(kind: str) -> AsyncIterator[tuple[Send, socket.socket, Callable[[], None]]]:
    """A way to send a file, the bare socket at the other end, and how to say that there will be no more."""
    loop = asyncio.get_running_loop()
    if kind == "sock":
        with socket_pair() as (left, right):
            yield (
                lambda *arguments, **options: loop.sock_sendfile(left, *arguments, **options),
                right,
                lambda: left.shutdown(socket.SHUT_WR),
            )
    else:
        async with facing_socket(Recorder()) as (protocol, right):
            yield (
                lambda *arguments, **options: loop.sendfile(protocol.transport, *arguments, **options),
                right,
                lambda: protocol.transport.write_eof(),
            )


each_way = pytest.mark.parametrize("kind", ["sock", "transport"])


async def receive(sock: socket.socket, at_most_bytes: int) -> bytes:
    """What comes until the end, or until there is so much."""
    received = bytearray()
    buffer = bytearray(1 << 18)
    while count := min(at_most_bytes - len(received), len(buffer)):
        count = await asyncio.get_running_loop().sock_recv_into(sock, memoryview(buffer)[:count])
        if not count:
            break
        received += buffer[:count]
    return bytes(received)


async def receive_exactly(sock: socket.socket, size_bytes: int) -> bytes:
    received = await receive(sock, size_bytes)
    assert len(received) == size_bytes
    return received


async def all_of(sock: socket.socket) -> bytes:
    return await receive(sock, 1 << 40)


# What is sent


@each_way
@pytest.mark.parametrize(
    ("offset", "count"),
    [
        (0, None),
        (0, 1),
        (1, None),
        (1000, 5000),
        (0, 65536),
        (65535, 65537),
        (0, _SIZE_BYTES),
        (0, _SIZE_BYTES + 1),
        (_SIZE_BYTES - 1, None),
        (_SIZE_BYTES - 1, 1 << 40),
        (_SIZE_BYTES, None),
        (_SIZE_BYTES + 10, 10),
    ],
)
async def test_a_part_of_a_file(kind: str, file: BinaryIO, offset: int, count: int | None) -> None:
    expected = pattern(_SIZE_BYTES)[offset : None if count is None else offset + count]
    async with sender(kind) as (send, peer, end):
        receiving = asyncio.create_task(all_of(peer))
        assert await send(file, offset, count) == len(expected)
        end()
        assert await receiving == expected
    # Before 3.14 the position stays as it was if nothing was sent.
    moves = expected or sys.version_info >= (3, 14)
    assert file.tell() == (offset + len(expected) if moves else 0)


@each_way
async def test_the_files_own_position_does_not_matter(kind: str, file: BinaryIO) -> None:
    file.seek(500)
    async with sender(kind) as (send, peer, _):
        assert await send(file, 0, 10) == 10
        assert await receive_exactly(peer, 10) == pattern(10)
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 10


@each_way
async def test_an_empty_file(kind: str, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with (tmp_path / "empty").open("rb") as file:
        async with sender(kind) as (send, peer, end):
            assert await send(file) == 0
            assert await send(file, 10) == 0
            assert await send(file, 10, 10) == 0
            end()
            assert await all_of(peer) == b""


@each_way
async def test_beyond_two_gigabytes(kind: str, tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb+", buffering=0) as file:
        file.truncate(5 * _GIB)
        os.pwrite(file.fileno(), b"here", 3 * _GIB)
        os.pwrite(file.fileno(), b"end", 5 * _GIB - 3)
        async with sender(kind) as (send, peer, _):
            assert await send(file, 3 * _GIB - 2, 8) == 8
            assert await receive_exactly(peer, 8) == b"\0\0here\0\0"
            assert file.tell() == 3 * _GIB + 6
            assert await send(file, 5 * _GIB - 5) == 5
            assert await receive_exactly(peer, 5) == b"\0\0end"
            assert file.tell() == 5 * _GIB


@each_way
async def test_one_after_the_other(kind: str, file: BinaryIO) -> None:
    async with sender(kind) as (send, peer, end):
        receiving = asyncio.create_task(all_of(peer))
        for offset in range(0, 300_000, 7919):
            assert await send(file, offset, 7919) == 7919
        end()
        received = await receiving
        assert received == pattern(len(received))
        assert len(received) >= 300_000


async def test_to_a_unix_socket(file: BinaryIO) -> None:
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        sending = await begun(asyncio.get_running_loop().sock_sendfile(left, file))
        assert await receive_exactly(right, _SIZE_BYTES) == pattern(_SIZE_BYTES)
        assert await sending == _SIZE_BYTES


@each_way
@pytest.mark.asyncio(loop_factories=RINGS)
async def test_the_file_may_be_closed_meanwhile(kind: str, file: BinaryIO) -> None:
    """Another file that gets its descriptor is not sent."""
    await close_meanwhile(kind, file)


async def close_meanwhile(kind: str, file: BinaryIO) -> None:
    async with sender(kind) as (send, peer, _):
        sending = await begun(send(file))
        await turns(3)
        with open("/dev/zero", "rb") as other:
            fd = file.fileno()
            file.close()
            os.dup2(other.fileno(), fd)
            assert await receive_exactly(peer, _SIZE_BYTES) == pattern(_SIZE_BYTES)
            assert await sending == _SIZE_BYTES
            os.close(fd)


@pytest.mark.asyncio(loop_factories=RINGS)
async def test_the_socket_may_be_closed_meanwhile(file: BinaryIO) -> None:
    """Another socket that gets its descriptor is sent nothing."""
    loop = asyncio.get_running_loop()
    # The other sockets are made first: one of them would get the descriptor that is closed.
    with socket_pair() as (left, right), socket_pair() as other:
        sending = await begun(loop.sock_sendfile(left, file))
        first = await receive_exactly(right, 100_000)
        fd = left.fileno()
        left.close()
        os.dup2(other[0].fileno(), fd)
        assert first + await receive_exactly(right, _SIZE_BYTES - 100_000) == pattern(_SIZE_BYTES)
        assert await sending == _SIZE_BYTES
        for sock in other:
            with pytest.raises(BlockingIOError):
                sock.recv(1)
        os.close(fd)


@each_way
async def test_a_file_that_is_cut_off_meanwhile_ends_there(kind: str, path: Path) -> None:
    with path.open("rb+", buffering=0) as file:
        file.truncate(20_000_000)
        async with sender(kind) as (send, peer, end):
            sending = await begun(send(file))
            first = await receive_exactly(peer, 100_000)
            file.truncate(10_000_000)
            receiving = asyncio.create_task(all_of(peer))
            sent_bytes = await sending
            end()
            received = first + await receiving
            assert sent_bytes == len(received) <= 10_000_000 + (4 << 20)
            assert received[:_SIZE_BYTES] == pattern(_SIZE_BYTES)
            assert file.tell() == sent_bytes


@each_way
async def test_a_file_that_grows_meanwhile_is_sent_to_its_end(kind: str, path: Path) -> None:
    with path.open("rb+", buffering=0) as file:
        file.truncate(5_000_000)
        async with sender(kind) as (send, peer, end):
            sending = await begun(send(file))
            first = await receive_exactly(peer, 1000)
            file.truncate(6_000_000)
            receiving = asyncio.create_task(all_of(peer))
            assert await sending == 6_000_000
            end()
            assert len(first + await receiving) == 6_000_000


# Behind what was written, before what is written next


async def test_the_order_with_what_is_written(file: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    async with connected(Recorder(), Recorder()) as (client, server):
        expected = b""
        for size_bytes in (7, 20_000, 500_000):
            client.transport.write(pattern(size_bytes))
            assert await loop.sendfile(client.transport, file) == _SIZE_BYTES
            client.transport.write(b",after")
            expected += pattern(size_bytes) + pattern(_SIZE_BYTES) + b",after"
        await server.until_received(len(expected))
        assert server.received == expected


async def test_writing_meanwhile_is_refused(file: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    async with connected(Recorder(), Recorder()) as (client, server):
        server.transport.pause_reading()
        client.transport.write(pattern(10_000_000))
        sending = await begun(loop.sendfile(client.transport, file))
        with pytest.raises(RuntimeError, match=r"unable to write; sendfile is in progress"):
            client.transport.write(b"x")
        server.transport.resume_reading()
        await sending
        client.transport.write(b"y")
        await server.until_received(11_000_001)
        assert server.received == pattern(10_000_000) + pattern(_SIZE_BYTES) + b"y"


async def test_a_paused_protocol_is_resumed_before_the_file_is_sent(file: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    async with connected(Recorder(), Recorder()) as (client, server):
        server.transport.pause_reading()
        client.transport.write(pattern(10_000_000))
        assert client.calls == ["connection_made", "pause_writing"]
        sending = await begun(loop.sendfile(client.transport, file))
        server.transport.resume_reading()
        await sending
        assert client.calls == ["connection_made", "pause_writing", "resume_writing"]
        await server.until_received(11_000_000)


async def test_what_comes_in_meanwhile_waits(file: BinaryIO) -> None:
    """asyncio does not read while it sends a file: neither bytes nor their end are seen before."""
    loop = asyncio.get_running_loop()
    async with facing_socket(Recorder()) as (protocol, peer):
        sending = await begun(loop.sendfile(protocol.transport, file))
        peer.send(b"question")
        peer.shutdown(socket.SHUT_WR)
        received = await receive_exactly(peer, 500_000)
        assert not sending.done()
        assert protocol.calls == ["connection_made"]
        received += await receive_exactly(peer, 500_000)
        assert received == pattern(_SIZE_BYTES)
        assert await sending == _SIZE_BYTES
        await protocol.until_called("connection_lost")
        assert protocol.calls == ["connection_made", "data_received", "eof_received", "connection_lost"]
        assert protocol.lost_with is None


@pytest.mark.parametrize("paused", [True, False])
async def test_reading_is_afterwards_as_it_was_before(file: BinaryIO, paused: bool) -> None:
    loop = asyncio.get_running_loop()
    async with facing_socket(Recorder()) as (protocol, peer):
        if paused:
            protocol.transport.pause_reading()
        assert await loop.sendfile(protocol.transport, file, 0, 10) == 10
        assert protocol.transport.is_reading() is not paused
        peer.send(b"x")
        protocol.transport.resume_reading()
        await protocol.until_received(1)


# asyncio says KeyError.
@pytest.mark.asyncio(loop_factories=RINGS)
async def test_two_at_once_are_refused(file: BinaryIO, path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with facing_socket(Recorder()) as (protocol, peer):
        protocol.transport.write(pattern(2_000_000))
        sending = await begun(loop.sendfile(protocol.transport, file))
        with path.open("rb") as second, pytest.raises(RuntimeError, match=r"Empty waiter is already set"):
            await loop.sendfile(protocol.transport, second)
        expected = pattern(2_000_000) + pattern(_SIZE_BYTES)
        assert await receive_exactly(peer, len(expected)) == expected
        assert await sending == _SIZE_BYTES


# What is no native sendfile


class Unreadable(io.BytesIO):
    """No descriptor, and not even readinto: nothing must touch it."""

    def readinto(self, buffer: Any) -> int:
        raise AssertionError("was read")


@each_way
async def test_without_fallback_only_files_with_a_descriptor(kind: str) -> None:
    async with sender(kind) as (send, _, _):
        with pytest.raises(asyncio.SendfileNotAvailableError, match=r"^not a regular file$"):
            await send(Unreadable(b"data"), fallback=False)


@each_way
async def test_the_fallback_reads_anything(kind: str) -> None:
    async with sender(kind) as (send, peer, end):
        receiving = asyncio.create_task(all_of(peer))
        assert await send(io.BytesIO(pattern(300_000)), 1000, 200_000) == 200_000
        assert await send(io.BytesIO(b"0123456789"), 3) == 7
        end()
        assert await receiving == pattern(200_000, 1000) + b"3456789"


@each_way
@pytest.mark.parametrize("fallback", [True, False])
async def test_a_pipe_is_no_file(kind: str, fallback: bool) -> None:
    if sys.version_info >= (3, 14) and type(asyncio.get_running_loop()) is asyncio.SelectorEventLoop:
        pytest.skip("asyncio fails to seek in a callback of its own, and waits for ever")
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0) as file, os.fdopen(writer, "wb", buffering=0) as other:
        other.write(b"0123456789")
        async with sender(kind) as (send, peer, _):
            # It has no size.
            assert await send(file) == 0
            if not fallback:
                with pytest.raises(asyncio.SendfileNotAvailableError, match=r"^os\.sendfile call failed$"):
                    await send(file, 0, 5, fallback=False)
                return
            # It cannot be sought either: asyncio sends, and then fails; from 3.14 on it fails first.
            with pytest.raises(OSError, match=r"not seekable|Illegal seek"):
                await send(file, 0, 5)
            if sys.version_info < (3, 14):
                assert await receive_exactly(peer, 5) == b"01234"


@each_way
async def test_a_file_that_cannot_be_read(kind: str, path: Path) -> None:
    with path.open("ab") as file:
        async with sender(kind) as (send, _, _):
            with pytest.raises(asyncio.SendfileNotAvailableError, match=r"^os\.sendfile call failed$"):
                await send(file, fallback=False)
            with pytest.raises(io.UnsupportedOperation):
                await send(file)


@each_way
async def test_a_closed_file(kind: str, file: BinaryIO) -> None:
    file.close()
    async with sender(kind) as (send, _, _):
        with pytest.raises(ValueError, match=r"closed file"):
            await send(file)


@each_way
async def test_a_text_file_is_refused(kind: str, path: Path) -> None:
    with path.open(encoding="latin-1") as file:
        async with sender(kind) as (send, _, _):
            with pytest.raises(ValueError, match=r"^file should be opened in binary mode$"):
                await send(file)


@each_way
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 0), ValueError, r"^count must be a positive integer \(got 0\)$"),
        ((0, -1), ValueError, r"^count must be a positive integer \(got -1\)$"),
        ((0, "1"), TypeError, r"^count must be a positive integer \(got '1'\)$"),
        ((-1,), ValueError, r"^offset must be a non-negative integer \(got -1\)$"),
        ((1.0,), TypeError, r"^offset must be a non-negative integer \(got 1\.0\)$"),
    ],
)
async def test_wrong_numbers_are_refused(
    kind: str, file: BinaryIO, arguments: tuple[Any, ...], error: type[BaseException], message: str
) -> None:
    async with sender(kind) as (send, peer, _):
        with pytest.raises(error, match=message):
            await send(file, *arguments)
        # And nothing of it is left.
        assert await send(file, 0, 1) == 1
        assert await receive_exactly(peer, 1) == pattern(1)


async def test_a_datagram_socket_is_refused(file: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        with pytest.raises(ValueError, match=r"^only SOCK_STREAM type sockets are supported$"):
            await loop.sock_sendfile(sock, file)


async def test_a_closing_transport_is_refused(file: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    async with facing_socket(Recorder()) as (protocol, _):
        protocol.transport.close()
        with pytest.raises(RuntimeError, match=r"^Transport is closing$"):
            await loop.sendfile(protocol.transport, file)
        assert file.tell() == 0


async def test_an_unconnected_socket(file: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises(asyncio.SendfileNotAvailableError, match=r"^os\.sendfile call failed$"):
            await loop.sock_sendfile(sock, file, fallback=False)
        with pytest.raises(BrokenPipeError):
            await loop.sock_sendfile(sock, file)


@each_way
@pytest.mark.asyncio(loop_factories=BACKENDS)
async def test_it_needs_no_descriptor(kind: str, file: BinaryIO) -> None:
    async with sender(kind) as (send, peer, end):
        receiving = asyncio.create_task(all_of(peer))
        await asyncio.sleep(0)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_descriptors()) + 2, hard))
        taken = []
        try:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.dup(0))
            assert await send(file, fallback=False) == _SIZE_BYTES
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in taken:
                os.close(fd)
        end()
        assert await receiving == pattern(_SIZE_BYTES)


async def test_tls_falls_back_or_refuses(file: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    server = Recorder()
    async with serving(lambda: server, ssl=server_context()) as address:
        client = Recorder()
        await loop.create_connection(lambda: client, *address, ssl=client_context(), server_hostname="localhost")
        client.transport.write(b"before,")
        with pytest.raises(RuntimeError, match=r"^fallback is disabled and native sendfile is not supported for"):
            await loop.sendfile(client.transport, file, fallback=False)
        assert await loop.sendfile(client.transport, file, 1000, 500_000) == 500_000
        assert file.tell() == 501_000
        client.transport.write(b",after")
        await server.until_received(500_013)
        assert server.received == b"before," + pattern(500_000, 1000) + b",after"
        await close(client, server)


async def send_over_tls(file: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    server = Recorder()
    async with serving(lambda: server, ssl=server_context()) as address:
        client = Recorder()
        await loop.create_connection(lambda: client, *address, ssl=client_context(), server_hostname="localhost")
        # Before Python 3.14 an offset of 0 is the file's own position.
        start = 300 if sys.version_info < (3, 14) else 0
        file.seek(300)
        assert await loop.sendfile(client.transport, file) == _SIZE_BYTES - start
        assert file.tell() == _SIZE_BYTES - start
        assert await loop.sendfile(client.transport, file, _SIZE_BYTES - 5, 10) == 5
        assert await loop.sendfile(client.transport, file, _SIZE_BYTES) == 0
        assert file.tell() == _SIZE_BYTES
        await server.until_received(_SIZE_BYTES - start + 5)
        assert server.received == pattern(_SIZE_BYTES)[start:] + pattern(_SIZE_BYTES)[-5:]
        with pytest.raises(io.UnsupportedOperation), open(os.devnull, "wb") as unreadable:
            await loop.sendfile(client.transport, unreadable)
        file.seek(0)
        sending = await begun(loop.sendfile(client.transport, file))
        client.transport.abort()
        with pytest.raises(ConnectionError):
            await sending
        await server.until_called("connection_lost")


async def test_over_tls(file: BinaryIO) -> None:
    await send_over_tls(file)


@pytest.mark.asyncio(loop_factories=BACKENDS)
async def test_an_uncached_file_over_tls(file: BinaryIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallback, "read_cached", lambda *_: -1)
    await send_over_tls(file)


@pytest.mark.asyncio(loop_factories=BACKENDS)
async def test_an_uncached_file_over_tls_that_is_thrown_away(file: BinaryIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallback, "read_cached", lambda *_: -1)
    loop = asyncio.get_running_loop()
    server = Recorder()
    async with serving(lambda: server, ssl=server_context()) as address:
        client = Recorder()
        await loop.create_connection(lambda: client, *address, ssl=client_context(), server_hostname="localhost")
        coroutine: Any = loop.sendfile(client.transport, file)
        coroutine.send(None)
        coroutine.close()
        client.transport.abort()
        await server.until_called("connection_lost")
    assert server.received == b""


async def test_a_datagram_transport_is_refused(file: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    lost = asyncio.Event()

    class Protocol(asyncio.DatagramProtocol):
        def connection_lost(self, error: BaseException | None) -> None:
            lost.set()

    transport, _ = await loop.create_datagram_endpoint(Protocol, (LOCALHOST, 0))
    with pytest.raises(RuntimeError, match=r"^sendfile is not supported for transport <"):
        await loop.sendfile(transport, file)  # type: ignore[arg-type]
    transport.close()
    await lost.wait()


# How it may end early


@each_way
async def test_the_peer_is_gone_in_the_middle(kind: str, file: BinaryIO) -> None:
    async with sender(kind) as (send, peer, _):
        sending = await begun(send(file))
        await receive_exactly(peer, 100_000)
        reset(peer)
        with pytest.raises(ConnectionError):
            await sending
        assert 100_000 <= file.tell() < _SIZE_BYTES


async def test_a_transport_whose_peer_is_gone_is_lost_afterwards(file: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    async with facing_socket(Recorder()) as (protocol, peer):
        sending = await begun(loop.sendfile(protocol.transport, file))
        await receive_exactly(peer, 100_000)
        reset(peer)
        with pytest.raises(ConnectionError):
            await sending
        await protocol.until_called("connection_lost")


# asyncio would wait for ever.
@pytest.mark.asyncio(loop_factories=RINGS)
@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("after_turns", [0, 1, 3, 100])
async def test_a_transport_that_is_closed_ends_it(file: BinaryIO, how: str, after_turns: int) -> None:
    loop = asyncio.get_running_loop()
    async with facing_socket(Recorder()) as (protocol, peer):
        sending = await begun(loop.sendfile(protocol.transport, file))
        await turns(after_turns)
        getattr(protocol.transport, how)()
        with pytest.raises(ConnectionError, match=r"^Connection is closed by peer$"):
            await sending
        await protocol.until_called("connection_lost")
        assert protocol.lost_with is None
        received = await all_of(peer)
        assert received == pattern(len(received))
        assert file.tell() == len(received) < _SIZE_BYTES


@pytest.mark.asyncio(loop_factories=RINGS)
@pytest.mark.parametrize("how", ["close", "abort"])
async def test_a_transport_that_is_closed_while_the_file_waits_for_its_turn(file: BinaryIO, how: str) -> None:
    loop = asyncio.get_running_loop()
    async with facing_socket(Recorder()) as (protocol, peer):
        protocol.transport.write(pattern(5_000_000))
        sending = await begun(loop.sendfile(protocol.transport, file))
        getattr(protocol.transport, how)()
        received = await all_of(peer)
        with pytest.raises(ConnectionError, match=r"^Connection is closed by peer$"):
            await sending
        await protocol.until_called("connection_lost")
        assert received == pattern(len(received))
        if how == "close":
            # What was written is sent.
            assert len(received) == 5_000_000
        assert file.tell() == 0


@pytest.mark.asyncio(loop_factories=RINGS)
async def test_cancelled_while_the_file_waits_for_its_turn(file: BinaryIO) -> None:
    """asyncio's transport would refuse writes for ever, and never read again."""
    loop = asyncio.get_running_loop()
    async with facing_socket(Recorder()) as (protocol, peer):
        protocol.transport.write(pattern(5_000_000))
        await cancelled(await begun(loop.sendfile(protocol.transport, file)))
        protocol.transport.write(b"written")
        peer.send(b"read")
        expected = pattern(5_000_000) + b"written"
        assert await receive_exactly(peer, len(expected)) == expected
        await protocol.until_received(4)
        assert await loop.sendfile(protocol.transport, file, 0, 10) == 10
        assert await receive_exactly(peer, 10) == pattern(10)


# asyncio leaves the position where it was.
@each_way
@pytest.mark.asyncio(loop_factories=RINGS)
async def test_cancelled_in_the_middle(kind: str, file: BinaryIO) -> None:
    async with sender(kind) as (send, peer, end):
        sending = await begun(send(file))
        first = await receive_exactly(peer, 100_000)
        await cancelled(sending)
        receiving = asyncio.create_task(all_of(peer))
        await send(file, file.tell())
        end()
        assert first + await receiving == pattern(_SIZE_BYTES)


@each_way
@pytest.mark.asyncio(loop_factories=RINGS)
async def test_cancelled_at_any_time_nothing_is_lost_or_sent_twice(kind: str, file: BinaryIO) -> None:
    await cancel_at_any_times(kind, file, 8)


async def cancel_at_any_times(kind: str, file: BinaryIO, rounds: int) -> None:
    for seed in range(rounds):
        choices = random.Random(f"sendfile {seed}")
        async with sender(kind) as (send, peer, end):
            receiving = asyncio.create_task(all_of(peer))
            file.seek(0)
            while file.tell() < _SIZE_BYTES:
                count = choices.choice([None, 1, 1000, 100_000, 300_000])
                before = file.tell()
                sent_bytes = await interrupted(send(file, before, count), choices.randrange(25))
                assert sent_bytes is None or sent_bytes == file.tell() - before
            end()
            assert await receiving == pattern(_SIZE_BYTES)
    assert await settle() == {}


@each_way
@pytest.mark.asyncio(loop_factories=RINGS)
@pytest.mark.parametrize("after_turns", [0, 1, 4, 100])
async def test_a_coroutine_that_is_thrown_away_leaves_nothing_behind(
    kind: str, file: BinaryIO, after_turns: int
) -> None:
    await throw_away(kind, file, after_turns)


async def throw_away(kind: str, file: BinaryIO, after_turns: int) -> None:
    async with sender(kind) as (send, peer, end):
        coroutine: Any = send(file)
        waited_for = coroutine.send(None)
        if waited_for is not None:  # None: it lets other callbacks run first
            waited_for.add_done_callback(lambda _: None)
        await turns(after_turns)
        coroutine.close()
        end()
        received = await all_of(peer)
        assert received == pattern(len(received))


# Many at once


@pytest.mark.asyncio(loop_factories=BACKENDS)
async def test_many_slow_peers_hold_up_nobody(file: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as sockets:
        pairs = [sockets.enter_context(socket_pair()) for _ in range(40)]
        slow = [asyncio.create_task(loop.sock_sendfile(left, file)) for left, _ in pairs]
        for left, _ in pairs:
            # Until each of them has filled its socket.
            while not await _is_full(left):
                await asyncio.sleep(0.001)
        before = len(open_descriptors())
        with socket_pair() as (left, right):
            receiving = asyncio.create_task(receive_exactly(right, _SIZE_BYTES))
            assert await loop.sock_sendfile(left, file) == _SIZE_BYTES
            assert await receiving == pattern(_SIZE_BYTES)
        assert len(open_descriptors()) <= before + 8
        for task, (_, right) in zip(slow, pairs, strict=True):
            assert await receive_exactly(right, _SIZE_BYTES) == pattern(_SIZE_BYTES)
            assert await task == _SIZE_BYTES


async def _is_full(sock: socket.socket) -> bool:
    unsent = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
    return bool(unsent > 0)


# What the page cache has, and what it has not


@each_way
@pytest.mark.asyncio(loop_factories=BACKENDS)
async def test_a_small_cached_file_needs_no_wait_and_no_descriptor(kind: str, file: BinaryIO) -> None:
    async with sender(kind) as (send, peer, _):
        await asyncio.sleep(0)
        before = open_descriptors()
        sending: Any = send(file, 10, 5000)
        with pytest.raises(StopIteration) as ended:
            sending.send(None)
        assert ended.value.value == 5000
        assert open_descriptors() == before
        assert await receive_exactly(peer, 5000) == pattern(5000, 10)


@pytest.mark.asyncio(loop_factories=BACKENDS)
async def test_what_is_queued_leaves_before_a_small_file(file: BinaryIO) -> None:
    """Also where many callbacks of a tick write, so that small writes wait for its end."""
    loop = asyncio.get_running_loop()
    async with connected(Recorder(), Recorder()) as (client, server):

        async def answer() -> None:
            client.transport.write(b"head ")
            assert await loop.sendfile(client.transport, file, 0, 10) == 10
            client.transport.write(b" tail ")

        expected = b"head " + pattern(10) + b" tail "
        await asyncio.gather(*(answer() for _ in range(20)))
        await server.until_received(20 * len(expected))
        assert server.received == 20 * expected


@pytest.fixture
def uncached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the page cache have nothing, as for a file system without RWF_NOWAIT."""
    monkeypatch.setattr(transfer, "send_cached", lambda *_: (0, NOT_CACHED))
    monkeypatch.setattr(sending, "send_at_once", lambda *_: -1)


def uncached_each_way(test: Any) -> Any:
    return each_way(pytest.mark.usefixtures("uncached")(pytest.mark.asyncio(loop_factories=BACKENDS)(test)))


@uncached_each_way
async def test_uncached_parts(kind: str, file: BinaryIO) -> None:
    async with sender(kind) as (send, peer, end):
        receiving = asyncio.create_task(all_of(peer))
        expected = b""
        for offset, count in ((0, None), (4095, 2), (1, 300_000), (_SIZE_BYTES - 1, None), (_SIZE_BYTES, 5), (9, 9)):
            part = pattern(_SIZE_BYTES)[offset : None if count is None else offset + count]
            assert await send(file, offset, count, fallback=False) == len(part)
            expected += part
        end()
        assert await receiving == expected
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 18


@uncached_each_way
async def test_uncached_and_cancelled_at_any_time(kind: str, file: BinaryIO) -> None:
    await cancel_at_any_times(kind, file, 3)


@uncached_each_way
@pytest.mark.parametrize("after_turns", [0, 3])
async def test_uncached_and_thrown_away(kind: str, file: BinaryIO, after_turns: int) -> None:
    await throw_away(kind, file, after_turns)


@uncached_each_way
async def test_an_uncached_file_may_be_closed_meanwhile(kind: str, file: BinaryIO) -> None:
    await close_meanwhile(kind, file)


@pytest.mark.usefixtures("uncached")
@pytest.mark.asyncio(loop_factories=BACKENDS)
async def test_slow_peers_of_uncached_files_hold_up_nobody(file: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as sockets:
        pairs = [sockets.enter_context(socket_pair()) for _ in range(2 * transfer.BUFFERS_MAX)]
        slow = [asyncio.create_task(loop.sock_sendfile(left, file)) for left, _ in pairs]
        with socket_pair() as (left, right):
            receiving = asyncio.create_task(receive_exactly(right, _SIZE_BYTES))
            assert await loop.sock_sendfile(left, file) == _SIZE_BYTES
            assert await receiving == pattern(_SIZE_BYTES)
        for task, (_, right) in zip(slow, pairs, strict=True):
            assert await receive_exactly(right, _SIZE_BYTES) == pattern(_SIZE_BYTES)
            assert await task == _SIZE_BYTES


@pytest.mark.parametrize("place", ["disk", "memory"])
async def test_an_evicted_file(place: str, path: Path) -> None:
    with contextlib.ExitStack() as opened:
        if place == "memory":
            file: BinaryIO = opened.enter_context(os.fdopen(os.memfd_create("file"), "rb+"))
            file.write(pattern(_SIZE_BYTES))
            file.flush()
        else:
            file = opened.enter_context(path.open("rb"))
            evict(file)
        async with sender("transport") as (send, peer, end):
            receiving = asyncio.create_task(all_of(peer))
            assert await send(file, 1, fallback=False) == _SIZE_BYTES - 1
            end()
            assert await receiving == pattern(_SIZE_BYTES)[1:]


@pytest.mark.asyncio(loop_factories=BACKENDS)
async def test_a_file_past_the_page_cache(path: Path) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError:
        pytest.skip("the file system has no O_DIRECT")
    with open(fd, "rb", buffering=0) as file:
        async with sender("transport") as (send, peer, end):
            receiving = asyncio.create_task(all_of(peer))
            assert await send(file, 5, 600_001, fallback=False) == 600_001
            assert await send(file, _SIZE_BYTES - 7, fallback=False) == 7
            end()
            assert await receiving == pattern(600_001, 5) + pattern(_SIZE_BYTES)[-7:]


@each_way
async def test_a_file_whose_size_is_unknown(kind: str) -> None:
    with open("/proc/version", "rb", buffering=0) as file:
        content = Path("/proc/version").read_bytes()
        async with sender(kind) as (send, peer, _):
            assert await send(file) == 0  # as of an empty one
            assert await send(file, 3, 1000, fallback=False) == len(content) - 3
            assert await receive_exactly(peer, len(content) - 3) == content[3:]
            assert file.tell() == len(content)
