"""Sanic, by `USE_UVLOOP = False` and `install()` in the application's module, in one process."""

from pathlib import Path

from tests.compat.libraries.databases import free_ports
from tests.compat.libraries.processes import module, running

from .load import accepts, check_http, until


def test_http(backend: str, static: Path) -> None:
    (port,) = free_ports(1)
    address = ["--host", "127.0.0.1", "--port", str(port)]
    command = module("sanic", "tests.consumers.apps.sanic_app:app", *address, "--single-process")
    with running(command, URINGLOOP_BACKEND=backend, CONSUMERS_STATIC=str(static)) as server:
        until(lambda: accepts(port))
        check_http(port, backend, static)
        assert server.stop() == 0
