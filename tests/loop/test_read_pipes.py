"""connect_read_pipe: what comes out of pipes, FIFOs, sockets and terminals, and when no more does."""

import asyncio
import contextlib
import errno
import os
import pty
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.variants import EVERY

from .helpers import Recorder, pattern, reset, socket_pair
from .pipes import (
    Ends,
    Writer,
    a_pipe,
    a_terminal,
    each_kind,
    each_lasting_kind,
    files,
    pipe_of,
    read_bare,
    reading,
    turns,
)

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)

Contexts = list[dict[str, Any]]


@each_kind
async def test_bytes_arrive_in_order(make: Callable[[], Ends]) -> None:
    async with reading(make) as (protocol, other):
        for part in (b"one", b"two", b"three"):
            other.write(part)
            await turns(2)
        await protocol.until_received(11)
        assert protocol.received == b"onetwothree"
        assert protocol.calls[0] == "connection_made"


@each_lasting_kind
async def test_the_end_comes_after_the_last_bytes(make: Callable[[], Ends]) -> None:
    async with reading(make) as (protocol, other):
        other.write(b"last")
        other.close()
        await protocol.until_called("connection_lost")
        assert protocol.calls == ["connection_made", "data_received", "eof_received", "connection_lost"]
        assert protocol.received == b"last"
        assert protocol.lost_with is None
        assert pipe_of(protocol).closed


@each_lasting_kind
async def test_the_end_without_bytes(make: Callable[[], Ends]) -> None:
    async with reading(make) as (protocol, other):
        other.close()
        await protocol.until_called("connection_lost")
        assert protocol.calls == ["connection_made", "eof_received", "connection_lost"]


async def test_eof_received_cannot_keep_a_pipe_open() -> None:
    protocol = Recorder()
    protocol.keep_open_at_eof = True
    async with reading(a_pipe, protocol) as (_, other):
        other.close()
        await protocol.until_called("eof_received")
        assert protocol.transport.is_closing()
        await protocol.until_called("connection_lost")


async def test_a_terminal_that_hangs_up_ends_quietly() -> None:
    async with reading(a_terminal) as (protocol, other):
        other.write(b"bye")
        await protocol.until_received(3)
        other.close()
        await protocol.until_called("connection_lost")
        assert isinstance(protocol.lost_with, OSError)
        assert protocol.lost_with.errno == errno.EIO
        assert "eof_received" not in protocol.calls


async def test_lines_of_a_terminal() -> None:
    def cooked() -> Ends:
        master, slave = pty.openpty()
        return files(slave, master)

    async with reading(cooked) as (protocol, other):
        other.write(b"half ")
        await turns()
        assert protocol.received == b""
        other.write(b"a line\n")
        await protocol.until_called("data_received")
        assert protocol.received == b"half a line\n"


async def test_a_refused_read_is_told(unexpected: Contexts) -> None:
    def broken() -> Ends:
        with socket_pair() as (left, right):
            reset(right)
            return os.fdopen(os.dup(left.fileno()), "rb", 0), open(os.devnull, "wb", 0)

    async with reading(broken) as (protocol, _):
        await protocol.until_called("connection_lost")
        assert isinstance(protocol.lost_with, ConnectionResetError)
        (context,) = unexpected
        unexpected.clear()
        assert context["message"] == "Fatal read error on pipe transport"
        assert context["exception"] is protocol.lost_with
        assert context["transport"] is protocol.transport
        assert context["protocol"] is protocol


async def test_large_amounts_both_ways() -> None:
    data = pattern(3_000_000)
    read_end, write_end = a_pipe()
    loop = asyncio.get_running_loop()
    reader, writer = Recorder(), Writer()
    await loop.connect_read_pipe(lambda: reader, read_end)
    await loop.connect_write_pipe(lambda: writer, write_end)
    for start in range(0, len(data), 300_000):
        writer.transport.write(data[start : start + 300_000])
    writer.transport.close()
    await reader.until_called("connection_lost")
    await writer.until_called("connection_lost")
    assert reader.received == data
    assert writer.lost_with is None


async def test_many_pipes_at_once() -> None:
    async with contextlib.AsyncExitStack() as stack:
        pipes = [await stack.enter_async_context(reading(a_pipe)) for _ in range(100)]
        for number, (_, other) in enumerate(pipes):
            other.write(pattern(number + 1))
        for number, (protocol, other) in enumerate(pipes):
            await protocol.until_received(number + 1)
            other.close()
        for number, (protocol, _) in enumerate(pipes):
            await protocol.until_called("connection_lost")
            assert protocol.received == pattern(number + 1)


async def test_datagrams_are_not_cut_off() -> None:
    def datagrams() -> Ends:
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return files(left.detach(), right.detach())

    async with reading(datagrams) as (protocol, other):
        other.write(pattern(100_000))
        await protocol.until_called("data_received")
        assert protocol.received == pattern(100_000)
        assert protocol.count("data_received") == 1


# Pausing


@each_kind
async def test_nothing_arrives_while_paused(make: Callable[[], Ends]) -> None:
    async with reading(make) as (protocol, other):
        assert protocol.transport.is_reading()
        protocol.transport.pause_reading()
        assert not protocol.transport.is_reading()
        other.write(b"later")
        await turns()
        assert protocol.calls == ["connection_made"]
        protocol.transport.resume_reading()
        assert protocol.transport.is_reading()
        await protocol.until_received(5)
        assert protocol.received == b"later"


