"""Requests by HTTP clients, which `benchmarks.https` and `benchmarks.web` measure.

A client sends eight requests at a time, over connections that stay open.  Its server has the load's CPU to itself.
"""

import asyncio
import importlib
import os
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any
from unittest import mock

from benchmarks import runner
from benchmarks.results import Case, Figures
from benchmarks.runner import Workers
from benchmarks.servers.http import BODY
from benchmarks.servers.listening import CERTIFICATE

#: Has the port of the server.
PORT_VARIABLE = "URINGLOOP_BENCHMARK_HTTP"
AT_ONCE = 8


async def _ask(scheme: str, count: int, get: Callable[[str], Awaitable[bytes]]) -> None:
    url = f"{scheme}://127.0.0.1:{os.environ[PORT_VARIABLE]}/"

    async def ask(count: int) -> None:
        for _ in range(count):
            if await get(url) != BODY:
                raise ValueError("the answer is wrong")

    await asyncio.gather(*(ask(max(1, count // AT_ONCE)) for _ in range(AT_ONCE)))


def _context() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(CERTIFICATE))


async def _ask_by_aiohttp(scheme: str, count: int, **options: ssl.SSLContext) -> None:
    aiohttp: Any = importlib.import_module("aiohttp")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(**options)) as session:

        async def get(url: str) -> bytes:
            async with session.get(url) as answer:
                content: bytes = await answer.read()
                return content

        await _ask(scheme, count, get)


async def aiohttp_get(count: int) -> None:
    await _ask_by_aiohttp("http", count)


async def aiohttp_https_get(count: int) -> None:
    await _ask_by_aiohttp("https", count, ssl=_context())


async def httpx_https_get(count: int) -> None:
    httpx: Any = importlib.import_module("httpx")
    async with httpx.AsyncClient(verify=_context()) as client:

        async def get(url: str) -> bytes:
            content: bytes = (await client.get(url)).content
            return content

        await _ask("https", count, get)


QUESTIONS: dict[str, Callable[[int], Coroutine[Any, Any, None]]] = {
    question.__name__: question for question in (aiohttp_get, aiohttp_https_get, httpx_https_get)
}


def cases(mode: str, questions: Sequence[str], loops: Sequence[str], seconds: float) -> Iterator[Case]:
    """Ask a server of this mode."""
    _, cpu = runner.server_and_load_cpu()
    with (
        runner.serving(runner.server_command("asyncio", mode, "0"), cpu) as server,
        mock.patch.dict(os.environ, {PORT_VARIABLE: server.address}),
        Workers() as running,
    ):
        for question in questions:

            def measure(contender: str, question: str = question) -> Figures:
                return running.ask(contender, f"{question} {seconds}")

            yield Case(question.replace("_", " "), measure, loops, "µs", lower_is_better=True)
