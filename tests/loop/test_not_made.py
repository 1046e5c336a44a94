"""A transport that could not be made gives its descriptor up exactly once: the number may be another file's later.

In debug mode a `connection_made` that cannot be called back is refused when the transport is all but made.
"""

import asyncio
import contextlib
import gc
import os
import socket
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from tests.variants import BACKENDS, FACTORIES, RINGS, USUAL, LoopFactory

from .helpers import LOCALHOST

usual = pytest.mark.asyncio(loop_factories=USUAL)
each_loop = pytest.mark.parametrize("factory", [pytest.param(FACTORIES[name], id=name) for name in USUAL])
each_ring = pytest.mark.parametrize("factory", [pytest.param(FACTORIES[name], id=name) for name in RINGS])


class Refused(asyncio.Protocol, asyncio.DatagramProtocol):
    async def connection_made(self, transport: Any) -> None:  # type: ignore[override]
        """Refused in debug mode: a coroutine function is no callback."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """asyncio's own transports warn when the garbage collector closes them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield


def a_socket() -> Any:
    return socket.socketpair()[0]


def a_datagram_socket() -> Any:
    return socket.socketpair(type=socket.SOCK_DGRAM)[0]


def a_read_end() -> Any:
    read, write = os.pipe()
    os.close(write)
    return open(read, "rb", 0)


def a_write_end() -> Any:
    read, write = os.pipe()
    os.close(read)
    return open(write, "wb", 0)


Make = Callable[[asyncio.AbstractEventLoop, Any], Coroutine[Any, Any, Any]]
MAKES: dict[str, tuple[Callable[[], Any], Make]] = {
    "connection": (a_socket, lambda loop, file: loop.create_connection(Refused, sock=file)),
    "accepted": (a_socket, lambda loop, file: loop.connect_accepted_socket(Refused, file)),
    "datagram": (a_datagram_socket, lambda loop, file: loop.create_datagram_endpoint(Refused, sock=file)),
    "read pipe": (a_read_end, lambda loop, file: loop.connect_read_pipe(Refused, file)),
    "write pipe": (a_write_end, lambda loop, file: loop.connect_write_pipe(Refused, file)),
}


@contextlib.contextmanager
def others() -> Iterator[None]:
    """Files that take the numbers which are free now, and must have them still at the end."""
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(os.memfd_create("other"), "r+b", 0)) for _ in range(8)]
        yield
        gc.collect()
        for file in files:
            file.write(b"its own")


@each_loop
@pytest.mark.parametrize("kind", MAKES)
def test_a_file_is_closed_once(kind: str, factory: LoopFactory) -> None:
    make_file, make = MAKES[kind]
    file = make_file()
    if isinstance(file, socket.socket):
        file.setblocking(False)
    fd = file.fileno()

    async def main() -> None:
        with pytest.raises(TypeError, match="coroutines cannot be used"):
            await make(asyncio.get_running_loop(), file)

    with contextlib.ExitStack() as stack:
        with asyncio.Runner(debug=True, loop_factory=factory) as runner:
            runner.run(main())
            gc.collect()
            assert not os.path.lexists(f"/proc/self/fd/{fd}")
            stack.enter_context(others())
        file.close()


@each_ring
def test_an_accepted_connection_is_closed_once(factory: LoopFactory) -> None:
    """Its client sees the end at once: nothing waits for the garbage collector."""
    told: list[BaseException] = []

    async def main() -> asyncio.Server:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
        server = await loop.create_server(Refused, LOCALHOST, 0)
        for _ in range(3):
            with socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, server.sockets[0].getsockname())
                assert await loop.sock_recv(client, 1) == b""
        return server

    with contextlib.ExitStack() as stack, asyncio.Runner(debug=True, loop_factory=factory) as runner:
        server = runner.run(main())
        stack.enter_context(others())
        server.close()
        runner.run(server.wait_closed())
    assert [type(error) for error in told] == [TypeError] * 3


@pytest.mark.asyncio(loop_factories=BACKENDS)
async def test_the_loop_keeps_nothing_of_it(unexpected: list[dict[str, Any]]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Refused, LOCALHOST, 0)
    loop.set_debug(True)
    before = loop.statistics()["streams"]  # type: ignore[attr-defined]
    with socket.create_connection(server.sockets[0].getsockname()) as client:
        client.setblocking(False)
        assert await loop.sock_recv(client, 1) == b""
    assert loop.statistics()["streams"] == before  # type: ignore[attr-defined]
    assert not loop._transports  # type: ignore[attr-defined]
    unexpected.clear()
    server.close()
    await server.wait_closed()


@usual
@pytest.mark.parametrize("method", ["connect_read_pipe", "connect_write_pipe"])
async def test_what_is_no_pipe_stays_the_callers(method: str) -> None:
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    with open(os.memfd_create("file"), "r+b", 0) as file:
        with pytest.raises(ValueError, match="Pipe transport is"):
            await getattr(asyncio.get_running_loop(), method)(asyncio.Protocol, file)
        gc.collect()
        file.write(b"abc")
