"""aiohttp: `web.run_app(app, loop=...)` in a process of its own; its server and client here, on every loop."""

import asyncio
import contextlib
import hashlib
import io
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tls import client_context, server_context
from tests.variants import BACKENDS, BOTH_SLEEPS

from .aiohttp_app import aiohttp, make, web
from .http_client import (
    LARGE_BYTES,
    HalfDone,
    ask_for_loop,
    check_client_that_leaves,
    check_keep_alive,
    check_large_bodies,
    check_pipelining,
    large_body,
)
from .processes import Server, module, running
from .sockets_client import check_echo

pytestmark = pytest.mark.compat
on_every_loop = pytest.mark.asyncio(loop_factories=("asyncio", *BOTH_SLEEPS))


@pytest.fixture
def server() -> Iterator[Server]:
    with running(module("tests.compat.libraries.aiohttp_app")) as server:
        yield server


def port_of(server: Server) -> int:
    return int(server.until_says(r"Running on http://127\.0\.0\.1:(\d+)")[0])


def test_run_app(server: Server) -> None:
    port = port_of(server)
    assert ask_for_loop(port)[0] == "uringloop.loop.EventLoop"
    check_keep_alive(port)
    check_pipelining(port)
    check_large_bodies(port)
    check_client_that_leaves(port)
    check_echo(port, "/websocket")
    assert server.stop() == 0
    server.until_says("application ends")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_answer_that_goes_on_is_finished_before_the_end(server: Server, number: signal.Signals) -> None:
    exchange = HalfDone(port_of(server))
    server.send_signal(number)
    exchange.finish()
    assert server.wait() == 0
    server.until_says("application ends")


@contextlib.asynccontextmanager
async def serving(secure: bool = False, folder: Path | None = None) -> AsyncIterator[str]:
    """The application by `AppRunner`, with the files of a folder at /files; its address."""
    application = make()
    if folder is not None:
        application.router.add_static("/files", folder)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context() if secure else None)
    await site.start()
    yield f"{'https' if secure else 'http'}://localhost:{runner.addresses[0][1]}"
    await runner.cleanup()


@contextlib.asynccontextmanager
async def client(address: str, **options: Any) -> AsyncIterator[Any]:
    connector = aiohttp.TCPConnector(ssl=client_context(), **options)
    async with aiohttp.ClientSession(address, connector=connector) as session:
        yield session
        # The end of TLS takes the connector a moment, which it has a method for.
        await session.close()


@pytest.mark.asyncio(loop_factories=("asyncio", *BACKENDS))
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_files_on_one_connection(secure: bool, tmp_path: Path) -> None:
    content = large_body()[:1_000_000]
    (tmp_path / "file").write_bytes(content)
    async with serving(secure, tmp_path) as address, client(address, limit=1) as session:
        for first, last in ((0, 999_999), (5, 5), (4_000, 104_000)):
            async with session.get("/files/file", headers={"Range": f"bytes={first}-{last}"}) as answer:
                assert answer.status == 206
                assert await answer.read() == content[first : last + 1]
        async with session.get("/files/file") as answer:
            assert await answer.read() == content


@on_every_loop
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_bodies_of_all_sizes_on_one_connection(secure: bool) -> None:
    async with serving(secure) as address, client(address, limit=1) as session:
        for size_bytes in (0, 1, 65_535, 65_536, 1_000_000, LARGE_BYTES, 2):
            async with session.get(f"/bytes?{size_bytes}") as answer:
                assert len(await answer.read()) == size_bytes
        body = large_body()
        async with session.post("/digest", data=io.BytesIO(body)) as answer:
            assert await answer.text() == hashlib.sha256(body).hexdigest()


@on_every_loop
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_both_ways_at_once(secure: bool) -> None:
    body = large_body()

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    async with serving(secure) as address, client(address) as session:
        received = bytearray()
        async with session.post("/echo", data=pieces()) as answer:
            async for piece in answer.content.iter_chunked(70_000):
                received += piece
        assert received == body


@on_every_loop
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_websocket(secure: bool) -> None:
    async with serving(secure) as address, client(address) as session:
        async with session.ws_connect("/websocket", max_msg_size=0) as socket:
            for size_bytes in (0, 1, 125, 126, 65_536, 3_000_000):
                await socket.send_bytes(bytes(size_bytes))
                assert await socket.receive_bytes() == bytes(size_bytes)
            for number in range(500):
                await socket.send_str(str(number))
            assert [await socket.receive_str() for _ in range(500)] == [str(number) for number in range(500)]
            await socket.send_str("close")
            assert (await socket.receive()).type == aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 4000


@on_every_loop
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_a_thousand_at_once(secure: bool) -> None:
    async def ask(number: int) -> int:
        async with session.get(f"/bytes?{number}") as answer:
            return len(await answer.read())

    async with serving(secure) as address, client(address, limit=50) as session:
        assert await asyncio.gather(*map(ask, range(1000))) == list(range(1000))


@on_every_loop
async def test_answer_that_is_given_up() -> None:
    async with serving() as address, client(address) as session:
        for _ in range(20):
            asking = asyncio.ensure_future(session.get(f"/bytes?{LARGE_BYTES}"))
            async with await asking as answer:
                await answer.content.readexactly(1000)
        with pytest.raises(asyncio.TimeoutError):
            async with session.post("/echo", data=_never_ends(), timeout=aiohttp.ClientTimeout(total=0.1)) as answer:
                await answer.read()
        async with session.get("/bytes?3") as answer:
            assert await answer.read() == bytes(3)


async def _never_ends() -> AsyncIterator[bytes]:
    yield b"begins"
    await asyncio.get_running_loop().create_future()


@on_every_loop
async def test_unix_socket(tmp_path: Path) -> None:
    runner = web.AppRunner(make())
    await runner.setup()
    path = str(tmp_path / "socket")
    await web.UnixSite(runner, path).start()
    session = aiohttp.ClientSession("http://here", connector=aiohttp.UnixConnector(path))
    async with session, session.get("/bytes?100000") as answer:
        assert len(await answer.read()) == 100_000
    await runner.cleanup()
