"""Look-ups beside ends and changes: of their loop, of the program, of a process that forks, of the thread."""

import asyncio
import errno
import gc
import os
import socket
import threading
from typing import Any

import pytest

import uringloop
from tests.pool.jobs import Gate, counts, wait_until
from tests.variants import BACKENDS, FACTORIES, RINGS, USUAL

from . import gated
from .gated import FOUND, addresses, begin, begun

ON_EACH_BACKEND = [name for name in ("auto", "epoll") if name in FACTORIES]


@pytest.mark.parametrize("factory", RINGS)
def test_a_loop_closes_while_lookups_hang(factory: str, gate: Gate, one_thread: None) -> None:
    async def main() -> None:
        for name in ("running", "queued"):
            await_soon(addresses(f"{name}.held.gated"))
        await begun(gate, 1)
        assert await addresses("localhost")

    tasks = []

    def await_soon(coroutine: Any) -> None:
        tasks.append(asyncio.get_running_loop().create_task(coroutine))

    loop = FACTORIES[factory]()
    loop.run_until_complete(main())
    loop.close()
    assert counts()["stuck"] > 0
    gate.open(2)
    wait_until(lambda: counts()["stuck"] == 0)
    for task in tasks:
        task._log_destroy_pending = False
    del tasks[:], task
    gc.collect()


@pytest.mark.parametrize("factory", ON_EACH_BACKEND)
def test_a_program_ends_while_lookups_hang(factory: str) -> None:
    program = f"""
import asyncio
from tests.variants import FACTORIES

async def main():
    loop = asyncio.get_running_loop()
    for number in range(20):
        asyncio.ensure_future(loop.getaddrinfo(f"{{number}}.held.gated", 80))
    await asyncio.to_thread(gate.wait_begun, 4)
    print("runs", end="")

with asyncio.Runner(loop_factory=FACTORIES[{factory!r}]) as runner:
    runner.run(main())
"""
    assert gated.run(program) == "runs"


@pytest.mark.parametrize("factory", ON_EACH_BACKEND)
def test_a_forked_child_drops_the_lookups_of_its_parent(factory: str) -> None:
    program = f"""
import asyncio, gc, os, warnings
from tests.variants import FACTORIES
import uringloop.pool._cffi as pool

pool.lib.ul_pool_limits(1, 0)
warnings.simplefilter("ignore")  # of a fork beside threads

async def main():
    loop = asyncio.get_running_loop()
    lookups = [asyncio.ensure_future(loop.getaddrinfo("a.held.gated", 80)) for _ in range(3)]
    await asyncio.to_thread(gate.wait_begun, 1)
    gate.open(1)
    gate.wait_begun(1)
    # One has finished, and the loop does not know; one runs; one waits for a thread.
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        lookups[2].cancel()
        return
    gate.open(2)
    assert await asyncio.gather(*lookups)
    assert os.waitpid(child, 0)[1] == 0
    print("parent")

loop = FACTORIES[{factory!r}]()
parent = os.getpid()
try:
    loop.run_until_complete(main())
finally:
    if os.getpid() != parent:
        loop.close()
        del loop
        gc.collect()
        with asyncio.Runner(loop_factory=FACTORIES[{factory!r}]) as runner:
            assert runner.run(gated.addresses("c.gated")) == gated.FOUND
        os._exit(0)
loop.close()
"""
    assert gated.run(program) == "parent\n"


