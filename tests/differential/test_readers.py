"""Readers and writers: the order of their calls, tick by tick, and every error, as with asyncio."""

import asyncio
import contextlib
import contextvars
import functools
import gc
import os
import re
import select
import socket
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.variants import EPOLL, FACTORIES

from .outcomes import described, general, hearing

VARIANTS = ("ring", "ring-plain", "selector", *(("epoll",) if EPOLL else ()))


class Stage:
    """A loop, sockets, and the log of all calls."""

    def __init__(self, loop: asyncio.AbstractEventLoop, cleanup: ExitStack) -> None:
        self.loop: Any = loop
        self.cleanup = cleanup
        self.log: list[Any] = []

    def pair(self, *, ready: bool = False) -> tuple[socket.socket, socket.socket]:
        """Return two ends of a connection; ready: bytes wait at the first."""
        near, far = socket.socketpair()
        for end in (near, far):
            self.cleanup.enter_context(end)
            end.setblocking(False)
        if ready:
            far.send(b"abcdef")
        return near, far

    def note(self, *what: object) -> None:
        self.log.append(what)

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Log the result of a call, or its exception."""
        try:
            self.log.append(("result", function(*arguments)))
        except Exception as error:
            kind, *rest, text = described(error)
            self.log.append(("raised", kind, *rest, re.sub(r"FD \d+", "FD N", text)))

    async def ticks(self, count: int) -> None:
        for number in range(count):
            self.note("tick", number)
            await asyncio.sleep(0)

    def watched(self) -> None:
        """Log the selector's keys, without that of asyncio's self-pipe."""
        for key in self.loop._selector.get_map().values():
            if key.fd != self.loop._ssock.fileno():
                self.note(key.events, *(handle and re.sub(r" at .*(?=>)", "", general(handle)) for handle in key.data))


async def unread_bytes_are_told_in_each_tick(stage: Stage) -> None:
    near, _ = stage.pair(ready=True)
    stage.loop.add_reader(near, stage.note, "readable")
    await stage.ticks(5)
    near.recv(100)
    await stage.ticks(3)
    stage.loop.remove_reader(near)


async def each_byte_is_told(stage: Stage) -> None:
    near, _ = stage.pair(ready=True)
    stage.loop.add_reader(near, lambda: stage.note(near.recv(1)))
    await stage.ticks(9)
    stage.loop.remove_reader(near)


async def a_new_reader_leaves_bytes_after_one_that_stands(stage: Stage) -> None:
    """No other handle is ready between the calls."""
    (first, _), (second, _) = stage.pair(ready=True), stage.pair(ready=True)
    done = stage.loop.create_future()

    def told_of_first() -> None:
        stage.note("first", byte := first.recv(1))
        if byte == b"f":
            stage.loop.add_reader(second, told_of_second)

    def told_of_second() -> None:
        stage.note("second", byte := second.recv(1))
        stage.loop.call_soon(stage.note, "later")
        if byte == b"f":
            done.set_result(None)

    stage.loop.add_reader(first, told_of_first)
    await done
    stage.loop.remove_reader(first)
    stage.loop.remove_reader(second)


async def a_reader_is_removed_for_each_answer(stage: Stage) -> None:
    near, far = stage.pair()
    for number in range(4):
        readable = asyncio.Event()
        stage.loop.add_reader(near.fileno(), readable.set)
        far.send(b"x")
        await readable.wait()
        stage.call(stage.loop.remove_reader, near.fileno())
        stage.note(number, near.recv(100))
        await stage.ticks(number)


async def a_task_reads_before_the_next_call(stage: Stage) -> None:
    near, _ = stage.pair(ready=True)
    readable = asyncio.Event()

    def told() -> None:
        stage.note("readable")
        readable.set()

    stage.loop.add_reader(near, told)
    await readable.wait()
    stage.note(near.recv(100))
    await stage.ticks(3)
    stage.loop.remove_reader(near)


async def bytes_come_within_the_tick(stage: Stage) -> None:
    near, far = stage.pair()
    stage.loop.add_reader(near, stage.note, "readable")
    stage.loop.add_writer(near, stage.note, "writable")
    stage.loop.call_soon(far.send, b"x")
    await stage.ticks(3)
    stage.loop.call_soon(near.recv, 100)
    await stage.ticks(3)
    stage.loop.remove_reader(near)
    stage.loop.remove_writer(near)


async def readers_come_before_timers_and_after_ready_handles(stage: Stage) -> None:
    near, _ = stage.pair(ready=True)
    stage.loop.call_later(0, stage.note, "timer")
    stage.loop.call_soon(stage.note, "ready")
    stage.loop.add_reader(near, stage.note, "readable")
    stage.loop.call_soon(stage.loop.call_soon, stage.note, "later")
    await stage.ticks(2)
    stage.loop.remove_reader(near)


async def several_are_told_in_the_order_of_their_events(stage: Stage) -> None:
    pairs = [stage.pair() for _ in range(4)]
    for number, (near, _) in enumerate(pairs):
        stage.loop.add_reader(near, stage.note, number)
    for number in (2, 0, 3, 1):
        pairs[number][1].send(b"x")
    await stage.ticks(4)
    for near, _ in pairs:
        stage.loop.remove_reader(near)


async def a_callback_removes_the_next(stage: Stage) -> None:
    (first, _), (second, _) = stage.pair(ready=True), stage.pair(ready=True)
    stage.loop.add_reader(first, lambda: stage.call(stage.loop.remove_reader, second))
    stage.loop.add_reader(second, lambda: stage.call(stage.loop.remove_reader, first))
    await stage.ticks(3)
    stage.call(stage.loop.remove_reader, first)
    stage.call(stage.loop.remove_reader, second)


async def a_callback_replaces_the_next(stage: Stage) -> None:
    (first, _), (second, _) = stage.pair(ready=True), stage.pair(ready=True)
    for mine, other in ((first, second), (second, first)):
        stage.loop.add_reader(mine, stage.loop.add_reader, other, stage.note, "replaced")
    await stage.ticks(3)
    stage.loop.remove_reader(first)
    stage.loop.remove_reader(second)


async def a_callback_reads_the_bytes_of_the_next(stage: Stage) -> None:
    (first, _), (second, _) = stage.pair(ready=True), stage.pair(ready=True)
    for mine, other in ((first, second), (second, first)):
        stage.loop.add_reader(mine, lambda other=other: stage.call(other.recv, 100))
    await stage.ticks(4)
    stage.loop.remove_reader(first)
    stage.loop.remove_reader(second)


async def a_replaced_reader_is_not_called(stage: Stage) -> None:
    near, far = stage.pair()
    stage.loop.add_reader(near, stage.note, "first")
    stage.loop.add_reader(near, stage.note, "second")
    far.send(b"x")
    await stage.ticks(2)
    stage.loop.add_reader(near, stage.note, "third")
    await stage.ticks(2)
    stage.loop.remove_reader(near)
    await stage.ticks(2)


async def both_directions_of_a_descriptor(stage: Stage) -> None:
    near, far = stage.pair()
    stage.loop.add_reader(near, stage.note, "readable")
    stage.loop.add_writer(near, stage.note, "writable")
    stage.watched()
    await stage.ticks(2)
    far.send(b"x")
    await stage.ticks(2)
    stage.call(stage.loop.remove_writer, near)
    stage.call(stage.loop.remove_writer, near)
    stage.watched()
    await stage.ticks(2)
    stage.loop.add_writer(near, stage.note, "again")
    stage.call(stage.loop.remove_reader, near)
    await stage.ticks(2)
    stage.call(stage.loop.remove_writer, near)
    stage.watched()
    await stage.ticks(2)


async def the_peer_closes(stage: Stage) -> None:
    near, far = stage.pair()
    stage.loop.add_reader(near, stage.note, "readable")
    stage.loop.add_writer(near, stage.note, "writable")
    await stage.ticks(1)
    far.close()
    await stage.ticks(3)
    stage.loop.remove_writer(near)
    await stage.ticks(2)
    stage.loop.remove_reader(near)


async def an_error_of_a_pipe_tells_both(stage: Stage) -> None:
    reading, writing = os.pipe()
    stage.cleanup.callback(os.close, writing)
    stage.loop.add_reader(writing, stage.note, "readable")
    await stage.ticks(2)
    os.close(reading)
    await stage.ticks(2)
    stage.loop.remove_reader(writing)


async def a_closed_descriptor_tells_no_more(stage: Stage) -> None:
    near, far = stage.pair(ready=True)
    fd = near.fileno()
    stage.loop.add_reader(fd, stage.note, "readable")
    await stage.ticks(3)
    near.close()
    await stage.ticks(3)
    stage.watched()
    stage.call(stage.loop.remove_reader, fd)
    stage.call(stage.loop.remove_reader, fd)
    assert far.fileno() >= 0


async def a_descriptor_is_closed_before_its_first_event(stage: Stage) -> None:
    near, far = stage.pair()
    stage.loop.add_reader(near, stage.note, "readable")
    stage.loop.add_writer(far, far.close)
    far.send(b"x")
    near.close()
    await stage.ticks(3)
    stage.call(stage.loop.remove_reader, near)
    stage.call(stage.loop.remove_reader, near)
    stage.call(stage.loop.remove_writer, far)


async def a_number_is_used_again(stage: Stage) -> None:
    near, far = stage.pair()
    copy = stage.cleanup.enter_context(near.dup())
    fd = near.fileno()
    stage.loop.add_reader(fd, stage.note, "old")
    await stage.ticks(1)
    stage.loop.remove_reader(fd)
    other, source = stage.pair()
    near.close()
    os.dup2(other.fileno(), fd)
    stage.cleanup.callback(os.close, fd)
    stage.loop.add_reader(fd, stage.note, "new")
    far.send(b"for the copy")
    await stage.ticks(3)
    source.send(b"x")
    await stage.ticks(3)
    stage.call(stage.loop.remove_reader, fd)
    assert copy.recv(100)


async def a_number_is_used_again_without_a_removal(stage: Stage) -> None:
    """The old callback is not told of the new file, neither in ticks in a row nor after a sleep."""
    for pause_s in (0, 0.001):
        near, _ = stage.pair(ready=True)
        fd, copy = near.fileno(), stage.pair(ready=True)[0].detach()

        def replace(near: socket.socket = near, copy: int = copy, fd: int = fd) -> None:
            stage.note("readable")
            if near.fileno() >= 0:
                near.detach()
                os.dup2(copy, fd)

        stage.loop.add_reader(fd, replace)
        for _ in range(4):
            await asyncio.sleep(pause_s)
        stage.call(stage.loop.remove_reader, fd)
        os.close(fd)
        os.close(copy)


async def a_direction_of_a_number_used_again_is_removed(stage: Stage) -> None:
    near, _ = stage.pair()
    other, _ = stage.pair(ready=True)
    fd = near.detach()
    stage.loop.add_reader(fd, stage.note, "readable")
    stage.loop.add_writer(fd, stage.note, "writable")
    os.dup2(other.fileno(), fd)
    stage.call(stage.loop.remove_writer, fd)
    await stage.ticks(3)
    stage.call(stage.loop.remove_reader, fd)
    os.close(fd)


async def a_removed_descriptor_with_a_copy_is_silent(stage: Stage) -> None:
    near, far = stage.pair(ready=True)
    copy = stage.cleanup.enter_context(near.dup())
    stage.loop.add_reader(near, stage.note, "readable")
    await stage.ticks(4)
    stage.loop.remove_reader(near)
    near.close()
    far.send(b"more")
    await stage.ticks(3)
    assert copy.recv(100)


async def refused_descriptors(stage: Stage) -> None:
    near, _ = stage.pair()
    closed = near.fileno()
    near.close()
    with Path(__file__).open("rb") as file:
        for add in (stage.loop.add_reader, stage.loop.add_writer):
            for fd in (file, file.fileno(), closed, near, -1, None, "x", 99999, 1 << 40):
                stage.call(add, fd, stage.note)
        for remove in (stage.loop.remove_reader, stage.loop.remove_writer):
            for fd in (file, closed, near, -1, None, "x", 99999):
                stage.call(remove, fd)
    stage.watched()


async def the_other_direction_of_a_closed_descriptor(stage: Stage) -> None:
    near, _ = stage.pair()
    fd = near.fileno()
    stage.loop.add_reader(fd, stage.note, "readable")
    near.close()
    stage.call(stage.loop.add_reader, fd, stage.note)
    stage.call(stage.loop.add_writer, fd, stage.note)
    stage.watched()
    stage.call(stage.loop.remove_reader, fd)


async def a_direction_of_a_closed_descriptor_is_removed(stage: Stage) -> None:
    near, _ = stage.pair()
    fd = near.fileno()
    stage.loop.add_reader(fd, stage.note, "readable")
    stage.loop.add_writer(fd, stage.note, "writable")
    near.close()
    stage.call(stage.loop.remove_writer, fd)
    stage.call(stage.loop.remove_reader, fd)
    stage.watched()


async def exceptions_go_to_the_handler(stage: Stage) -> None:
    near, _ = stage.pair(ready=True)

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        stage.note(sorted(context), general(context["message"]), described(context["exception"]))

    def fail(number: int) -> None:
        raise ValueError(number)

    stage.loop.set_exception_handler(handle)
    for debug in (False, True):
        stage.loop.set_debug(debug)
        stage.loop.add_reader(near, fail, 7)
        await stage.ticks(3)
        stage.loop.remove_reader(near)


async def the_context_is_that_of_the_add(stage: Stage) -> None:
    near, _ = stage.pair(ready=True)
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    def readable() -> None:
        stage.note(variable.get())
        variable.set(variable.get() + "+")

    variable.set("reader")
    stage.loop.add_reader(near, readable)
    variable.set("writer")
    stage.loop.add_writer(near, lambda: stage.note(variable.get()))
    variable.set("task")
    await stage.ticks(3)
    stage.loop.remove_reader(near)
    stage.loop.remove_writer(near)
    stage.note(variable.get())


async def debug_mode_calls_alike(stage: Stage) -> None:
    stage.loop.set_debug(True)
    stage.loop.slow_callback_duration = 100
    near, _ = stage.pair(ready=True)
    stage.loop.add_reader(near, stage.note, "readable")
    await stage.ticks(3)
    stage.loop.remove_reader(near)


async def a_cancelled_handle_is_removed_by_its_event(stage: Stage) -> None:
    near, _ = stage.pair(ready=True)
    stage.loop._add_reader(near.fileno(), stage.note, "readable").cancel()
    stage.loop._add_writer(near.fileno(), stage.note, "writable")
    await stage.ticks(3)
    stage.watched()
    stage.call(stage.loop._remove_reader, near.fileno())
    stage.call(stage.loop._remove_writer, near.fileno())


async def a_removed_callback_is_freed(stage: Stage) -> None:
    near, far = stage.pair()

    class Callback:
        def __call__(self) -> None:
            stage.note("readable")

    for ready in (False, True):
        callback = Callback()
        freed = weakref.ref(callback)
        stage.loop.add_reader(near, callback)
        if ready:
            far.send(b"x")
            await stage.ticks(2)
        stage.loop.remove_reader(near)
        del callback
        await stage.ticks(1)
        gc.collect()
        stage.note(freed() is None)


class WatchesAgain:
    """A file object that watches its descriptor for another callback as it is freed."""

    def __init__(self, sock: socket.socket, watch: Callable[[socket.socket], object]) -> None:
        self.sock, self.watch = sock, watch

    def fileno(self) -> int:
        return self.sock.fileno()

    def __del__(self) -> None:
        self.watch(self.sock)


async def a_freed_file_object_watches_its_descriptor_again(stage: Stage) -> None:
    near, _ = stage.pair(ready=True)
    stage.loop.add_reader(WatchesAgain(near, lambda sock: stage.loop.add_reader(sock, stage.note, "again")), print)
    stage.call(stage.loop.remove_reader, near.fileno())
    await stage.ticks(2)
    stage.call(stage.loop.remove_reader, near)
    await stage.ticks(2)


async def descriptors_of_every_kind(stage: Stage) -> None:
    """A pipe, a counter, a terminal, an epoll set, a listener, a datagram socket, urgent data, a child."""
    reading, writing = os.pipe()
    master, slave = os.openpty()
    counter = os.eventfd(1)
    poll = stage.cleanup.enter_context(select.epoll())
    poll.register(counter, select.EPOLLIN)
    child = os.posix_spawn("/bin/true", ["true"], {})  # noqa: ASYNC221
    gone = os.pidfd_open(child)
    for fd in (reading, writing, master, slave, counter, gone):
        stage.cleanup.callback(os.close, fd)
    os.waitid(os.P_PID, child, os.WEXITED)  # noqa: ASYNC222
    os.write(writing, b"x")
    os.write(slave, b"x")
    listener = stage.cleanup.enter_context(socket.create_server(("127.0.0.1", 0)))
    client = stage.cleanup.enter_context(socket.create_connection(listener.getsockname()))
    accepted, _ = listener.accept()
    stage.cleanup.enter_context(accepted).send(b"x", socket.MSG_OOB)
    stage.cleanup.enter_context(socket.create_connection(listener.getsockname()))
    datagram = stage.cleanup.enter_context(socket.socket(type=socket.SOCK_DGRAM))
    datagram.bind(("127.0.0.1", 0))
    datagram.sendto(b"x", datagram.getsockname())
    kinds = {"pipe": reading, "counter": counter, "terminal": master, "set": poll, "pidfd": gone}
    for kind, fd in {**kinds, "listener": listener, "urgent": client, "datagram": datagram}.items():
        for add, remove in (
            (stage.loop.add_reader, stage.loop.remove_reader),
            (stage.loop.add_writer, stage.loop.remove_writer),
        ):
            stage.note(kind, add.__name__)
            stage.call(add, fd, stage.note, "ready")
            await stage.ticks(3)
            stage.call(remove, fd)


async def the_descriptor_of_a_transport_is_refused(stage: Stage) -> None:
    near, _ = stage.pair()
    transport, _ = await stage.loop.create_connection(asyncio.Protocol, sock=near)
    for call in (stage.loop.add_reader, stage.loop.add_writer, stage.loop.remove_reader, stage.loop.remove_writer):
        for fd in (near, near.fileno()):
            try:
                call(fd, *(() if "remove" in call.__name__ else (stage.note,)))
            except RuntimeError as error:
                stage.note(re.sub(r"\d+|<.*>", "X", str(error)))
    transport.abort()
    await stage.ticks(2)
    stage.watched()


async def foreign_keys_of_the_selector(stage: Stage) -> None:
    near, _ = stage.pair(ready=True)
    selector = stage.loop._selector
    reader = asyncio.Handle(stage.note, ("readable",), stage.loop)
    writer = asyncio.Handle(stage.note, ("writable",), stage.loop)
    selector.register(near, 1, (reader, None))
    stage.call(selector.register, near, 1, (reader, None))
    await stage.ticks(3)
    selector.modify(near, 3, (reader, writer))
    stage.watched()
    await stage.ticks(3)
    stage.note(selector.get_key(near).events, near.fileno() in selector.get_map())
    selector.unregister(near)
    stage.call(lambda: selector.unregister(near) and None)
    stage.call(stage.loop.remove_reader, near)
    await stage.ticks(2)


SCRIPTS: dict[str, Callable[[Stage], Awaitable[None]]] = {
    script.__name__: script
    for script in (
        unread_bytes_are_told_in_each_tick,
        each_byte_is_told,
        a_new_reader_leaves_bytes_after_one_that_stands,
        a_reader_is_removed_for_each_answer,
        a_task_reads_before_the_next_call,
        bytes_come_within_the_tick,
        readers_come_before_timers_and_after_ready_handles,
        several_are_told_in_the_order_of_their_events,
        a_callback_removes_the_next,
        a_callback_replaces_the_next,
        a_callback_reads_the_bytes_of_the_next,
        a_replaced_reader_is_not_called,
        both_directions_of_a_descriptor,
        the_peer_closes,
        an_error_of_a_pipe_tells_both,
        a_closed_descriptor_tells_no_more,
        a_descriptor_is_closed_before_its_first_event,
        a_number_is_used_again,
        a_number_is_used_again_without_a_removal,
        a_direction_of_a_number_used_again_is_removed,
        a_removed_descriptor_with_a_copy_is_silent,
        refused_descriptors,
        the_other_direction_of_a_closed_descriptor,
        a_direction_of_a_closed_descriptor_is_removed,
        exceptions_go_to_the_handler,
        the_context_is_that_of_the_add,
        debug_mode_calls_alike,
        a_cancelled_handle_is_removed_by_its_event,
        a_removed_callback_is_freed,
        a_freed_file_object_watches_its_descriptor_again,
        descriptors_of_every_kind,
        the_descriptor_of_a_transport_is_refused,
        foreign_keys_of_the_selector,
    )
}


def play(name: str, variant: str) -> list[Any]:
    """Run a script; return its log, and the entries of the exception handler and of the logger."""
    loop = FACTORIES[variant]()
    try:
        with ExitStack() as cleanup, hearing(loop) as told:
            stage = Stage(loop, cleanup)
            loop.run_until_complete(asyncio.wait_for(SCRIPTS[name](stage), 10))
            return [*stage.log, told]
    finally:
        loop.close()


expected = functools.cache(functools.partial(play, variant="asyncio"))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", SCRIPTS)
def test_readers_are_called_as_with_asyncio(name: str, variant: str) -> None:
    assert play(name, variant) == expected(name)


def leave(variant: str, error: type[BaseException] | None) -> list[Any]:
    """Leave the loop within a reader's callback, by `stop` or an exception, and run it again; return the log."""
    loop = FACTORIES[variant]()
    with contextlib.closing(loop), ExitStack() as cleanup, hearing(loop) as told:
        stage = Stage(loop, cleanup)

        def leave_on(byte: bytes) -> None:
            stage.note("read", byte)
            if byte in (b"b", b"d") and error is not None:
                raise error(byte)
            if byte in (b"b", b"d", b"f"):
                loop.stop()

        (near, _), (other, _) = stage.pair(ready=True), stage.pair(ready=True)
        loop.add_reader(near, lambda: leave_on(near.recv(1)))
        loop.add_reader(other, stage.note, "other")
        for _ in range(3):
            loop.call_soon(stage.note, "ready")
            stage.note(_raised(loop.run_forever))
        for sock in (near, other):
            stage.call(loop.remove_reader, sock)
        return [*stage.log, told]


