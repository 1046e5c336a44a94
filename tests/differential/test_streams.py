"""`StreamReader` and `StreamWriter`: conversations that give what asyncio's loop gives, errors included."""

import asyncio
import functools
import socket
import struct
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.tls import client_context, server_context
from tests.variants import BACKENDS, DEFAULT, FACTORIES
from uringloop import streams

from .outcomes import LOCALHOST, described, hearing, value


class End:
    """One end of a conversation; what each call gave is logged."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.log: list[Any] = []

    async def do(self, name: str, *args: Any, **options: Any) -> Any:
        """Call a method of the reader or the writer, and log what it returns or raises."""
        method = getattr(self.reader, name, None) or getattr(self.writer, name)
        try:
            result = method(*args, **options)
            if asyncio.iscoroutine(result):
                result = await result
        except Exception as error:
            self.log.append((name, "raised", described(error)))
            return None
        self.log.append((name, "returned", value(result)))
        return result

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[End, End], Awaitable[None]]
SCRIPTS: dict[str, Script] = {}


def script(function: Script) -> Script:
    SCRIPTS[function.__name__] = function
    return function


@script
async def ways_to_read(near: End, far: End) -> None:
    far.writer.write(b"line\nexactly|until|rest")
    far.writer.close()
    await near.do("readline")
    await near.do("readexactly", 7)
    await near.do("readuntil", b"|")
    await near.do("readuntil", b"|")
    await near.do("read", 2)
    await near.do("read")
    await near.do("read")
    await near.do("at_eof")
    await near.do("readline")
    await near.do("readexactly", 1)
    await near.do("readuntil", b"|")


@script
async def wrong_ways_to_read(near: End, far: End) -> None:
    far.writer.write(b"bytes")
    await near.do("readexactly", -1)
    await near.do("readexactly", "x")
    await near.do("readuntil", b"")
    await near.do("read", "x")
    await near.do("read", 0)
    await near.do("readexactly", 5)


@script
async def a_line_beyond_the_limit(near: End, far: End) -> None:
    far.writer.write(b"x" * 300_000 + b"\n")
    await near.do("readline")


@script
async def an_end_amid_what_is_asked_for(near: End, far: End) -> None:
    far.writer.write(b"half")
    await far.do("close")
    await near.do("readexactly", 10)
    await near.do("at_eof")
    await far.do("wait_closed")


@script
async def wrong_ways_to_write(near: End, far: End) -> None:
    for data in (None, "text", 5, [b"x"]):
        await near.do("write", data)
    await near.do("is_closing")
    await near.do("can_write_eof")


@script
async def writing_and_draining_after_close(near: End, far: End) -> None:
    await near.do("close")
    await near.do("is_closing")
    await near.do("write", b"x")
    await near.do("drain")
    await near.do("wait_closed")
    await near.do("close")
    await near.do("wait_closed")
    await far.do("read")


@script
async def half_closing(near: End, far: End) -> None:
    if not near.writer.can_write_eof():
        return
    await near.do("write_eof")
    await near.do("write", b"x")
    await far.do("read")
    await far.do("write", b"answer")
    await far.do("close")
    await near.do("read")


@script
async def much_is_drained(near: End, far: End) -> None:
    async def write() -> None:
        for _ in range(40):
            near.writer.write(bytes(100_000))
            await near.writer.drain()
        await near.do("close")
        await near.do("wait_closed")

    writing = asyncio.get_running_loop().create_task(write())
    data = await far.reader.read()
    far.log.append(len(data))
    far.writer.close()
    await writing


@script
async def a_reset(near: End, far: End) -> None:
    reading = asyncio.get_running_loop().create_task(near.do("read"))
    await asyncio.sleep(0)
    far.reset()
    await reading
    await near.do("readline")
    await near.do("close")
    await near.do("wait_closed")


@script
async def a_reset_while_draining(near: End, far: End) -> None:
    if near.writer.get_extra_info("socket").family == socket.AF_UNIX:
        # Of the two errors that the kernel has for this either may come first.
        return
    far.writer.transport.pause_reading()  # type: ignore[attr-defined]
    near.writer.write(bytes(6 << 20))
    draining = asyncio.get_running_loop().create_task(near.do("drain"))
    await asyncio.sleep(0)
    far.reset()
    await draining
    await near.do("read")
    await near.do("wait_closed")


@script
async def a_timeout_loses_nothing(near: End, far: End) -> None:
    try:
        await asyncio.wait_for(near.reader.readline(), 0.001)
    except TimeoutError as error:
        near.log.append(described(error))
    far.writer.write(b"line\n")
    await near.do("readline")


@script
async def two_readers_at_once(near: End, far: End) -> None:
    first = asyncio.get_running_loop().create_task(near.do("readline"))
    await asyncio.sleep(0)
    await near.do("readline")
    far.writer.write(b"line\n")
    await first


@script
async def extra_info(near: End, far: End) -> None:
    for name in ("socket", "sslcontext", "nothing"):
        await near.do("get_extra_info", name)


def play(name: str, kind: str, near_is_client: bool, variant: str, installed: bool = False) -> list[Any]:
    loop = FACTORIES[variant]()
    if installed:
        streams.install()
    logs: list[Any] = []

    async def run() -> None:
        accepted: asyncio.Future[End] = loop.create_future()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.set_result(End(reader, writer))
            await over.wait()

        over = asyncio.Event()
        if kind == "unix":
            path = f"{folder}/socket"
            server = await asyncio.start_unix_server(handle, path)
            client = End(*await asyncio.open_unix_connection(path))
        else:
            tls = kind == "tls"
            server = await asyncio.start_server(handle, LOCALHOST, 0, ssl=server_context() if tls else None)
            options = {"ssl": client_context(), "server_hostname": "localhost"} if tls else {}
            client = End(*await asyncio.open_connection(*server.sockets[0].getsockname(), **options))
        for end in (client, await accepted):
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                end.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, 1 << 16)
        near, far = (client, await accepted) if near_is_client else (await accepted, client)
        await SCRIPTS[name](near, far)
        over.set()
        for end in (near, far):
            logs.append(list(end.log))
            if not end.writer.is_closing():
                end.writer.transport.abort()
            await asyncio.gather(end.writer.wait_closed(), return_exceptions=True)
        server.close()
        await server.wait_closed()

    with tempfile.TemporaryDirectory() as folder, hearing(loop) as told:
        try:
            loop.run_until_complete(run())
        finally:
            streams.uninstall()
            loop.close()
    return [*logs, told]


expected = functools.cache(functools.partial(play, variant="asyncio"))


@pytest.mark.parametrize("variant", BACKENDS)
@pytest.mark.parametrize("near_is_client", [True, False], ids=["client", "server"])
@pytest.mark.parametrize("kind", ["tcp", "unix", "tls"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_streams_give_what_asyncio_s_give(name: str, kind: str, near_is_client: bool, variant: str) -> None:
    for mine, theirs in zip(
        play(name, kind, near_is_client, variant), expected(name, kind, near_is_client), strict=True
    ):
        assert mine == theirs


@pytest.mark.parametrize(("kind", "variant"), [("tcp", "asyncio"), ("tcp", DEFAULT), ("tls", DEFAULT)])
@pytest.mark.parametrize("name", SCRIPTS)
def test_our_streams_give_it_too(name: str, kind: str, variant: str) -> None:
    near_is_client = kind == "tls"
    for mine, theirs in zip(
        play(name, kind, near_is_client, variant, installed=True), expected(name, kind, near_is_client), strict=True
    ):
        assert mine == theirs
