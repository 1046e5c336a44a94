"""connect_write_pipe: what goes into pipes, FIFOs, sockets and terminals, and what becomes of their readers."""

import asyncio
import os
import pty
import socket
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.variants import EVERY, RINGS

from .helpers import pattern
from .pipes import (
    Ends,
    Writer,
    a_pipe,
    each_kind,
    each_lasting_kind,
    files,
    fill,
    pipe_of,
    read_bare,
    turns,
    writing,
)

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)


@each_kind
async def test_bytes_are_there_when_write_returns(make: Callable[[], Ends]) -> None:
    """Other processes may write to the same pipe: each write is one write(2), and it is not put off."""
    async with writing(make) as (protocol, other):
        protocol.transport.write(b"now")
        assert protocol.transport.get_write_buffer_size() == 0
        assert await read_bare(other, 3) == b"now"


async def test_each_write_is_a_packet_of_its_own() -> None:
    def packets() -> Ends:
        return files(*os.pipe2(os.O_DIRECT))

    async with writing(packets) as (protocol, other):
        protocol.transport.write(b"one")
        protocol.transport.write(b"two")
        protocol.transport.writelines([b"three"])
        assert [os.read(other.fileno(), 100) for _ in range(3)] == [b"one", b"two", b"three"]


@each_kind
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_more_than_the_pipe_takes(make: Callable[[], Ends], kind: Callable[[bytes], Any]) -> None:
    data = pattern(400_000)
    async with writing(make) as (protocol, other):
        given = kind(data)
        protocol.transport.write(given)
        assert 0 < protocol.transport.get_write_buffer_size() < len(data)
        if isinstance(given, bytearray):
            given[:] = bytes(len(given))
        protocol.transport.write(b"end")
        assert await read_bare(other, len(data) + 3) == data + b"end"


async def test_nothing_and_wrong_types() -> None:
    async with writing(a_pipe) as (protocol, other):
        protocol.transport.write(b"")
        for wrong in ("text", 1, None, [b"x"]):
            with pytest.raises(AssertionError):
                protocol.transport.write(wrong)
        protocol.transport.write(b"right")
        assert await read_bare(other, 5) == b"right"


