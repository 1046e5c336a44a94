"""uvicorn: `uvicorn --loop uringloop:new_event_loop module:app`."""

import signal
from collections.abc import Iterator

import pytest

from .http_client import (
    HalfDone,
    ask_for_loop,
    check_client_that_leaves,
    check_keep_alive,
    check_large_bodies,
    check_pipelining,
    check_that_all_answer,
)
from .needs import library
from .processes import TIMEOUT_SECONDS, Server, module, running
from .sockets_client import ConnectionClosed, check_echo, open_websocket

library("uvicorn")
library("httptools")

pytestmark = pytest.mark.compat

#: The value of --loop, and the loop that it must give.
LOOPS = {
    "asyncio": "asyncio.unix_events._UnixSelectorEventLoop",
    "uringloop:new_event_loop": "uringloop.loop.EventLoop",
}
#: uvicorn ends itself by the signal that it was sent, but for Ctrl-C.
ENDS = {signal.SIGTERM: -signal.SIGTERM, signal.SIGINT: 0}


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture(params=["httptools", "h11"])
def http(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture
def server(loop: str, http: str) -> Iterator[Server]:
    arguments = ["--loop", loop, "--http", http, "--host", "127.0.0.1", "--port", "0"]
    with running(module("uvicorn", *arguments, "tests.compat.libraries.asgi:app")) as server:
        yield server


def port_of(server: Server) -> int:
    return int(server.until_says(r"Uvicorn running on http://127\.0\.0\.1:(\d+)")[0])


def test_http(server: Server, loop: str) -> None:
    port = port_of(server)
    assert ask_for_loop(port)[0] == LOOPS[loop]
    check_keep_alive(port)
    check_pipelining(port)
    check_large_bodies(port)
    check_client_that_leaves(port)
    assert server.stop() == -signal.SIGTERM


@pytest.mark.parametrize("number", ENDS)
def test_exchange_that_goes_on_is_finished_before_the_end(server: Server, number: signal.Signals) -> None:
    exchange = HalfDone(port_of(server))
    server.send_signal(number)
    server.until_says("Waiting for connections to close")
    exchange.finish()
    assert server.wait() == ENDS[number]
    server.until_says("application ends")


@pytest.mark.parametrize("protocol", ["websockets", "websockets-sansio", "wsproto"])
def test_websocket(loop: str, protocol: str) -> None:
    arguments = ["--loop", loop, "--ws", protocol, "--host", "127.0.0.1", "--port", "0"]
    with running(module("uvicorn", *arguments, "tests.compat.libraries.asgi:app")) as server:
        port = port_of(server)
        check_echo(port)
        with open_websocket(port) as client:
            client.send("still here")
            assert client.recv(TIMEOUT_SECONDS) == "still here"
            server.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(TIMEOUT_SECONDS)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
        assert server.wait() == -signal.SIGTERM


def test_several_workers_share_the_connections(loop: str) -> None:
    arguments = ["--loop", loop, "--host", "127.0.0.1", "--port", "0", "--workers", "3"]
    with running(module("uvicorn", *arguments, "tests.compat.libraries.asgi:app")) as server:
        port = port_of(server)
        workers = {int(pid) for pid in server.until_says(r"application on \S+ (\d+)", 3)}
        check_that_all_answer(port, LOOPS[loop], workers)
        # Its first process does not close the socket that it gives to the workers, so it is not waited for.
