"""Child processes: what comes out of them, their end, their signals."""

import asyncio
import contextvars
import os
import resource
import signal
from typing import Any

import pytest

from .helpers import pattern
from .spawning import (
    EXIT_CODE,
    PIPE,
    SPAWNING,
    Log,
    died,
    not_on_older_asyncio,
    on_rings,
    reap,
    sleeper,
    stopped,
)

pytestmark = [pytest.mark.asyncio(loop_factories=SPAWNING), pytest.mark.usefixtures("no_child_left")]


# What comes and goes


async def test_three_pipes() -> None:
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", f"cat; echo wrong >&2; exit {EXIT_CODE}", stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    assert process.returncode is None
    assert await process.communicate(b"in and out") == (b"in and out", b"wrong\n")
    assert process.returncode == EXIT_CODE
    assert await process.wait() == EXIT_CODE


async def test_large_amounts_through_a_child() -> None:
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    data = pattern(2_000_000)
    assert (await process.communicate(data))[0] == data


async def test_a_child_that_reads_nothing() -> None:
    process = await asyncio.create_subprocess_exec("true", stdin=PIPE)
    # BrokenPipeError and ConnectionResetError are communicate's own business.
    await process.communicate(pattern(1_000_000))
    assert process.returncode == 0


async def test_a_conversation() -> None:
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    for number in range(20):
        line = b"line %d\n" % number
        process.stdin.write(line)
        await process.stdin.drain()
        assert await process.stdout.readline() == line
    process.stdin.close()
    await process.stdin.wait_closed()
    assert await process.stdout.read() == b""
    assert await process.wait() == 0


async def test_the_order_of_callbacks() -> None:
    loop = asyncio.get_running_loop()
    transport, log = await loop.subprocess_exec(Log, "/bin/sh", "-c", f"read line; echo $line; exit {EXIT_CODE}")
    assert log.calls == ["connection_made"]
    assert transport.get_pid() == transport.get_extra_info("subprocess").pid
    transport.get_pipe_transport(0).write(b"hello\n")
    await log.lost
    assert log.output == {1: b"hello\n", 2: b""}
    assert log.calls[0] == "connection_made"
    assert log.calls[-1] == "connection_lost"
    assert log.calls.index("pipe_data_received 1") < log.calls.index("pipe_connection_lost 1 None")
    assert sorted(log.calls[1:-1]) == [
        "pipe_connection_lost 0 None",
        "pipe_connection_lost 1 None",
        "pipe_connection_lost 2 None",
        "pipe_data_received 1",
        f"process_exited {EXIT_CODE}",
    ]
    assert transport.get_returncode() == EXIT_CODE
    assert f"returncode={EXIT_CODE}" in repr(transport)
    transport.close()


async def test_a_child_without_pipes() -> None:
    loop = asyncio.get_running_loop()
    transport, log = await loop.subprocess_exec(Log, "true", stdin=None, stdout=None, stderr=None)
    await log.lost
    assert log.calls == ["connection_made", "process_exited 0", "connection_lost"]
    assert transport.get_pipe_transport(1) is None
    transport.close()


async def test_pipes_that_outlive_the_child() -> None:
    """A grandchild holds them."""
    loop = asyncio.get_running_loop()
    transport, log = await loop.subprocess_shell(Log, "sleep 1000 & echo $!", stderr=None)
    await log.exited
    await log.said_something.wait()
    assert "connection_lost" not in log.calls
    grandchild = int(log.output[1])
    assert not log.lost.done()
    os.kill(grandchild, signal.SIGKILL)
    await log.lost
    transport.close()


@not_on_older_asyncio
async def test_callbacks_run_in_the_context_of_who_started() -> None:
    name = contextvars.ContextVar("name", default="nobody")
    names: set[str] = set()

    class Asking(Log):
        def __getattribute__(self, attribute: str) -> Any:
            if attribute == "calls":
                names.add(name.get())
            return super().__getattribute__(attribute)

    async def start() -> Any:
        name.set("me")
        return await asyncio.get_running_loop().subprocess_shell(Asking, "echo; exec cat")

    transport, log = await asyncio.create_task(start())
    await asyncio.sleep(0)
    transport.get_pipe_transport(0).write(b"x")
    transport.kill()
    await log.lost
    transport.close()
    assert names == {"me"}


