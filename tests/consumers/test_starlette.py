"""Starlette under `uvicorn --loop uringloop:new_event_loop`."""

import signal
from pathlib import Path

from tests.compat.libraries.processes import module, running

from .load import check_http

APPLICATION = "tests.consumers.apps.starlette_app:app"
ADDRESS = ["--host", "127.0.0.1", "--port", "0"]
RUNNING = r"Uvicorn running on http://127\.0\.0\.1:(\d+)"


def test_static_files_and_events(backend: str, static: Path) -> None:
    command = module("uvicorn", "--loop", "uringloop:new_event_loop", *ADDRESS, APPLICATION)
    with running(command, URINGLOOP_BACKEND=backend, CONSUMERS_STATIC=str(static)) as server:
        check_http(int(server.until_says(RUNNING)[0]), backend, static)
        assert server.stop() == -signal.SIGTERM
