"""connect_read_pipe and connect_write_pipe: pipes, FIFOs, sockets and terminals, one end in a transport of the loop."""

import asyncio
import contextlib
import contextvars
import errno
import os
import pty
import socket
import tempfile
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.variants import EVERY, RINGS

from .helpers import Recorder, pattern, reset, socket_pair
from .pipes import (
    Ends,
    Writer,
    a_fifo,
    a_pipe,
    a_socket,
    a_terminal,
    a_terminal_input,
    files,
    fill,
    pipe_of,
    read_bare,
    reading,
    turns,
    writing,
)

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)

Contexts = list[dict[str, Any]]


LASTING = [a_pipe, a_fifo, a_socket]
EACH = [*LASTING, a_terminal, a_terminal_input]
each_kind = pytest.mark.parametrize("make", EACH)
each_lasting_kind = pytest.mark.parametrize("make", LASTING)


@pytest.fixture(autouse=True)
def _somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# Reading


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


# Writing


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
async def test_a_fifo_that_its_writer_may_read_too() -> None:
    """asyncio closes it as soon as something was written."""
    os.mkfifo("both")
    end = os.fdopen(os.open("both", os.O_RDWR), "r+b", 0)
    protocol = Writer()
    await asyncio.get_running_loop().connect_write_pipe(lambda: protocol, end)
    protocol.transport.write(b"x")
    await turns()
    assert not protocol.transport.is_closing()
    assert os.read(end.fileno(), 1) == b"x"
    protocol.transport.close()
    await protocol.until_called("connection_lost")


# Opening


@pytest.mark.parametrize("connect", ["connect_read_pipe", "connect_write_pipe"])
async def test_a_regular_file_is_refused_and_left_alone(connect: str) -> None:
    with tempfile.TemporaryFile(buffering=0) as file:
        with pytest.raises(ValueError, match="Pipe transport is"):
            await getattr(asyncio.get_running_loop(), connect)(Recorder, file)
        file.write(b"still open")
        assert os.get_blocking(file.fileno())


@pytest.mark.asyncio(loop_factories=RINGS)
@pytest.mark.parametrize("connect", ["connect_read_pipe", "connect_write_pipe"])
async def test_a_closed_file_is_refused(connect: str) -> None:
    """By asyncio too, but its half-made transport complains when it is collected."""
    read_end, write_end = a_pipe()
    read_end.close()
    write_end.close()
    with pytest.raises(ValueError, match="closed file"):
        await getattr(asyncio.get_running_loop(), connect)(Recorder, read_end)


async def test_the_pipe_does_not_block_and_can_be_asked_for() -> None:
    async with reading(a_pipe) as (protocol, _):
        pipe = protocol.transport.get_extra_info("pipe")
        assert not os.get_blocking(pipe.fileno())
        assert protocol.transport.get_extra_info("nothing", "default") == "default"
    async with writing(a_pipe) as (writer, _):
        assert not os.get_blocking(pipe_of(writer).fileno())


async def test_connecting_returns_after_connection_made() -> None:
    loop = asyncio.get_running_loop()
    read_end, write_end = a_pipe()
    reader, writer = Recorder(), Writer()
    assert await loop.connect_read_pipe(lambda: reader, read_end) == (reader.transport, reader)
    assert await loop.connect_write_pipe(lambda: writer, write_end) == (writer.transport, writer)
    assert reader.transport.get_protocol() is reader
    assert isinstance(reader.transport, asyncio.ReadTransport)
    assert isinstance(writer.transport, asyncio.WriteTransport)
    writer.transport.close()
    await reader.until_called("connection_lost")
    await writer.until_called("connection_lost")


async def test_a_cancelled_connect_closes_the_pipe() -> None:
    read_end, write_end = a_pipe()
    with write_end:
        protocol = Recorder()
        connecting = asyncio.ensure_future(asyncio.get_running_loop().connect_read_pipe(lambda: protocol, read_end))
        await asyncio.sleep(0)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        await protocol.until_called("connection_lost")
        await turns()
        assert read_end.closed


async def test_another_protocol_takes_over() -> None:
    async with reading(a_pipe) as (first, other):
        second = Recorder()
        second.transport = first.transport
        other.write(b"1")
        await first.until_received(1)
        first.transport.set_protocol(second)
        other.write(b"2")
        await second.until_received(1)
        other.close()
        await second.until_called("connection_lost")
        assert first.calls == ["connection_made", "data_received"]
        first.transport.set_protocol(first)
        first._called("connection_lost")


async def test_callbacks_run_in_the_context_of_who_connected() -> None:
    name = contextvars.ContextVar("name", default="nobody")

    class Asking(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.names: list[str] = []

        def _called(self, callback: str) -> None:
            self.names.append(name.get())
            super()._called(callback)

    async def connect() -> tuple[Any, Any]:
        name.set("me")
        loop = asyncio.get_running_loop()
        read_end, write_end = a_pipe()
        reader, writer = Asking(), Asking()
        await loop.connect_read_pipe(lambda: reader, read_end)
        await loop.connect_write_pipe(lambda: writer, write_end)
        return reader, writer

    reader, writer = await asyncio.create_task(connect())
    writer.transport.set_write_buffer_limits(high=100)
    writer.transport.write(pattern(200_000))
    await reader.until_received(200_000)
    await writer.until_called("resume_writing")
    fd = os.dup(pipe_of(writer).fileno())
    os.write(fd, b"x")
    os.close(fd)
    await reader.until_received(200_001)
    # The reader leaves, and the writer hears of it from the kernel.
    end = pipe_of(reader)
    reader.transport.close()
    await reader.until_called("connection_lost")
    assert end.closed
    await writer.until_called("connection_lost")
    # Not these two: pause_writing runs in the context of the write, and so does resume_writing with asyncio.
    names = [name for name, call in zip(writer.names, writer.calls, strict=True) if "writing" not in call]
    # The reader's last callback was asked for by this task.
    assert {*names, *reader.names[:-1]} == {"me"}
    assert reader.names[-1] == "nobody"


async def test_what_a_transport_looks_like() -> None:
    async with reading(a_pipe) as (reader, other):
        number = pipe_of(reader).fileno()
        await turns()
        assert f"fd={number}" in repr(reader.transport)
        assert "polling" in repr(reader.transport)
        reader.transport.pause_reading()
        assert "idle" in repr(reader.transport)
        reader.transport.close()
        assert "closing" in repr(reader.transport)
        await reader.until_called("connection_lost")
        await turns()
        assert "closed" in repr(reader.transport)
    async with writing(a_pipe) as (writer, other):
        assert "idle bufsize=0" in repr(writer.transport)
        zeros = fill(pipe_of(writer))
        writer.transport.write(b"123")
        assert "polling bufsize=3" in repr(writer.transport)
        await read_bare(other, zeros + 3)
