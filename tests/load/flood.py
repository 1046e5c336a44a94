"""Connections that send as fast as they can, and others that ask by one byte: none may be left unanswered.

Three processes: one floods, one asks each 5 ms and counts, and the loop in this one serves both.
"""

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import IO, Any

_WRITE_BYTES = 256 * 1024
_ASKING = 20
_INTERVAL_S = 0.005
_GRACE_S = 10.0
#: A question is late that waits for longer.
LATE_S = 1.0


@dataclass
class Answers:
    asked: int = 0
    unanswered: int = 0
    late: int = 0
    longest_s: float = 0.0
    flooded_bytes: int = 0
    wrong_pieces: int = 0


class _Served(asyncio.Protocol):
    """Tells when its connection is lost."""

    def __init__(self, losses: list["asyncio.Future[None]"]) -> None:
        self.lost = asyncio.get_running_loop().create_future()
        losses.append(self.lost)

    def connection_lost(self, error: BaseException | None) -> None:
        self.lost.set_result(None)


class _Flooded(_Served):
    """Takes all that comes, and looks whether it is a flood's."""

    def __init__(self, losses: list["asyncio.Future[None]"], answers: Answers) -> None:
        super().__init__(losses)
        self.answers = answers

    def data_received(self, data: bytes) -> None:
        self.answers.flooded_bytes += len(data)
        self.answers.wrong_pieces += bool(data.strip(b"f"))


class _Answering(_Served):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


def _connect(address: tuple[str, int], count: int) -> list[socket.socket]:
    sockets = [socket.create_connection(address) for _ in range(count)]
    for sock in sockets:
        sock.setblocking(False)
    return sockets


def _flood(address: tuple[str, int], connections: int) -> None:
    sockets = _connect(address, connections)
    data = b"f" * _WRITE_BYTES
    while True:
        for sock in select.select([], sockets, [])[1]:
            with contextlib.suppress(BlockingIOError):
                sock.send(data)


def _ask(address: tuple[str, int], seconds: float, report: IO[str]) -> None:
    sockets = _connect(address, _ASKING)
    due: dict[socket.socket, list[float]] = {sock: [] for sock in sockets}
    answers = Answers()
    begin = now = time.monotonic()
    while now < begin + seconds or (any(due.values()) and now < begin + seconds + _GRACE_S):
        while begin + answers.asked * _INTERVAL_S <= now < begin + seconds:
            sock = sockets[answers.asked % _ASKING]
            due[sock].append(begin + answers.asked * _INTERVAL_S)
            sock.send(b"?")
            answers.asked += 1
        for sock in select.select(sockets, [], [], _INTERVAL_S / 2)[0]:
            for _ in sock.recv(1000):
                waited_s = time.monotonic() - due[sock].pop(0)
                answers.late += waited_s > LATE_S
                answers.longest_s = max(answers.longest_s, waited_s)
        now = time.monotonic()
    answers.unanswered = sum(map(len, due.values()))
    json.dump(asdict(answers), report)
    report.flush()


@contextlib.contextmanager
def _process(function: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """A child that runs the function until it is killed."""
    child = os.fork()
    if child == 0:
        try:
            function(*arguments)
        finally:
            os._exit(0)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


async def _ask_elsewhere(address: tuple[str, int], seconds: float) -> dict[str, Any]:
    """What the process that asks reports: it alone has the pipe's other end."""
    reading, writing = os.pipe()
    reader = asyncio.StreamReader()
    with os.fdopen(writing, "w") as report, _process(_ask, address, seconds, report):
        report.close()
        pipe = os.fdopen(reading, "rb")
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            counted: dict[str, Any] = json.loads(await reader.read())
        finally:
            transport.close()
    return counted


async def flood(seconds: float, connections: int) -> Answers:
    """Serve a flood of so many connections for so long; returns what became of the questions beside it."""
    loop = asyncio.get_running_loop()
    answers = Answers()
    losses: list[asyncio.Future[None]] = []
    flooded = await loop.create_server(lambda: _Flooded(losses, answers), "127.0.0.1", 0, backlog=1000)
    answering = await loop.create_server(lambda: _Answering(losses), "127.0.0.1", 0)
    with _process(_flood, flooded.sockets[0].getsockname(), connections):
        counted = await _ask_elsewhere(answering.sockets[0].getsockname(), seconds)
    for server in (flooded, answering):
        server.close()
        await server.wait_closed()
    # Before Python 3.12 a server does not wait for its connections.
    await asyncio.gather(*losses)
    return Answers(**counted | {"flooded_bytes": answers.flooded_bytes, "wrong_pieces": answers.wrong_pieces})
