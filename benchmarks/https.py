"""How do event loops compare below the HTTPS clients aiohttp and httpx?

    python -m benchmarks.https --only aiohttp --rounds 7

A client sends eight requests at a time, over connections that stay open.  Its server has the load's CPU to itself.
Both libraries run as they are installed.
"""

import argparse
import asyncio
import importlib
import importlib.util
import os
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any
from unittest import mock

from benchmarks import results, runner
from benchmarks.results import Case, Figures
from benchmarks.runner import Workers
from benchmarks.servers.https import BODY
from benchmarks.servers.listening import CERTIFICATE

#: Has the port of the server.
PORT_VARIABLE = "URINGLOOP_BENCHMARK_HTTPS"
AT_ONCE = 8


async def _ask(count: int, get: Callable[[str], Awaitable[bytes]]) -> None:
    url = f"https://127.0.0.1:{os.environ[PORT_VARIABLE]}/"

    async def ask(count: int) -> None:
        for _ in range(count):
            if await get(url) != BODY:
                raise ValueError("the answer is wrong")

    await asyncio.gather(*(ask(max(1, count // AT_ONCE)) for _ in range(AT_ONCE)))


def _context() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(CERTIFICATE))


async def aiohttp_https_get(count: int) -> None:
    aiohttp: Any = importlib.import_module("aiohttp")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=_context())) as session:

        async def get(url: str) -> bytes:
            async with session.get(url) as answer:
                content: bytes = await answer.read()
                return content

        await _ask(count, get)


async def httpx_https_get(count: int) -> None:
    httpx: Any = importlib.import_module("httpx")
    async with httpx.AsyncClient(verify=_context()) as client:

        async def get(url: str) -> bytes:
            content: bytes = (await client.get(url)).content
            return content

        await _ask(count, get)


QUESTIONS: dict[str, Callable[[int], Coroutine[Any, Any, None]]] = {
    question.__name__: question for question in (aiohttp_https_get, httpx_https_get)
}


def cases(options: argparse.Namespace) -> Iterator[Case]:
    _, cpu = runner.server_and_load_cpu()
    with (
        runner.serving(runner.server_command("asyncio", "https", "0"), cpu) as server,
        mock.patch.dict(os.environ, {PORT_VARIABLE: server.address}),
        Workers() as running,
    ):
        for library in options.only:
            question = f"{library}_https_get"

            def measure(contender: str, question: str = question) -> Figures:
                return running.ask(contender, f"{question} {options.seconds}")

            yield Case(question.replace("_", " "), measure, options.loops, "µs", lower_is_better=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = results.parser(__doc__, seconds=0.2, transports=True)
    libraries = [name for name in ("aiohttp", "httpx") if importlib.util.find_spec(name)]
    parser.add_argument("--only", nargs="+", choices=libraries, default=libraries, metavar="LIBRARY")
    options = parser.parse_args(arguments)
    results.report("https", cases(options), options)


if __name__ == "__main__":
    main()
