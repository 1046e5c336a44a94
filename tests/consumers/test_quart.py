"""Quart: `uringloop.run(app.run_task())`."""

import sys
from pathlib import Path

from tests.compat.libraries.databases import free_ports
from tests.compat.libraries.processes import running

from .load import accepts, check_http, until


def test_http(backend: str, static: Path) -> None:
    (port,) = free_ports(1)
    # It leaves the files that it serves to the collector, on asyncio's loop too.
    warned = ["-W", "always::ResourceWarning", "-W", "ignore:unclosed file:ResourceWarning"]
    command = [sys.executable, *warned, "-m", "tests.consumers.apps.quart_app", str(port)]
    with running(command, URINGLOOP_BACKEND=backend, CONSUMERS_STATIC=str(static)) as server:
        until(lambda: accepts(port))
        check_http(port, backend, static)
        assert server.stop() == 0
