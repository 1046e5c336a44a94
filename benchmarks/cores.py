"""What do several loops gain, in the threads of one process or in processes of their own?

    python -m benchmarks.cores --rounds 7

Each loop has both ends of its connections, internal socket pairs, so that no load generator takes a CPU.  For each
contender one loop runs first, then several at the same time.  The value is the ratio of their rates.  `one` and `all`
are the times of a message, and of one of all loops together.  `C` has the system calls alone: epoll_wait, recv and
send, in processes.  Where two CPUs are one core, or other work runs, C gains less than two, and no loop can gain more.

Threads are asked only without the GIL.  Memory is the proportional set size of all processes.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from benchmarks import contenders, results
from benchmarks.results import Case, Figures
from benchmarks.runner import Disqualified, compiled, start

PAIRS = 32
MESSAGE = bytes(100)
START_TIMEOUT_S = 30.0
C = "C processes"
WITH_GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
WAYS = ("processes",) if WITH_GIL else ("threads", "processes")

#: Counts what one loop has done so far.
Count = list[int]


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class _Asking(_Echo):
    def __init__(self, count: Count) -> None:
        self.count = count

    def data_received(self, data: bytes) -> None:
        self.count[0] += 1
        self.transport.write(data)


async def _protocol(count: Count, _: Path) -> None:
    loop = asyncio.get_running_loop()
    for _pair in range(PAIRS):
        left, right = socket.socketpair()
        await loop.create_connection(_Echo, sock=left)
        transport, _protocol = await loop.create_connection(lambda: _Asking(count), sock=right)
        transport.write(MESSAGE)
    await loop.create_future()


async def _streams(count: Count, _: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(MESSAGE)
            await reader.readexactly(len(MESSAGE))
            count[0] += 1

    async with asyncio.TaskGroup() as tasks:
        for _pair in range(PAIRS):
            left, right = socket.socketpair()
            tasks.create_task(answer(*await asyncio.open_connection(sock=left)))
            tasks.create_task(ask(*await asyncio.open_connection(sock=right)))


async def _tasks(count: Count, _: Path) -> None:
    async def body() -> None:
        await asyncio.sleep(0)

    loop = asyncio.get_running_loop()
    while True:
        for _each in range(100):
            loop.call_later(10, int).cancel()
            await asyncio.create_task(body())
            count[0] += 1


async def _files(count: Count, folder: Path) -> None:
    from uringloop import files

    path = folder / str(threading.get_native_id())
    path.write_bytes(bytes(65536))
    while True:
        async with files.open(path, "rb") as file:
            while await file.read(4096):
                count[0] += 1


WORKS: dict[str, Callable[[Count, Path], Awaitable[None]]] = {
    "protocol": _protocol,
    "streams": _streams,
    "tasks": _tasks,
    "files": _files,
}


def _child(loop: str, work: str, threads: int, seconds: float) -> None:
    """Run loops, each in a thread; say `ready`, wait for a line, and print what they do in so many seconds."""
    counts: list[Count] = [[0] for _ in range(threads)]
    with tempfile.TemporaryDirectory() as folder:

        def run(count: Count) -> None:
            with asyncio.Runner(loop_factory=contenders.factory(loop)) as runner:
                runner.run(cast("Any", WORKS[work](count, Path(folder))))

        for count in counts:
            threading.Thread(target=run, args=(count,), daemon=True).start()
        while not all(count[0] for count in counts):
            time.sleep(0.01)
        print("ready", flush=True)
        sys.stdin.readline()
        time.sleep(seconds / 4)
        before, begin = sum(count[0] for count in counts), time.perf_counter()
        time.sleep(seconds)
        done, took_s = sum(count[0] for count in counts) - before, time.perf_counter() - begin
        kib = re.findall(r"^Pss:\s+(\d+)", Path("/proc/self/smaps_rollup").read_text(), re.MULTILINE)
        print(json.dumps({"rate": done / took_s, "memory_MiB": int(kib[0]) / 1024}), flush=True)
    os._exit(0)


def _run(commands: Sequence[Sequence[str]], cpus: Sequence[int]) -> tuple[float, float]:
    """Run processes at the same time; return the sums of their rates and of their memory in MiB."""
    with contextlib.ExitStack() as stack:
        running = []
        for command in commands:
            process = stack.enter_context(start(command, cpus, subprocess.PIPE, stdin=subprocess.PIPE))
            stack.callback(process.kill)
            running.append(process)
        for process in running:
            _line(process)
        for process in running:
            assert process.stdin is not None
            print(file=process.stdin, flush=True)
        figures = [json.loads(_line(process)) for process in running]
    return sum(each["rate"] for each in figures), sum(each["memory_MiB"] for each in figures)


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], START_TIMEOUT_S)
    line = process.stdout.readline() if ready else ""
    if not line:
        process.kill()
        raise Disqualified(process.communicate()[1].strip().rpartition("\n")[2] or "no answer")
    return line


def _commands(contender: str, work: str, loops: int, seconds: float) -> list[list[str]]:
    if contender == C:
        return [[compiled("pairs"), str(PAIRS), str(len(MESSAGE)), str(seconds)]] * loops
    loop, _, way = contender.rpartition(" ")
    threads = loops if way == "threads" else 1
    command = [sys.executable, "-m", "benchmarks.cores", "--child", loop, work, str(threads), str(seconds)]
    return [command] * (loops // threads)


def cases(options: argparse.Namespace) -> Iterator[Case]:
    cpus = sorted(os.sched_getaffinity(0))
    for work in options.only:
        names = [f"{loop} {way}" for loop in options.loops for way in WAYS]
        if work == "protocol":
            names.append(C)

        def measure(contender: str, work: str = work) -> Figures:
            one, _ = _run(_commands(contender, work, 1, options.seconds), cpus)
            rate, memory_mib = _run(_commands(contender, work, options.count, options.seconds), cpus)
            return {"value": rate / one, "one_us": 1e6 / one, "all_us": 1e6 / rate, "memory_MiB": memory_mib}

        yield Case(f"{work}, {options.count} loops", measure, names, "times one")


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["--child"]:
        loop, work, threads, seconds = arguments[1:]
        _child(loop, work, int(threads), float(seconds))
        return
    parser = results.parser(__doc__, seconds=0.5)
    parser.add_argument("--only", nargs="+", choices=WORKS, default=list(WORKS), metavar="WORK")
    parser.add_argument("--count", type=int, default=len(os.sched_getaffinity(0)), help="loops; one a CPU by default")
    options = parser.parse_args(arguments)
    results.report("cores", cases(options), options)


if __name__ == "__main__":
    main()
