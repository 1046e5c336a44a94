"""Cancelling at every await point, by random schedules from a fixed seed: nothing is lost, nothing is leaked.

In each schedule a peer acts, and a task waits and is cancelled, with a random number of turns of the loop in between:
so the cancellation comes before, together with or after what it races against.
"""

import asyncio
import contextlib
import random
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.housekeeping import settle
from tests.variants import EVERY, RINGS

from .helpers import LOCALHOST, Echo, Recorder, listening_socket, pattern, serving, socket_pair

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)

_SCHEDULES = 100


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def interrupted(awaitable: Awaitable[Any], after_turns: int) -> Any:
    """The result, or None if the cancellation that comes after some turns came first."""
    task = asyncio.ensure_future(awaitable)
    await turns(after_turns)
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return None


async def run_schedules(schedule: Callable[[random.Random], Awaitable[None]]) -> None:
    for number in range(_SCHEDULES):
        try:
            await schedule(random.Random(f"{schedule.__name__} {number}"))
            assert not await settle()
        except BaseException as error:
            error.add_note(f"in schedule {number}")
            raise


# Receiving: asyncio loses what its future already held when the task was cancelled, so it is not asked.


async def receiving(choices: random.Random) -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):

        async def send() -> None:
            start = 0
            while start < 2000:
                size_bytes = choices.randrange(1, 300)
                right.send(pattern(size_bytes, start))
                start += size_bytes
                await (turns(choices.randrange(5)) if choices.random() < 0.8 else asyncio.sleep(0.0001))
            right.shutdown(socket.SHUT_WR)

        sender = asyncio.create_task(send())
        received = bytearray()
        ended = False
        while not ended:
            size_bytes = choices.randrange(1, 400)
            data: bytes | None
            if choices.random() < 0.5:
                data = await interrupted(loop.sock_recv(left, size_bytes), choices.randrange(6))
            else:
                buffer = bytearray(size_bytes)
                count = await interrupted(loop.sock_recv_into(left, buffer), choices.randrange(6))
                data = None if count is None else buffer[:count]
            received += data or b""
            ended = data == b""
        await sender
        assert len(received) >= 2000
        assert received == pattern(len(received))


@pytest.mark.asyncio(loop_factories=RINGS)
async def test_cancelled_receives_lose_no_byte() -> None:
    await run_schedules(receiving)


async def sending(choices: random.Random) -> None:
    """Each message is one byte, repeated: what of it arrives is a beginning of it, all of it unless cancelled."""
    loop = asyncio.get_running_loop()
    # Not TCP: so little room would make it wait for its timers.
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        received = bytearray()

        async def receive() -> None:
            while data := await loop.sock_recv(right, choices.randrange(1, 10_000)):
                received.extend(data)

        reader = asyncio.create_task(receive())
        complete = {}
        sizes_bytes = [choices.randrange(1, 15_000) for _ in range(10)]
        for number, size_bytes in enumerate(sizes_bytes):

            async def send(number: int = number, size_bytes: int = size_bytes) -> bool:
                await loop.sock_sendall(left, bytes([number]) * size_bytes)
                return True

            complete[number] = await interrupted(send(), choices.randrange(12))
        left.shutdown(socket.SHUT_WR)
        await reader
        assert bytes(sorted(received)) == received
        for number, size_bytes in enumerate(sizes_bytes):
            assert received.count(number) <= size_bytes
            assert not complete[number] or received.count(number) == size_bytes


async def test_cancelled_sends_send_a_beginning_and_nothing_twice() -> None:
    await run_schedules(sending)


async def accepting(choices: random.Random) -> None:
    """A client is accepted, or with asyncio sees its connection closed; nobody is forgotten, no descriptor is left."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(contextlib.closing(listening_socket()))
        listener.setblocking(False)
        clients: list[socket.socket] = []
        accepted = []
        for _ in range(8):
            if choices.random() < 0.7:
                clients.append(sockets.enter_context(socket.create_connection(listener.getsockname())))
            if result := await interrupted(loop.sock_accept(listener), choices.randrange(6)):
                accepted.append(sockets.enter_context(result[0]))
        # The rest of the backlog: an accept that has to wait finds nothing more.
        while result := await interrupted(loop.sock_accept(listener), 20):
            accepted.append(sockets.enter_context(result[0]))
        names = {conn.getpeername() for conn in accepted}
        forgotten = [client for client in clients if client.getsockname() not in names]
        assert not forgotten or not hasattr(loop, "statistics")
        for client in forgotten:
            client.setblocking(False)
            assert await loop.sock_recv(client, 1) == b""


async def test_cancelled_accepts_forget_no_connection() -> None:
    await run_schedules(accepting)


async def connecting(choices: random.Random) -> None:
    loop = asyncio.get_running_loop()
    server = Echo()
    async with serving(lambda: server) as address:
        made = await interrupted(loop.create_connection(Recorder, *address), choices.randrange(14))
        if made:
            made[0].abort()
        await turns(3)
        # A connection that was made before it was cancelled reaches the server, and its end does, too.
        if server.transport is not None:
            await server.until_called("connection_lost")


async def test_cancelled_connects_leave_no_connection() -> None:
    await run_schedules(connecting)


async def conversing(choices: random.Random) -> None:
    """Streams: every reply that is read is the right one, whenever the reading was cancelled."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(echo, LOCALHOST, 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    replies = []
    for number in range(10):
        writer.write(b"%d\n" % number)
        if choices.random() < 0.3:
            await interrupted(writer.drain(), choices.randrange(3))
        if reply := await interrupted(reader.readline(), choices.randrange(8)):
            replies.append(reply)
    while len(replies) < 10:
        replies.append(await reader.readline())
    assert replies == [b"%d\n" % number for number in range(10)]
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_cancelled_stream_reads_lose_no_line() -> None:
    await run_schedules(conversing)


# asyncio leaves a transport to the garbage collector when its server closes between the accept and the task for it.
@pytest.mark.asyncio(loop_factories=RINGS)
async def test_a_whole_conversation_can_be_cancelled_in_every_turn() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            writer.write(await reader.readexactly(5))
            await writer.drain()
        writer.close()

    async def converse() -> None:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            writer.write(b"hello")
            await writer.drain()
            assert await reader.read() == b"hello"
        finally:
            writer.close()
        await writer.wait_closed()

    for after_turns in range(1000):
        server = await asyncio.start_server(answer, LOCALHOST, 0)
        task = asyncio.create_task(converse())
        await turns(after_turns)
        finished = task.done()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        server.close()
        await server.wait_closed()
        left = await settle()
        assert not left, f"cancelled after {after_turns} turns"
        if finished:
            break
    # The conversation is not shorter than the ways to wait in it.
    assert 5 < after_turns < 999


async def test_cancelling_twice_is_no_more_than_once() -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):
        task = asyncio.create_task(loop.sock_recv(left, 10))
        await turns(1)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        right.send(b"x")
        assert await loop.sock_recv(left, 10) == b"x"


async def test_timeouts_around_receives_lose_nothing() -> None:
    loop = asyncio.get_running_loop()
    with socket_pair() as (left, right):
        for number in range(20):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(loop.sock_recv(left, 10), 0.0005)
            right.send(b"%02d" % number)
            assert await loop.sock_recv(left, 10) == b"%02d" % number
