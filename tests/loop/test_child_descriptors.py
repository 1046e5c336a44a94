"""Descriptors of a child before its program runs: what this process closes is closed, and what was given is there."""

import asyncio
import contextlib
import errno
import fcntl
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.housekeeping import open_descriptors
from tests.variants import BACKENDS

from .helpers import listening_socket
from .spawning import (
    EXIT_CODE,
    PIPE,
    SPAWNING,
    Looking,
    delayed,
    may_go_ahead,
    not_on_older_asyncio,
    on_rings,
    output_of,
    own_program,
    shell,
    sleeper,
)

pytestmark = [pytest.mark.asyncio(loop_factories=SPAWNING), pytest.mark.usefixtures("no_child_left")]

#: Opens something, and gives two functions: one closes it, the other tells whether that has taken effect.
Closing = Iterator[tuple[Callable[[], object], Callable[[], bool]]]


@contextlib.contextmanager
def a_pipe_to_read_from(folder: Path) -> Closing:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)

    def is_at_its_end() -> bool:
        with contextlib.suppress(BlockingIOError):
            return os.read(reading, 1) == b""
        return False

    yield lambda: os.close(writing), is_at_its_end
    os.close(reading)


@contextlib.contextmanager
def a_lock(folder: Path) -> Closing:
    holder = os.open(folder / "locked", os.O_RDWR | os.O_CREAT)
    fcntl.flock(holder, fcntl.LOCK_EX)
    other = os.open(folder / "locked", os.O_RDWR)

    def is_free() -> bool:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    yield lambda: os.close(holder), is_free
    os.close(other)


@contextlib.contextmanager
def a_port(folder: Path) -> Closing:
    listener = listening_socket()
    address = listener.getsockname()

    def is_free() -> bool:
        with socket.socket() as other:
            return other.connect_ex(address) == errno.ECONNREFUSED

    yield listener.close, is_free


@contextlib.contextmanager
def a_file_being_written(folder: Path) -> Closing:
    fd = os.open(folder / "program", os.O_WRONLY | os.O_CREAT)
    reading = os.open(folder / "program", os.O_RDONLY)

    def is_free() -> bool:
        # As exec, a lease for reading is refused while anybody may write.
        with contextlib.suppress(BlockingIOError):
            fcntl.fcntl(reading, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            return True
        return False

    yield lambda: os.close(fd), is_free
    os.close(reading)


closings = pytest.mark.parametrize("opened", [a_pipe_to_read_from, a_lock, a_port, a_file_being_written])


# What is closed is closed


@closings
@may_go_ahead
async def test_a_close_takes_effect_before_a_child_has_run(opened: Any, tmp_path: Path) -> None:
    with opened(tmp_path) as (close, has_taken_effect):
        seen = []

        def look() -> None:
            seen.append(has_taken_effect())
            close()
            seen.append(has_taken_effect())

        process = await Looking(sleeper(stdin=PIPE, stdout=PIPE), look)
        process.kill()
        await process.communicate()
        assert seen == [False, True]


@closings
@on_rings
@pytest.mark.parametrize("close_fds", [True, False])
async def test_a_close_takes_effect_while_exec_waits(opened: Any, close_fds: bool, tmp_path: Path) -> None:
    program = own_program(tmp_path)
    (tmp_path / "folder").mkdir()
    with opened(tmp_path / "folder") as (close, has_taken_effect), delayed(program) as (is_waited_for, let_go):
        starting = asyncio.create_subprocess_exec(program, "-c", f"exit {EXIT_CODE}", close_fds=close_fds)
        start = asyncio.ensure_future(starting)
        while not is_waited_for():
            await asyncio.sleep(0.001)
        seen = [has_taken_effect()]
        close()
        seen.append(has_taken_effect())
        let_go()
        assert await (await start).wait() == EXIT_CODE
        assert seen == [False, True]


async def test_programs_that_were_just_written(tmp_path: Path) -> None:
    over = asyncio.Event()

    async def start_others() -> None:
        while not over.is_set():
            await shell("true")

    others = [asyncio.create_task(start_others()) for _ in range(3)]
    for number in range(50):
        program = tmp_path / str(number)
        with program.open("w") as file:
            file.write(f"#!/bin/sh\necho {number}\n")
            program.chmod(0o700)
            # Others are started while this is open.
            await asyncio.sleep(0.001)
        assert await output_of(program) == str(number)
    over.set()
    await asyncio.gather(*others)


@on_rings
async def test_a_program_that_is_busy_for_a_moment(tmp_path: Path) -> None:
    """Another process may have it open for a moment."""
    program = own_program(tmp_path)
    start = None
    with program.open("ab"):
        # Asleep before exec has succeeded: it was refused.
        while start is None or not is_asleep_child():
            if start is not None and start.done():
                # This process did not run for as long as the child tries.
                assert isinstance(error := start.exception(), OSError)
                assert error.errno == errno.ETXTBSY
                start = None
            if start is None:
                start = asyncio.ensure_future(asyncio.create_subprocess_exec(program, "-c", f"exit {EXIT_CODE}"))
            await asyncio.sleep(0.001)
    assert await (await start).wait() == EXIT_CODE


def is_asleep_child() -> bool:
    """Whether the only child of this thread sleeps."""
    children = Path("/proc/thread-self/children").read_text().split()
    return bool(children) and Path(f"/proc/{children[0]}/stat").read_text().rsplit(")", 1)[1].split()[0] == "S"


async def test_a_program_that_stays_busy(tmp_path: Path) -> None:
    program = own_program(tmp_path)
    with program.open("ab"), pytest.raises(OSError, match="Text file busy") as raised:
        await asyncio.create_subprocess_exec(program, "-c", "exit 0", stdin=PIPE, stdout=PIPE)
    assert raised.value.errno == errno.ETXTBSY
    # On 3.13 asyncio names a string.
    assert os.fspath(raised.value.filename) == str(program)


# What was given is there


@may_go_ahead
@pytest.mark.parametrize("close_fds", [True, False])
async def test_what_was_given_may_be_closed_before_a_child_has_run(close_fds: bool, tmp_path: Path) -> None:
    (tmp_path / "input").write_text("from a file\n")
    (tmp_path / "passed").write_text("passed on\n")
    given = os.open(tmp_path / "input", os.O_RDONLY)
    taken = os.open(tmp_path / "output", os.O_WRONLY | os.O_CREAT)
    passed = os.open(tmp_path / "passed", os.O_RDONLY)
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(passed, not close_fds)

    def look() -> None:
        for fd in (given, taken, passed):
            # The numbers are somebody else's now.
            os.dup2(other, fd, inheritable=False)

    starting = asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        f"cat; cat /proc/self/fd/{passed}; echo error >&2",
        stdin=given,
        stdout=taken,
        stderr=asyncio.subprocess.STDOUT,
        pass_fds=[passed] if close_fds else [],
        close_fds=close_fds,
    )
    process = await Looking(starting, look)
    assert await process.wait() == 0
    for fd in (given, taken, passed, other):
        os.close(fd)
    assert (tmp_path / "output").read_text() == "from a file\npassed on\nerror\n"
    assert (tmp_path / "other").read_text() == ""


