"""`loop.submit_many`, and multishot iterators: nothing lost, whoever stops listening."""

import asyncio
import errno
import gc
import os
import select
import socket
from pathlib import Path

import pytest

from tests.kernel import needs
from tests.loop.helpers import socket_pair
from tests.operations.covering import works
from tests.operations.helpers import connect, opened, pipe, running_loop, submit
from tests.variants import BACKENDS, TINY
from uringloop.operations import Accept, Nop, Open, Read, ReadMany, Ready, Receive, Timeout, Write
from uringloop.operations.multishot import HELD_MAX

pytestmark = pytest.mark.asyncio(loop_factories=BACKENDS)
LONG_NS = 3600 * 10**9


# Many


@needs("results of NOP")
async def test_results_are_in_order(tmp_path: Path) -> None:
    with opened(tmp_path / "file") as fd:
        writes = [Write(fd, b"%d" % number, number) for number in range(10)]
        assert await running_loop().submit_many(writes) == [1] * 10
        assert await running_loop().submit_many([Nop(3), Read(fd, bytearray(20), 0), Nop(1)]) == [3, 10, 1]
        assert await running_loop().submit_many([]) == []
    assert (tmp_path / "file").read_bytes() == b"0123456789"


async def test_all_go_to_the_kernel_in_one_submit() -> None:
    before = running_loop().statistics()
    await running_loop().submit_many([Nop() for _ in range(100)])
    after = running_loop().statistics()
    assert after["batches_max"] >= 100
    assert after["enters"] - before["enters"] <= 5


@needs("results of NOP")
@pytest.mark.asyncio(loop_factories=TINY)
async def test_more_than_the_queues_hold() -> None:
    assert await running_loop().submit_many([Nop(number) for number in range(100)]) == list(range(100))


@needs("results of NOP")
async def test_one_that_fails_stops_no_other(tmp_path: Path) -> None:
    loop = running_loop()
    path = str(tmp_path)

    def operations() -> list[Open | Nop]:
        return [Nop(1), Nop(-errno.EIO), Open(path, os.O_RDONLY), Nop(-errno.EPERM)]

    # The descriptor is closed: nobody could get it.
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        await loop.submit_many(operations())
    one, error, fd, other = await loop.submit_many(operations(), return_exceptions=True)
    os.close(fd)
    assert (one, error.errno, other.errno) == (1, errno.EIO, errno.EPERM)


async def test_cancelled_all_let_go(tmp_path: Path) -> None:
    for turns in range(1, 5):
        with pipe() as (reading, _):
            buffer = bytearray(5)
            operations = [Open(str(tmp_path), os.O_RDONLY), Read(reading, buffer), Timeout(LONG_NS)]
            task = asyncio.create_task(running_loop().submit_many(operations))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            buffer.clear()


async def test_none_twice() -> None:
    nop = Nop()
    with pytest.raises(ValueError, match="only once"):
        await running_loop().submit_many([nop, nop])


# Multishot


@works(Accept)
async def test_connections_one_after_the_other(listener: socket.socket) -> None:
    async with running_loop().submit_multishot(Accept(listener.fileno())) as accepted:
        for _ in range(3):
            with connect(listener) as client, socket.socket(fileno=await anext(accepted)) as server:
                assert server.getpeername() == client.getsockname()


async def test_connections_that_nobody_took_are_closed(listener: socket.socket) -> None:
    accepted = running_loop().submit_multishot(Accept(listener.fileno()))
    clients = [connect(listener) for _ in range(3)]
    os.close(await anext(accepted))
    await accepted.aclose()
    for client in clients:
        with client:
            assert await asyncio.to_thread(client.recv, 1) == b""
    with pytest.raises(StopAsyncIteration):
        await anext(accepted)


async def test_an_iterator_that_is_dropped_ends_what_it_armed(listener: socket.socket) -> None:
    accepted = running_loop().submit_multishot(Accept(listener.fileno()))
    with connect(listener):
        await asyncio.sleep(0.001)
        del accepted
        gc.collect()


async def test_after_a_cancel_what_had_arrived_is_still_there() -> None:
    with socket_pair() as (left, right):
        chunks = running_loop().submit_multishot(Receive(left.fileno()))
        right.send(b"one")
        assert await anext(chunks) == b"one"
        right.send(b"two")
        await submit(Ready(left.fileno(), select.POLLIN | select.POLLOUT))
        chunks.cancel()
        rest = [chunk async for chunk in chunks]
        # Received before, or still in the socket.
        assert b"".join(rest) or left.recv(10) == b"two"


async def test_a_cancelled_wait_loses_nothing() -> None:
    with socket_pair() as (left, right):
        async with running_loop().submit_multishot(Receive(left.fileno())) as chunks:
            for number in range(10):
                task = asyncio.ensure_future(anext(chunks))
                await asyncio.sleep(0)
                right.send(b"%d" % number)
                for _ in range(number):
                    await asyncio.sleep(0)
                task.cancel()
                try:
                    received = await task
                except asyncio.CancelledError:
                    received = await anext(chunks)
                assert received == b"%d" % number


async def test_what_is_left_of_a_closed_iterator_is_kept() -> None:
    kept: list[bytes] = []
    with socket_pair() as (left, right):
        chunks = running_loop().submit_multishot(Receive(left.fileno(), keep=kept.append))
        right.send(b"one")
        assert await anext(chunks) == b"one"
        right.send(b"two")
        await asyncio.sleep(0.001)
        await chunks.aclose()
        assert b"".join(kept) or left.recv(10) == b"two"


async def test_the_end_of_a_stream_ends_the_iteration() -> None:
    with socket_pair() as (left, right):
        right.sendall(b"x" * 100)
        right.shutdown(socket.SHUT_WR)
        assert (
            b"".join([chunk async for chunk in running_loop().submit_multishot(Receive(left.fileno()))]) == b"x" * 100
        )


@pytest.mark.asyncio(loop_factories=TINY)
async def test_kernels_ending_is_not_the_end() -> None:
    """Both queues overflow, and the group's two buffers are gone all the time: it is armed again, in order."""
    with socket_pair() as (left, right):
        sender = asyncio.create_task(running_loop().sock_sendall(right, bytes(range(256)) * 40))
        received = bytearray()
        async with running_loop().submit_multishot(Receive(left.fileno())) as chunks:
            async for chunk in chunks:
                received += chunk
                if len(received) == 256 * 40:
                    break
        await sender
    assert received == bytes(range(256)) * 40


@needs(ReadMany)
async def test_a_slow_reader_holds_the_source_back() -> None:
    with pipe() as (reading, writing):
        os.set_blocking(writing, False)
        chunks = running_loop().submit_multishot(ReadMany(reading))
        sent = 0
        async with chunks:
            # Each is a result of its own, as the loop turns in between.
            while True:
                try:
                    os.write(writing, b"%06d" % sent)
                except BlockingIOError:
                    break
                sent += 1
                await submit(Nop())
            assert len(chunks._results._ready) <= HELD_MAX + 50
            received = b""
            while len(received) < 6 * sent:
                received += await anext(chunks)
    assert received == b"".join(b"%06d" % number for number in range(sent))
    assert sent > HELD_MAX


async def test_one_reader_at_a_time(listener: socket.socket) -> None:
    async with running_loop().submit_multishot(Accept(listener.fileno())) as accepted:
        first = asyncio.ensure_future(anext(accepted))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await anext(accepted)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_what_has_no_multishot_form() -> None:
    with pytest.raises(TypeError, match="Nop has no multishot form"):
        running_loop().submit_multishot(Nop())  # type: ignore[arg-type]
