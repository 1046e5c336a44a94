"""Pipes, connections and children whose loop was closed under them."""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from tests.variants import EVERY, FACTORIES, RINGS, LoopFactory

from .helpers import Recorder, pattern
from .pipes import Writer, a_pipe, fill
from .spawning import ahead_of_children, delayed, may_go_ahead, own_program, reap, sleeper

every_loop = pytest.mark.parametrize("factory", [pytest.param(FACTORIES[name], id=name) for name in EVERY])
every_ring = pytest.mark.parametrize("factory", [pytest.param(FACTORIES[name], id=name) for name in RINGS])


@pytest.fixture
def loop(factory: LoopFactory) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that the test runs itself; what its exception handler hears fails the test."""
    made = factory()
    heard: list[dict[str, Any]] = []
    made.set_exception_handler(lambda loop, context: heard.append(context))
    yield made
    made.close()
    assert heard == []


async def connect() -> tuple[Any, Any]:
    loop = asyncio.get_running_loop()
    read_end, write_end = a_pipe()
    reader, _ = await loop.connect_read_pipe(Recorder, read_end)
    writer, _ = await loop.connect_write_pipe(Writer, write_end)
    return reader, writer


@every_loop
def test_they_are_open_and_say_so_when_they_are_dropped(loop: asyncio.AbstractEventLoop) -> None:
    reader, writer = loop.run_until_complete(connect())
    loop.close()
    assert "open" in repr(reader)
    assert "open" in repr(writer)
    pipes = [transport.get_extra_info("pipe") for transport in (reader, writer)]
    assert not any(pipe.closed for pipe in pipes)
    with pytest.warns(ResourceWarning, match="unclosed transport") as warned:  # noqa: PT031
        del reader, writer
        gc.collect()
    assert len(warned) == 2
    assert all(pipe.closed for pipe in pipes)


@every_loop
def test_a_dropped_connection_says_so_and_is_closed(loop: asyncio.AbstractEventLoop) -> None:
    ours, peer = socket.socketpair()
    with peer:
        transport = loop.run_until_complete(loop.create_connection(Recorder, sock=ours))[0]
        loop.close()
        with pytest.warns(ResourceWarning, match="unclosed transport"):  # noqa: PT031
            del transport
            gc.collect()
        assert ours.fileno() == -1


@every_loop
def test_with_bytes_still_queued(loop: asyncio.AbstractEventLoop) -> None:
    read_end, write_end = a_pipe()

    async def write() -> Any:
        transport, _ = await asyncio.get_running_loop().connect_write_pipe(Writer, write_end)
        fill(write_end)
        transport.write(pattern(100_000))
        await asyncio.sleep(0)
        return transport

    with read_end:
        transport = loop.run_until_complete(write())
        loop.close()
        assert not write_end.closed
        with pytest.warns(ResourceWarning, match="unclosed transport"):  # noqa: PT031
            del transport
            gc.collect()
        assert write_end.closed


@every_loop
def test_closed_in_the_last_turn(loop: asyncio.AbstractEventLoop) -> None:
    """The loop ends before the kernel has let go of the pipe."""

    async def close() -> list[BinaryIO]:
        transports = await connect()
        for transport in transports:
            transport.close()
        # connection_lost, and no more.
        await asyncio.sleep(0)
        return [transport.get_extra_info("pipe") for transport in transports]

    pipes = loop.run_until_complete(close())
    loop.close()
    assert all(pipe.closed for pipe in pipes)


# Children


async def start_sleeper(**options: Any) -> Any:
    transport, _ = await asyncio.get_running_loop().subprocess_exec(
        asyncio.SubprocessProtocol, "sleep", "1000", **options
    )
    return transport


@every_ring
def test_a_child_outlives_the_loop(loop: asyncio.AbstractEventLoop) -> None:
    """With asyncio too, but its pidfd is never closed."""
    transport = loop.run_until_complete(start_sleeper(stdin=None, stdout=None, stderr=None))
    loop.close()
    pid = transport.get_pid()
    assert os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is None
    popen = transport.get_extra_info("subprocess")
    transport.terminate()
    assert popen.wait() == -signal.SIGTERM
    transport.close()


@every_ring
def test_a_dropped_child_is_killed(loop: asyncio.AbstractEventLoop) -> None:
    """With asyncio too, but its pidfd is never closed."""
    transport = loop.run_until_complete(start_sleeper(stdin=None, stdout=None, stderr=None))
    loop.close()
    popen = transport.get_extra_info("subprocess")
    with pytest.warns(ResourceWarning, match="unclosed transport"):  # noqa: PT031
        del transport
        gc.collect()
    assert popen.wait() == -signal.SIGKILL


@every_ring
def test_a_child_with_pipes_can_be_closed_after_the_loop(loop: asyncio.AbstractEventLoop) -> None:
    """So does asyncio from 3.13.2 on; before that it raises, and leaves the child alone."""
    transport = loop.run_until_complete(start_sleeper())
    loop.close()
    popen = transport.get_extra_info("subprocess")
    transport.close()
    assert popen.wait() == -signal.SIGKILL
    with pytest.warns(ResourceWarning, match="unclosed transport"):  # noqa: PT031
        del transport
        gc.collect()
    assert all(pipe.closed for pipe in (popen.stdin, popen.stdout, popen.stderr))


@every_ring
def test_a_child_that_has_not_yet_begun(factory: LoopFactory, tmp_path: Path) -> None:
    """It runs on memory of this process, which stays until it needs it no more."""
    program = own_program(tmp_path)
    loop = factory()
    with delayed(program) as (is_waited_for, let_go):

        async def begin() -> None:
            command = f"echo begun > {tmp_path}/file"
            task = asyncio.ensure_future(asyncio.create_subprocess_exec(program, "-c", command))
            while not is_waited_for():
                await asyncio.sleep(0.001)
            tasks.append(task)

        tasks: list[Any] = []
        loop.run_until_complete(begin())
        loop.set_exception_handler(lambda loop, context: None)  # it is told of the task
        loop.close()
        with pytest.warns(ResourceWarning, match="still running"):  # noqa: PT031
            tasks.clear()
            gc.collect()
        let_go()
        os.waitpid(-1, 0)
    assert (tmp_path / "file").read_text() == "begun\n"


@every_ring
@may_go_ahead
def test_a_child_that_has_not_run_so_far(loop: asyncio.AbstractEventLoop) -> None:
    """It needs descriptors of this process for a moment more, and runs its program."""
    starts = [sleeper()]

    async def begin() -> None:
        with ahead_of_children():
            starts[0].send(None)

    loop.run_until_complete(begin())
    (child,) = map(int, Path("/proc/thread-self/children").read_text().split())
    loop.close()
    with pytest.warns(ResourceWarning, match="still running"):  # noqa: PT031
        starts.pop().close()
        gc.collect()
    while Path(f"/proc/{child}/comm").read_text() != "sleep\n":
        os.sched_yield()
    os.kill(child, signal.SIGKILL)
    assert reap(child) == signal.SIGKILL
