"""The loop made in one thread and run in another, and later in a third: nothing is lost silently."""

import asyncio
import gc
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest

import uringloop
from tests.kernel import needs
from uringloop import files

_T = TypeVar("_T")


@pytest.fixture(params=["auto", "ring", "selector"])
def loop(request: pytest.FixtureRequest) -> Any:
    loop = uringloop.EventLoop(sleep=request.param)
    yield loop
    if not loop.is_closed():
        loop.close()


def in_thread(function: Callable[[], _T]) -> _T:
    """Call a function in a new thread; returns or raises what it does."""
    outcome: list[tuple[bool, Any]] = []

    def call() -> None:
        try:
            outcome.append((True, function()))
        except BaseException as error:
            outcome.append((False, error))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(30)
    assert outcome, "the thread did not come back"
    [(returned, value)] = outcome
    if not returned:
        raise value
    return cast(_T, value)


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def use_everything(path: Path) -> str:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(bytes(100_000))
    assert await reader.readexactly(100_000) == bytes(100_000)
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0.001)
    called = loop.create_future()
    threading.Thread(target=lambda: loop.call_soon_threadsafe(called.set_result, None)).start()
    await asyncio.wait_for(called, 10)
    async with files.open(path, "wb") as file:
        await file.write(b"content")
    await settled(loop)
    return "used"


def test_made_here_run_there(loop: Any, tmp_path: Path) -> None:
    assert in_thread(lambda: loop.run_until_complete(use_everything(tmp_path / "file"))) == "used"


def test_run_in_three_threads(loop: Any, tmp_path: Path) -> None:
    assert loop.run_until_complete(use_everything(tmp_path / "file")) == "used"
    for _ in range(3):
        assert in_thread(lambda: loop.run_until_complete(use_everything(tmp_path / "file"))) == "used"
    assert loop.run_until_complete(use_everything(tmp_path / "file")) == "used"


def test_made_and_closed_there(tmp_path: Path) -> None:
    loop = in_thread(uringloop.EventLoop)
    assert loop.run_until_complete(use_everything(tmp_path / "file")) == "used"
    in_thread(loop.close)
    assert loop.is_closed()


async def settled(loop: Any) -> None:
    """Return when the server's sides of the connections are gone too."""
    for _ in range(10_000):
        if not loop.statistics()["streams"]:
            return
        await asyncio.sleep(0.001)
    pytest.fail("a connection stayed")


async def start_server() -> Any:
    return await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(bytes(100_000))
    assert await asyncio.wait_for(reader.readexactly(100_000), 10) == bytes(100_000)


def test_what_only_waits_moves(loop: Any) -> None:
    """A server, a timer, a reader of the selector and a call from a thread, all made for the first thread."""
    server = loop.run_until_complete(start_server())
    source, sink = socket.socketpair()
    heard: asyncio.Queue[str] = asyncio.Queue()
    loop.add_reader(source, lambda: heard.put_nowait(source.recv(100).decode()))
    loop.call_later(0.01, heard.put_nowait, "timer")
    loop.run_until_complete(asyncio.sleep(0))

    async def main() -> None:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await exchange(reader, writer)
        writer.close()
        await writer.wait_closed()
        sink.send(b"reader")
        loop.call_soon_threadsafe(heard.put_nowait, "call")
        async with asyncio.timeout(10):
            assert {await heard.get() for _ in range(3)} == {"timer", "reader", "call"}
        await settled(loop)

    for _ in range(2):
        in_thread(lambda: loop.run_until_complete(main()))
        loop.call_later(0.01, heard.put_nowait, "timer")
    loop.run_until_complete(main())
    loop.remove_reader(source)
    source.close()
    sink.close()
    server.close()
    loop.run_until_complete(server.wait_closed())


@needs("io_uring")
def test_what_is_under_way_is_refused_and_goes_on_where_it_was(loop: Any) -> None:
    async def connect() -> tuple[Any, asyncio.StreamReader, asyncio.StreamWriter]:
        server = await start_server()
        return server, *await asyncio.open_connection(*server.sockets[0].getsockname())

    async def finish() -> None:
        writer.close()
        await writer.wait_closed()
        await settled(loop)
        server.close()
        await server.wait_closed()

    server, reader, writer = loop.run_until_complete(connect())
    loop.run_until_complete(exchange(reader, writer))
    with pytest.raises(RuntimeError, match=r"ran in another thread, where .* in flight"):
        in_thread(loop.run_forever)
    loop.run_until_complete(exchange(reader, writer))
    loop.run_until_complete(finish())


def test_two_threads_at_once_are_refused(loop: Any) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="already running"):
            in_thread(loop.run_forever)

    loop.run_until_complete(main())


def test_a_loop_in_each_of_many_threads(tmp_path: Path) -> None:
    answers: list[str] = []

    def run(number: int) -> None:
        answers.append(uringloop.run(use_everything(tmp_path / str(number))))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == ["used"] * 8


def leave_connections(count: int) -> list[socket.socket]:
    """Close a loop whose thread has ended with so many connections open; return their other ends."""
    loop = uringloop.EventLoop(sq_entries=4, cq_entries=8)
    ours, theirs = zip(*(socket.socketpair() for _ in range(count)), strict=True)

    async def receive() -> None:
        for sock in ours:
            sock.setblocking(False)
            await loop.create_connection(asyncio.Protocol, sock=sock)

    in_thread(lambda: loop.run_until_complete(receive()))
    loop.close()
    return list(theirs)


def test_a_loop_closed_by_another_thread_keeps_no_descriptor() -> None:
    """Most CQEs of its receives have overflowed the queue."""
    theirs: list[socket.socket] = []

    def leave() -> None:
        theirs.extend(leave_connections(40))
        gc.collect()

    with pytest.warns(ResourceWarning):
        leave()
    for sock in theirs:
        with sock:
            sock.settimeout(10)
            assert sock.recv(1) == b""
