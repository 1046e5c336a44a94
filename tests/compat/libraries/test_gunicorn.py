"""gunicorn with uvicorn's worker, with aiohttp's, and with its own for ASGI: how each comes to a loop of ours."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from .http_client import (
    HalfDone,
    ask_for_loop,
    check_client_that_leaves,
    check_keep_alive,
    check_large_bodies,
    check_that_all_answer,
)
from .needs import library
from .processes import Server, module, running
from .told import block

library("gunicorn")
library("uvicorn_worker")
library("aiohttp")

pytestmark = pytest.mark.compat

#: For workers that ask asyncio for a loop.
CONFIGURATION = "import uringloop; uringloop.install()"
APPLICATIONS = "tests.compat.libraries"
BY_WORKER_CLASS = ["-k", "workers.UringloopWorker", f"{APPLICATIONS}.asgi:app"]
SHAPES = {
    "uvicorn": BY_WORKER_CLASS,
    "uvicorn-preload": ["--preload", *BY_WORKER_CLASS],
    "aiohttp": ["-c", "configuration.py", "-k", "aiohttp.GunicornWebWorker", f"{APPLICATIONS}.aiohttp_app:app"],
    "gunicorn": ["-c", "configuration.py", "-k", "asgi", "--asgi-loop", "asyncio", f"{APPLICATIONS}.asgi:app"],
}
COUNT = 3
STARTS = r"application on uringloop\.loop\.EventLoop (\d+)"
ENDS = r"application ends in (\d+)"


@pytest.fixture(params=SHAPES)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "workers.py").write_text(block("UringloopWorker"))
    (tmp_path / "configuration.py").write_text(CONFIGURATION)
    arguments = ["--bind", "127.0.0.1:0", "--workers", str(COUNT), "--graceful-timeout", "30", *SHAPES[request.param]]
    with running(module("gunicorn", *arguments), {"cwd": tmp_path}, HOME=str(tmp_path)) as server:
        yield server


def port_of(server: Server) -> int:
    return int(server.until_says(r"Listening at: http://127\.0\.0\.1:(\d+)")[0])


def test_http_from_several_workers(server: Server) -> None:
    port = port_of(server)
    workers = {int(pid) for pid in server.until_says(STARTS, COUNT)}
    assert len(workers) == COUNT
    check_that_all_answer(port, "uringloop.loop.EventLoop", workers)
    check_keep_alive(port)
    check_large_bodies(port)
    check_client_that_leaves(port)
    assert server.stop() == 0
    assert {int(pid) for pid in server.until_says(ENDS, COUNT)} == workers


def test_hup_replaces_the_workers(server: Server) -> None:
    port = port_of(server)
    before = server.until_says(STARTS, COUNT)
    server.send_signal(signal.SIGHUP)
    after = server.until_says(STARTS, 2 * COUNT)[COUNT:]
    assert sorted(server.until_says(ENDS, COUNT)) == sorted(before)
    assert str(ask_for_loop(port)[1]) in after
    assert server.stop() == 0
    assert sorted(server.until_says(ENDS, 2 * COUNT)) == sorted(before + after)


def test_exchange_that_goes_on_is_finished_before_the_end(server: Server) -> None:
    port = port_of(server)
    server.until_says(STARTS, COUNT)
    exchange = HalfDone(port)
    server.send_signal(signal.SIGTERM)
    # The workers that serve nobody have ended, the other one waits.
    server.until_says(ENDS, COUNT - 1)
    exchange.finish()
    assert server.wait() == 0
    server.until_says(ENDS, COUNT)


def test_worker_that_was_killed_is_replaced(server: Server) -> None:
    port = port_of(server)
    server.until_says(STARTS, COUNT)
    _, pid = ask_for_loop(port)
    os.kill(pid, signal.SIGKILL)
    server.until_says(STARTS, COUNT + 1)
    check_keep_alive(port)
    assert server.stop() == 0
