"""FastAPI under uvicorn, which gets the loop by the variable UVICORN_LOOP."""

import signal
from pathlib import Path

from tests.compat.libraries.processes import module, running

from .load import check_http
from .test_starlette import ADDRESS, RUNNING

APPLICATION = "tests.consumers.apps.fastapi_app:app"


def test_static_files_and_events(backend: str, static: Path) -> None:
    command = module("uvicorn", *ADDRESS, APPLICATION)
    variables = {"UVICORN_LOOP": "uringloop:new_event_loop", "CONSUMERS_STATIC": str(static)}
    with running(command, URINGLOOP_BACKEND=backend, **variables) as server:
        check_http(int(server.until_says(RUNNING)[0]), backend, static)
        assert server.stop() == -signal.SIGTERM
