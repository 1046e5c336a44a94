"""How do libraries for files compare, among themselves and with `open`?

    python -m benchmarks.files --cases open seek lines --rounds 5 --json files.json

The files are in the page cache.  Each sample is a process of its own, which checks what it read or wrote. Ratios are
rates against the built-in `open` in the same round; the table ends with the best other asynchronous library.
"""

import argparse
import asyncio
import importlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import runner
from benchmarks.runner import Disqualified

REFERENCE = "open"
OURS = "uringloop"
SMALL_FILES = 100
SMALL_BYTES = 4096
PIECE_BYTES = 65536
LARGE_BYTES = 32 << 20
BLOCKS = LARGE_BYTES // SMALL_BYTES
WRITES = 1000
LINES = 100_000
TASKS = 64
TIMEOUT_S = 120


@dataclass(frozen=True)
class Contender:
    """A library: its module, how it opens a file, and on which loop."""

    package: str
    opener: str = "open"
    loop: str = "asyncio:SelectorEventLoop"

    def open(self) -> Callable[..., Any]:
        return getattr(importlib.import_module(self.package), self.opener)  # type: ignore[no-any-return]

    def new_loop(self) -> asyncio.AbstractEventLoop:
        module, _, factory = self.loop.partition(":")
        return getattr(importlib.import_module(module), factory)()  # type: ignore[no-any-return]


CONTENDERS = {
    OURS: Contender("uringloop.files", loop="uringloop:new_event_loop"),
    "aiofiles": Contender("aiofiles"),
    "anyio": Contender("anyio", "open_file"),
    "aiofile": Contender("aiofile", "async_open"),
    "turbofile": Contender("turbofile"),
    "urio": Contender("urio"),
    "asyncfiles": Contender("asyncfiles"),
    "blazio": Contender("blazio", loop="blazio:new_event_loop"),
}
PACKAGES = ("aiofiles", "anyio", "aiofile", "turbofile", "urio", "py-asyncfiles", "blazio")


