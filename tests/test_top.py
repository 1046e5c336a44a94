"""`python -m uringloop top`: it finds the loops of a process that share their statistics, and tells what they do."""

import asyncio
import errno
import gc
import json
import os
import pty
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import uringloop
from tests.children import ROOT, environment, python
from tests.kernel import needs
from tests.variants import EPOLL
from uringloop import __main__ as command
from uringloop import meter, top

#: Serves itself until its standard input ends.
SERVER = """
import asyncio, sys, uringloop

async def main():
    async def serve(reader, writer):
        while data := await reader.read(100):
            writer.write(data)
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    async def talk():
        while True:
            writer.write(b"x")
            await reader.read(100)
            await asyncio.sleep(0.001)
    talking = asyncio.create_task(talk())
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    talking.cancel()

uringloop.run(main(), backend=sys.argv[1])
"""


@pytest.fixture(params=[pytest.param("io_uring", marks=needs("io_uring")), *(["epoll"] if EPOLL else [])])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[int, str]]:
    """A process with a loop that shares its statistics, and its backend."""
    arguments = [sys.executable, "-c", SERVER, request.param]
    with subprocess.Popen(
        arguments,
        cwd=ROOT,
        env=environment(URINGLOOP_STATISTICS="1"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield process.pid, request.param
        finally:
            process.stdin.close()


def test_a_live_process(server: tuple[int, str], capfd: pytest.CaptureFixture[str]) -> None:
    pid, backend = server
    assert command.main(["top", str(pid), "--once", "--json", "--interval", "0.05"]) == 0
    [loop] = json.loads(capfd.readouterr().out)["loops"]
    assert loop["backend"] == backend
    assert (loop["connections"], loop["thread"]) == (2, pid)
    assert loop["counters"]["streams"] == 2
    assert loop["age_ns"] > 0
    assert 0 <= loop["busy_ratio"] <= 1
    assert command.main(["top", str(pid), "--once", "--interval", "0.05"]) == 0
    text, _ = capfd.readouterr()
    assert f"LOOP on {backend}, thread {pid}" in text
    assert "\x1b" not in text


def test_on_a_terminal_until_q(server: tuple[int, str]) -> None:
    pid, backend = server
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(environment())
        os.execv(sys.executable, [sys.executable, "-m", "uringloop", "top", str(pid), "--interval", "0.05"])
    shown = b""
    with open(terminal, "rb+", buffering=0) as screen:
        while f"LOOP on {backend}".encode() not in shown:
            shown += screen.read(10_000)
        screen.write(b"q")
        try:
            while piece := screen.read(10_000):
                shown += piece
        except OSError:
            pass  # the other end is closed
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    # The screen of before is back, and the cursor.
    assert shown.startswith(b"\x1b[?1049h\x1b[?25l")
    assert shown.endswith(b"\x1b[?25h\x1b[?1049l")


@pytest.mark.skipif(sys.version_info < (3, 14), reason="python -m asyncio ps is of Python 3.14")
@pytest.mark.parametrize("form", ["ps", "pstree"])
def test_asyncio_shows_the_tasks(form: str, server: tuple[int, str]) -> None:
    pid, _ = server
    finished = python(["-m", "asyncio", form, str(pid)])
    if "ermi" in finished.stderr:
        pytest.skip(f"no process may read another one's memory here: {finished.stderr.strip()}")
    for word in ("Task-1", "main", "talk"):
        assert word in finished.stdout, finished.stderr


def test_nothing_to_see(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["top", str(os.getpid())]) == 1
    assert "start it with URINGLOOP_STATISTICS=1" in capsys.readouterr().err
    child = os.posix_spawn("/bin/true", ["/bin/true"], {})
    os.waitpid(child, 0)
    assert command.main(["top", str(child)]) == 1
    assert f"no process {child}" in capsys.readouterr().err
    with pytest.raises(ValueError, match="another version"):
        meter.read_page(bytes(meter.PAGE_SIZE_BYTES))


def test_many_loops_and_a_closed_one() -> None:
    loops = [uringloop.EventLoop() for _ in range(2)]
    for loop in loops:
        loop.share_statistics()
        loop.share_statistics()
    assert len(top.pages_of(os.getpid())) == 2
    loops[0].stop_measuring()
    assert len(top.pages_of(os.getpid())) == 1
    for loop in loops:
        loop.close()
    with pytest.raises(top.NothingToSeeError):
        top.pages_of(os.getpid())


def test_a_forked_child_does_not_pass_for_its_parent() -> None:
    loop = uringloop.EventLoop()
    loop.share_statistics()
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(tell)
        os.read(told, 1)
        os._exit(0)
    os.close(told)
    try:
        with pytest.raises(top.NothingToSeeError, match="shares no statistics"):
            top.pages_of(child)
        assert len(top.pages_of(os.getpid())) == 1
    finally:
        os.close(tell)
        os.waitpid(child, 0)
        loop.close()


def test_a_loop_that_hangs_is_seen() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        go_on.wait()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, uringloop.EventLoop)
        loop.share_statistics()
        loop.call_soon(hang)
        await asyncio.sleep(0)

    thread = threading.Thread(target=uringloop.run, args=(main(),))
    thread.start()
    begun.wait()
    pages = top.pages_of(os.getpid())
    [seen] = top.look(pages, pages, 1_000_000)
    go_on.set()
    thread.join()
    assert seen["current_tick_ns"] > 0
    assert seen["busy_ratio"] == 1


def test_rates_and_percentiles() -> None:
    loop = uringloop.EventLoop()
    loop.share_statistics()
    before = top.pages_of(os.getpid())

    async def main() -> None:
        for _ in range(9):
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    after = top.pages_of(os.getpid())
    loop.close()
    [seen] = top.look(before, after, 500_000_000)
    assert seen["callbacks_per_s"] == 2 * after[0]["callbacks"] >= 20
    assert 0 < seen["lag"]["p50_ns"] <= seen["lag"]["p99_ns"] <= seen["lag"]["longest_ns"]
    # A loop that was not there before, or began to measure again.
    [seen] = top.look([], after, 500_000_000)
    assert 0 < seen["callbacks_per_s"] < 1e9


def test_a_name_commands_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    def callback() -> None:
        pass

    callback.__qualname__ = "red\x1b[31m\nline"
    loop = uringloop.EventLoop()
    try:
        loop.share_statistics()
        loop.start_measuring(slow_ns=0)
        loop.call_soon(callback)
        loop.run_until_complete(asyncio.sleep(0))
        assert command.main(["top", str(os.getpid()), "--once", "--interval", "0.01"]) == 0
    finally:
        loop.close()
    text, _ = capsys.readouterr()
    assert "red?[31m?line\n" in text


def test_a_name_ends_with_its_place() -> None:
    """A process may write into its page whatever it likes."""
    loop = uringloop.EventLoop()
    try:
        loop.share_statistics()
        loop.start_measuring(slow_ns=0)
        loop.run_until_complete(asyncio.sleep(0))
        paths = [path for path in list(Path("/proc/self/fd").iterdir()) if path.is_symlink()]
        [content] = [path.read_bytes() for path in paths if meter.PAGE_NAME in os.readlink(path)]
    finally:
        loop.close()
    numbers = meter.read_page(content)
    assert numbers is not None
    name = numbers["slowest"][-1]["name"].encode()
    place = content.index(name + b"\0")
    filled = b"x" * (len(content) - place)
    numbers = meter.read_page(content[:place] + filled)
    assert numbers is not None
    assert {len(slow["name"]) for slow in numbers["slowest"] if slow["name"].startswith("x")} == {104}


def test_a_loop_that_cannot_share_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EMFILE, "refused")

    monkeypatch.setenv("URINGLOOP_STATISTICS", "1")
    monkeypatch.setattr(os, "memfd_create", refuse)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(OSError, match="refused"):
            uringloop.EventLoop()
        gc.collect()
    assert warned == []


def test_a_forked_child_ends_its_own_run_only() -> None:
    loop, own_pid = uringloop.EventLoop(), os.getpid()
    children: list[int] = []

    def fork() -> None:
        children.append(os.fork())
        if children[0] != 0:
            os.waitpid(children[0], 0)
            children.append(top.pages_of(own_pid)[0]["running_since_ns"])

    loop.share_statistics()
    loop.call_soon(fork)
    try:
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        if os.getpid() != own_pid:
            os._exit(0)
        loop.close()
    assert children[1] != 0
