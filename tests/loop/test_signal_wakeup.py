"""A wakeup descriptor of another library, `signal.set_wakeup_fd` before the loop runs: it hears of the signals too."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.variants import BACKENDS, EVERY, FACTORIES, RINGS, LoopFactory

every_loop = pytest.mark.parametrize("factory", [pytest.param(FACTORIES[name], id=name) for name in EVERY])
every_ring = pytest.mark.parametrize("factory", [pytest.param(FACTORIES[name], id=name) for name in RINGS])
SIGNAL = signal.SIGUSR1


def current_wakeup_fd() -> int:
    fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fd)
    return fd


class Foreign:
    """A pipe that signals write to, as a library has it that does not know the loop."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self.writing)

    def read(self) -> bytes:
        with contextlib.suppress(BlockingIOError):
            return os.read(self.reading, 100)
        return b""


@pytest.fixture
def foreign() -> Iterator[Foreign]:
    before = current_wakeup_fd()
    handler = signal.signal(SIGNAL, lambda number, frame: None)
    pipe = Foreign()
    yield pipe
    signal.set_wakeup_fd(before)
    signal.signal(SIGNAL, handler)
    os.close(pipe.reading)
    with contextlib.suppress(OSError):
        os.close(pipe.writing)


@every_loop
def test_it_hears_of_a_signal_while_the_loop_never_sleeps(factory: LoopFactory, foreign: Foreign) -> None:
    async def spin() -> bytes:
        signal.raise_signal(SIGNAL)
        for _ in range(100):
            heard = foreign.read()
            if heard:
                return heard
            await asyncio.sleep(0)
        return b""

    loop = factory()
    assert loop.run_until_complete(spin()) == bytes([SIGNAL])
    loop.close()


@every_loop
def test_it_hears_of_a_signal_while_the_loop_sleeps(factory: LoopFactory, foreign: Foreign) -> None:
    loop = factory()
    loop.add_reader(foreign.reading, loop.stop)
    loop.call_soon(signal.raise_signal, SIGNAL)
    loop.run_forever()
    loop.remove_reader(foreign.reading)
    loop.close()
    assert foreign.read() == bytes([SIGNAL])
    assert current_wakeup_fd() == foreign.writing


@every_loop
def test_it_has_heard_of_each_signal_when_the_run_is_over(factory: LoopFactory, foreign: Foreign) -> None:
    loop = factory()
    for _ in range(3):
        loop.call_soon(signal.raise_signal, SIGNAL)
    loop.call_soon(loop.call_soon_threadsafe, print)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert foreign.read() == bytes([SIGNAL] * 3)
    signal.raise_signal(SIGNAL)
    assert foreign.read() == bytes([SIGNAL])
    loop.close()


@every_loop
def test_it_is_put_back_after_each_run(factory: LoopFactory, foreign: Foreign) -> None:
    loop = factory()
    for _ in range(2):
        loop.run_until_complete(asyncio.sleep(0))
        assert current_wakeup_fd() == foreign.writing
    loop.close()


