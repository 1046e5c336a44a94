"""The parts of `uringloop.streams` beside asyncio's behaviour, which other tests compare call by call."""

import asyncio
import gc
import inspect
import sys
import types
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.variants import BACKENDS
from uringloop import streams

pytestmark = pytest.mark.asyncio(loop_factories=("asyncio", *BACKENDS))

Ends = tuple[tuple[asyncio.StreamReader, asyncio.StreamWriter], tuple[asyncio.StreamReader, asyncio.StreamWriter]]


def reader(**options: Any) -> Any:
    return streams.StreamReader(loop=asyncio.get_running_loop(), **options)


@pytest_asyncio.fixture
async def ends() -> AsyncIterator[Ends]:
    """The two ends of a TCP connection."""
    accepted: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set_result((reader, writer))
        await over.wait()

    async with await streams.start_server(handle, "127.0.0.1", 0, limit=1000) as server:
        near = await streams.open_connection(*server.sockets[0].getsockname(), limit=1000)
        far = await accepted
        yield near, far
        over.set()
        for _, writer in (near, far):
            writer.close()
            await writer.wait_closed()


async def test_a_connection_has_our_classes(ends: Ends) -> None:
    for one, writer in ends:
        assert type(one) is streams.StreamReader
        assert type(writer) is streams.StreamWriter
        assert isinstance(one, asyncio.StreamReader)
        assert isinstance(writer, asyncio.StreamWriter)
        protocol = writer.transport.get_protocol()  # type: ignore[attr-defined]
        assert type(protocol) is streams.StreamReaderProtocol
        assert isinstance(protocol, asyncio.StreamReaderProtocol)


async def test_a_full_reader_pauses_and_goes_on(ends: Ends) -> None:
    (near, _), (_, writer) = ends
    data = bytes(range(256)) * 4000
    writer.write(data)
    await near.readexactly(1)
    while not near._paused:  # type: ignore[attr-defined]
        await asyncio.sleep(0)
    assert not near._transport.is_reading()  # type: ignore[attr-defined]
    assert await near.readexactly(len(data) - 1) == data[1:]
    assert not near._paused  # type: ignore[attr-defined]