async def test_two_writers_of_one_terminal() -> None:
    """Where the kernel answers EAGAIN instead of waiting, since another write to it waits already."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    loop = asyncio.get_running_loop()
    writers = [Writer(), Writer()]
    with os.fdopen(master, "rb", 0) as other:
        for writer, fd in zip(writers, (slave, os.dup(slave)), strict=True):
            await loop.connect_write_pipe(lambda writer=writer: writer, os.fdopen(fd, "wb", 0))
        for writer, byte in zip(writers, (b"a", b"b"), strict=True):
            writer.transport.write(byte * 100_000)
        received = await read_bare(other, 200_000)
        for writer in writers:
            writer.transport.close()
            await writer.until_called("connection_lost")
    assert received.count(b"a") == received.count(b"b") == 100_000


# Flow control


async def test_writing_pauses_above_the_high_mark_and_resumes_at_the_low() -> None:
    async with writing(a_pipe) as (protocol, other):
        protocol.transport.set_write_buffer_limits(high=100_000, low=20_000)
        zeros = fill(pipe_of(protocol))
        protocol.transport.write(pattern(100_000))
        assert "pause_writing" not in protocol.calls
        protocol.transport.write(b"x")
        assert protocol.count("pause_writing") == 1
        protocol.transport.write(b"y")
        assert protocol.count("pause_writing") == 1
        assert protocol.transport.get_write_buffer_size() == 100_002
        assert (await read_bare(other, zeros + 100_002))[zeros:] == pattern(100_000) + b"xy"
        await protocol.until_called("resume_writing")
        assert protocol.calls == ["connection_made", "pause_writing", "resume_writing"]
        assert protocol.transport.get_write_buffer_size() == 0


async def test_a_high_mark_of_zero_pauses_only_if_the_pipe_is_full() -> None:
    async with writing(a_pipe) as (protocol, other):
        protocol.transport.set_write_buffer_limits(high=0)
        protocol.transport.write(b"x")
        assert "pause_writing" not in protocol.calls
        zeros = fill(pipe_of(protocol))
        protocol.transport.write(b"y")
        assert "pause_writing" in protocol.calls
        assert (await read_bare(other, zeros + 2)).strip(b"\0") == b"x" + bytes(zeros) + b"y"
        await protocol.until_called("resume_writing")


async def test_a_stream_writer_drains() -> None:
    loop = asyncio.get_running_loop()
    read_end, write_end = a_pipe()
    os.set_blocking(read_end.fileno(), False)
    with read_end:
        transport, protocol = await loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), write_end
        )
        writer = asyncio.StreamWriter(transport, protocol, None, loop)
        reading = loop.create_task(read_bare(read_end, 1_000_000))
        for start in range(0, 1_000_000, 50_000):
            writer.write(pattern(50_000, start))
            await writer.drain()
        writer.close()
        assert await reading == pattern(1_000_000)
        await writer.wait_closed()


# Closing a writer


@each_lasting_kind
async def test_closing_sends_what_is_queued_first(make: Callable[[], Ends]) -> None:
    data = pattern(600_000)
    async with writing(make) as (protocol, other):
        protocol.transport.write(data)
        assert protocol.transport.can_write_eof()
        protocol.transport.close()
        assert protocol.transport.is_closing()
        await turns()
        assert "connection_lost" not in protocol.calls
        assert await read_bare(other, len(data) + 1) == data
        await protocol.until_called("connection_lost")
        assert protocol.lost_with is None
        assert pipe_of(protocol).closed


async def test_the_end_of_an_idle_writer_is_seen_at_once() -> None:
    async with writing(a_pipe) as (protocol, other):
        protocol.transport.write(b"all")
        protocol.transport.write_eof()
        protocol.transport.write_eof()
        assert protocol.transport.is_closing()
        assert await read_bare(other, 100) == b"all"
        await protocol.until_called("connection_lost")
        assert protocol.calls == ["connection_made", "connection_lost"]


async def test_a_paused_writer_that_is_closed_is_resumed_first() -> None:
    async with writing(a_pipe) as (protocol, other):
        protocol.transport.set_write_buffer_limits(high=1000)
        zeros = fill(pipe_of(protocol))
        protocol.transport.write(pattern(5000))
        protocol.transport.close()
        assert len(await read_bare(other, zeros + 5001)) == zeros + 5000
        await protocol.until_called("connection_lost")
        assert protocol.calls == ["connection_made", "pause_writing", "resume_writing", "connection_lost"]


async def test_aborting_drops_what_is_queued() -> None:
    async with writing(a_pipe) as (protocol, other):
        zeros = fill(pipe_of(protocol))
        protocol.transport.write(pattern(100_000))
        await turns()
        protocol.transport.abort()
        await protocol.until_called("connection_lost")
        assert protocol.lost_with is None
        assert await read_bare(other, zeros + 1) == bytes(zeros)


async def test_aborting_a_closing_writer() -> None:
    async with writing(a_pipe) as (protocol, _):
        fill(pipe_of(protocol))
        protocol.transport.write(b"never")
        protocol.transport.close()
        await turns()
        protocol.transport.abort()
        await protocol.until_called("connection_lost")
        await turns()
        assert protocol.calls == ["connection_made", "connection_lost"]


async def test_writes_after_closing_are_dropped_and_told_of(caplog: pytest.LogCaptureFixture) -> None:
    async with writing(a_pipe) as (protocol, other):
        protocol.transport.close()
        for _ in range(7):
            protocol.transport.write(b"x")
        assert await read_bare(other, 1) == b""
    messages = [record.getMessage() for record in caplog.records if "pipe closed by peer" in record.getMessage()]
    assert messages == ["pipe closed by peer or os.write(pipe, data) raised exception."] * 2


# A reader that goes away


@each_lasting_kind
async def test_an_idle_writer_notices_that_its_reader_has_gone(make: Callable[[], Ends]) -> None:
    async with writing(make) as (protocol, other):
        await turns()
        other.close()
        await protocol.until_called("connection_lost")
        assert protocol.calls == ["connection_made", "connection_lost"]
        assert protocol.lost_with is None
        assert protocol.transport.is_closing()


async def test_a_reader_that_goes_with_bytes_still_queued() -> None:
    async with writing(a_pipe) as (protocol, other):
        fill(pipe_of(protocol))
        protocol.transport.write(b"never read")
        await turns()
        other.close()
        await protocol.until_called("connection_lost")
        assert isinstance(protocol.lost_with, BrokenPipeError)
        assert protocol.transport.get_write_buffer_size() == 0


async def test_writing_to_a_reader_that_has_gone() -> None:
    async with writing(a_pipe) as (protocol, other):
        other.close()
        protocol.transport.write(b"x")
        await protocol.until_called("connection_lost")
        assert isinstance(protocol.lost_with, BrokenPipeError)


@pytest.mark.parametrize("act", [lambda sock: sock.shutdown(socket.SHUT_WR), lambda sock: sock.send(b"x")])
async def test_the_other_side_of_a_socket_ends_or_speaks(act: Callable[[socket.socket], object]) -> None:
    """asyncio takes both for the end, since it watches for reading."""
    left, right = socket.socketpair()

    def ends() -> Ends:
        return os.fdopen(os.dup(right.fileno()), "rb", 0), os.fdopen(left.detach(), "wb", 0)

    with right:
        async with writing(ends) as (protocol, _):
            act(right)
            await protocol.until_called("connection_lost")
            assert protocol.lost_with is None


@pytest.mark.asyncio(loop_factories=RINGS)
async def test_a_fifo_that_its_writer_may_read_too(tmp_path: Path) -> None:
    """asyncio closes it as soon as something was written."""
    os.mkfifo(tmp_path / "both")
    end = os.fdopen(os.open(tmp_path / "both", os.O_RDWR), "r+b", 0)
    protocol = Writer()
    await asyncio.get_running_loop().connect_write_pipe(lambda: protocol, end)
    protocol.transport.write(b"x")
    await turns()
    assert not protocol.transport.is_closing()
    assert os.read(end.fileno(), 1) == b"x"
    protocol.transport.close()
    await protocol.until_called("connection_lost")