@every_ring
def test_it_is_put_back_after_a_run_that_was_interrupted_before_its_first_tick(
    factory: LoopFactory, foreign: Foreign, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    loop = factory()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_watch_self_pipe", interrupt)
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        assert current_wakeup_fd() == foreign.writing
        with pytest.raises(KeyboardInterrupt):
            loop._selector.select(0)  # a tool with ticks of its own
        assert current_wakeup_fd() == foreign.writing
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


@every_ring
def test_it_hears_of_signals_that_the_loop_handles_too(factory: LoopFactory, foreign: Foreign) -> None:
    """asyncio displaces it then, for good."""
    loop = factory()

    async def main() -> None:
        caught = asyncio.Event()
        loop.add_signal_handler(SIGNAL, caught.set)
        signal.raise_signal(SIGNAL)
        await caught.wait()
        loop.remove_signal_handler(SIGNAL)
        signal.signal(SIGNAL, lambda number, frame: None)
        signal.raise_signal(SIGNAL)

    loop.run_until_complete(main())
    assert foreign.read() == bytes([SIGNAL] * 2)
    assert current_wakeup_fd() == foreign.writing
    loop.close()


@every_ring
def test_a_handler_of_before_the_run_displaces_it_no_longer_than_it_lives(
    factory: LoopFactory, foreign: Foreign
) -> None:
    loop = factory()
    caught = asyncio.Event()
    loop.add_signal_handler(SIGNAL, caught.set)
    signal.raise_signal(SIGNAL)
    loop.run_until_complete(caught.wait())
    assert foreign.read() == bytes([SIGNAL])
    assert current_wakeup_fd() != foreign.writing
    loop.close()
    assert current_wakeup_fd() == foreign.writing


@every_ring
def test_a_handler_that_cannot_be_added_changes_nothing(factory: LoopFactory, foreign: Foreign) -> None:
    loop: Any = factory()
    own = loop._csock.fileno()

    async def main() -> int:
        with pytest.raises(RuntimeError):
            loop.add_signal_handler(signal.SIGKILL, print)
        return current_wakeup_fd()

    with pytest.raises(RuntimeError):
        loop.add_signal_handler(signal.SIGKILL, print)
    assert current_wakeup_fd() == foreign.writing
    assert loop.run_until_complete(main()) == own
    assert current_wakeup_fd() == foreign.writing
    loop.close()


@every_loop
def test_a_closed_loop_refuses_a_handler_and_changes_nothing(factory: LoopFactory, foreign: Foreign) -> None:
    loop = factory()
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.add_signal_handler(SIGNAL, print)
    assert current_wakeup_fd() == foreign.writing


@pytest.mark.parametrize("says_so", [True, False], ids=["removed", "only closed"])
@every_ring
def test_nothing_is_written_to_another_file_of_its_number(
    factory: LoopFactory, foreign: Foreign, says_so: bool
) -> None:
    loop = factory()
    left, right = socket.socketpair()
    right.setblocking(False)

    async def main() -> None:
        if says_so:
            signal.set_wakeup_fd(-1)
        os.dup2(left.fileno(), foreign.writing)
        signal.raise_signal(SIGNAL)
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    with left, right, pytest.raises(BlockingIOError):
        right.recv(1)
    assert current_wakeup_fd() == -1
    loop.close()


@every_loop
def test_one_that_is_set_during_the_run_stays(factory: LoopFactory, foreign: Foreign) -> None:
    loop = factory()
    signal.set_wakeup_fd(-1)

    async def main() -> None:
        signal.set_wakeup_fd(foreign.writing)

    loop.run_until_complete(main())
    assert current_wakeup_fd() == foreign.writing
    signal.raise_signal(SIGNAL)
    assert foreign.read() == bytes([SIGNAL])
    loop.close()


@every_ring
def test_a_full_one_loses_signals_and_a_broken_one_is_told_of(factory: LoopFactory, foreign: Foreign) -> None:
    loop = factory()
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))

    async def once() -> None:
        signal.raise_signal(SIGNAL)

    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(foreign.writing, b"x" * 4096)
    loop.run_until_complete(once())
    assert told == []
    readable, foreign.reading = foreign.reading, os.open(os.devnull, os.O_RDONLY)
    os.close(readable)
    loop.run_until_complete(once())
    assert [type(context["exception"]) for context in told] == [BrokenPipeError]
    loop.close()


@pytest.mark.timeout(20)  # a lost wakeup hangs
@pytest.mark.parametrize("name", BACKENDS)
def test_a_signal_just_before_the_sleep_wakes_the_loop_and_is_passed_on(name: str, foreign: Foreign) -> None:
    loop: Any = FACTORIES[name]()
    caught = loop.create_future()
    sleep = loop._dispatcher.wait if name == "ring" else loop._sleep_in_selector

    def interrupted(timeout_ns: int) -> None:
        # How long to sleep is decided: what the signal's handler schedules is not counted any more.
        if timeout_ns == -1 and not caught.done():
            signal.raise_signal(SIGNAL)
        sleep(timeout_ns)

    async def main() -> None:
        loop._sleep_by(loop._dispatcher, None, False, interrupted)
        await caught

    signal.signal(SIGNAL, lambda number, frame: loop.call_soon(caught.set_result, None))
    loop.run_until_complete(main())
    assert foreign.read() == bytes([SIGNAL])
    loop.close()