def block(number: int) -> bytes:
    """What is where in the large file."""
    return number.to_bytes(8, "little") * (SMALL_BYTES // 8)


def line(number: int) -> str:
    return f"line {number} of a text that is as long as lines are in logs and such\n"


def prepare(folder: Path) -> None:
    for number in range(SMALL_FILES):
        (folder / f"small{number}").write_bytes(block(number))
    with (folder / "large").open("wb") as file:
        file.writelines(map(block, range(BLOCKS)))
    with (folder / "text").open("w", encoding="utf-8") as text:
        text.writelines(map(line, range(LINES)))


def places() -> Iterator[int]:
    """Blocks in an order that no read-ahead foresees, each of them once before any again."""
    number = 0
    while True:
        number = (number + 3571) % BLOCKS
        yield number


def check(right: bool) -> None:
    if not right:
        raise Disqualified("read or wrote something else than it should")


class Sync:
    """The cases with the built-in `open`; each returns how much it did."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places = places()

    def open(self) -> int:
        for number in range(SMALL_FILES):
            with (self.folder / f"small{number}").open("rb") as file:
                check(file.read() == block(number))
        return SMALL_FILES

    def many(self) -> int:
        files = [open(self.folder / f"small{number}", "rb") for number in range(SMALL_FILES)]  # noqa: SIM115  # below
        for number, file in enumerate(files):
            check(file.read() == block(number))
        for file in files:
            file.close()
        return SMALL_FILES

    def read(self) -> int:
        count = 0
        with open(self.folder / "large", "rb") as file:
            while data := file.read(PIECE_BYTES):
                check(data[:8] == block(count // SMALL_BYTES)[:8])
                count += len(data)
        check(count == LARGE_BYTES)
        return count

    def write(self) -> int:
        data = block(WRITES)
        with open(self.folder / "written", "wb") as file:
            for _ in range(WRITES):
                file.write(data)
        return WRITES

    def seek(self) -> int:
        with open(self.folder / "large", "rb") as file:
            for _ in range(WRITES):
                number = next(self.places)
                file.seek(number * SMALL_BYTES)
                check(file.read(SMALL_BYTES)[:8] == number.to_bytes(8, "little"))
        return WRITES

    seek64 = seek

    def lines(self) -> int:
        count = 0
        with open(self.folder / "text", encoding="utf-8") as file:
            for last in file:  # noqa: B007  # used below
                count += 1
        check(count == LINES and last == line(LINES - 1))
        return LINES


class Async:
    """The same with one of the libraries."""

    def __init__(self, folder: Path, opener: Callable[..., Any]) -> None:
        self.folder = folder
        self.opener = opener
        self.places = places()

    def opened(self, name: str, mode: str) -> Any:
        file = self.opener(str(self.folder / name), mode)
        # anyio's is a coroutine for the file.
        return file if hasattr(file, "__aenter__") else _Entered(file)

    async def _open(self, number: int) -> None:
        async with self.opened(f"small{number}", "rb") as file:
            check(await file.read() == block(number))

    async def open(self) -> int:
        for number in range(SMALL_FILES):
            await self._open(number)
        return SMALL_FILES

    async def many(self) -> int:
        await asyncio.gather(*map(self._open, range(SMALL_FILES)))
        return SMALL_FILES

    async def read(self) -> int:
        count = 0
        async with self.opened("large", "rb") as file:
            while data := await file.read(PIECE_BYTES):
                check(data[:8] == block(count // SMALL_BYTES)[:8])
                count += len(data)
        check(count == LARGE_BYTES)
        return count

    async def write(self) -> int:
        data = block(WRITES)
        async with self.opened("written", "wb") as file:
            for _ in range(WRITES):
                await file.write(data)
        return WRITES

    async def seek(self, count: int = WRITES) -> int:
        async with self.opened("large", "rb") as file:
            # Some only take note of the position, without a coroutine.
            waits = asyncio.iscoroutinefunction(file.seek) or hasattr(file.seek(0), "__await__")
            if waits:
                await file.seek(0)
            for _ in range(count):
                number = next(self.places)
                if waits:
                    await file.seek(number * SMALL_BYTES)
                else:
                    file.seek(number * SMALL_BYTES)
                check((await file.read(SMALL_BYTES))[:8] == number.to_bytes(8, "little"))
        return count

    async def seek64(self) -> int:
        return sum(await asyncio.gather(*(self.seek(WRITES // 10) for _ in range(TASKS))))

    async def lines(self) -> int:
        count = 0
        async with self.opened("text", "r") as file:
            async for last in file:  # noqa: B007  # used below
                count += 1
        check(count == LINES and last == line(LINES - 1))
        return LINES


class _Entered:
    def __init__(self, opening: Awaitable[Any]) -> None:
        self.opening = opening

    async def __aenter__(self) -> Any:
        self.file = await self.opening
        return self.file

    async def __aexit__(self, *exception: object) -> None:
        await self.file.aclose()


#: What is counted, and how many of it are one in the table.
CASES = {
    "open": ("open, read 4 KiB, close, one by one", "files/s", 1),
    "many": (f"the same, {SMALL_FILES} at once", "files/s", 1),
    "read": ("64 KiB reads", "MiB/s", 1 << 20),
    "write": ("4 KiB writes", "writes/s", 1),
    "seek": ("seek and read 4 KiB", "reads/s", 1),
    "seek64": (f"the same, {TASKS} tasks", "reads/s", 1),
    "lines": ("lines of text", "lines/s", 1),
}


def sample(contender: str, case: str, folder: Path, seconds: float) -> float:
    """In the contender's own process: the rate, after a quarter of the time to warm up."""
    if contender == REFERENCE:
        measured = getattr(Sync(folder), case)
        _repeat(measured, seconds / 4)
        return _repeat(measured, seconds)
    measured = getattr(Async(folder, CONTENDERS[contender].open()), case)

    async def main() -> float:
        await _repeat_async(measured, seconds / 4)
        return await _repeat_async(measured, seconds)

    with asyncio.Runner(loop_factory=CONTENDERS[contender].new_loop) as event_loop:
        rate = event_loop.run(main())
    if case == "write":
        check((folder / "written").read_bytes() == block(WRITES) * WRITES)
    return rate


def _repeat(measured: Callable[[], int], seconds: float) -> float:
    count, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        count += measured()
    return count / passed


async def _repeat_async(measured: Callable[[], Awaitable[int]], seconds: float) -> float:
    count, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        count += await measured()
    return count / passed


@dataclass
class Outcome:
    rates: dict[int, float] = field(default_factory=dict)  # by round
    disqualified: str = ""


def measure(case: str, folder: Path, options: argparse.Namespace) -> dict[str, Outcome]:
    outcomes = {name: Outcome() for name in options.contenders}
    cpu, _ = runner.server_and_load_cpu()
    for number, name in runner.interleaved(options.contenders, options.rounds):
        outcome = outcomes[name]
        if outcome.disqualified:
            continue
        command = [sys.executable, "-m", "benchmarks.files", "--sample", name, "--folder", str(folder)]
        command += ["--cases", case, "--seconds", str(options.seconds)]
        with runner.pinned(cpu):
            try:
                answer = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, cwd=runner.ROOT)
            except subprocess.TimeoutExpired:
                outcome.disqualified = f"not done after {TIMEOUT_S} s"
                continue
        if answer.returncode != 0:
            outcome.disqualified = (answer.stderr.strip() or "no output").splitlines()[-1]
        else:
            outcome.rates[number] = json.loads(answer.stdout)
    return outcomes


