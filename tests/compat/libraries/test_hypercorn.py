"""hypercorn, which names its loops: `hypercorn.asyncio.serve` is what it documents for any other; HTTP/2 by httpx."""

import asyncio
import signal
import sys
from collections.abc import Iterator

import pytest

from tests.tls import CERTIFICATE, client_context
from tests.variants import BOTH_SLEEPS

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
from .needs import library
from .processes import Server, running
from .sockets_client import check_echo

library("hypercorn")
library("h2")
httpx = library("httpx")

pytestmark = pytest.mark.compat

SERVER = """
from hypercorn.asyncio import serve
from hypercorn.config import Config

import uringloop
from tests.compat.libraries.asgi import app

config = Config()
config.insecure_bind = ["127.0.0.1:0"]
config.bind = ["127.0.0.1:0"]
config.certfile = config.keyfile = {certificate!r}
config.loglevel = "INFO"
uringloop.run(serve(app, config))
"""


@pytest.fixture
def server() -> Iterator[Server]:
    source = SERVER.format(certificate=str(CERTIFICATE))
    with running([sys.executable, "-W", "always::ResourceWarning", "-c", source]) as server:
        yield server


def port_of(server: Server, scheme: str = "http") -> int:
    return int(server.until_says(rf"Running on {scheme}://127\.0\.0\.1:(\d+)")[0])


def test_http(server: Server) -> None:
    port = port_of(server)
    assert ask_for_loop(port)[0] == "uringloop.loop.EventLoop"
    check_keep_alive(port)
    check_pipelining(port)
    check_large_bodies(port)
    check_client_that_leaves(port)
    check_echo(port)
    assert server.stop(signal.SIGINT) == 0


def test_answer_that_goes_on_is_finished_before_the_end(server: Server) -> None:
    exchange = HalfDone(port_of(server))
    server.send_signal(signal.SIGTERM)
    exchange.finish()
    assert server.wait() == 0
    server.until_says("application ends")


@pytest.mark.asyncio(loop_factories=("asyncio", *BOTH_SLEEPS))
async def test_http_2_over_tls(server: Server) -> None:
    port = await asyncio.to_thread(port_of, server, "https")
    body = large_body()[:2_000_000]
    async with httpx.AsyncClient(
        http2=True, verify=client_context(), base_url=f"https://localhost:{port}", timeout=60
    ) as client:
        answer = await client.get("/loop")
        assert (answer.http_version, answer.text.split()[0]) == ("HTTP/2", "uringloop.loop.EventLoop")
        assert (await client.post("/echo", content=body)).content == body
        sizes = [size * 1000 for size in range(60)]
        answers = await asyncio.gather(*[client.get(f"/bytes?{size}") for size in sizes])
        assert [len(answer.content) for answer in answers] == sizes
        async with client.stream("GET", f"/bytes?{LARGE_BYTES}") as answer:
            assert sum([len(chunk) async for chunk in answer.aiter_raw()]) == LARGE_BYTES
    assert await asyncio.to_thread(server.stop) == 0
