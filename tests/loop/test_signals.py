"""Signals and Ctrl-C, in processes of their own where they would end this one."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.variants import BACKENDS, EVERY, FACTORIES, LoopFactory

every_loop = pytest.mark.parametrize("factory", [pytest.param(FACTORIES[name], id=name) for name in EVERY])
sleeps = pytest.mark.parametrize("name", ["asyncio", "auto", "ring", "selector"])

_ROOT = Path(__file__).parents[2]

_PRELUDE = """
import asyncio, os, signal, socket, sys
from tests.variants import FACTORIES

def run(main):
    with asyncio.Runner(loop_factory=FACTORIES[sys.argv[1]]) as runner:
        runner.run(main)

async def sleep_for_ever():
    try:
        print("ready", flush=True)
        await asyncio.Event().wait()
    finally:
        print("finally", flush=True)
"""


class Child:
    """A Python process that runs a program after the prelude above, and tells by lines how far it is."""

    def __init__(self, program: str, *arguments: str) -> None:
        command = [sys.executable, "-W", "error", "-c", _PRELUDE + program, *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=_ROOT)

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def wait_until_asleep(self) -> None:
        """Until the kernel shows its only thread as sleeping; it has nothing else to sleep for than its loop."""
        while self._state() != "S":
            os.sched_yield()

    def _state(self) -> str:
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        return stat.rpartition(") ")[2][0]

    def end(self) -> tuple[int, str]:
        """The exit status and what is left on stderr."""
        _, errors = self.process.communicate(timeout=20)
        return self.process.returncode, errors


@pytest.fixture
def children() -> Iterator[list[Child]]:
    started: list[Child] = []
    yield started
    for child in started:
        if child.process.poll() is None:
            child.process.kill()
        child.process.communicate()


def start(children: list[Child], program: str, *arguments: str) -> Child:
    children.append(Child(program, *arguments))
    return children[-1]


@sleeps
def test_ctrl_c_while_asleep_cancels_the_main_task(name: str, children: list[Child]) -> None:
    child = start(children, "run(sleep_for_ever())", name)
    assert child.line() == "ready"
    child.wait_until_asleep()
    child.process.send_signal(signal.SIGINT)
    assert child.line() == "finally"
    status, errors = child.end()
    assert status == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")


@sleeps
def test_ctrl_c_while_a_descriptor_is_watched(name: str, children: list[Child]) -> None:
    program = """
async def main():
    left, right = socket.socketpair()
    with left, right:
        asyncio.get_running_loop().add_reader(left, print)
        try:
            await sleep_for_ever()
        finally:
            asyncio.get_running_loop().remove_reader(left)
run(main())
"""
    child = start(children, program, name)
    assert child.line() == "ready"
    child.wait_until_asleep()
    child.process.send_signal(signal.SIGINT)
    assert child.line() == "finally"
    assert child.end()[0] == -signal.SIGINT


@sleeps
def test_ctrl_c_in_run_forever_raises_there(name: str, children: list[Child]) -> None:
    program = """
loop = FACTORIES[sys.argv[1]]()
loop.call_soon(lambda: print("ready", flush=True))
try:
    loop.run_forever()
except KeyboardInterrupt:
    print("interrupted", flush=True)
loop.run_until_complete(asyncio.sleep(0.001))
loop.close()
"""
    child = start(children, program, name)
    assert child.line() == "ready"
    child.wait_until_asleep()
    child.process.send_signal(signal.SIGINT)
    assert child.line() == "interrupted"
    assert child.end() == (0, "")


@sleeps
def test_ctrl_c_while_bytes_flow_ends_the_program(name: str, children: list[Child]) -> None:
    program = """
async def main():
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        print("ready", flush=True)
        try:
            while True:
                await loop.sock_sendall(left, b"x" * 1000)
                assert await loop.sock_recv(right, 1000)
                await asyncio.sleep(0)
        finally:
            print("finally", flush=True)
run(main())
"""
    child = start(children, program, name)
    assert child.line() == "ready"
    child.process.send_signal(signal.SIGINT)
    assert child.line() == "finally"
    status, errors = child.end()
    assert status == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")


@sleeps
def test_sigterm_can_stop_a_loop_cleanly(name: str, children: list[Child]) -> None:
    program = """
async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    try:
        await sleep_for_ever()
    except asyncio.CancelledError:
        print("stopped", flush=True)
run(main())
"""
    child = start(children, program, name)
    assert child.line() == "ready"
    child.wait_until_asleep()
    child.process.send_signal(signal.SIGTERM)
    assert child.line() == "finally"
    assert child.line() == "stopped"
    assert child.end() == (0, "")


def current_wakeup_fd() -> int:
    fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fd)
    return fd


@every_loop
def test_a_run_puts_the_wakeup_descriptor_back(factory: LoopFactory) -> None:
    before = current_wakeup_fd()
    loop = factory()
    loop.run_until_complete(asyncio.sleep(0))
    assert current_wakeup_fd() == before
    loop.close()


@pytest.mark.timeout(20)  # a lost wakeup hangs
@pytest.mark.parametrize("name", BACKENDS)
def test_a_signal_just_before_the_sleep_wakes_the_loop_also_after_the_last_handler_was_removed(
    name: str,
) -> None:
    loop: Any = FACTORIES[name]()
    caught = loop.create_future()
    sleep = loop._dispatcher.wait if name == "ring" else loop._sleep_in_selector

    def interrupted(timeout_ns: int) -> None:
        # How long to sleep is decided: what the signal's handler schedules is not counted any more.
        if timeout_ns == -1 and not caught.done():
            signal.raise_signal(signal.SIGUSR1)
        sleep(timeout_ns)

    async def main() -> None:
        loop.add_signal_handler(signal.SIGUSR2, print)
        assert loop.remove_signal_handler(signal.SIGUSR2)
        loop._sleep_by(loop._dispatcher, None, False, interrupted)
        await caught

    before = current_wakeup_fd()
    previous = signal.signal(signal.SIGUSR1, lambda number, frame: loop.call_soon(caught.set_result, None))
    try:
        loop.run_until_complete(main())
        assert current_wakeup_fd() == before
    finally:
        signal.signal(signal.SIGUSR1, previous)
        loop.close()


@every_loop
def test_no_signal_writes_to_the_descriptors_of_a_closed_loop(factory: LoopFactory) -> None:
    async def watch() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print)

    async def forget() -> None:
        assert asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)

    loop = factory()
    try:
        loop.run_until_complete(watch())
        loop.run_until_complete(forget())
        loop.close()
        # The number may belong to another file by now.
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        loop.close()


@every_loop
def test_a_signal_between_two_runs_is_handled_by_the_next(factory: LoopFactory) -> None:
    caught = asyncio.Event()
    loop = factory()

    async def watch() -> None:
        loop.add_signal_handler(signal.SIGUSR1, caught.set)

    async def until_caught() -> None:
        await caught.wait()
        loop.remove_signal_handler(signal.SIGUSR1)

    loop.run_until_complete(watch())
    signal.raise_signal(signal.SIGUSR1)
    loop.run_until_complete(until_caught())
    loop.close()
