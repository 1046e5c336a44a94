"""`loop.sock_*`: the socket's own calls, awaited.  A cancelled one gives everything back."""

import array
import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from tests.variants import EVERY, RINGS
from uringloop import EventLoop

from .helpers import LOCALHOST, Recorder, fill, listening_socket, pattern, reset, socket_pair

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)


async def receive_exactly(sock: socket.socket, size_bytes: int) -> bytes:
    received = bytearray()
    while len(received) < size_bytes:
        data = await asyncio.get_running_loop().sock_recv(sock, size_bytes - len(received))
        assert data
        received += data
    return bytes(received)


async def begun(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A task that has run up to its first wait."""
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    return task


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# Bytes


async def test_sock_recv_takes_what_is_there() -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):
        right.send(b"already there")
        assert await loop.sock_recv(left, 7) == b"already"
        assert await loop.sock_recv(left, 100) == b" there"


async def test_sock_recv_waits_for_what_is_not() -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):
        receiving = await begun(loop.sock_recv(left, 100))
        assert not receiving.done()
        right.send(b"later")
        assert await receiving == b"later"


async def test_sock_recv_of_the_end_is_empty() -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):
        right.send(b"x")
        right.shutdown(socket.SHUT_WR)
        assert await loop.sock_recv(left, 10) == b"x"
        assert await loop.sock_recv(left, 10) == b""
        assert await loop.sock_recv(left, 10) == b""


async def test_sock_recv_of_nothing_returns_at_once() -> None:
    with socket_pair() as (left, _):
        assert await asyncio.get_running_loop().sock_recv(left, 0) == b""


async def test_sock_recv_of_a_negative_size_is_refused() -> None:
    with socket_pair() as (left, _), pytest.raises(ValueError, match="negative"):
        await asyncio.get_running_loop().sock_recv(left, -1)


async def test_sock_recv_raises_the_reset() -> None:
    with socket_pair() as (left, right):
        reset(right)
        with pytest.raises(ConnectionResetError):
            await asyncio.get_running_loop().sock_recv(left, 1)


@pytest.mark.parametrize(
    "make", [bytearray, lambda size: memoryview(bytearray(size)), lambda size: array.array("I", bytes(size))]
)
async def test_sock_recv_into_fills_any_writable_buffer(make: Callable[[int], Any]) -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):
        buffer = make(64)
        receiving = await begun(loop.sock_recv_into(left, buffer))
        right.send(pattern(40))
        assert await receiving == 40
        assert bytes(memoryview(buffer).cast("B")) == pattern(40) + bytes(24)


async def test_sock_recv_into_lets_go_of_the_buffer() -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):
        buffer = bytearray(10)
        right.send(b"12345")
        assert await loop.sock_recv_into(left, buffer) == 5
        # A bytearray that somebody still exports cannot change its size.
        buffer.extend(bytes(100))


async def test_sock_recv_into_a_read_only_buffer_is_refused() -> None:
    with socket_pair() as (left, right):
        right.send(b"x")
        with pytest.raises((TypeError, BufferError)):
            await asyncio.get_running_loop().sock_recv_into(left, b"constant")


@pytest.mark.parametrize("size_bytes", [0, 1, 100_000, 1_000_000])
async def test_sock_sendall_sends_all(size_bytes: int) -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):
        sending = await begun(loop.sock_sendall(left, pattern(size_bytes)))
        assert await receive_exactly(right, size_bytes) == pattern(size_bytes)
        assert await sending is None


async def test_sock_sendall_takes_any_buffer() -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):
        for data in (b"bytes", bytearray(b"bytearray"), memoryview(b"memoryview")):
            await loop.sock_sendall(left, data)
        sent = b"bytesbytearraymemoryview"
        assert await receive_exactly(right, len(sent)) == sent


async def test_sock_sendall_raises_when_the_peer_is_gone() -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):
        fill(left)
        sending = await begun(loop.sock_sendall(left, bytes(2_000_000)))
        reset(right)
        with pytest.raises(ConnectionError):
            await sending


async def test_both_directions_of_a_socket_at_once() -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):
        receiving = await begun(receive_exactly(left, 1_000_000))
        sending = await begun(loop.sock_sendall(left, pattern(1_000_000, 1)))
        received, _, _ = await asyncio.gather(
            receive_exactly(right, 1_000_000), sending, loop.sock_sendall(right, pattern(1_000_000, 2))
        )
        assert received == pattern(1_000_000, 1)
        assert await receiving == pattern(1_000_000, 2)


async def test_a_unix_socket_pair_works_the_same() -> None:
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        sending = await begun(loop.sock_sendall(left, pattern(1_000_000)))
        assert await receive_exactly(right, 1_000_000) == pattern(1_000_000)
        await sending


async def test_datagrams_keep_their_boundaries() -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(type=socket.SOCK_DGRAM) as left, socket.socket(type=socket.SOCK_DGRAM) as right:
        for sock in (left, right):
            sock.bind((LOCALHOST, 0))
            sock.setblocking(False)
        await loop.sock_sendto(left, b"one", right.getsockname())
        await loop.sock_sendto(left, b"two", right.getsockname())
        assert await loop.sock_recvfrom(right, 100) == (b"one", left.getsockname())
        assert await loop.sock_recv(right, 100) == b"two"


# Connections


async def test_sock_connect_and_sock_accept_meet() -> None:
    loop = asyncio.get_running_loop()
    with contextlib.closing(listening_socket()) as listener, socket.socket() as client:
        listener.setblocking(False)
        client.setblocking(False)
        accepting = await begun(loop.sock_accept(listener))
        await loop.sock_connect(client, listener.getsockname())
        conn, address = await accepting
        with conn:
            assert address == client.getsockname()
            assert conn.gettimeout() == 0
            assert (conn.family, conn.type) == (socket.AF_INET, socket.SOCK_STREAM)
            assert not conn.get_inheritable()
            await loop.sock_sendall(client, b"hello")
            assert await loop.sock_recv(conn, 10) == b"hello"


async def test_sock_connect_resolves_a_name() -> None:
    loop = asyncio.get_running_loop()
    with contextlib.closing(listening_socket()) as listener, socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, ("localhost", listener.getsockname()[1]))
        assert client.getpeername() == listener.getsockname()


async def test_sock_connect_raises_the_refusal_with_the_address() -> None:
    with contextlib.closing(listening_socket()) as listener:
        address = listener.getsockname()
    with socket.socket() as client:
        client.setblocking(False)
        with pytest.raises(ConnectionRefusedError, match=rf"Connect call failed \('127.0.0.1', {address[1]}\)"):
            await asyncio.get_running_loop().sock_connect(client, address)


@pytest.mark.parametrize("abstract", [False, True])
async def test_unix_sockets_connect_by_path(abstract: bool, tmp_path: object) -> None:
    loop = asyncio.get_running_loop()
    path = f"\0{tmp_path}" if abstract else f"{tmp_path}/socket"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        listener.setblocking(False)
        client.setblocking(False)
        await loop.sock_connect(client, path)
        conn, address = await loop.sock_accept(listener)
        with conn:
            # What `accept` itself gives for a client that has no name.
            assert address == ""
            assert client.getpeername() in (path, path.encode())
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        with pytest.raises(ConnectionRefusedError):
            await loop.sock_connect(client, path)


@pytest.mark.skipif(not socket.has_ipv6, reason="this Python has no IPv6")
async def test_ipv6_connects_and_names_the_peer() -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET6) as listener, socket.socket(socket.AF_INET6) as client:
        try:
            listener.bind(("::1", 0))
        except OSError as error:
            pytest.skip(f"no IPv6 loopback: {error}")
        listener.listen()
        listener.setblocking(False)
        client.setblocking(False)
        await loop.sock_connect(client, listener.getsockname())
        conn, address = await loop.sock_accept(listener)
        conn.close()
        assert address == client.getsockname()


async def test_a_blocking_socket_is_refused_in_debug_mode() -> None:
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    with socket.socket() as sock:
        for coroutine in (
            loop.sock_recv(sock, 1),
            loop.sock_recv_into(sock, bytearray(1)),
            loop.sock_sendall(sock, b"x"),
            loop.sock_connect(sock, (LOCALHOST, 1)),
            loop.sock_accept(sock),
        ):
            with pytest.raises(ValueError, match="non-blocking"):
                await coroutine


# Cancelling


async def test_a_cancelled_sock_recv_leaves_the_bytes() -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):
        await cancelled(await begun(loop.sock_recv(left, 100)))
        right.send(b"for the next")
        assert await loop.sock_recv(left, 100) == b"for the next"


async def test_a_cancelled_sock_recv_into_leaves_the_buffer_alone() -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):
        buffer = bytearray(10)
        await cancelled(await begun(loop.sock_recv_into(left, buffer)))
        right.send(b"x")
        assert await loop.sock_recv(left, 1) == b"x"
        assert buffer == bytes(10)
        buffer.extend(b"free again")


@pytest.mark.asyncio(loop_factories=RINGS)
async def test_sock_accept_keeps_a_listener_that_blocks_so() -> None:
    loop = asyncio.get_running_loop()
    with contextlib.closing(listening_socket()) as listener:
        os.set_blocking(listener.fileno(), True)
        accepting = await begun(loop.sock_accept(listener))
        with socket.create_connection(listener.getsockname()) as client:
            conn, address = await accepting
            assert address == client.getsockname()
            assert not os.get_blocking(conn.fileno())
            conn.close()
        assert os.get_blocking(listener.fileno())
        await cancelled(await begun(loop.sock_accept(listener)))


async def test_a_cancelled_sock_accept_leaves_the_connection() -> None:
    loop = asyncio.get_running_loop()
    with contextlib.closing(listening_socket()) as listener:
        listener.setblocking(False)
        await cancelled(await begun(loop.sock_accept(listener)))
        with socket.create_connection(listener.getsockname()) as client:
            conn, address = await loop.sock_accept(listener)
            conn.close()
            assert address == client.getsockname()


async def test_a_cancelled_sock_connect_can_be_closed() -> None:
    loop = asyncio.get_running_loop()
    # A full backlog leaves the connection pending.
    with socket.socket() as listener, contextlib.ExitStack() as clients:
        listener.bind((LOCALHOST, 0))
        listener.listen(0)
        clients.enter_context(socket.create_connection(listener.getsockname()))
        client = clients.enter_context(socket.socket())
        client.setblocking(False)
        await cancelled(await begun(loop.sock_connect(client, listener.getsockname())))


async def test_a_cancelled_sock_sendall_sent_a_part_and_no_more() -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):
        await cancelled(await begun(loop.sock_sendall(left, pattern(2_000_000))))
        left.shutdown(socket.SHUT_WR)
        received = bytearray()
        while data := await loop.sock_recv(right, 1 << 20):
            received += data
        assert len(received) < 2_000_000
        assert received == pattern(len(received))


async def test_a_cancelled_sock_sendall_lets_go_of_the_buffer() -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, _):
        buffer = bytearray(2_000_000)
        await cancelled(await begun(loop.sock_sendall(left, buffer)))
        if not isinstance(loop, EventLoop):
            # Until this task has waited again, its last wakeup holds the cancellation with its traceback.
            await asyncio.sleep(0)
        buffer.extend(b"free again")


@pytest.mark.asyncio(loop_factories=RINGS)
async def test_a_buffer_is_free_when_the_await_ends_whoever_keeps_the_traceback() -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):
        fill(left)
        kept = []
        for start in (loop.sock_recv_into, loop.sock_recvfrom_into, loop.sock_sendall):
            buffer = bytearray(100)
            task = await begun(start(left, buffer))
            task.cancel()
            try:
                await task
            except asyncio.CancelledError as error:
                kept.append(error)
            buffer.extend(b"free")
        reset(right)
        for start in (loop.sock_recv_into, loop.sock_recvfrom_into, loop.sock_sendall):
            buffer = bytearray(100)
            try:
                await start(left, buffer)
            except OSError as failure:
                kept.append(failure)
            buffer.extend(b"free")
        assert len(kept) >= 5


async def test_cancelling_gives_the_descriptor_back_at_once() -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):
        await cancelled(await begun(loop.sock_recv(left, 100)))
        # Nothing of ours holds the socket any more, so the peer sees it end.
        left.close()
        assert await loop.sock_recv(right, 1) == b""


# asyncio loses the bytes here: its future had them when the task was cancelled.
@pytest.mark.asyncio(loop_factories=RINGS)
async def test_bytes_that_arrive_with_the_cancellation_are_kept() -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):
        for number in range(50):
            receiving = await begun(loop.sock_recv(left, 100))
            right.send(b"%03d" % number)
            # The cancellation comes before, with, or after the completion.
            for _ in range(number % 5):
                await asyncio.sleep(0)
            receiving.cancel()
            try:
                data = await receiving
            except asyncio.CancelledError:
                data = await loop.sock_recv(left, 100)
            assert data == b"%03d" % number


@pytest.mark.asyncio(loop_factories=RINGS)
async def test_what_a_cancelled_receive_kept_is_taken_in_pieces() -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):
        for delay in range(5):
            receiving = await begun(loop.sock_recv(left, 100))
            right.send(b"0123456789")
            for _ in range(delay):
                await asyncio.sleep(0)
            receiving.cancel()
            buffer = bytearray(4)
            try:
                assert await receiving == b"0123456789"
            except asyncio.CancelledError:
                assert await loop.sock_recv(left, 3) == b"012"
                assert await loop.sock_recv_into(left, buffer) == 4
                assert buffer == b"3456"
                assert await receive_exactly(left, 3) == b"789"


@pytest.mark.asyncio(loop_factories=RINGS)
@pytest.mark.parametrize("next_one", ["sock_accept", "server", "none"])
async def test_a_connection_that_arrives_with_the_cancellation_is_the_next_ones(next_one: str) -> None:
    loop = asyncio.get_running_loop()
    # Before, with, or after the completion.
    for delay in range(6):
        with contextlib.closing(listening_socket()) as listener:
            listener.setblocking(False)
            accepting = await begun(loop.sock_accept(listener))
            with socket.create_connection(listener.getsockname()) as client:
                client.setblocking(False)
                for _ in range(delay):
                    await asyncio.sleep(0)
                accepting.cancel()
                try:
                    conn, _ = await accepting
                except asyncio.CancelledError:
                    if next_one == "sock_accept":
                        conn, address = await loop.sock_accept(listener)
                        assert address == client.getsockname()
                    elif next_one == "server":
                        async with await loop.create_server(Recorder, sock=listener):
                            await loop.sock_sendall(client, b"x")
                            client.shutdown(socket.SHUT_WR)
                            assert await loop.sock_recv(client, 1) == b""
                        continue
                    else:
                        # The loop closes it, and no descriptor is left.
                        continue
                conn.close()


# At once


async def test_what_is_there_is_received_and_what_fits_is_sent_without_waiting() -> None:
    loop = asyncio.get_running_loop()

    async def turns_of(call: Callable[[], Awaitable[Any]], result: Any) -> int:
        turns: list[bool] = []
        marker = loop.call_soon(turns.append, True)
        assert await call() == result
        marker.cancel()
        return len(turns)

    with socket_pair() as (left, right):
        for call, result in (
            (lambda: loop.sock_recv(left, 7), b"already"),
            (lambda: loop.sock_recv_into(left, bytearray(7)), 7),
            (lambda: loop.sock_sendall(left, b"an answer"), None),
        ):
            # Who was kept from the CPU for as long as the others' turn is due does wait.
            for _ in range(1000):
                right.send(b"already there")
                waited = await turns_of(call, result)
                assert left.recv(100).endswith(b" there")
                if result is None:
                    assert right.recv(100) == b"an answer"
                if not waited:
                    break
            assert not waited


@pytest.mark.asyncio(loop_factories=RINGS)
async def test_a_socket_that_never_runs_empty_leaves_others_their_turn() -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):
        fill(right)
        turns: list[bool] = []
        loop.call_soon(turns.append, True)
        while not turns:
            assert await loop.sock_recv(left, 1)
        assert left.recv(1)
