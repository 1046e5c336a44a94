"""connect_read_pipe and connect_write_pipe: what both take, refuse, and make of it."""

import asyncio
import contextvars
import os
import tempfile
from typing import Any

import pytest

from tests.variants import EVERY, RINGS

from .helpers import Recorder, pattern
from .pipes import (
    Writer,
    a_pipe,
    fill,
    pipe_of,
    read_bare,
    reading,
    turns,
    writing,
)

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)


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