async def test_drain_waits_for_a_slow_reader(ends: Ends) -> None:
    (near, _), (_, writer) = ends
    near._transport.pause_reading()  # type: ignore[attr-defined]
    size_bytes = 0
    while not writer._protocol._paused:  # type: ignore[attr-defined]
        writer.write(bytes(100_000))
        size_bytes += 100_000
    draining = asyncio.ensure_future(writer.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    near._transport.resume_reading()  # type: ignore[attr-defined]
    assert len(await near.readexactly(size_bytes)) == size_bytes
    await draining


async def test_bytes_that_a_cancelled_read_waited_for_are_there() -> None:
    one = reader()
    for call in (one.read, lambda: one.readexactly(9), one.readline, lambda: one.readuntil(b"||")):
        waiting = asyncio.ensure_future(call())
        await asyncio.sleep(0)
        one.feed_data(b"some|")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert one._waiter is None
        assert await one.read(100) == b"some|"


async def test_a_read_that_was_woken_and_then_cancelled_has_taken_nothing() -> None:
    one = reader()
    waiting = asyncio.ensure_future(one.read(10))
    await asyncio.sleep(0)
    one.feed_data(b"bytes")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await one.readexactly(5) == b"bytes"


async def test_another_read_takes_what_a_search_has_seen() -> None:
    one = reader()
    for search, end in ((one.readline(), b"\n"), (one.readuntil(b"--"), b"--")):
        one.feed_data(b"123456")
        waiting = asyncio.ensure_future(search)
        await asyncio.sleep(0)
        assert await one.read(4) == b"1234"
        one.feed_data(end + b"rest")
        assert await waiting == b"56" + end
        assert await one.read(100) == b"rest"


async def test_a_read_does_nothing_before_it_is_awaited() -> None:
    one = reader()
    one.feed_data(b"abc")
    first, second = one.read(1), one.read(2)
    assert await second == b"ab"
    assert await first == b"c"
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        await first


async def test_a_call_that_is_never_awaited_warns_and_takes_nothing() -> None:
    one = reader()
    one.feed_data(b"abc")
    with pytest.warns(RuntimeWarning, match="'StreamReader.read' was never awaited"):
        one.read(1)
    assert await one.read(5) == b"abc"


async def test_a_dropped_read_leaves_the_reader_free() -> None:
    one = reader()
    waiting = one.readline()
    waiting.send(None)
    assert one._waiter is not None
    del waiting
    assert one._waiter is None
    waiting = one.readline()
    waiting.send(None)
    waiting.close()
    assert one._waiter is None


async def test_the_buffer_may_be_changed_by_other_code() -> None:
    one = reader()
    one.feed_data(b"0123456789")
    buffer = one._buffer
    assert isinstance(buffer, bytearray)
    del buffer[:2]
    assert await one.read(2) == b"23"
    assert buffer == b"456789"
    one.feed_data(b"ab")
    buffer += b"cd"
    assert one._buffer is buffer
    del buffer
    assert await one.readexactly(10) == b"456789abcd"
    one._buffer.extend(b"ext")
    one._buffer[:] = one._buffer[1:]
    one.feed_eof()
    assert await one.read() == b"xt"
    assert one.at_eof()


async def test_a_reader_of_another_loop_is_refused() -> None:
    other = asyncio.new_event_loop()
    one = streams.StreamReader(loop=other)
    with pytest.raises(RuntimeError, match="attached to a different loop"):
        await one.read(1)
    assert one._waiter is None  # type: ignore[attr-defined]
    one.feed_data(b"x")
    assert await one.read(1) == b"x"
    other.close()


async def test_a_class_that_overrides_counts_in_the_other_methods() -> None:
    class Shouting(streams.StreamReader):
        async def readuntil(self, separator: Any = b"\n") -> bytes:
            return (await super().readuntil(separator)).upper()

    one = Shouting(loop=asyncio.get_running_loop())
    one.feed_data(b"a\nb\nc\n")
    one.feed_eof()
    assert await one.readline() == b"A\n"
    assert await one.readuntil() == b"B\n"
    assert [line async for line in one] == [b"C\n"]


@pytest.mark.parametrize("base", [asyncio.StreamReader, streams.StreamReader])
async def test_a_method_that_a_class_overrides_is_called_as_by_asyncio_s(base: Any) -> None:
    class Mixed:
        read_calls = 0

        async def read(self, n: int = -1) -> bytes:
            self.read_calls += 1
            return await super().read(n)  # type: ignore[misc, no-any-return]

        async def readuntil(self, separator: Any = b"\n") -> bytes:
            return (await super().readuntil(separator)).upper()  # type: ignore[misc, no-any-return]

    class Reader(Mixed, base):  # type: ignore[misc]
        async def readline(self) -> bytes:
            line = await super().readline()
            return b"<" + line if line else line

    one = Reader(loop=asyncio.get_running_loop())
    one.feed_data(b"a\nb\nrest")
    one.feed_eof()
    assert await one.readline() == b"<A\n"
    assert await anext(one) == b"<B\n"
    assert (await one.read(), one.read_calls) == (b"rest", 3)


async def test_a_wrapper_of_a_transport_gets_the_bytes(ends: Ends) -> None:
    class Wrapper:
        def __init__(self, transport: Any) -> None:
            self.transport = transport
            self.written = b""

        def write(self, data: bytes) -> None:
            self.written += data
            self.transport.write(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.transport, name)

    (_, writer), (far, _) = ends
    wrapper: Any = Wrapper(writer.transport)
    other = streams.StreamWriter(wrapper, writer._protocol, None, asyncio.get_running_loop())  # type: ignore[attr-defined]
    other.write(b"bytes")
    await other.drain()
    assert wrapper.written == b"bytes"
    assert await far.readexactly(5) == b"bytes"
    other.close()


@pytest.mark.parametrize("kind", [asyncio.StreamReader, streams.StreamReader])
async def test_errors_are_chained_and_thrown_as_by_asyncio_s(kind: Any) -> None:
    one = kind(limit=2, loop=asyncio.get_running_loop())
    one.feed_data(b"long\nlong")

    async def read_after_an_error() -> None:
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            await one.readline()

    for _ in range(2):
        with pytest.raises(ValueError, match="limit") as caught:
            await read_after_an_error()
        overrun = caught.value.__context__
        assert isinstance(overrun, asyncio.LimitOverrunError)
        assert overrun.consumed == 4
        assert isinstance(overrun.__context__, ZeroDivisionError)
    call = one.read(1)
    for error in (KeyError, RuntimeError):
        with pytest.raises(error):
            call.throw(KeyError())


@pytest.mark.parametrize("kind", [asyncio.StreamReader, streams.StreamReader])
async def test_a_read_to_the_end_resumes_the_transport(kind: Any) -> None:
    calls: list[str] = []
    one = kind(limit=2, loop=asyncio.get_running_loop())
    one.set_transport(
        types.SimpleNamespace(
            pause_reading=lambda: calls.append("pause"), resume_reading=lambda: calls.append("resume")
        )
    )
    one.feed_data(b"bytes")
    one.feed_eof()
    assert await one.read() == b"bytes"
    assert calls == ["pause", "resume"]


async def test_a_protocol_that_overrides_gets_the_bytes(ends: Ends) -> None:
    class Counting(streams.StreamReaderProtocol):
        received = 0

        def data_received(self, data: bytes) -> None:
            self.received += len(data)
            super().data_received(data)

    loop = asyncio.get_running_loop()
    (near, writer), (_, far) = ends
    protocol = Counting(near, loop=loop)
    writer.transport.set_protocol(protocol)  # type: ignore[attr-defined]
    writer._protocol = protocol  # type: ignore[attr-defined]
    far.write(b"bytes")
    assert await near.readexactly(5) == b"bytes"
    assert protocol.received == 5


async def test_attributes_of_asyncio_s_are_all_here(ends: Ends) -> None:
    loop = asyncio.get_running_loop()
    (near, writer), _ = ends
    theirs = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(theirs, loop=loop)
    closed: Any = types.SimpleNamespace(is_closing=lambda: True)
    their_writer = asyncio.StreamWriter(closed, protocol, theirs, loop)
    for ours, other in ((near, theirs), (writer._protocol, protocol), (writer, their_writer)):  # type: ignore[attr-defined]
        assert [name for name in vars(other) if not hasattr(ours, name)] == []
    assert writer._complete_fut.done()  # type: ignore[attr-defined]


async def test_methods_pass_for_coroutine_functions() -> None:
    for method in ("read", "readexactly", "readline", "readuntil"):
        assert inspect.iscoroutinefunction(getattr(streams.StreamReader, method))
    assert inspect.iscoroutinefunction(streams.StreamWriter.drain)
    call = reader().readline()
    assert asyncio.iscoroutine(call)
    assert inspect.getcoroutinestate(call) == inspect.CORO_CREATED
    assert call.__qualname__ == "StreamReader.readline"
    call.close()
    assert inspect.getcoroutinestate(call) == inspect.CORO_CLOSED


async def test_an_unclosed_writer_warns() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        handled.set()

    handled = asyncio.Event()
    async with await streams.start_server(handle, "127.0.0.1", 0) as server:
        with warnings.catch_warnings(record=True, action="always") as caught:
            await streams.open_connection(*server.sockets[0].getsockname())
            gc.collect()
            await handled.wait()
    if sys.version_info >= (3, 13):
        assert [str(one.message)[:23] for one in caught] == ["unclosed <StreamWriter "]
