"""Child processes: everything that Popen takes, their end, their signals, and what starting them does to the loop."""

import asyncio
import contextlib
import contextvars
import ctypes
import errno
import fcntl
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.housekeeping import open_descriptors
from tests.variants import RINGS

from .helpers import pattern
from .spawning import delayed, died, has_children, own_program, reap, stopped

VARIANTS = ("asyncio", "ring", "selector", "ring-plain", "ring-tiny", "selector-interrupting")
pytestmark = pytest.mark.asyncio(loop_factories=VARIANTS)
_RING_VARIANTS = tuple(name for name in VARIANTS if name in RINGS)
on_rings = pytest.mark.asyncio(loop_factories=_RING_VARIANTS)
#: Where asyncio of 3.11 and 3.12 does worse: its watcher's thread waits for the child, and Popen waits for it too.
not_on_older_asyncio = pytest.mark.asyncio(loop_factories=VARIANTS if sys.version_info >= (3, 13) else _RING_VARIANTS)
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")

PIPE = asyncio.subprocess.PIPE
_PR_GET_DUMPABLE = 3
prctl = ctypes.CDLL(None).prctl
#: An own exit code, to tell it from a shell's.
EXIT_CODE = 43


@pytest.fixture(autouse=True)
def _no_child_left() -> Iterator[None]:
    yield
    assert not has_children()


