"""Workers on one listening socket that are killed, end, reload and compute, and clients that none of it may strand.

    python -m tests.load.workers --loop ring --seconds 600

It prints how many connections were answered, by how many workers, and what went wrong: `unanswered` after ten seconds,
`late` after one, `refused`, and `reset` without a worker having been killed meanwhile.
"""

import argparse
import asyncio
import collections
import contextlib
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.children import ROOT, environment
from tests.variants import FACTORIES

CLIENTS = 8
WORKERS = 4
#: So long a worker computes when a client asks for it.
BUSY_S = 0.05
LATE_S = 1.0
UNANSWERED_S = 10.0
EVENT_INTERVAL_S = 0.2


# A worker


class _Answer(asyncio.Protocol):
    """Answers a question with its process's number, and computes before if it is asked to."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if data == b"compute":
            time.sleep(BUSY_S)
        self.transport.write(b"%d" % os.getpid())
        self.transport.close()


async def serve(sock: socket.socket) -> None:
    """Serve until SIGTERM; make a new server of the same socket at SIGHUP."""
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, events.put_nowait, number)
    number = signal.SIGHUP
    while number == signal.SIGHUP:
        server = await loop.create_server(_Answer, sock=sock.dup(), backlog=100)
        os.write(1, b"r")
        number = signal.Signals(await events.get())
        server.close()
        await server.wait_closed()
    # A client that was accepted is answered.  From Python 3.12.1 on wait_closed has seen to that.
    await asyncio.sleep(0.1)


# The others


@dataclass
class Outcome:
    """What became of the clients."""

    answered: collections.Counter[int] = field(default_factory=collections.Counter)
    unanswered: int = 0
    late: int = 0
    refused: int = 0
    reset: int = 0
    reset_by_kill: int = 0
    worst_s: float = 0.0
    events: collections.Counter[str] = field(default_factory=collections.Counter)

    def __str__(self) -> str:
        counts = self.answered.values()
        return (
            f"answered {sum(counts)} by {len(counts)} workers (of those {max(counts, default=0)} at most), "
            f"worst {self.worst_s * 1e3:.0f} ms; unanswered {self.unanswered}, late {self.late}, "
            f"refused {self.refused}, reset {self.reset}, by a kill {self.reset_by_kill}; {dict(self.events)}"
        )


class Workers:
    """Processes that serve one socket, with others in their place when they end."""

    def __init__(self, serving: Sequence[str], sock: socket.socket) -> None:
        self._serving = serving
        self._sock = sock
        self.processes: list[asyncio.subprocess.Process] = []
        self.kills = self.kills_over = 0

    async def add(self) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *self._serving,
            str(self._sock.fileno()),
            cwd=ROOT,
            env=environment(),
            pass_fds=[self._sock.fileno()],
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        await process.stdout.readexactly(1)
        self.processes.append(process)

    async def replace(self, number: signal.Signals) -> None:
        """End one by a signal, after another one was put in its place."""
        await self.add()
        process = self.processes.pop(0)
        if number == signal.SIGKILL:
            self.kills += 1
        process.send_signal(number)
        await process.wait()
        if number == signal.SIGKILL:
            self.kills_over += 1

    async def reload(self) -> None:
        process = random.choice(self.processes)
        process.send_signal(signal.SIGHUP)
        assert process.stdout is not None
        await process.stdout.readexactly(1)

    async def close(self) -> None:
        for process in self.processes:
            process.kill()
            await process.wait()


async def _ask(address: Any, question: bytes, outcome: Outcome, workers: Workers) -> None:
    start, kills_over = time.monotonic(), workers.kills_over
    try:
        async with asyncio.timeout(UNANSWERED_S):
            opening = asyncio.open_connection if isinstance(address, tuple) else asyncio.open_unix_connection
            reader, writer = await opening(*([address] if isinstance(address, str) else address))
            with contextlib.closing(writer):
                writer.write(question)
                answer = await reader.read()
    except TimeoutError:
        outcome.unanswered += 1
        return
    except ConnectionRefusedError:
        outcome.refused += 1
        return
    except (ConnectionResetError, BrokenPipeError):
        answer = b""
    if not answer:
        killed = workers.kills > kills_over
        outcome.reset_by_kill += killed
        outcome.reset += not killed
        return
    outcome.answered[int(answer)] += 1
    took_s = time.monotonic() - start
    outcome.worst_s = max(outcome.worst_s, took_s)
    outcome.late += took_s > LATE_S


def command(variant: str) -> list[str]:
    """Return the arguments of Python for a worker on such a loop; its socket's descriptor comes behind them."""
    return ["-m", "tests.load.workers", "--loop", variant, "--serve"]


async def soak(serving: Sequence[str], seconds: float, unix: bool, disturbed: bool = True) -> Outcome:
    """Return what became of clients that ask for so long, while workers by that command end and others begin."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as sock:
        sock.bind(f"{folder}/listener" if unix else ("127.0.0.1", 0))
        sock.listen(100)
        workers = Workers(serving, sock)
        for _ in range(WORKERS):
            await workers.add()
        over = time.monotonic() + seconds

        async def client() -> None:
            while time.monotonic() < over:
                question = b"compute" if disturbed and random.random() < 0.05 else b"answer"
                await _ask(sock.getsockname(), question, outcome, workers)

        async def disturb() -> None:
            while time.monotonic() < over:
                await asyncio.sleep(EVENT_INTERVAL_S)
                event = random.choice(("kill", "end", "reload", "reload"))
                outcome.events[event] += 1
                if event == "reload":
                    await workers.reload()
                else:
                    await workers.replace(signal.SIGKILL if event == "kill" else signal.SIGTERM)

        try:
            await asyncio.gather(*(client() for _ in range(CLIENTS)), *([disturb()] if disturbed else []))
        finally:
            await workers.close()
    return outcome


async def spread(variant: str, connections: int, unix: bool, *, until_all: bool = False) -> list[int]:
    """Return how many of so many connections, one after the other, each worker gets; stop early if all have some."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as sock:
        sock.bind(f"{folder}/listener" if unix else ("127.0.0.1", 0))
        sock.listen(100)
        workers = Workers(command(variant), sock)
        try:
            for _ in range(WORKERS):
                await workers.add()
            for _ in range(connections):
                if until_all and len(outcome.answered) == WORKERS:
                    break
                await _ask(sock.getsockname(), b"answer", outcome, workers)
        finally:
            await workers.close()
    return sorted(outcome.answered.values()) + [0] * (WORKERS - len(outcome.answered))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.load.workers", description=__doc__)
    parser.add_argument("--loop", choices=FACTORIES, default="auto")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--unix", action="store_true", help="a unix socket")
    parser.add_argument("--spread", type=int, metavar="COUNT", help="who gets so many connections, and nothing else")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        with (
            socket.socket(fileno=options.serve) as sock,
            asyncio.Runner(loop_factory=FACTORIES[options.loop]) as runner,
        ):
            runner.run(serve(sock))
    elif options.spread is not None:
        for loop in ("asyncio", options.loop):
            print(f"{loop:10} {asyncio.run(spread(loop, options.spread, options.unix))}")
    else:
        print(asyncio.run(soak(command(options.loop), options.seconds, options.unix)))


if __name__ == "__main__":
    main()
