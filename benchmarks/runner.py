"""Runs contenders: pinned processes, their CPU time, C programs, servers that are loaded.

The server is alone on one CPU, what loads it on another.  A contender's server is started once and takes its turn in
every round: idle, it sleeps.
"""

import contextlib
import functools
import hashlib
import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from benchmarks import contenders

ROOT = Path(__file__).resolve().parent.parent
C_SOURCES = ROOT / "benchmarks" / "c"
BUILD = ROOT / "benchmarks" / ".build"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 2.0
LOAD_TIMEOUT_S = 60.0


class Disqualified(Exception):
    """A contender did not start, lost a connection, or sent back something else than it was sent."""


class CpuTime(NamedTuple):
    total_s: float
    user_ticks: int
    system_ticks: int


@dataclass(frozen=True)
class Server:
    pid: int
    address: str
    stderr: IO[str]

    def last_words(self) -> str:
        self.stderr.seek(0)
        return self.stderr.read().strip().rpartition("\n")[2]


#: Of all that is started here, against other work on the machine.
niceness = 0
#: The checkout that runs as the contenders OTHERS.
other_root: Path | None = None


def server_and_load_cpu() -> tuple[int, int]:
    """The first two CPUs that this process may use: choose others with taskset."""
    cpus = sorted(os.sched_getaffinity(0))
    return cpus[0], cpus[min(1, len(cpus) - 1)]


def load_cpu() -> int:
    """The CPU of what loads this process, which is pinned to the other one."""
    (own,) = os.sched_getaffinity(0)
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    others = sorted(os.sched_getaffinity(0) - {own})
    os.sched_setaffinity(0, {own})
    return others[0] if others else own


@contextlib.contextmanager
def pinned(*cpus: int) -> Iterator[None]:
    """Processes started inside run on these CPUs from their first instruction, and so do all their threads."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def allow_many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def cpu_time(pid: int) -> CpuTime:
    """Of all threads of a process, io_uring's workers among them.

    The kernel gives the sum in nanoseconds, and how it divides into user and system in ticks.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        threads = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    except FileNotFoundError:
        raise Disqualified("the server is gone") from None
    total_s = sum(int(thread.split()[0]) for thread in threads) / 1e9
    user, system = int(fields[11]), int(fields[12])
    return CpuTime(total_s, user, system)


def cpu_us(begin: CpuTime, end: CpuTime, messages: float) -> dict[str, float]:
    total_us = (end.total_s - begin.total_s) / messages * 1e6
    user, system = end.user_ticks - begin.user_ticks, end.system_ticks - begin.system_ticks
    user_us = total_us * user / max(1, user + system)
    return {"user_us": user_us, "system_us": total_us - user_us}


def start(
    command: Sequence[str], cpus: Sequence[int], stderr: IO[str] | int, stdin: int | None = None, root: Path = ROOT
) -> "subprocess.Popen[str]":
    """In a session of its own, which is a scheduling group: within one, niceness counts among its members only."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    with pinned(*cpus):
        process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=root,
            env=environment,
            text=True,
            start_new_session=True,
        )
    make_nice(process.pid)
    return process


def make_nice(leader: int) -> None:
    """Give the leader of a session the niceness of the measured processes."""
    if niceness:
        os.setpriority(os.PRIO_PROCESS, leader, niceness)
        with contextlib.suppress(FileNotFoundError):  # not every kernel has such groups
            Path(f"/proc/{leader}/autogroup").write_text(str(niceness))


@functools.cache
def compiled(name: str, *libraries: str) -> str:
    """The path of benchmarks/c/NAME.c's program."""
    sources = [C_SOURCES / f"{name}.c", *sorted(C_SOURCES.glob("*.h"))]
    content = b"".join(source.read_bytes() for source in sources)
    program = BUILD / f"{name}-{hashlib.sha256(content).hexdigest()[:12]}"
    if not program.exists():
        BUILD.mkdir(exist_ok=True)
        unfinished = program.with_suffix(f".{os.getpid()}")
        flags = ["-O2", "-Wall", "-Wextra", "-Werror"]
        subprocess.run(["cc", *flags, sources[0], "-o", unfinished, *(f"-l{name}" for name in libraries)], check=True)
        unfinished.rename(program)
    return str(program)


def checkout(contender: str) -> tuple[str, Path]:
    """The loop's name, and in which checkout it runs."""
    for loop, other in contenders.OTHERS.items():
        if contender == other:
            assert other_root is not None
            return loop, other_root
    return contender, ROOT


def server_command(loop: str, mode: str, address: str, extra: Sequence[str] = ()) -> list[str]:
    if source := {**contenders.C_SERVERS, **contenders.C_FILE_SERVERS}.get(loop):
        return [compiled(source), address, *extra]
    return [sys.executable, "-m", "benchmarks.servers", "--loop", loop, "--mode", mode, "--at", address, *extra]


@contextlib.contextmanager
def serving(command: Sequence[str], cpu: int, root: Path = ROOT) -> Iterator[Server]:
    """Runs a server that prints `listening at ADDRESS` when it is ready."""
    with tempfile.TemporaryFile("w+") as stderr:
        process = start(command, [cpu], stderr, root=root)
        server = Server(process.pid, _address(process), stderr)
        try:
            if not server.address:
                raise Disqualified(f"did not start: {server.last_words() or 'no output'}")
            yield server
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_S)
            process.kill()
            process.communicate()


def _address(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], START_TIMEOUT_S)
    line = process.stdout.readline() if ready else ""
    found = re.match(r"listening at (.+)", line)
    return found[1] if found else ""


