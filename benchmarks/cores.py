"""What do several loops gain, in the threads of one process or in processes of their own?

    python -m benchmarks.cores --rounds 7

Each loop has both ends of its connections, internal socket pairs, so that no load generator takes a CPU.  For each
contender one loop runs first, then several at the same time.  The value is the ratio of their rates.  `one` and `all`
are the times of a message, and of one of all loops together.  `C` has the system calls alone: epoll_wait, recv and
send, in processes.  Where two CPUs are one core, or other work runs, C gains less than two, and no loop can gain more.
`cpu_one` and `cpu_all` are the CPU times of a message.  Other work takes more time from threads of one process
than from several processes, but hardly changes these.
`bare` is a loop of tasks in Python, without asyncio, compiled code and I/O: it shows what Python itself loses.

`served` is the same echo under a load from outside: all loops listen on one port, and one process asks.

Threads are asked only without the GIL.  Memory is the proportional set size of all processes.  The loops of threads
share no counter and no message, and run code from the cache: Python counts references to constants that it has
compiled in the process itself.
"""

import argparse
import asyncio
import collections
import compileall
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
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from benchmarks import contenders, results
from benchmarks.results import Case, Figures
from benchmarks.runner import ROOT, Disqualified, compiled, start

PAIRS = 32
MESSAGE_BYTES = 100
START_TIMEOUT_S = 30.0
#: Other work may leave a process no time at all in a short measurement.
_TRIES = 5
C = "C processes"
BARE = "bare"
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
        transport.write(bytes(MESSAGE_BYTES))
    await loop.create_future()


async def _streams(count: Count, _: Path) -> None:
    message = bytes(MESSAGE_BYTES)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(message)
            await reader.readexactly(len(message))
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


class _Turn:
    __slots__ = ()

    def __await__(self) -> Generator[None]:
        yield


def _bare(count: Count) -> None:
    """Run two tasks in turns, one that is made anew for each unit."""
    ready: collections.deque[Callable[[], None]] = collections.deque()

    class Task:
        __slots__ = ("coroutine",)

        def __init__(self, coroutine: Coroutine[None, None, None]) -> None:
            self.coroutine = coroutine
            ready.append(self.step)

        def step(self) -> None:
            try:
                self.coroutine.send(None)
            except StopIteration:
                pass
            else:
                ready.append(self.step)

    async def body() -> None:
        await _Turn()

    async def main() -> None:
        while True:
            Task(body())
            await _Turn()
            count[0] += 1

    Task(main())
    while True:
        ready.popleft()()


async def _served(count: Count, port: Path) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_server(_Echo, "127.0.0.1", int(port.name), reuse_port=True)
    count[0] += 1
    await loop.create_future()


WORKS: dict[str, Callable[[Count, Path], Awaitable[None]]] = {
    "protocol": _protocol,
    "streams": _streams,
    "tasks": _tasks,
    "files": _files,
    "served": _served,
}


def _run_loop(loop: str, work: str, counts: list[Count], place: Path) -> None:
    """Run a loop until the process ends.  Its count is this thread's own object, as its neighbours in memory are."""
    count = [0]
    counts.append(count)
    if loop == BARE:
        _bare(count)
    with asyncio.Runner(loop_factory=contenders.factory(loop)) as runner:
        runner.run(cast("Any", WORKS[work](count, place)))


def _child(loop: str, work: str, threads: int, seconds: float, port: str) -> None:
    """Run loops, each in a thread; say `ready`, wait for a line, and print what they do in so many seconds."""
    counts: list[Count] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(port) if work == "served" else Path(folder)
        if loop != BARE:
            contenders.factory(loop)  # imports it
        for _thread in range(threads):
            threading.Thread(target=_run_loop, args=(loop, work, counts, place), daemon=True).start()
        while len(counts) < threads or not all(count[0] for count in counts):
            time.sleep(0.01)
        print("ready", flush=True)
        sys.stdin.readline()
        time.sleep(seconds / 4)
        before, begin, begin_cpu_s = sum(count[0] for count in counts), time.perf_counter(), time.process_time()
        time.sleep(seconds)
        cpu_s = time.process_time() - begin_cpu_s
        done, took_s = sum(count[0] for count in counts) - before, time.perf_counter() - begin
        kib = re.findall(r"^Pss:\s+(\d+)", Path("/proc/self/smaps_rollup").read_text(), re.MULTILINE)
        figures = {"rate": done / took_s, "cpu_us": cpu_s / max(done, 1) * 1e6, "memory_MiB": int(kib[0]) / 1024}
        print(json.dumps(figures), flush=True)
    os._exit(0)