class Raising(asyncio.Future[None]):
    """A future that nothing wakes: its `set_result` raises."""

    def __init__(self, error: BaseException, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._error = error

    def set_result(self, result: None, /) -> None:
        raise self._error


@pytest.mark.parametrize("factory", RINGS)
def test_a_wake_that_raises_loses_no_other_lookup(
    factory: str, gate: Gate, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one thread finishes all of them in order, before the loop takes any."""
    loop = FACTORIES[factory]()
    waiters: list[asyncio.Future[None]] = [
        *(Raising(error, loop) for error in (ValueError(), KeyboardInterrupt(), MemoryError())),
        *(loop.create_future() for _ in range(3)),
    ]
    tasks = []

    async def start() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(loop, "create_future", iter(waiters).__next__)
            tasks.extend(begin("a.gated") for _ in waiters)
            # One tick, in which all begin.
            await asyncio.sleep(0)
        wait_until(lambda: counts()["queued"] == 0 and counts()["idle"] == counts()["threads"])
        await asyncio.sleep(30)  # the interrupt comes first

    async def go_on() -> None:
        assert await asyncio.gather(*tasks[3:]) == [FOUND] * 3
        for task in tasks[:3]:
            assert not task.done()
            task.cancel()
        await asyncio.wait(tasks)
        assert await addresses("a.gated") == FOUND

    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(start())
    for task in asyncio.all_tasks(loop) - set(tasks):
        task.cancel()
    loop.run_until_complete(asyncio.wait_for(go_on(), 30))
    loop.close()


@pytest.mark.parametrize("refused", ["ring", "poll"])
@pytest.mark.parametrize("factory", BACKENDS)
def test_a_loop_that_gets_no_poll_asks_the_executor(
    factory: str, refused: str, name_service: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def echo(_: None, function: Any, *args: Any) -> Any:
        return function, *args

    def answer(coroutine: Any) -> Any:
        with pytest.raises(StopIteration) as ended:
            coroutine.send(None)
        return ended.value.value

    FACTORIES[factory]().close()  # a first loop would make its ring at once
    loop: Any = FACTORIES[factory]()
    monkeypatch.setattr(loop, "run_in_executor", echo)
    if refused == "poll":
        assert loop.backend  # there is a ring
    before = os.listdir("/proc/self/fd")
    with monkeypatch.context() as patch:
        if refused == "ring":
            patch.setattr(loop._dispatcher, "make", refuse)
        else:
            patch.setattr("uringloop.names.resolution.Poll.submit", refuse)
        assert answer(loop.getaddrinfo("a.gated", 80)) == (socket.getaddrinfo, "a.gated", 80, 0, 0, 0, 0)
        assert answer(loop.getnameinfo(("::1", 80))) == (socket.getnameinfo, ("::1", 80), 0)
    assert os.listdir("/proc/self/fd") == before
    assert loop.run_until_complete(addresses("a.gated")) == FOUND
    loop.close()


def test_loops_in_threads_look_up_at_once(name_service: None) -> None:
    results: list[Any] = []

    async def main() -> list[Any]:
        return await asyncio.gather(*(addresses("a.gated") for _ in range(50)))

    def run() -> None:
        with asyncio.Runner(loop_factory=uringloop.EventLoop) as runner:
            results.append(runner.run(main()))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[FOUND] * 50] * 4


@pytest.mark.parametrize("factory", RINGS)
def test_a_loop_that_changes_threads_looks_up_in_each(factory: str, gate: Gate) -> None:
    loop = FACTORIES[factory]()
    held = []

    async def start() -> None:
        held.append(begin("a.held.gated"))
        await begun(gate, 1)

    async def end() -> list[Any]:
        gate.open(1)
        found: list[Any] = await held[0]
        return [found, await addresses("a.gated")]

    loop.run_until_complete(start())
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(loop.run_until_complete(end())))
    thread.start()
    thread.join()
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert results == [[FOUND, FOUND]]


def test_audit_events_are_those_of_the_socket_module() -> None:
    program = """
import asyncio, socket, sys
from tests.variants import FACTORIES, USUAL

events = []
sys.addaudithook(lambda name, args: name.startswith("socket.get") and events.append((name, args)))

async def main():
    loop = asyncio.get_running_loop()
    await loop.getaddrinfo("a.gated", 80, family=socket.AF_UNSPEC, type=socket.SOCK_STREAM, proto=6)
    await loop.getaddrinfo(b"b.gated", "http", flags=socket.AI_CANONNAME)
    await loop.getaddrinfo("127.0.0.1", None)
    await loop.getnameinfo(("127.0.0.1", 80), 3)
    for refused in ("a..gated", "\\ud800"):
        try:
            await loop.getaddrinfo(refused, 80)
        except UnicodeError:
            pass

for name in USUAL:
    with asyncio.Runner(loop_factory=FACTORIES[name]) as runner:
        runner.run(main())
    assert len(events) == 4, (name, events)
    print(events)
    events.clear()
"""
    lines = gated.run(program).splitlines()
    assert lines == [lines[0]] * len(USUAL)


def test_an_audit_hook_may_refuse() -> None:
    program = """
import asyncio, sys, uringloop
def refuse(name, args):
    if name.startswith("socket.get"):
        raise PermissionError(name)

async def main():
    loop = asyncio.get_running_loop()
    for ask in (lambda: loop.getaddrinfo("a.gated", 80), lambda: loop.getnameinfo(("127.0.0.1", 80))):
        try:
            await ask()
        except PermissionError as error:
            print(error, end=" ")

sys.addaudithook(refuse)
with asyncio.Runner(loop_factory=uringloop.EventLoop) as runner:
    runner.run(main())
"""
    assert gated.run(program) == "socket.getaddrinfo socket.getnameinfo "


def test_a_closed_loop_looks_nothing_up() -> None:
    loop = FACTORIES["auto"]()
    loop.close()
    for coroutine in (loop.getaddrinfo("localhost", 80), loop.getnameinfo(("127.0.0.1", 80))):
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            coroutine.send(None)


def test_descriptors_close_with_the_loop() -> None:
    before = os.listdir("/proc/self/fd")
    with asyncio.Runner(loop_factory=uringloop.EventLoop) as runner:
        runner.run(addresses("localhost"))
    assert os.listdir("/proc/self/fd") == before
