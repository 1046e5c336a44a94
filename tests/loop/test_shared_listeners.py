"""Several loops on one listening socket, as the workers of a server have it: the one that is idle accepts.

The loops run in threads.  A loop is kept busy by a callback that waits for the test.
"""

import asyncio
import contextlib
import errno
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import uringloop
from tests.variants import FACTORIES, RINGS
from uringloop.engine import accept_now

TIMEOUT_S = 20
BACKLOG = 50

each_loop = pytest.mark.parametrize("variant", FACTORIES)
each_kind = pytest.mark.parametrize("kind", ["tcp", "unix"])
each_way = pytest.mark.parametrize("way", ["server", "sock_accept"])


class Worker:
    """A loop in a thread of its own, which answers each of its clients with its name."""

    def __init__(self, variant: str, name: bytes) -> None:
        self.name = name
        self.loop = FACTORIES[variant]()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self._ends: list[Callable[[], Awaitable[None]]] = []

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call in the loop; return the result."""

        async def call() -> Any:
            result = function(*arguments)
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(TIMEOUT_S)

    @contextlib.contextmanager
    def busy(self) -> Iterator[list[Callable[[], object]]]:
        """Keep the loop in a callback.  It calls what is appended to the list, and ends with the block."""
        begun, over = threading.Event(), threading.Event()
        last_words: list[Callable[[], object]] = []

        def compute() -> None:
            begun.set()
            assert over.wait(TIMEOUT_S)
            for call in last_words:
                call()

        self.loop.call_soon_threadsafe(compute)
        assert begun.wait(TIMEOUT_S)
        try:
            yield last_words
        finally:
            over.set()

    def serve(self, sock: socket.socket, way: str) -> Callable[[], None]:
        """Answer clients; return what ends that, to be called in the loop."""
        return self.run(self._begin_server if way == "server" else self._begin_accepting, sock)  # type: ignore[no-any-return]

    async def _begin_server(self, sock: socket.socket) -> Callable[[], None]:
        worker = self

        class Answer(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                transport.write(worker.name)
                transport.close()

        server = await self.loop.create_server(Answer, sock=sock.dup(), backlog=BACKLOG)

        async def end() -> None:
            server.close()
            await server.wait_closed()
            # Python 3.11 does not wait for the connections, and a tiny ring takes many ticks to close them.
            while isinstance(self.loop, uringloop.EventLoop) and self.loop.statistics()["streams"]:
                await asyncio.sleep(0)

        self._ends.append(end)
        return server.close

    async def _begin_accepting(self, sock: socket.socket) -> Callable[[], None]:
        listener = sock.dup()

        async def accept() -> None:
            with listener:
                while True:
                    connection, _ = await self.loop.sock_accept(listener)
                    with connection:
                        await self.loop.sock_sendall(connection, self.name)

        task = self.loop.create_task(accept())
        await asyncio.sleep(0)

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self._ends.append(end)
        return lambda: task.cancel() and None

    def close(self) -> None:
        for end in self._ends:
            self.run(end)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@contextlib.contextmanager
def workers(variant: str, count: int) -> Iterator[list[Worker]]:
    made = [Worker(variant, b"%d" % number) for number in range(count)]
    try:
        yield made
    finally:
        for worker in made:
            worker.close()


@pytest.fixture
def listener(kind: str, folder: Path) -> Iterator[socket.socket]:
    with listening(kind, folder) as sock:
        yield sock


@contextlib.contextmanager
def listening(kind: str, folder: Path) -> Iterator[socket.socket]:
    sock = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
    with sock:
        sock.bind(str(folder / "listener") if kind == "unix" else ("127.0.0.1", 0))
        sock.listen(BACKLOG)
        sock.setblocking(False)
        yield sock


def connect(address: Any) -> socket.socket:
    client = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    client.settimeout(TIMEOUT_S)
    client.connect(address)
    return client


def answer_of(client: socket.socket) -> bytes:
    with client:
        return client.recv(100)


@each_way
@each_kind
@each_loop
def test_an_idle_loop_accepts_beside_a_busy_one(variant: str, listener: socket.socket, way: str) -> None:
    with workers(variant, 2) as (one, other):
        for worker in (one, other):
            worker.serve(listener, way)
        for busy, idle in ((one, other), (other, one)) * 3:
            with busy.busy():
                assert answer_of(connect(listener.getsockname())) == idle.name


@each_kind
@each_loop
def test_each_client_is_answered_by_another_loop_while_those_before_are_busy(
    variant: str, listener: socket.socket
) -> None:
    with workers(variant, 4) as made, contextlib.ExitStack() as busy:
        by_name = {worker.name: worker for worker in made}
        for worker in made:
            worker.serve(listener, "server")
        answered = set()
        for _ in made:
            name = answer_of(connect(listener.getsockname()))
            busy.enter_context(by_name[name].busy())
            answered.add(name)
        assert answered == set(by_name)


@each_way
@each_kind
@each_loop
def test_a_loop_that_stops_as_a_client_comes_leaves_it_to_the_other(
    variant: str, listener: socket.socket, way: str
) -> None:
    for first_stops in (True, False):
        with workers(variant, 2) as made:
            ends = [worker.serve(listener, way) for worker in made]
            stops = 0 if first_stops else 1
            with contextlib.ExitStack() as busy:
                last_words = [busy.enter_context(worker.busy()) for worker in made]
                last_words[stops].append(ends[stops])
                client = connect(listener.getsockname())
            assert answer_of(client) == made[not stops].name


@each_kind
@each_loop
def test_more_clients_than_are_accepted_in_a_row_are_all_answered(variant: str, listener: socket.socket) -> None:
    listener.listen(200)
    with workers(variant, 1) as (worker,):
        worker.serve(listener, "server")
        listener.listen(200)
        with worker.busy():
            clients = [connect(listener.getsockname()) for _ in range(150)]
        assert {answer_of(client) for client in clients} == {worker.name}


# Sockets that a loop made itself


def serve_own(worker: Worker, path: str | None) -> Any:
    class Answer(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            transport.write(worker.name)
            transport.close()

    async def serve() -> Any:
        if path is None:
            return await worker.loop.create_server(Answer, "127.0.0.1", 0)
        return await worker.loop.create_unix_server(Answer, path)

    async def end() -> None:
        server.close()
        await server.wait_closed()

    server = worker.run(serve)
    worker._ends.append(end)
    return server


def dup_by_number(sock: Any) -> socket.socket:
    return socket.socket(fileno=os.dup(sock.fileno()))


@pytest.mark.parametrize("hand_out", [dup_by_number, lambda sock: sock.dup(), lambda sock: sock._sock.dup()])
@pytest.mark.parametrize("in_loop", [True, False])
@each_kind
@each_loop
def test_a_socket_that_is_handed_out_is_shared(
    variant: str, kind: str, folder: Path, in_loop: bool, hand_out: Callable[[Any], socket.socket]
) -> None:
    with workers(variant, 2) as (one, other):
        server = serve_own(one, str(folder / "own") if kind == "unix" else None)
        address = server.sockets[0].getsockname()
        assert answer_of(connect(address)) == one.name
        with one.run(hand_out, server.sockets[0]) if in_loop else hand_out(server.sockets[0]) as listener:
            other.serve(listener, "server")
        for busy, idle in ((one, other), (other, one)) * 2:
            with busy.busy():
                assert answer_of(connect(address)) == idle.name


@each_kind
@each_loop
def test_a_client_that_comes_as_the_socket_becomes_shared_is_answered(variant: str, kind: str, folder: Path) -> None:
    with workers(variant, 1) as (worker,):
        server = serve_own(worker, str(folder / "own") if kind == "unix" else None)
        address = server.sockets[0].getsockname()
        with worker.busy() as last_words:
            clients = [connect(address)]
            last_words += [server.sockets[0].fileno, lambda: clients.append(connect(address))]
        worker.run(lambda: None)
        clients.append(connect(address))
        assert [answer_of(client) for client in clients] == [worker.name] * 3


@each_kind
@each_loop
def test_a_forked_child_accepts_beside_its_busy_parent(variant: str, kind: str, folder: Path) -> None:
    class Answer(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            transport.write(b"parent")
            transport.close()

    async def parent() -> tuple[bytes, bytes]:
        loop = asyncio.get_running_loop()
        if kind == "unix":
            server = await loop.create_unix_server(Answer, str(folder / "own"))
        else:
            server = await loop.create_server(Answer, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        ready, say_ready = os.pipe()
        pid = os.fork()
        if pid == 0:
            in_child(variant, server.sockets[0].dup(), say_ready)
        os.close(say_ready)
        try:
            assert os.read(ready, 1) == b"r"
            # This loop is busy meanwhile.
            first = answer_of(connect(address))
        finally:
            os.close(ready)
            end(pid)
        client = connect(address)
        client.setblocking(False)
        with client:
            second = await loop.sock_recv(client, 100)
        server.close()
        await server.wait_closed()
        return first, second

    with asyncio.Runner(loop_factory=FACTORIES[variant]) as runner:
        assert runner.run(parent()) == (b"child", b"parent")


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def in_child(variant: str, sock: socket.socket, say_ready: int) -> None:
    """Serve until killed."""

    class Answer(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            transport.write(b"child")
            transport.close()

    async def serve() -> None:
        await asyncio.get_running_loop().create_server(Answer, sock=sock)
        os.write(say_ready, b"r")
        await asyncio.get_running_loop().create_future()

    try:
        asyncio._set_running_loop(None)
        FACTORIES[variant]().run_until_complete(serve())
    finally:
        os._exit(1)


@each_kind
@each_loop
def test_a_client_is_answered_after_the_child_that_was_woken_for_it_was_killed(
    variant: str, listener: socket.socket
) -> None:
    ready, say_ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        in_child(variant, listener, say_ready)
    os.close(say_ready)
    try:
        assert os.read(ready, 1) == b"r"
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        with workers(variant, 1) as (worker,):
            worker.serve(listener, "server")
            with worker.busy():
                clients = [connect(listener.getsockname()) for _ in range(5)]
                end(pid)
            assert [answer_of(client) for client in clients] == [worker.name] * 5
    finally:
        os.close(ready)
        with contextlib.suppress(OSError):
            end(pid)


# A socket that a sibling has made blocking


@each_kind
def test_a_blocking_socket_with_nobody_waiting_blocks_nobody(listener: socket.socket) -> None:
    listener.setblocking(True)
    assert accept_now(listener) == -errno.EAGAIN
    with connect(listener.getsockname()):
        os.close(accept_now(listener))
    assert accept_now(listener) == -errno.EAGAIN


@each_kind
@pytest.mark.parametrize("variant", RINGS)
def test_a_server_on_a_socket_that_became_blocking_goes_on(variant: str, listener: socket.socket) -> None:
    with workers(variant, 1) as (worker,):
        worker.serve(listener, "server")
        listener.setblocking(True)
        with worker.busy():
            clients = [connect(listener.getsockname()) for _ in range(3)]
            # Another worker takes one of them, and makes the socket blocking again.
            listener.accept()[0].close()
            listener.setblocking(True)
        assert [answer_of(client) for client in clients] == [b"", worker.name, worker.name]
        worker.run(lambda: None)
