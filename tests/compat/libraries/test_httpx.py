"""httpx, which comes to the loop by anyio: its client on every loop, with uvicorn as the server."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.tls import CERTIFICATE, client_context
from tests.variants import BOTH_SLEEPS

from .http_client import LARGE_BYTES, large_body
from .needs import library
from .processes import Server, module, running

httpx = library("httpx")
library("uvicorn")

pytestmark = [pytest.mark.compat, pytest.mark.asyncio(loop_factories=("asyncio", *BOTH_SLEEPS))]


@pytest.fixture(scope="module", params=["http", "https"])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[Server, str]]:
    secure = ["--ssl-certfile", CERTIFICATE, "--ssl-keyfile", CERTIFICATE] if request.param == "https" else []
    arguments = ["--loop", "uringloop:new_event_loop", "--host", "127.0.0.1", "--port", "0", *secure]
    with running(module("uvicorn", *arguments, "tests.compat.libraries.asgi:app")) as server:
        yield server, request.param
        server.stop()


@pytest.fixture
def client(server: tuple[Server, str]) -> "httpx.AsyncClient":
    (port,) = server[0].until_says(rf"Uvicorn running on {server[1]}://127\.0\.0\.1:(\d+)")
    limits = httpx.Limits(max_connections=20)
    return httpx.AsyncClient(
        base_url=f"{server[1]}://localhost:{port}", verify=client_context(), timeout=60, limits=limits
    )


async def test_loop_of_the_server(client: "httpx.AsyncClient") -> None:
    async with client:
        assert (await client.get("/loop")).text.startswith("uringloop.loop.EventLoop ")


async def test_large_bodies(client: "httpx.AsyncClient") -> None:
    body = large_body()

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    async with client:
        assert (await client.post("/digest", content=body)).text == hashlib.sha256(body).hexdigest()
        assert (await client.post("/digest", content=pieces())).text == hashlib.sha256(body).hexdigest()
        async with client.stream("GET", f"/bytes?{LARGE_BYTES}") as answer:
            assert sum([len(piece) async for piece in answer.aiter_raw()]) == LARGE_BYTES


async def test_many_at_once(client: "httpx.AsyncClient") -> None:
    async with client:
        answers = await asyncio.gather(*[client.get(f"/bytes?{size}") for size in range(100)])
        assert [len(answer.content) for answer in answers] == list(range(100))


async def test_answer_that_is_given_up(client: "httpx.AsyncClient") -> None:
    async with client:
        for _ in range(10):
            async with client.stream("GET", f"/bytes?{LARGE_BYTES}") as answer:
                async for _ in answer.aiter_raw():
                    break
        asking = asyncio.ensure_future(client.get(f"/bytes?{LARGE_BYTES}"))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert len((await client.get("/bytes?3")).content) == 3