def summary(outcome: Outcome, reference: Outcome, unit: int) -> dict[str, Any]:
    if outcome.disqualified:
        return {"disqualified": outcome.disqualified}
    ratio = runner.ratios(outcome.rates, reference.rates)
    rates = [rate / unit for rate in outcome.rates.values()]
    return {"rate": runner.spread(rates).median, "ratio": ratio and ratio._asdict(), "samples": rates}


def table(case: str, summaries: dict[str, dict[str, Any]], outcomes: dict[str, Outcome]) -> str:
    title, unit, _ = CASES[case]
    lines = [f"\n{title}", f"  {'':10} {unit:>12}  ratio    low   high"]
    for name, row in summaries.items():
        if "disqualified" in row:
            lines.append(f"  {name:10} disqualified: {row['disqualified']}")
        else:
            ratio = "{median:6.2f} {low:6.2f} {high:6.2f}".format(**row["ratio"]) if row["ratio"] else ""
            lines.append(f"  {name:10} {row['rate']:12,.0f} {ratio}")
    others = [name for name, row in summaries.items() if name not in (OURS, REFERENCE) and "rate" in row]
    if others and outcomes.get(OURS, Outcome()).rates:
        best = max(others, key=lambda name: summaries[name]["rate"])
        ratio = runner.ratios(outcomes[OURS].rates, outcomes[best].rates)
        assert ratio is not None
        lines.append(f"  {OURS} against {best}: {ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})")
    return "\n".join(lines)


def report(options: argparse.Namespace) -> None:
    results = []
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        prepare(Path(name))
        for case in options.cases:
            outcomes = measure(case, Path(name), options)
            reference = outcomes.get(REFERENCE, Outcome())
            summaries = {name: summary(outcome, reference, CASES[case][2]) for name, outcome in outcomes.items()}
            print(table(case, summaries, outcomes), flush=True)
            results += [{"case": case, "contender": name, **row} for name, row in summaries.items()]
    if options.json:
        record = {
            "benchmark": "files",
            "machine": runner.machine(),
            "versions": runner.versions(PACKAGES),
            "reference": REFERENCE,
            "seconds": options.seconds,
            "results": results,
        }
        runner.write_json(options.json, record)


def importable(contender: str) -> bool:
    return importlib.util.find_spec(CONTENDERS[contender].package.partition(".")[0]) is not None


def main(arguments: Sequence[str] | None = None) -> None:
    available = [REFERENCE, *filter(importable, CONTENDERS)]
    parser = argparse.ArgumentParser(description="Files: how do libraries compare?")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--contenders", nargs="+", choices=available, default=available)
    parser.add_argument("--seconds", type=float, default=1.0, help="measured; a quarter more is warm-up")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the files are made, by default where temporary ones are")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--sample", choices=available, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.sample:
        print(sample(options.sample, options.cases[0], options.folder, options.seconds))
    else:
        report(options)


if __name__ == "__main__":
    main()