# The end


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1, signal.SIGRTMIN])
async def test_a_child_ended_by_a_signal(signum: int) -> None:
    process = await sleeper()
    process.send_signal(signum)
    assert await process.wait() == -signum


async def test_terminate_and_kill() -> None:
    for end, signum in (("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)):
        process = await sleeper()
        getattr(process, end)()
        assert await process.wait() == -signum


async def test_a_child_that_dumps_core() -> None:
    process = await sleeper(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))
    process.send_signal(signal.SIGQUIT)
    assert await process.wait() == -signal.SIGQUIT


@not_on_older_asyncio
async def test_signals_after_the_end() -> None:
    loop = asyncio.get_running_loop()
    transport, log = await loop.subprocess_shell(Log, "exec sleep 1000", stdin=None, stdout=None, stderr=None)
    transport.kill()
    # Dead, and nobody has noticed yet.
    died(transport.get_pid())
    transport.kill()
    transport.send_signal(signal.SIGTERM)
    await log.lost
    assert transport.get_returncode() == -signal.SIGKILL
    for late in (transport.kill, transport.terminate, lambda: transport.send_signal(signal.SIGUSR1)):
        with pytest.raises(ProcessLookupError):
            late()
    transport.close()


async def test_a_wrong_signal() -> None:
    process = await sleeper()
    with pytest.raises(OSError, match="Invalid argument"):
        process.send_signal(1000)
    process.kill()
    await process.wait()


async def test_a_stopped_child_has_not_ended() -> None:
    process = await sleeper()
    process.send_signal(signal.SIGSTOP)
    stopped(process.pid)
    for _ in range(5):
        await asyncio.sleep(0)
    assert process.returncode is None
    process.send_signal(signal.SIGCONT)
    process.kill()
    assert await process.wait() == -signal.SIGKILL


async def test_several_wait_and_one_gives_up() -> None:
    process = await sleeper()
    waiting = [asyncio.create_task(process.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting[0]
    process.kill()
    assert [await task for task in waiting[1:]] == [-signal.SIGKILL] * 2
    assert await process.wait() == -signal.SIGKILL


async def test_waiting_with_a_time_limit() -> None:
    process = await sleeper()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(process.wait(), 0.01)
    assert process.returncode is None
    process.kill()
    assert await process.wait() == -signal.SIGKILL


@not_on_older_asyncio
async def test_somebody_else_took_the_exit_status(caplog: pytest.LogCaptureFixture) -> None:
    process = await sleeper()
    process.kill()
    reap(process.pid)
    assert await process.wait() == 255
    assert any(str(process.pid) in record.getMessage() for record in caplog.records if record.levelname == "WARNING")


@on_rings
async def test_the_popen_object_was_asked_first() -> None:
    """asyncio takes this for an unknown child, 255."""
    process = await asyncio.create_subprocess_exec("/bin/sh", "-c", f"exit {EXIT_CODE}")
    popen = process._transport.get_extra_info("subprocess")  # type: ignore[attr-defined]
    assert popen.wait() == EXIT_CODE
    assert await process.wait() == EXIT_CODE


# Closing


async def test_closing_a_transport_kills_the_child() -> None:
    loop = asyncio.get_running_loop()
    transport, log = await loop.subprocess_exec(Log, "sleep", "1000")
    assert not transport.is_closing()
    transport.close()
    transport.close()
    assert transport.is_closing()
    await log.lost
    assert transport.get_returncode() == -signal.SIGKILL
    assert log.calls[-1] == "connection_lost"
    assert len([call for call in log.calls if call.startswith("pipe_connection_lost")]) == 3


@not_on_older_asyncio
async def test_closing_a_transport_whose_child_has_just_ended() -> None:
    loop = asyncio.get_running_loop()
    transport, log = await loop.subprocess_exec(Log, "sleep", "1000", stdin=None, stdout=None, stderr=None)
    transport.kill()
    died(transport.get_pid())
    transport.close()
    await log.lost
    assert transport.get_returncode() in (-signal.SIGKILL, 255)


async def test_a_protocol_that_refuses_its_connection(unexpected: list[dict[str, Any]]) -> None:
    class Refusing(Log):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            raise ConnectionRefusedError

    transport, log = await asyncio.get_running_loop().subprocess_exec(Refusing, "cat")
    await asyncio.sleep(0)
    (context,) = unexpected
    unexpected.clear()
    assert isinstance(context["exception"], ConnectionRefusedError)
    transport.close()
    await log.lost