class Servers(contextlib.AbstractContextManager["Servers"]):
    """One server for each contender, started when it is first asked for."""

    def __init__(self, mode: str, *extra: str, unix: bool = False) -> None:
        self._mode, self._extra, self._unix = mode, extra, unix
        self._running: dict[str, tuple[Server, contextlib.ExitStack]] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="uringloop-benchmark-")

    def __getitem__(self, contender: str) -> Server:
        if contender not in self._running:
            address = str(self._path(contender)) if self._unix else "0"
            loop, root = checkout(contender)
            command = server_command(loop, self._mode, address, self._extra)
            cpu, _ = server_and_load_cpu()
            with contextlib.ExitStack() as started:
                server = started.enter_context(serving(command, cpu, root))
                self._running[contender] = server, started.pop_all()
        return self._running[contender][0]

    def stop(self, contender: str) -> None:
        """What failed once is started anew where it is asked for again."""
        if running := self._running.pop(contender, None):
            running[1].close()
        self._path(contender).unlink(missing_ok=True)

    def _path(self, contender: str) -> Path:
        return Path(self._folder.name, contender)

    def __exit__(self, *_: object) -> None:
        for contender in tuple(self._running):
            self.stop(contender)
        self._folder.cleanup()


class Workers(contextlib.AbstractContextManager["Workers"]):
    """One process for each contender that measures within itself what it is told by name.

    Args:
        both: its threads may run on the load's CPU too.
    """

    def __init__(self, *, both: bool = False) -> None:
        self._both = both
        self._running: dict[str, subprocess.Popen[str]] = {}

    def ask(self, contender: str, question: str) -> dict[str, float]:
        if contender not in self._running:
            cpus = server_and_load_cpu()[: 1 + self._both]
            loop, root = checkout(contender)
            command = [sys.executable, "-m", "benchmarks.workers", "--loop", loop]
            self._running[contender] = start(command, cpus, subprocess.PIPE, stdin=subprocess.PIPE, root=root)
        worker = self._running[contender]
        assert worker.stdin is not None
        assert worker.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            print(question, file=worker.stdin, flush=True)
        ready, _, _ = select.select([worker.stdout], [], [], LOAD_TIMEOUT_S)
        if line := worker.stdout.readline() if ready else "":
            figures: dict[str, float] = json.loads(line)
            return figures
        worker.kill()
        _, complaints = self._running.pop(contender).communicate()
        raise Disqualified(complaints.strip().rpartition("\n")[2] or "no answer")

    def __exit__(self, *_: object) -> None:
        for worker in self._running.values():
            worker.kill()
            worker.communicate()


def _load_arguments(seconds: float, flags: Sequence[str], options: Mapping[str, object]) -> list[str]:
    letters = {**options, "t": seconds, "w": seconds / 4}
    return [*flags, *(f"-{letter}{value}" for letter, value in letters.items())]


class Load:
    """How a contender's server is loaded: by which program of benchmarks/c, with which options."""

    def __init__(
        self,
        program: str,
        servers: Servers,
        seconds: float,
        *flags: str,
        libraries: Sequence[str] = (),
        **options: object,
    ) -> None:
        self._program, self._servers = compiled(program, *libraries), servers
        self._arguments = _load_arguments(seconds, flags, options)

    def __call__(self, contender: str) -> dict[str, float]:
        """The program's figures, and the server's CPU time over exactly the measured part, for each message.

        The program says "begin" and "end" on stderr, and its figures as JSON on stdout.  What else it says, and a
        failure, disqualifies; the server is stopped then.
        """
        server = self._servers[contender]
        try:
            return self._run(server, *self.program(contender))
        except Disqualified as reason:
            words = server.last_words()
            self._servers.stop(contender)
            raise Disqualified(f"{reason} ({words})" if words else str(reason)) from None

    def program(self, contender: str) -> tuple[list[str], Path]:
        """Return the beginning of the command, and the checkout that it runs in."""
        return [self._program], ROOT

    def _run(self, server: Server, program: Sequence[str], root: Path) -> dict[str, float]:
        _, cpu = server_and_load_cpu()
        marks: dict[str, CpuTime] = {}
        complaints: list[str] = []
        command = [*program, "-a", server.address, *self._arguments]
        with start(command, [cpu], subprocess.PIPE, root=root) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            for line in map(str.strip, process.stderr):
                if line in ("begin", "end"):
                    marks[line] = cpu_time(server.pid)
                else:
                    complaints.append(line)
            result = process.stdout.read()
        if process.returncode == -signal.SIGALRM:
            raise Disqualified("it answers no more")
        if process.returncode != 0:
            raise Disqualified(complaints[0] if complaints else f"the load generator ended: {process.returncode}")
        figures: dict[str, float] = json.loads(result)
        messages = figures.pop("messages")
        if messages == 0:
            raise Disqualified("no message came back in the measured time")
        return {"value": figures.pop("rate"), **figures, **cpu_us(marks["begin"], marks["end"], messages)}


class SelfLoad(Load):
    """The same by a module of the benchmarks, which runs on the loop of the contender that is measured."""

    def __init__(self, module: str, servers: Servers, seconds: float, **options: object) -> None:
        self._module, self._servers = module, servers
        self._arguments = _load_arguments(seconds, (), options)

    def program(self, contender: str) -> tuple[list[str], Path]:
        loop, root = checkout(contender)
        return [sys.executable, "-m", f"benchmarks.{self._module}", "--loop", loop], root