def _raised(function: Callable[[], object]) -> Any:
    try:
        function()
    except BaseException as error:
        return described(error)
    return None


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("error", [None, KeyboardInterrupt, SystemExit])
def test_a_callback_leaves_the_loop_as_with_asyncio(error: type[BaseException] | None, variant: str) -> None:
    assert leave(variant, error) == leave("asyncio", error)


@pytest.mark.parametrize("variant", ["asyncio", *VARIANTS])
def test_many_take_turns(variant: str) -> None:
    """asyncio tells all in each tick; this loop tells as many as one call of the kernel's brings."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        with ExitStack() as cleanup:
            stage = Stage(loop, cleanup)
            counters = [os.eventfd(1, os.EFD_NONBLOCK) for _ in range(600)]
            for counter in counters:
                cleanup.callback(os.close, counter)
                loop.add_reader(counter, stage.note, counter)
                cleanup.callback(loop.remove_reader, counter)
            while len(stage.log) < 10 * len(counters):
                await asyncio.sleep(0)
            told = Counter(stage.log)
            assert len(told) == len(counters)
            assert 2 * min(told.values()) > max(told.values())

    with asyncio.Runner(loop_factory=FACTORIES[variant]) as runner:
        runner.run(run())


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_number_that_was_not_removed_is_watched_as_the_new_file(variant: str) -> None:
    """asyncio takes it for the old file, and never tells of the new one."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        with ExitStack() as cleanup:
            stage = Stage(loop, cleanup)
            near, _ = stage.pair()
            fd = near.fileno()
            loop.add_reader(fd, stage.note, "old")
            other, _ = stage.pair(ready=True)
            near.close()
            os.dup2(other.fileno(), fd)
            cleanup.callback(os.close, fd)
            readable = asyncio.Event()
            loop.add_reader(fd, readable.set)
            await asyncio.wait_for(readable.wait(), 10)
            assert loop.remove_reader(fd)
            assert stage.log == []

    with asyncio.Runner(loop_factory=FACTORIES[variant]) as runner:
        runner.run(run())


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_forked_child_changes_nothing_of_its_parents_set(variant: str) -> None:
    """With asyncio, a reader that the child removes is the parent's, too."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        with ExitStack() as cleanup:
            stage = Stage(loop, cleanup)
            pairs = [stage.pair() for _ in range(3)]
            readable = [asyncio.Event() for _ in pairs]
            for (near, far), event in zip(pairs, readable, strict=True):
                loop.add_reader(near, event.set)
                far.send(b"x")
                await asyncio.wait_for(event.wait(), 10)
                await asyncio.sleep(0.001)  # the reader has stayed in use over a sleep
                near.recv(100)
                await stage.ticks(2)
                event.clear()
            child = os.fork()
            if child == 0:
                with contextlib.suppress(BaseException):
                    loop.add_writer(pairs[0][0], print)
                    loop.remove_writer(pairs[0][0])
                    loop.remove_reader(pairs[1][0])
                    loop.add_reader(pairs[2][0], print)
                os._exit(0)
            os.waitpid(child, 0)  # noqa: ASYNC222
            for (_, far), event in zip(pairs, readable, strict=True):
                far.send(b"x")
                await asyncio.wait_for(event.wait(), 1)
            for near, _ in pairs:
                loop.remove_reader(near)

    with asyncio.Runner(loop_factory=FACTORIES[variant]) as runner:
        runner.run(run())