@each_kind
async def test_what_comes_after_a_pause_is_left_in_the_pipe(make: Callable[[], Ends]) -> None:
    """A child may be given the terminal while its owner does not read."""
    async with reading(make) as (protocol, other):
        other.write(b"mine")
        await protocol.until_received(4)
        protocol.transport.pause_reading()
        await turns()
        other.write(b"yours")
        await turns()
        assert await read_bare(pipe_of(protocol), 5) == b"yours"
        protocol.transport.resume_reading()
        other.write(b"mine")
        await protocol.until_received(8)
        assert protocol.received == b"minemine"


async def test_pausing_in_data_received() -> None:
    class OneAtATime(Recorder):
        def data_received(self, data: bytes) -> None:
            self.transport.pause_reading()
            super().data_received(data)

    data = pattern(200_000)
    async with reading(a_pipe, OneAtATime()) as (protocol, other):
        sent = 0
        os.set_blocking(other.fileno(), False)
        while len(protocol.received) < len(data):
            with contextlib.suppress(BlockingIOError):
                sent += os.write(other.fileno(), data[sent:]) if sent < len(data) else 0
            calls = protocol.count("data_received")
            await turns(2)
            assert protocol.count("data_received") <= calls + 1
            protocol.transport.resume_reading()
            await protocol.until(lambda calls=calls: protocol.count("data_received") > calls)
        assert protocol.received == data


async def test_the_end_waits_for_whoever_paused() -> None:
    async with reading(a_pipe) as (protocol, other):
        protocol.transport.pause_reading()
        other.write(b"last")
        other.close()
        await turns()
        assert protocol.calls == ["connection_made"]
        protocol.transport.resume_reading()
        await protocol.until_called("connection_lost")
        assert protocol.calls == ["connection_made", "data_received", "eof_received", "connection_lost"]


async def test_pausing_before_the_first_read() -> None:
    class Patient(Recorder):
        def connection_made(self, transport: Any) -> None:
            transport.pause_reading()
            super().connection_made(transport)

    async with reading(a_pipe, Patient()) as (protocol, other):
        other.write(b"x")
        await turns()
        assert not protocol.received
        protocol.transport.resume_reading()
        await protocol.until_received(1)


async def test_pausing_and_resuming_over_and_over() -> None:
    async with reading(a_pipe) as (protocol, other):
        for number in range(50):
            protocol.transport.pause_reading()
            protocol.transport.pause_reading()
            if number % 3:
                await turns(number % 4)
            other.write(bytes([number]))
            protocol.transport.resume_reading()
            protocol.transport.resume_reading()
            if number % 2:
                await turns(number % 5)
        await protocol.until_received(50)
        assert protocol.received == bytes(range(50))


# Protocols that raise


class CallbackError(Exception):
    """What the protocols below raise."""


async def test_reading_goes_on_after_an_error_in_data_received(unexpected: Contexts) -> None:
    class Raising(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            raise CallbackError

    async with reading(a_pipe, Raising()) as (protocol, other):
        other.write(b"one")
        await protocol.until_received(3)
        await turns()
        assert not protocol.transport.is_closing()
        other.write(b"two")
        await protocol.until_received(6)
        await turns()
        assert [type(context["exception"]) for context in unexpected] == [CallbackError] * 2
        assert all("Exception in callback" in context["message"] for context in unexpected)
        unexpected.clear()


@pytest.mark.parametrize("callback", ["eof_received", "connection_lost"])
async def test_an_error_at_the_end_is_told_and_the_pipe_is_closed(callback: str, unexpected: Contexts) -> None:
    def fail(self: Recorder, *arguments: Any) -> None:
        getattr(Recorder, callback)(self, *arguments)
        raise CallbackError

    async with reading(a_pipe, type("Raising", (Recorder,), {callback: fail})()) as (protocol, other):
        other.close()
        await protocol.until_called("connection_lost")
        await turns()
        assert protocol.calls == ["connection_made", "eof_received", "connection_lost"]
        assert pipe_of(protocol).closed
        assert [type(context["exception"]) for context in unexpected] == [CallbackError]
        unexpected.clear()


# Closing a reader


async def test_closing_tells_the_protocol_once() -> None:
    async with reading(a_pipe) as (protocol, other):
        transport = protocol.transport
        transport.close()
        transport.close()
        assert transport.is_closing()
        assert not transport.is_reading()
        assert protocol.calls == ["connection_made"]
        transport.pause_reading()
        transport.resume_reading()
        await protocol.until_called("connection_lost")
        await turns()
        assert protocol.calls == ["connection_made", "connection_lost"]
        assert protocol.lost_with is None
        with pytest.raises(BrokenPipeError):
            other.write(b"x")


async def test_closing_in_data_received() -> None:
    class Closing(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.close()

    async with reading(a_pipe, Closing()) as (protocol, other):
        other.write(b"first")
        await protocol.until_called("connection_lost")
        assert protocol.calls == ["connection_made", "data_received", "connection_lost"]


async def test_closing_leaves_what_was_not_read_in_the_pipe() -> None:
    async with reading(a_pipe) as (protocol, other), contextlib.AsyncExitStack() as stack:
        copy = stack.enter_context(os.fdopen(os.dup(pipe_of(protocol).fileno()), "rb", 0))
        protocol.transport.close()
        await protocol.until_called("connection_lost")
        await turns()
        other.write(b"for the next one")
        await turns()
        assert await read_bare(copy, 16) == b"for the next one"
