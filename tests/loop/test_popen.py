"""Child processes: what Popen takes, and what it refuses."""

import asyncio
import contextlib
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
from pathlib import Path
from typing import Any

import pytest

from tests.housekeeping import open_descriptors

from .spawning import (
    PIPE,
    SPAWNING,
    Log,
    output_of,
    shell,
    sleeper,
)

pytestmark = [pytest.mark.asyncio(loop_factories=SPAWNING), pytest.mark.usefixtures("no_child_left")]

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")

_PR_GET_DUMPABLE = 3
prctl = ctypes.CDLL(None).prctl


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


async def test_a_function_before_exec_changes_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PUT", "SET", "GONE"):
        monkeypatch.setenv(name, "before")

    def change() -> None:
        os.putenv("PUT", "after")
        os.environ["SET"] = "after"
        del os.environ["GONE"]

    show = 'echo "$PUT $SET $GONE"'
    assert await shell(show, preexec_fn=change) == "after after"
    given = dict.fromkeys(("PUT", "SET", "GONE"), "given")
    assert await shell(show, preexec_fn=change, env=given) == "given given given"
    assert await shell(show) == "before before before"


async def test_a_function_before_exec_does_not_change_where_programs_are_looked_for(tmp_path: Path) -> None:
    def change() -> None:
        os.environ["PATH"] = "/nowhere"
        os.chdir(tmp_path)

    assert await output_of("pwd", preexec_fn=change) == str(tmp_path)


async def test_paths_are_of_the_childs_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "program"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"bin:{os.environ['PATH']}")
    for name in ("program", "bin/program", "./bin/program"):
        assert await output_of(name, cwd=tmp_path) == "found"
        assert await output_of(name, preexec_fn=lambda: os.chdir(tmp_path)) == "found"


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
