"""Sanic, by `USE_UVLOOP = False` and `install()` in the application's module, in one process and with workers."""

import json
from pathlib import Path

from tests.compat.libraries.databases import free_ports
from tests.compat.libraries.http_client import connect, get
from tests.compat.libraries.processes import module, running

from .load import accepts, check_http, until


def command(port: int, *options: str) -> list[str | Path]:
    return module("sanic", "tests.consumers.apps.sanic_app:app", "--host", "127.0.0.1", "--port", str(port), *options)


def test_http(backend: str, static: Path) -> None:
    (port,) = free_ports(1)
    with running(command(port, "--single-process"), URINGLOOP_BACKEND=backend, CONSUMERS_STATIC=str(static)) as server:
        until(lambda: accepts(port))
        check_http(port, backend, static)
        assert server.stop() == 0


def ready(port: int, query: str = "") -> int:
    """Return how many workers the first process has seen ready."""
    connection = connect(port)
    try:
        states: dict[str, str] = json.loads(get(connection, f"/workers{query}"))
    finally:
        connection.close()
    return [*states.values()].count("ACKED")


def test_workers(backend: str, static: Path) -> None:
    (port,) = free_ports(1)
    variables = {"URINGLOOP_BACKEND": backend, "CONSUMERS_STATIC": str(static)}
    with running(command(port, "--workers", "2"), **variables) as server:
        until(lambda: accepts(port))
        until(lambda: ready(port) == 2)
        check_http(port, backend, static)
        # The first process starts a third only after it saw the two.  A SIGTERM before that makes it wait for ever,
        # on asyncio's loop too: it puts its own message back, and looks for workers that have ended.
        ready(port, "?count=3")
        until(lambda: ready(port) == 3)
        assert server.stop() == 0