def _run(commands: Sequence[Sequence[str]], cpus: Sequence[int], load: Sequence[str] = ()) -> Figures:
    """Run processes at the same time; return the sums of their rates, or the load's, and of their memory in MiB.

    The CPU time of a message is their mean, if they count messages.
    """
    with contextlib.ExitStack() as stack:
        running = []
        for command in commands:
            process = stack.enter_context(start(command, cpus, subprocess.PIPE, stdin=subprocess.PIPE))
            stack.callback(process.kill)
            running.append(process)
        for process in running:
            _line(process)
        rate = None
        if load:
            asking = stack.enter_context(start(load, cpus, subprocess.PIPE))
            stack.callback(asking.kill)
            rate = json.loads(_line(asking))["rate"]
        for process in running:
            assert process.stdin is not None
            print(file=process.stdin, flush=True)
        figures = [json.loads(_line(process)) for process in running]
    memory_mib = sum(each["memory_MiB"] for each in figures)
    if rate is not None:
        return {"rate": rate, "memory_MiB": memory_mib}
    cpu_us = sum(each["cpu_us"] for each in figures) / len(figures)
    return {"rate": sum(each["rate"] for each in figures), "cpu_us": cpu_us, "memory_MiB": memory_mib}


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], START_TIMEOUT_S)
    line = process.stdout.readline() if ready else ""
    if not line:
        process.kill()
        raise Disqualified(process.communicate()[1].strip().rpartition("\n")[2] or "no answer")
    return line


def _commands(contender: str, work: str, loops: int, seconds: float, port: int) -> list[list[str]]:
    if contender == C:
        return [[compiled("pairs"), str(PAIRS), str(MESSAGE_BYTES), str(seconds)]] * loops
    loop, _, way = contender.rpartition(" ")
    threads = loops if way == "threads" else 1
    command = [sys.executable, "-m", "benchmarks.cores", "--child", loop, work, str(threads), str(seconds), str(port)]
    return [command] * (loops // threads)


def _measure(contender: str, work: str, loops: int, seconds: float) -> Figures:
    for _ in range(_TRIES):
        figures = _measure_once(contender, work, loops, seconds)
        if figures["rate"]:
            return figures
    raise Disqualified(f"nothing was done in {seconds} s")


def _measure_once(contender: str, work: str, loops: int, seconds: float) -> Figures:
    cpus = sorted(os.sched_getaffinity(0))
    if work != "served":
        return _run(_commands(contender, work, loops, seconds, 0), cpus)
    with socket.socket() as reserved:
        # It does not listen, and so gets no connection.
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        options = {"a": port, "c": PAIRS * 2, "s": MESSAGE_BYTES, "t": seconds, "w": seconds / 4}
        load = [compiled("load"), *(f"-{letter}{value}" for letter, value in options.items())]
        # The servers only tell their memory then.
        return _run(_commands(contender, work, loops, 0.01, port), cpus, load)


def cases(options: argparse.Namespace) -> Iterator[Case]:
    for work in options.only:
        names = [f"{loop} {way}" for loop in options.loops for way in WAYS]
        if work == "protocol":
            names.append(C)
        if work == "tasks":
            names += [f"{BARE} {way}" for way in WAYS]

        def measure(contender: str, work: str = work) -> Figures:
            one = _measure(contender, work, 1, options.seconds)
            all_loops = _measure(contender, work, options.count, options.seconds)
            times = {"one_us": 1e6 / one["rate"], "all_us": 1e6 / all_loops["rate"]}
            if "cpu_us" in one:
                times |= {"cpu_one_us": one["cpu_us"], "cpu_all_us": all_loops["cpu_us"]}
            return {"value": all_loops["rate"] / one["rate"], **times, "memory_MiB": all_loops["memory_MiB"]}

        yield Case(f"{work}, {options.count} loops", measure, names, "times one")


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["--child"]:
        loop, work, threads, seconds, port = arguments[1:]
        _child(loop, work, int(threads), float(seconds), port)
        return
    parser = results.parser(__doc__, seconds=0.5)
    parser.add_argument("--only", nargs="+", choices=WORKS, default=list(WORKS), metavar="WORK")
    parser.add_argument("--count", type=int, default=len(os.sched_getaffinity(0)), help="loops; one a CPU by default")
    options = parser.parse_args(arguments)
    for folder in ("benchmarks", "uringloop"):
        compileall.compile_dir(ROOT / folder, maxlevels=0 if folder == "benchmarks" else 10, quiet=2)
    results.report("cores", cases(options), options)


if __name__ == "__main__":
    main()
