"""What every benchmark needs: pinned processes, their CPU time, interleaved rounds, ratios, a JSON record.

Absolute figures belong to one machine on one day, only ratios within a run carry over. So the contenders take
turns within each round, their order rotates from round to round, and a ratio is taken within its round.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import resource
import select
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "benchmarks" / ".build"
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 2.0

T = TypeVar("T")


class Disqualified(Exception):
    """A contender did not start, lost a connection, or sent back something else than it was sent."""


class CpuTime(NamedTuple):
    user_s: float
    system_s: float


class Spread(NamedTuple):
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Server:
    pid: int
    port: int


@dataclass(frozen=True)
class Sample:
    """What one run of the load generator measured; CPU times are the server's, for each message."""

    rate: float
    user_us: float
    system_us: float
    p50_us: float
    p99_us: float
    load_busy: float


def server_and_load_cpu() -> tuple[int, int]:
    """The first two CPUs that this process may use: choose others with taskset."""
    cpus = sorted(os.sched_getaffinity(0))
    return cpus[0], cpus[min(1, len(cpus) - 1)]


@contextlib.contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """Processes started inside run on this CPU from their first instruction, and so do all their threads."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def allow_many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def cpu_time(pid: int) -> CpuTime:
    """Of all threads of a process, io_uring's workers among them."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    return CpuTime(int(fields[11]) / ticks_per_s, int(fields[12]) / ticks_per_s)


def compile_c(source: Path) -> Path:
    program = BUILD / f"{source.stem}-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}"
    if not program.exists():
        BUILD.mkdir(exist_ok=True)
        unfinished = program.with_suffix(f".{os.getpid()}")
        subprocess.run(["cc", "-O2", "-Wall", "-Wextra", source, "-o", unfinished], check=True)
        unfinished.rename(program)
    return program


@contextlib.contextmanager
def serving(command: Sequence[str], cpu: int) -> Iterator[Server]:
    """Runs a server that prints `listening on HOST:PORT ...` when it is ready."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile("w+") as complaints:
        with pinned(cpu):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, env=environment, text=True)
        try:
            yield Server(process.pid, _port(process, complaints))
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_S)
            process.kill()
            process.communicate()


def _port(process: "subprocess.Popen[str]", complaints: IO[str]) -> int:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], START_TIMEOUT_S)
    line = process.stdout.readline() if ready else ""
    if found := re.match(r"listening on \S+:(\d+)", line):
        return int(found[1])
    complaints.seek(0)
    raise Disqualified("did not start: " + (complaints.read().strip().rpartition("\n")[2] or "no output"))


def drive(
    server: Server, cpu: int, connections: int, size: int, depth: int, seconds: float, *, datagrams: bool = False
) -> Sample:
    """Loads an echo server and takes its CPU time over exactly the measured part of the run."""
    program = compile_c(ROOT / "benchmarks" / "load.c")
    options = {"p": server.port, "c": connections, "s": size, "d": depth, "t": seconds, "w": seconds / 4}
    command = [str(program), *(f"-{letter}{value}" for letter, value in options.items()), *(["-u"] * datagrams)]
    marks: dict[str, CpuTime] = {}
    complaints: list[str] = []
    with pinned(cpu):
        load = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with load:
        assert load.stdout is not None
        assert load.stderr is not None
        for line in map(str.strip, load.stderr):
            if line in ("begin", "end"):
                marks[line] = cpu_time(server.pid)
            else:
                complaints.append(line)
        result = load.stdout.read()
    if load.returncode != 0:
        raise Disqualified(complaints[0] if complaints else f"the load generator ended: {load.returncode}")
    return _sample(json.loads(result), marks["begin"], marks["end"])


def _sample(result: Mapping[str, float], begin: CpuTime, end: CpuTime) -> Sample:
    messages = result["messages"]
    if messages == 0:
        raise Disqualified("no message came back in the measured time")
    return Sample(
        rate=result["rate"],
        user_us=(end.user_s - begin.user_s) / messages * 1e6,
        system_us=(end.system_s - begin.system_s) / messages * 1e6,
        p50_us=result["p50_us"],
        p99_us=result["p99_us"],
        load_busy=result["load_busy"],
    )


def interleaved(contenders: Sequence[T], rounds: int) -> Iterator[tuple[int, T]]:
    for number in range(rounds):
        first = number % len(contenders)
        for contender in (*contenders[first:], *contenders[:first]):
            yield number, contender


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def ratios(values: Mapping[int, float], reference: Mapping[int, float]) -> Spread | None:
    """Both by round: only what was measured side by side is compared."""
    common = values.keys() & reference.keys()
    return spread([values[number] / reference[number] for number in common]) if common else None


def machine() -> dict[str, Any]:
    models = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "kernel": platform.release(),
        "cpu": models[0] if models else platform.machine(),
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "tcp_congestion_control": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
    }


def versions(packages: Sequence[str]) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if commit.returncode == 0:
        found["commit"] = commit.stdout.strip()
    return found


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=1) + "\n")
