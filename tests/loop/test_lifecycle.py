"""A loop from its making to its end: run, stopped, run again, left in a mess, closed, in threads and after a fork."""

import asyncio
import contextlib
import gc
import socket
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import uringloop
from tests.variants import EVERY, FACTORIES, RINGS, LoopFactory

from .helpers import Echo, Recorder, connected, facing_socket, fill, listening_socket, pattern, serving, socket_pair

Loop = asyncio.AbstractEventLoop

every_loop = pytest.mark.parametrize("factory", [pytest.param(FACTORIES[name], id=name) for name in EVERY])
every_ring = pytest.mark.parametrize("factory", [pytest.param(FACTORIES[name], id=name) for name in RINGS])


@pytest.fixture
def loop(factory: LoopFactory) -> Iterator[Loop]:
    """A loop that the test runs itself; closed afterwards."""
    made = factory()
    yield made
    made.close()


async def one_echo() -> None:
    async with connected(Recorder(), Echo()) as (client, _):
        client.transport.write(b"hello")
        await client.until_received(5)


# Running and stopping


@every_loop
def test_a_loop_that_never_ran_can_be_closed(loop: Loop) -> None:
    loop.close()
    loop.close()
    assert loop.is_closed()


@every_loop
def test_a_closed_loop_refuses_to_run(loop: Loop) -> None:
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_soon(print)
    with pytest.raises(RuntimeError, match="closed"):
        loop.run_forever()


@every_loop
def test_a_running_loop_refuses_to_be_closed_or_run(loop: Loop) -> None:
    async def try_it() -> None:
        with pytest.raises(RuntimeError, match="running"):
            loop.close()
        with pytest.raises(RuntimeError, match="running"):
            loop.run_forever()

    loop.run_until_complete(try_it())


@every_loop
def test_stop_ends_the_run_after_the_current_turn(loop: Loop) -> None:
    ran: list[str] = []
    loop.call_soon(loop.stop)
    loop.call_soon(ran.append, "the same turn")
    loop.call_soon(lambda: loop.call_soon(ran.append, "the next turn"))
    loop.run_forever()
    assert ran == ["the same turn"]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == ["the same turn", "the next turn"]


@every_ring
def test_an_error_of_the_last_submission_lets_the_run_end(loop: Loop) -> None:
    """asyncio still has to forget the running loop, without which no loop can run in the thread."""

    class Refusing:
        def __init__(self, dispatcher: Any) -> None:
            self.dispatcher = dispatcher

        def submit(self) -> None:
            raise RuntimeError("refused")

        def __getattr__(self, name: str) -> Any:
            return getattr(self.dispatcher, name)

    heard = []
    loop.set_exception_handler(lambda loop, context: heard.append(context["exception"]))
    whole: Any = loop
    dispatcher = whole._dispatcher

    async def main() -> None:
        whole._dispatcher = Refusing(dispatcher)

    loop.run_until_complete(main())
    whole._dispatcher = dispatcher
    assert [str(error) for error in heard] == ["refused"]
    loop.run_until_complete(one_echo())


@every_loop
def test_connections_outlive_a_run(loop: Loop) -> None:
    async def begin() -> None:
        await stack.enter_async_context(connected(client, server))

    client, server = Recorder(), Echo()
    stack = contextlib.AsyncExitStack()
    loop.run_until_complete(begin())
    client.transport.write(b"between two runs")
    loop.run_until_complete(client.until_received(16))
    loop.run_until_complete(stack.aclose())


@every_loop
def test_what_the_last_turn_wrote_is_sent(loop: Loop) -> None:
    def write_and_stop() -> None:
        client.transport.write(b"the last words")
        loop.stop()

    async def connect() -> None:
        await loop.create_connection(lambda: client, sock=left)

    client = Recorder()
    with socket_pair() as (left, right):
        loop.run_until_complete(connect())
        loop.call_soon(write_and_stop)
        loop.run_forever()
        assert right.recv(100) == b"the last words"
        client.transport.abort()
        loop.run_until_complete(client.until_called("connection_lost"))


@every_loop
def test_what_arrives_between_two_runs_is_found_by_the_next(loop: Loop) -> None:
    with socket_pair() as (left, right):
        receiving = loop.create_task(loop.sock_recv(left, 10))
        loop.run_until_complete(asyncio.sleep(0))
        right.send(b"x")
        assert loop.run_until_complete(receiving) == b"x"