class Log(asyncio.SubprocessProtocol):
    """Notes what is called, and what comes out of which pipe."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.output: dict[int, bytes] = {1: b"", 2: b""}
        self.lost = asyncio.get_running_loop().create_future()
        self.exited = asyncio.get_running_loop().create_future()
        self.said_something = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.calls.append("connection_made")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.output[fd] += data
        self.calls.append(f"pipe_data_received {fd}")
        self.said_something.set()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.calls.append(f"pipe_connection_lost {fd} {exc!r}")

    def process_exited(self) -> None:
        self.calls.append(f"process_exited {self.transport.get_returncode()}")
        self.exited.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("connection_lost")
        self.lost.set_result(exc)


async def output_of(*command: Any, **options: Any) -> str:
    """What a command prints, both ways together; it must end well."""
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=asyncio.subprocess.STDOUT, **options)
    output, _ = await process.communicate()
    assert process.returncode == 0, output
    return output.decode().strip()


async def shell(command: str, **options: Any) -> str:
    return await output_of("/bin/sh", "-c", command, **options)


async def sleeper(**options: Any) -> asyncio.subprocess.Process:
    """A child that ends only by a signal."""
    return await asyncio.create_subprocess_exec("sleep", "1000", **options)


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


# What Popen takes


async def test_other_descriptors_than_pipes() -> None:
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as taken:
        given.write(b"from a file")
        given.seek(0)
        process = await asyncio.create_subprocess_exec(
            "cat", stdin=given, stdout=taken.fileno(), stderr=asyncio.subprocess.DEVNULL
        )
        assert await process.wait() == 0
        taken.seek(0)
        assert taken.read() == b"from a file"


async def test_output_and_errors_in_one() -> None:
    assert await shell("echo out; echo err >&2") == "out\nerr"


@pytest.mark.parametrize("kind", [str, os.fsencode, Path])
async def test_kinds_of_arguments(kind: Any) -> None:
    assert await output_of(kind("/bin/echo"), kind("a"), "b", b"c") == "a b c"


async def test_a_shell_command() -> None:
    for command in ("echo $0 $((1 + 2))", b"echo $0 $((1 + 2))"):
        process = await asyncio.create_subprocess_shell(command, stdout=PIPE)
        assert await process.communicate() == (b"/bin/sh 3\n", None)


async def test_executable_is_run_under_the_name_of_the_first_argument() -> None:
    assert await output_of("a name", "-c", "echo $0", executable="/bin/sh") == "a name"


async def test_another_shell(tmp_path: Path) -> None:
    own = tmp_path / "shell"
    own.write_text('#!/bin/sh\necho own "$@"\n')
    own.chmod(0o755)
    process = await asyncio.create_subprocess_shell("command", executable=own, stdout=PIPE)
    assert await process.communicate() == (b"own -c command\n", None)


async def test_programs_are_looked_for_where_the_childs_path_says(tmp_path: Path) -> None:
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        program = folder / "program"
        program.write_text(f"#!/bin/sh\necho {number}\n")
        program.chmod(0o755 if number == 2 else 0o644)
    path = f"{tmp_path}/none:{tmp_path}/1:{tmp_path}/2"
    assert await output_of("program", env={"PATH": path}) == "2"
    with pytest.raises(PermissionError):
        await output_of("program", env={"PATH": f"{tmp_path}/1:{tmp_path}/none"})


async def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INHERITED", "yes")
    assert await shell("echo $INHERITED") == "yes"
    assert await output_of("env", env={"ONE": "1", b"TWO": b"2", "EMPTY": ""}, executable="/usr/bin/env") == (
        "ONE=1\nTWO=2\nEMPTY="
    )
    assert await output_of("env", env={}, executable="/usr/bin/env") == ""


@pytest.mark.parametrize("kind", [Path, str, os.fsencode])
async def test_working_directory(kind: Any, tmp_path: Path) -> None:
    assert await shell("pwd -P", cwd=kind(tmp_path)) == str(tmp_path)


async def test_umask() -> None:
    assert await shell("umask", umask=0o123) == "0123"
    assert await shell("umask", umask=0) == "0000"


async def test_session_and_process_group() -> None:
    show = "set -- $(cat /proc/$$/stat); echo $$ $5 $6"
    pid, group, session = (await shell(show)).split()
    assert (group, session) == (str(os.getpgrp()), str(os.getsid(0)))
    pid, group, session = (await shell(show, process_group=0)).split()
    assert (group, session) == (pid, str(os.getsid(0)))
    pid, group, session = (await shell(show, start_new_session=True)).split()
    assert (group, session) == (pid, pid)


@as_root
async def test_user_and_groups() -> None:
    assert await shell("id -u; id -g; id -G", user=12, group=34, extra_groups=[56, 78]) == "12\n34\n34 56 78"
    assert await shell("id -un", user="nobody") == "nobody"
    assert await shell("id -G", extra_groups=[]) == str(os.getgid())


@as_root
async def test_a_child_of_another_user_does_not_make_this_process_undumpable() -> None:
    """The kernel does that to a process that changes its user, and to all that share its memory."""
    await shell("true", user=12, group=34)
    assert prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) == 1


async def test_a_function_before_exec(capfd: pytest.CaptureFixture[str]) -> None:
    thread = threading.get_native_id()

    def before() -> None:
        os.chdir("/")
        print("pid", os.getpid(), "main", threading.current_thread() is threading.main_thread(), flush=True)

    process = await asyncio.create_subprocess_exec("pwd", preexec_fn=before)
    assert await process.wait() == 0
    assert capfd.readouterr().out == f"pid {process.pid} main True\n/\n"
    assert threading.get_native_id() == thread


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
async def test_a_function_before_exec_that_fails(error: type[BaseException]) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(subprocess.SubprocessError, match="Exception occurred in preexec_fn"):
        await sleeper(preexec_fn=fail, stdin=PIPE, stdout=PIPE)


async def test_descriptors_passed_on() -> None:
    read_fd, write_fd = os.pipe()
    try:
        assert await shell(f"echo through >/proc/self/fd/{write_fd}", pass_fds=[write_fd]) == ""
        assert os.read(read_fd, 100) == b"through\n"
        assert not os.get_inheritable(write_fd)
    finally:
        os.close(read_fd)
        os.close(write_fd)


async def test_a_child_has_no_descriptors_that_it_was_not_given() -> None:
    inheritable = os.dup(0)
    passed = fcntl.fcntl(0, fcntl.F_DUPFD, 200)
    os.set_inheritable(inheritable, True)
    listing = "for fd in /proc/self/fd/*; do echo ${fd##*/}; done"
    try:
        # The listing's own descriptor is a low one, and gone when it is printed.
        for options in ({}, {"stdin": PIPE}, {"preexec_fn": lambda: None}):
            fds = {int(fd) for fd in (await shell(listing, **options)).split()}
            assert fds <= {0, 1, 2, 3}
        fds = {int(fd) for fd in (await shell(listing, pass_fds=[passed])).split()}
        assert fds - {3} == {0, 1, 2, passed}
        fds = {int(fd) for fd in (await shell(listing, close_fds=False)).split()}
        assert inheritable in fds
    finally:
        os.close(inheritable)
        os.close(passed)


async def test_ignored_signals_are_restored_on_demand() -> None:
    async def ignored(**options: Any) -> int:
        return int(await output_of("sed", "-n", "s/^SigIgn:.//p", "/proc/self/status", **options), 16)

    pipe_signal = 1 << signal.SIGPIPE - 1
    assert not await ignored() & pipe_signal
    assert await ignored(restore_signals=False) & pipe_signal


async def test_the_signal_mask_is_inherited() -> None:
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGRTMAX})
    try:
        # Without a shell, which would begin with a mask of its own.
        blocked = int(await output_of("sed", "-n", "s/^SigBlk:.//p", "/proc/self/status"), 16)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) >= {signal.SIGUSR1, signal.SIGRTMAX}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
    assert blocked == 1 << signal.SIGUSR1 - 1 | 1 << signal.SIGRTMAX - 1


async def test_the_size_of_the_pipes() -> None:
    loop = asyncio.get_running_loop()
    transport, log = await loop.subprocess_exec(Log, "cat", stderr=None, pipesize=1 << 17)
    for fd in (0, 1):
        pipe = transport.get_pipe_transport(fd).get_extra_info("pipe")
        assert fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) == 1 << 17
    transport.kill()
    await log.lost
    transport.close()


async def test_popen_is_a_popen() -> None:
    loop = asyncio.get_running_loop()
    transport, log = await loop.subprocess_exec(Log, "true")
    popen = transport.get_extra_info("subprocess")
    assert isinstance(popen, subprocess.Popen)
    assert popen.args == ("true",)
    await log.lost
    assert popen.returncode == popen.wait() == 0
    transport.close()


async def test_an_audit_event() -> None:
    events: list[tuple[Any, ...]] = []
    armed = [True]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen" and armed:
            events.append(arguments)

    sys.addaudithook(hook)
    assert await output_of("/bin/echo", "x", env={"A": "b"}, cwd="/") == "x"
    armed.clear()
    assert events == [("/bin/echo", ["/bin/echo", "x"], "/", {"A": "b"})]


# What is refused


@pytest.mark.parametrize(
    ("command", "options", "error"),
    [
        (["/nowhere/program"], {}, FileNotFoundError),
        (["no-such-program-anywhere"], {}, FileNotFoundError),
        (["/etc/passwd"], {}, PermissionError),
        (["/etc"], {}, PermissionError),
        (["true"], {"cwd": "/nowhere"}, FileNotFoundError),
        (["true"], {"cwd": "/etc/passwd"}, NotADirectoryError),
        (["true"], {"pass_fds": [1000]}, OSError),
        (["true"], {"pass_fds": [-1]}, ValueError),
        (["true"], {"process_group": 1 << 30}, PermissionError),
        (["true"], {"text": True}, ValueError),
        (["true"], {"universal_newlines": True}, ValueError),
        (["true"], {"shell": True}, ValueError),
        (["true"], {"bufsize": 1}, ValueError),
        (["true"], {"encoding": "utf-8"}, ValueError),
        (["true"], {"user": "nobody-of-that-name"}, KeyError),
        (["true"], {"user": -1}, ValueError),
        (["true"], {"user": 1 << 32}, OverflowError),
        (["true"], {"group": 1 << 32}, OverflowError),
        (["true"], {"extra_groups": [1 << 32]}, ValueError),
        (["true"], {"extra_groups": "wheel"}, ValueError),
        (["true"], {"umask": "no"}, TypeError),
        (["true"], {"cwd": 1.5}, TypeError),
        (["true"], {"env": {"A=B": "c"}}, ValueError),
        (["true"], {"env": {"A": "b\0c"}}, ValueError),
        (["true"], {"env": {"A": 1}}, TypeError),
        (["true"], {"cwd": "a\0b"}, ValueError),
        (["true", "a\0b"], {}, ValueError),
        (["true", 1], {}, TypeError),
        ([1], {}, TypeError),
        (["true"], {"unknown": 1}, TypeError),
        (["true"], {"startupinfo": object()}, ValueError),
        (["true"], {"stdin": "no file"}, AttributeError),
        (["true"], {"stdin": 1000}, OSError),
    ],
)
async def test_bad_arguments(command: list[Any], options: dict[str, Any], error: type[Exception]) -> None:
    options = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE} | options
    with pytest.raises(error) as raised:
        await asyncio.create_subprocess_exec(*command, **options)
    assert raised.type is error or error is OSError


async def test_what_an_error_names() -> None:
    for command, options, filename in (
        (["/nowhere/program"], {}, "/nowhere/program"),
        (["no-such-program"], {}, "no-such-program"),
        ([b"/nowhere/program"], {}, b"/nowhere/program"),
        (["true"], {"cwd": "/nowhere"}, "/nowhere"),
    ):
        with pytest.raises(FileNotFoundError) as raised:
            await asyncio.create_subprocess_exec(*command, **options)
        assert raised.value.filename == filename
        assert raised.value.strerror == "No such file or directory"
        assert raised.value.errno == errno.ENOENT


async def test_a_shell_wants_a_string() -> None:
    for wrong in (["true"], 1, None):
        with pytest.raises(ValueError, match="must be a string"):
            await asyncio.create_subprocess_shell(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("spare", range(9))
async def test_no_descriptors_left_to_start_with(spare: int) -> None:
    """However far it comes: an error, or a child; nothing else stays."""
    before = open_descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    process = None
    fillers = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(before) + 20, hard))
        with contextlib.suppress(OSError):
            while True:
                fillers.append(os.dup(0))
        for _ in range(spare):
            os.close(fillers.pop())
        with contextlib.suppress(OSError):
            process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    finally:
        for filler in fillers:
            os.close(filler)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if process is not None:
        assert await process.communicate(b"x") == (b"x", None)


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


# Cancelling the start


@pytest.mark.parametrize("steps", range(8))
async def test_a_start_that_is_cancelled_leaves_nothing(steps: int) -> None:
    start = asyncio.ensure_future(sleeper(stdin=PIPE, stdout=PIPE, stderr=PIPE))
    for _ in range(steps):
        await asyncio.sleep(0)
    if start.done():
        (await start).kill()
        await (await start).wait()
        return
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start


# What starting does to the loop


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return own_program(tmp_path)


@on_rings
async def test_the_loop_runs_on_while_exec_waits(program: Path) -> None:
    with delayed(program) as (is_waited_for, let_go):
        start = asyncio.ensure_future(asyncio.create_subprocess_exec(program, "-c", f"exit {EXIT_CODE}", stdin=PIPE))
        while not is_waited_for():
            await asyncio.sleep(0.001)
        # Also a second child does not wait for the first.
        assert await shell("echo meanwhile") == "meanwhile"
        assert not start.done()
        let_go()
        assert await (await start).wait() == EXIT_CODE


@on_rings
async def test_a_start_cancelled_while_exec_waits(program: Path) -> None:
    with delayed(program) as (is_waited_for, _):
        start = asyncio.ensure_future(asyncio.create_subprocess_exec(program, "-c", "exit 0", stdin=PIPE, stdout=PIPE))
        while not is_waited_for():
            await asyncio.sleep(0.001)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start


@on_rings
async def test_the_loop_runs_on_during_a_function_before_exec() -> None:
    read_fd, write_fd = os.pipe()
    ready_fd, tell_fd = os.pipe()

    def wait() -> None:
        os.write(tell_fd, b"x")
        os.read(read_fd, 1)

    try:
        start = asyncio.ensure_future(asyncio.create_subprocess_exec("true", preexec_fn=wait))
        os.set_blocking(ready_fd, False)
        while True:
            await asyncio.sleep(0.001)
            with contextlib.suppress(BlockingIOError):
                os.read(ready_fd, 1)
                break
        assert not start.done()
        os.write(write_fd, b"x")
        assert await (await start).wait() == 0
    finally:
        for fd in (read_fd, write_fd, ready_fd, tell_fd):
            os.close(fd)


@on_rings
async def test_no_thread_is_started() -> None:
    before = set(os.listdir("/proc/self/task"))
    await asyncio.gather(*(shell("echo") for _ in range(10)))
    process = await sleeper()
    assert set(os.listdir("/proc/self/task")) == before
    process.kill()
    await process.wait()


@on_rings
async def test_no_child_watcher_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise AssertionError("asked for a child watcher")

    monkeypatch.setattr(asyncio.events, "get_child_watcher", refuse, raising=False)
    assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
    assert await shell("echo fine") == "fine"
    assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL


@pytest.mark.asyncio(loop_factories=("asyncio", "ring", "selector"))
async def test_hundreds_of_children() -> None:
    before = open_descriptors()
    limit = asyncio.Semaphore(20)
    loop = asyncio.get_running_loop()

    async def one(number: int) -> None:
        async with limit:
            process = await asyncio.create_subprocess_exec(
                "/bin/sh", "-c", f"cat; exit {number % 50}", stdin=PIPE, stdout=PIPE
            )
            assert await process.communicate(b"%d" % number) == (b"%d" % number, None)
            assert process.returncode == number % 50

    for _ in range(3):
        await asyncio.gather(*(one(number) for number in range(100)))
        if hasattr(loop, "statistics"):
            assert loop.statistics()["streams"] <= 2
    # A pipe may be closed one turn after its connection was lost.
    for _ in range(5):
        await asyncio.sleep(0)
    assert open_descriptors() == before


# A Popen of somebody else's


class SlowPopen(subprocess.Popen):  # type: ignore[type-arg]
    """As a tool may put it in the place of the standard one."""

    started = threading.Event()
    may_go_on = threading.Event()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.started.set()
        assert self.may_go_on.wait(60)
        super().__init__(*arguments, **options)


@pytest.fixture
def slow_popen(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[SlowPopen]]:
    SlowPopen.started.clear()
    SlowPopen.may_go_on.clear()
    monkeypatch.setattr(subprocess, "Popen", SlowPopen)
    yield SlowPopen
    SlowPopen.may_go_on.set()


@on_rings
async def test_a_replaced_popen_is_used_and_not_waited_for(slow_popen: type[SlowPopen]) -> None:
    start = asyncio.ensure_future(asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE))
    while not slow_popen.started.is_set():
        await asyncio.sleep(0.001)
    assert not start.done()
    slow_popen.may_go_on.set()
    process = await start
    assert isinstance(process._transport.get_extra_info("subprocess"), slow_popen)  # type: ignore[attr-defined]
    assert await process.communicate(b"x") == (b"x", None)
    assert process.returncode == 0


@on_rings
async def test_a_replaced_popen_that_comes_too_late(slow_popen: type[SlowPopen]) -> None:
    start = asyncio.ensure_future(sleeper(stdin=PIPE))
    while not slow_popen.started.is_set():
        await asyncio.sleep(0.001)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    slow_popen.may_go_on.set()
    # It is killed when it turns up.
    await asyncio.get_running_loop().shutdown_default_executor()
    while has_children():
        await asyncio.sleep(0.001)
