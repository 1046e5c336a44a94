"""Does a task that is due every millisecond come in time, while others read or send files?

    python -m benchmarks.ticker --rounds 5 --seconds 2 --json ticker.json

Three cases: "cold", 64 tasks read pieces of a file that is not in the page cache; "cached", one task reads a file that
is, on and on, without ever having to wait; "sendfile", the loop sends a file that is not.  A gap is the time from one
tick to the next, 1 ms at best.  Rates are shown so that nobody looks punctual by doing nothing.
"""

import argparse
import asyncio
import contextlib
import importlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import results, runner

#: The loop and the library of files.
CONTENDERS = {
    "uringloop": ("uringloop:new_event_loop", "uringloop.files"),
    "uringloop epoll": ("benchmarks.contenders:new_epoll_loop", "uringloop.files"),
    "asyncio + uringloop.files": ("asyncio:SelectorEventLoop", "uringloop.files"),
    "asyncio + aiofiles": ("asyncio:SelectorEventLoop", "aiofiles"),
}
CASES = ("cold", "cached", "sendfile")
TASKS = 64
PIECE_BYTES = 64 * 1024
STRETCH_BYTES = 4 << 20
CACHED_BYTES = 1 << 20
TICK_S = 0.001


async def tick(others: "asyncio.Future[Any]") -> list[float]:
    """The gaps until others are done, in milliseconds."""
    gaps = []
    last_s = time.perf_counter()
    while not others.done():
        await asyncio.sleep(TICK_S)
        now_s = time.perf_counter()
        gaps.append((now_s - last_s) * 1e3)
        last_s = now_s
    return gaps


async def read_cold(library: Any, path: Path, start: int) -> int:
    """Read a stretch of the file; returns the number of bytes."""
    count = 0
    async with library.open(path, "rb", 0) as file:
        await file.seek(start)
        while count < STRETCH_BYTES:
            count += len(await file.read(PIECE_BYTES))
    return count


async def read_cached(library: Any, path: Path, until_s: float) -> int:
    """Read the whole file again and again."""
    count = 0
    async with library.open(path, "rb") as file:
        while time.perf_counter() < until_s:
            await file.seek(0)
            while data := await file.read(4096):
                count += len(data)
    return count


@contextlib.contextmanager
def reading_process() -> Iterator[socket.socket]:
    """A connection to a process that reads all that comes."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as ours:
        peer, _ = server.accept()
        with peer:
            reader = subprocess.Popen(["cat"], stdin=peer.fileno(), stdout=subprocess.DEVNULL)
        ours.setblocking(False)
        yield ours
    reader.wait()


async def send_cold(sock: socket.socket, path: Path) -> int:
    """Send the whole file; returns the number of bytes."""
    with path.open("rb") as file:
        return await asyncio.get_running_loop().sock_sendfile(sock, file)


async def measure(case: str, library: Any, path: Path, seconds: float) -> dict[str, float]:
    gaps: list[float] = []
    read_bytes, reading_s = 0, 0.0
    # Unmeasured, so that whatever is made on first use is there.
    await read_cached(library, path, 0.0)
    while reading_s < seconds:
        with contextlib.ExitStack() as opened:
            if case != "cached":
                evict(path)
            if case == "sendfile":
                calls = [send_cold(opened.enter_context(reading_process()), path)]
            elif case == "cold":
                calls = [read_cold(library, path, number * STRETCH_BYTES) for number in range(TASKS)]
            else:
                calls = [read_cached(library, path, time.perf_counter() + seconds)]
            start_s = time.perf_counter()
            reading = asyncio.gather(*calls)
            gaps += await tick(reading)
            read_bytes += sum(await reading)
            reading_s += time.perf_counter() - start_s
    gaps.sort()
    return {
        "worst_ms": gaps[-1],
        "p99_ms": gaps[len(gaps) * 99 // 100],
        "median_ms": gaps[len(gaps) // 2],
        "ticks": len(gaps),
        "mib_per_s": read_bytes / reading_s / (1 << 20),
    }


def evict(path: Path) -> None:
    """Take a file out of the page cache."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run_one(contender: str, case: str, path: Path, seconds: float) -> None:
    """Be the process that is measured."""
    loop, library = CONTENDERS[contender]
    module, _, factory = loop.partition(":")
    with asyncio.Runner(loop_factory=getattr(importlib.import_module(module), factory)) as runs:
        print(json.dumps(runs.run(measure(case, importlib.import_module(library), path, seconds))))


def compare(case: str, path: Path, options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    samples: dict[str, list[dict[str, float]]] = {contender: [] for contender in options.contenders}
    for _, contender in results.interleaved(options.contenders, options.rounds):
        one = ["--one", contender, case, str(path), "--seconds", str(options.seconds)]
        command = [sys.executable, "-m", "benchmarks.ticker", *one]
        finished = subprocess.run(command, cwd=runner.ROOT, stdout=subprocess.PIPE, text=True, check=True)
        samples[contender].append(json.loads(finished.stdout))
    return samples


def report(case: str, samples: dict[str, list[dict[str, float]]]) -> None:
    print(f"\n{case:<26} {'worst gap':>10} {'(lowest, highest)':>20} {'p99':>8} {'median':>8} {'MiB/s':>8}")
    for contender, columns in samples.items():
        worst, p99, median, rate = (
            results.spread([column[name] for column in columns])
            for name in ("worst_ms", "p99_ms", "median_ms", "mib_per_s")
        )
        spread = f"({worst.low:.1f}, {worst.high:.1f})"
        print(
            f"{contender:<26} {worst.median:>7.1f} ms {spread:>20} {p99.median:>8.2f} {median.median:>8.2f} "
            f"{rate.median:>8.0f}"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="What are the gaps of a tick each millisecond, while others read or send?"
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run")
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to be read from")
    parser.add_argument("--json", type=Path, help="where to write all samples")
    parser.add_argument("--one", nargs=3, metavar=("CONTENDER", "CASE", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        contender, case, path = options.one
        run_one(contender, case, Path(path), options.seconds)
        return
    record: dict[str, Any] = {"machine": results.machine(), "versions": results.versions(["aiofiles", "uringloop"])}
    with tempfile.NamedTemporaryFile(dir=options.folder) as file:
        for case in options.cases:
            file.truncate(0)
            file.seek(0)
            for _ in range(CACHED_BYTES >> 20 if case == "cached" else TASKS * STRETCH_BYTES >> 20):
                file.write(os.urandom(1 << 20))
            file.flush()
            os.fsync(file.fileno())
            record[case] = compare(case, Path(file.name), options)
            report(case, record[case])
    if options.json:
        results.write_json(options.json, record)


if __name__ == "__main__":
    main()