@every_loop
def test_system_exit_in_a_callback_ends_the_run_and_loses_nothing(loop: Loop) -> None:
    class Leaving(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            raise SystemExit(data)

    async def begin() -> None:
        for protocol in protocols:
            peers.append((await stack.enter_async_context(facing_socket(protocol)))[1])

    protocols = [Leaving(), Leaving(), Leaving()]
    peers: list[socket.socket] = []
    stack = contextlib.AsyncExitStack()
    loop.run_until_complete(begin())
    for number, peer in enumerate(peers):
        peer.send(b"%d" % number)
    exits: list[Any] = []
    while len(exits) < 3:
        # Each run tells one of them, and the next run goes on where it was left.
        try:
            loop.run_forever()
        except SystemExit as leaving:
            exits.append(leaving.code)
    assert sorted(exits) == [b"0", b"1", b"2"]
    loop.run_until_complete(stack.aclose())


@every_loop
def test_async_generators_are_finished_by_the_loop(loop: Loop) -> None:
    finished: list[str] = []

    async def generate() -> Any:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            finished.append("generator")

    async def take_one() -> None:
        async for _ in generate():
            break
        gc.collect()
        await asyncio.sleep(0.001)

    loop.run_until_complete(take_one())
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert finished == ["generator"]


@every_loop
def test_debug_mode_keeps_no_failed_task_alive(loop: Loop) -> None:
    class Failed(Exception):
        pass

    async def fail() -> None:
        raise Failed

    async def main() -> weakref.ref[Failed]:
        try:
            await asyncio.create_task(fail())
        except Failed as error:
            return weakref.ref(error)
        raise AssertionError

    loop.set_debug(True)
    gc.disable()
    try:
        assert loop.run_until_complete(main())() is None
    finally:
        gc.enable()


@every_loop
def test_debug_mode_works_and_checks_threads(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    loop.run_until_complete(one_echo())
    assert any("Executing" in record.message and "took" in record.message for record in caplog.records)
    errors: list[BaseException] = []

    def call() -> None:
        try:
            loop.call_soon(print)
        except RuntimeError as error:
            errors.append(error)

    async def call_from_a_thread() -> None:
        await loop.run_in_executor(None, call)

    loop.run_until_complete(call_from_a_thread())
    loop.run_until_complete(loop.shutdown_default_executor())
    assert "thread" in str(errors[0])


@every_loop
def test_two_loops_take_turns_in_one_thread(factory: LoopFactory) -> None:
    first, second = factory(), factory()
    for _ in range(3):
        first.run_until_complete(one_echo())
        second.run_until_complete(one_echo())
    first.close()
    second.run_until_complete(one_echo())
    second.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sleep": "bed"}, "sleep must be one of"),
        ({"without": ("imagination",)}, "unknown features"),
        ({"sq_entries": 0}, "at least one entry"),
        ({"cq_entries": 0}, "at least one entry"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        uringloop.EventLoop(**options)


# Closing with work in flight


def collect(*dropped: list[Any]) -> list[str]:
    """Empty some lists and collect the garbage; returns what it complains of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for references in dropped:
            references.clear()
        gc.collect()
    return [str(warning.message) for warning in caught]


def leave_receive(loop: Loop, sockets: contextlib.ExitStack) -> Any:
    return loop.sock_recv(sockets.enter_context(socket_pair())[0], 10)


def leave_send(loop: Loop, sockets: contextlib.ExitStack) -> Any:
    left, _ = sockets.enter_context(socket_pair())
    fill(left)
    return loop.sock_sendall(left, bytes(10_000_000))


def leave_accept(loop: Loop, sockets: contextlib.ExitStack) -> Any:
    listener = sockets.enter_context(contextlib.closing(listening_socket()))
    listener.setblocking(False)
    return loop.sock_accept(listener)


def leave_timer(loop: Loop, sockets: contextlib.ExitStack) -> Any:
    return asyncio.sleep(3600)


@every_loop
@pytest.mark.parametrize("leave", [leave_receive, leave_send, leave_accept, leave_timer])
def test_closing_cancels_what_is_in_flight(
    loop: Loop, leave: Callable[[Loop, contextlib.ExitStack], Any], caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.ExitStack() as sockets:
        task = loop.create_task(leave(loop, sockets))
        loop.run_until_complete(asyncio.sleep(0.001))
        assert not task.done()
        loop.close()
    del task
    gc.collect()
    assert [record.message.partition("\n")[0] for record in caplog.records] == ["Task was destroyed but it is pending!"]


@every_loop
def test_closing_with_a_watched_descriptor(loop: Loop) -> None:
    with socket_pair() as (left, right):
        loop.add_reader(left, print)
        loop.run_until_complete(asyncio.sleep(0))
        right.send(b"x")
        loop.close()


@every_loop
def test_a_loop_left_with_open_connections_warns_and_ends_them(loop: Loop) -> None:
    async def begin() -> None:
        with contextlib.closing(listening_socket()) as listener:
            peers.append(sockets.enter_context(socket.create_connection(listener.getsockname())))
            accepted, _ = listener.accept()
        _, protocol = await loop.connect_accepted_socket(Recorder, accepted)
        protocol.transport.write(pattern(20_000_000))

    with contextlib.ExitStack() as sockets:
        peers: list[socket.socket] = []
        loop.run_until_complete(begin())
        loop.close()
        assert any("unclosed transport" in warning for warning in collect())
        # Nothing holds the socket any more: its peer gets a part and then the end.
        peers[0].settimeout(10)
        received = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while data := peers[0].recv(1 << 20):
                received += data
        assert received == pattern(len(received))


@every_loop
def test_a_transport_bears_to_be_used_after_its_loop(loop: Loop) -> None:
    async def begin() -> None:
        accepted, peer = socket.socketpair()
        peers.append(peer)
        _, protocol = await loop.connect_accepted_socket(Recorder, accepted)
        transports.append(protocol.transport)

    peers: list[socket.socket] = []
    transports: list[Any] = []
    loop.run_until_complete(begin())
    loop.close()
    # asyncio's own refuses some of these, because the loop is closed.
    for use in ("pause_reading", "resume_reading", "get_write_buffer_size", "write_eof", "is_closing", "__repr__"):
        with contextlib.suppress(RuntimeError):
            getattr(transports[0], use)()
    for use, argument in (("write", b"x"), ("writelines", [b"x"])):
        with contextlib.suppress(RuntimeError):
            getattr(transports[0], use)(argument)
    for use in ("close", "abort"):
        with contextlib.suppress(RuntimeError):
            getattr(transports[0], use)()
    collect(transports)
    peers[0].close()


@every_ring
def test_a_loop_dropped_without_being_closed_warns_and_frees_its_descriptors(factory: LoopFactory) -> None:
    loops = [factory()]
    loops[0].run_until_complete(asyncio.sleep(0))
    assert any("unclosed event loop" in warning for warning in collect(loops))


@every_ring
@pytest.mark.parametrize("leave", [leave_receive, leave_send, leave_accept, leave_timer])
def test_a_loop_dropped_with_work_in_flight_harms_nobody(
    factory: LoopFactory, leave: Callable[[Loop, contextlib.ExitStack], Any], caplog: pytest.LogCaptureFixture
) -> None:
    loops = [factory()]
    with contextlib.ExitStack() as sockets:
        tasks = [loops[0].create_task(leave(loops[0], sockets))]
        loops[0].run_until_complete(asyncio.sleep(0.001))
        assert any("unclosed event loop" in warning for warning in collect(tasks, loops))
    assert [record.message.partition("\n")[0] for record in caplog.records] == ["Task was destroyed but it is pending!"]


# Threads


def in_a_thread(function: Callable[[], object]) -> None:
    """Run a function in a thread of its own, and raise here what it raises there."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


@every_loop
def test_a_loop_made_here_runs_there_and_is_closed_here(loop: Loop) -> None:
    in_a_thread(lambda: loop.run_until_complete(one_echo()))


@every_loop
def test_a_loop_wanders_from_thread_to_thread(loop: Loop) -> None:
    loop.run_until_complete(one_echo())
    for _ in range(3):
        in_a_thread(lambda: loop.run_until_complete(one_echo()))
    loop.run_until_complete(one_echo())


@every_loop
def test_timers_and_a_server_wander_along(loop: Loop) -> None:
    async def begin() -> None:
        loop.call_later(0.001, fired.append, "timer")
        address.append(await stack.enter_async_context(serving(Echo)))

    async def use() -> None:
        reader, writer = await asyncio.open_connection(*address[0])
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(0.002)

    fired: list[str] = []
    address: list[Any] = []
    stack = contextlib.AsyncExitStack()
    loop.run_until_complete(begin())
    in_a_thread(lambda: loop.run_until_complete(use()))
    loop.run_until_complete(use())
    loop.run_until_complete(stack.aclose())
    assert fired == ["timer"]


@every_loop
def test_loops_run_in_four_threads_at_once(factory: LoopFactory) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        loop = factory()
        try:
            for _ in range(5):
                loop.run_until_complete(one_echo())
        except BaseException as error:
            errors.append(error)
        finally:
            loop.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


# After a fork

_FORK = """
import asyncio, os, sys, uringloop

async def live():
    left, right = __import__("socket").socketpair()
    left.setblocking(False)
    receiving = loop.create_task(loop.sock_recv(left, 10))
    await asyncio.sleep(0.001)
    child = os.fork()
    if not child:
        os._exit(in_child())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    right.send(b"parent")
    assert await receiving == b"parent"
    left.close()
    right.close()

def in_child():
    asyncio._set_running_loop(None)
    loop._thread_id = None
    try:
        loop.run_forever()
    except RuntimeError as error:
        assert "fork" in str(error) and "new_event_loop" in str(error), error
    else:
        return 1
    fresh = uringloop.EventLoop(sleep=sys.argv[1])
    fresh.run_until_complete(asyncio.sleep(0.001))
    fresh.close()
    return 0

loop = uringloop.EventLoop(sleep=sys.argv[1])
loop.run_until_complete(live())
loop.close()
child = os.fork()
if not child:
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.parametrize("sleep", ["ring", "selector", "auto"])
def test_a_fork_leaves_the_parent_unharmed_and_tells_the_child(sleep: str) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", _FORK, sleep], check=True, timeout=20)
