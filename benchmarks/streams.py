"""How do event loops compare in the reads of asyncio's streams, where bytes come faster than they are asked for?

    python -m benchmarks.streams --only readline_in_pipelines_of_100 --rounds 7

Two ends in one loop talk over TCP, each by a StreamReader and a StreamWriter.  Our loops run twice: with asyncio's
streams, and with those of `uringloop.streams`, installed.
"""

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any

from benchmarks import contenders, results
from benchmarks.results import Case, Figures
from benchmarks.runner import Workers

PIPELINED = 100
LINE = b"l" * 31 + b"\n"
BODY = b"m" * 100
PREFIX_BYTES = 4
MESSAGE = len(BODY).to_bytes(PREFIX_BYTES, "big") + BODY

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def _answered(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[Ends]:
    """The near end; the far one answers until this one is left."""
    answering: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        answering.append(task)
        try:
            await answer(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield reader, writer
    finally:
        # Not by the end of the stream: rloop does not pass it on.
        for task in answering:
            task.cancel()
        await asyncio.gather(*answering, return_exceptions=True)
        writer.transport.abort()
        server.close()


def _check(right: bool) -> None:
    if not right:
        raise ValueError("the answer is wrong")


async def _lines(count: int, at_once: int) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            lines = []
            for _ in range(at_once):
                lines.append(await reader.readline())
            writer.write(b"".join(lines))

    async with _answered(answer) as (reader, writer):
        for _ in range(max(1, count // at_once)):
            writer.write(LINE * at_once)
            for _ in range(at_once):
                _check(await reader.readline() == LINE)


async def readline(count: int) -> None:
    """Ask for one line, and wait for it."""
    await _lines(count, 1)


async def readline_in_pipelines_of_100(count: int) -> None:
    await _lines(count, PIPELINED)


async def _messages(count: int, at_once: int) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            messages = []
            for _ in range(at_once):
                prefix = await reader.readexactly(PREFIX_BYTES)
                messages.append(prefix + await reader.readexactly(int.from_bytes(prefix, "big")))
            writer.write(b"".join(messages))

    async with _answered(answer) as (reader, writer):
        for _ in range(max(1, count // at_once)):
            writer.write(MESSAGE * at_once)
            for _ in range(at_once):
                size = int.from_bytes(await reader.readexactly(PREFIX_BYTES), "big")
                _check(await reader.readexactly(size) == BODY)


async def readexactly(count: int) -> None:
    """One message of a length and so many bytes, there and back."""
    await _messages(count, 1)


async def readexactly_in_pipelines_of_100(count: int) -> None:
    await _messages(count, PIPELINED)


QUESTIONS: dict[str, Callable[[int], Coroutine[Any, Any, None]]] = {
    question.__name__: question
    for question in (readline, readline_in_pipelines_of_100, readexactly, readexactly_in_pipelines_of_100)
}


def cases(options: argparse.Namespace) -> Iterator[Case]:
    with Workers() as running:
        for question in options.only:

            def measure(contender: str, question: str = question) -> Figures:
                return running.ask(contender, f"{question} {options.seconds}")

            compared = [*options.loops, *contenders.with_streams(options.loops)]
            yield Case(f"streams {question.replace('_', ' ')}", measure, compared, "µs", lower_is_better=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = results.parser(__doc__, seconds=0.2)
    parser.add_argument("--only", nargs="+", choices=QUESTIONS, default=list(QUESTIONS), metavar="QUESTION")
    options = parser.parse_args(arguments)
    results.report("streams", cases(options), options)


if __name__ == "__main__":
    main()