async def test_pipes_and_the_first_three_in_any_order() -> None:
    with tempfile.TemporaryFile() as file:
        for passed in ([], [file.fileno()], [2, file.fileno()], [0, 1, 2]):
            options: dict[str, Any] = {"pass_fds": passed}
            command = "; ".join(["cat", *(f"test -e /proc/self/fd/{fd}" for fd in passed), "echo error >&2"])
            process = await asyncio.create_subprocess_exec(
                "/bin/sh", "-ec", command, stdin=PIPE, stdout=PIPE, stderr=PIPE, **options
            )
            assert await process.communicate(b"in") == (b"in", b"error\n")
            assert process.returncode == 0


async def test_paths_that_lead_through_a_descriptor(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    program = os.open("/bin/sh", os.O_RDONLY)
    try:
        for start in ("/proc/self/fd", "/dev/fd"):
            assert await shell("pwd -P", cwd=f"{start}/{folder}") == str(tmp_path)
            for options in ({"pass_fds": [program]}, {"close_fds": False}):
                path = f"{start}/{program}"
                assert await output_of("sh", "-c", "echo ran", executable=path, **options) == "ran"
    finally:
        os.close(folder)
        os.close(program)


# Starts that end otherwise


@not_on_older_asyncio
@may_go_ahead
async def test_a_child_that_is_killed_before_it_has_run() -> None:
    def look() -> None:
        children = Path("/proc/thread-self/children").read_text().split()
        os.kill(int(children[0]), 9)

    process = await Looking(sleeper(stdin=PIPE, stdout=PIPE), look)
    assert await process.wait() == -9


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "pipes": {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE},
    "null": {"stdin": asyncio.subprocess.DEVNULL, "stdout": asyncio.subprocess.DEVNULL},
    "inheriting": {"close_fds": False, "stdout": PIPE},
    "passing": {"pass_fds": [0, 1], "stdin": PIPE},
    "by descriptor": {"cwd": "/proc/self/cwd"},
    "function": {"preexec_fn": lambda: None, "stdout": PIPE},
    "group": {"extra_groups": [], "stdout": PIPE},
    "no program": {"executable": "/nowhere/program", "stdin": PIPE, "stdout": PIPE},
    "no folder": {"cwd": "/nowhere", "stdin": PIPE},
    "bad descriptor": {"pass_fds": [1000], "stdin": PIPE},
}


@pytest.mark.asyncio(loop_factories=BACKENDS)  # it takes seconds
@pytest.mark.parametrize("kind", KINDS)
async def test_hundreds_of_starts_leave_no_descriptor(kind: str) -> None:
    if kind == "group" and os.getuid() != 0:
        pytest.skip("only root may change its groups")

    async def one() -> None:
        with contextlib.suppress(OSError):
            process = await asyncio.create_subprocess_exec("/bin/true", **KINDS[kind])
            await process.communicate()

    await one()
    before = open_descriptors()
    for _ in range(20):
        await asyncio.gather(*(one() for _ in range(10)))
    # A pipe may be closed one turn after its connection was lost.
    for _ in range(5):
        await asyncio.sleep(0)
    assert open_descriptors().keys() == before.keys()
