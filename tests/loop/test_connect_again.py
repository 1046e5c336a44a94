"""`sock_connect` on a socket whose connect is under way waits for that and gives its result."""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.variants import EVERY, RINGS

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)


class Full:
    """A listener whose backlog is full, so that connecting to it takes until `make_room`."""

    def __init__(self) -> None:
        self.sock = socket.socket()
        self.sock.bind(("127.0.0.1", 0))
        self.sock.listen(0)
        self.address = self.sock.getsockname()
        self._kept = contextlib.ExitStack()
        for _ in range(2):
            begin_connecting(self._kept.enter_context(socket.socket()), self.address)

    def make_room(self) -> None:
        self.sock.listen(10)
        self._kept.enter_context(self.sock.accept()[0])

    def close(self) -> None:
        self._kept.close()
        self.sock.close()


def begin_connecting(sock: socket.socket, address: tuple[str, int]) -> int:
    sock.setblocking(False)
    return sock.connect_ex(address)


@pytest.fixture
def full() -> Iterator[Full]:
    made = Full()
    yield made
    made.close()


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket() as made:
        made.setblocking(False)
        yield made


@contextlib.asynccontextmanager
async def under_way(sock: socket.socket, address: tuple[str, int], first: str) -> AsyncIterator[None]:
    """A connect that goes on while the block runs, and who began it has gone."""
    loop = asyncio.get_running_loop()
    if first == "connect_ex":
        assert sock.connect_ex(address) == errno.EINPROGRESS
    else:
        task = loop.create_task(loop.sock_connect(sock, address))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    yield


each_beginning = pytest.mark.parametrize("first", ["connect_ex", "cancelled"])


@each_beginning
async def test_a_connect_under_way_is_waited_for(full: Full, sock: socket.socket, first: str) -> None:
    loop = asyncio.get_running_loop()
    async with under_way(sock, full.address, first):
        task = loop.create_task(loop.sock_connect(sock, full.address))
        await asyncio.sleep(0)
        assert not task.done()
        full.make_room()
        await task
    assert sock.getpeername() == full.address


@each_beginning
async def test_it_may_be_cancelled_again_and_again(full: Full, sock: socket.socket, first: str) -> None:
    loop = asyncio.get_running_loop()
    async with under_way(sock, full.address, first):
        for _ in range(3):
            async with under_way(sock, full.address, "cancelled"):
                pass
        full.make_room()
        await loop.sock_connect(sock, full.address)
    assert sock.getpeername() == full.address


@pytest.mark.asyncio(loop_factories=("asyncio", "ring", "selector-plain"))  # it takes a second
@each_beginning
async def test_the_refusal_of_a_connect_under_way_is_raised(full: Full, sock: socket.socket, first: str) -> None:
    loop = asyncio.get_running_loop()
    async with under_way(sock, full.address, first):
        task = loop.create_task(loop.sock_connect(sock, full.address))
        await asyncio.sleep(0)
        # The next packet of the connecting side is refused.
        full.close()
        with pytest.raises(ConnectionRefusedError):
            await task


async def test_a_connected_socket_is_not_connected_again(full: Full, sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    full.make_room()
    await loop.sock_connect(sock, full.address)
    with contextlib.suppress(OSError):
        await loop.sock_connect(sock, full.address)  # the first that asyncio's connect(2) hears of it
    with pytest.raises(OSError, match=os.strerror(errno.EISCONN)) as raised:
        await loop.sock_connect(sock, full.address)
    assert raised.value.errno == errno.EISCONN


@pytest.mark.asyncio(loop_factories=RINGS)  # with asyncio's the first waits for ever
async def test_two_tasks_connect_one_socket(full: Full, sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(loop.sock_connect(sock, full.address)) for _ in range(2)]
    await asyncio.sleep(0)
    full.make_room()
    assert await asyncio.gather(*tasks) == [None, None]
    assert sock.getpeername() == full.address


@pytest.mark.asyncio(loop_factories=("ring", "selector-plain"))
async def test_two_tasks_are_both_refused(full: Full, sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(loop.sock_connect(sock, full.address)) for _ in range(2)]
    await asyncio.sleep(0)
    full.close()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert {getattr(error, "errno", None) for error in errors} <= {errno.ECONNREFUSED, errno.ECONNABORTED}


async def test_a_unix_socket_whose_connect_was_cancelled_connects(folder: Path) -> None:
    loop = asyncio.get_running_loop()
    path = str(folder / "listener")
    with contextlib.ExitStack() as kept:
        listener = kept.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(0)
        first = kept.enter_context(socket.socket(socket.AF_UNIX))
        first.connect(path)
        client = kept.enter_context(socket.socket(socket.AF_UNIX))
        client.setblocking(False)
        task = loop.create_task(loop.sock_connect(client, path))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        kept.enter_context(listener.accept()[0])
        if client.connect_ex(path) in (0, errno.EISCONN):
            return  # asyncio takes the full backlog for a connection
        await loop.sock_connect(client, path)
