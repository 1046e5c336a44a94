"""The load for each HTTP server: 200 requests over 32 connections, and clients that leave.

No loop of ours is here but for `statistics` and `check_engine`, which tests in one process ask.
"""

import asyncio
import hashlib
import http.client
import json
import os
import random
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import uringloop
from tests.compat.libraries.http_client import connect, get
from tests.compat.libraries.processes import TIMEOUT_SECONDS

LOOP = "uringloop.loop.EventLoop"
CONNECTIONS = 32
REQUESTS = 200
_LEAVERS = 8
_LARGE_BYTES = 8 << 20


def report_of(port: int, pid: int | None = None) -> dict[str, Any]:
    """Ask any process that serves a port, or ask until a given one answers."""
    while True:
        connection = connect(port)
        try:
            report: dict[str, Any] = json.loads(get(connection, "/loop"))
        finally:
            connection.close()
        if pid in (None, report["pid"]):
            return report


def check_loop(report: dict[str, Any], backend: str) -> None:
    """Check that the loop that answered is uringloop's with this backend, and that its engine received bytes."""
    assert (report["loop"], report["backend"]) == (LOOP, backend)
    assert report["streams"] > 0
    assert report["bytes_received"] > 0


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def until(true: Any) -> None:
    """Wait for something in another process, which has no event for it."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not true():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)


def accepts(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def check_http(port: int, backend: str, static: Path, *, engine: bool = True) -> None:
    """Load the application of `apps/`, look at its loop and at each body, and at the descriptors that stay.

    Args:
        port: of localhost.
        backend: that of the loop.
        static: the folder of the application's static files.
        engine: whether the loop's transports carry the connections; else only its class is checked.
    """
    report = report_of(port)
    if engine:
        check_loop(report, backend)
    assert (report["loop"], report["backend"]) == (LOOP, backend)
    pid = report["pid"]
    _load(port, static, 3, 1)
    # Whatever the server opens once is open now.
    before = descriptors(pid)
    _load(port, static, REQUESTS, CONNECTIONS)
    for _ in range(_LEAVERS):
        _leave(port)
    until(lambda: report_of(port, pid)["live"] == 0)
    until(lambda: descriptors(pid) <= before)
    after = report_of(port, pid)
    if engine:
        check_loop(after, backend)
        assert after["bytes_received"] > report["bytes_received"]


def _load(port: int, static: Path, requests: int, connections: int) -> None:
    left = iter(range(requests))
    file = (static / "file.bin").read_bytes()
    with ThreadPoolExecutor(connections) as pool:
        done = [pool.submit(_client, port, left, file) for _ in range(connections)]
    assert sum(each.result() for each in done) == requests


def _client(port: int, left: Iterator[int], file: bytes) -> int:
    connection = connect(port)
    count = 0
    for number in left:
        (_echo, _file, _events, _bytes)[number % 4](connection, number, file)
        count += 1
    connection.close()
    return count


def _echo(connection: http.client.HTTPConnection, number: int, _: bytes) -> None:
    body = random.Random(number).randbytes(number * 1000)
    connection.request("POST", "/echo", body=body)
    answer = connection.getresponse().read()
    assert hashlib.sha256(answer).digest() == hashlib.sha256(body).digest()


def _file(connection: http.client.HTTPConnection, number: int, file: bytes) -> None:
    assert get(connection, "/static/file.bin") == file


def _events(connection: http.client.HTTPConnection, number: int, _: bytes) -> None:
    text = get(connection, f"/events?count={number}").decode().replace("\r\n", "\n")
    assert text == "".join(f"data: {each}\n\n" for each in range(number))


def _bytes(connection: http.client.HTTPConnection, number: int, _: bytes) -> None:
    assert get(connection, f"/bytes?count={number * 1000}") == bytes(number * 1000)


def _leave(port: int) -> None:
    """Reset a connection in the middle of endless events, and another within a long answer."""
    for path in ("/events?count=0", f"/bytes?count={_LARGE_BYTES}"):
        connection = connect(port)
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.read(6) in (b"data: ", bytes(6))
        sock = answer.fp.raw._sock  # type: ignore[union-attr]
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        answer.close()


def check_engine(before: dict[str, Any]) -> None:
    """Check that the running loop is uringloop's and its engine has received bytes since these statistics."""
    loop = asyncio.get_running_loop()
    assert type(loop) is uringloop.EventLoop
    assert loop.statistics()["bytes_received"] > before["bytes_received"]


def statistics() -> dict[str, Any]:
    """Return those of the running loop, which must be uringloop's."""
    loop = asyncio.get_running_loop()
    assert type(loop) is uringloop.EventLoop
    return loop.statistics()
