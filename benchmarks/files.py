"""How do libraries for files compare, among themselves, with `open`, and with fio?

    python -m benchmarks.files --cases open seek lines --rounds 5 --json files.json

The files of all cases but the last are in the page cache.  Each sample is a process of its own, which checks what it
read or wrote (`file_cases.py`); the contenders take turns.  Ratios are rates against the built-in `open` in the same
round, in the last case against fio, which has the same queue depth on the same file.  A contender that is not installed
is left out: `pip install` it, or name the folder where it is in PYTHONPATH.
"""

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import file_cases, runner
from benchmarks.file_cases import BESIDE, CONTENDERS, OURS, SYNC

FIO = "fio"
TIMEOUT_S = 120
QUICK_DIRECT_BYTES = 4 << 20


class Case(NamedTuple):
    title: str
    unit: str
    #: How many of what is counted are one of these.
    scale: int = 1
    reference: str = SYNC


CASES = {
    "open": Case("open, read 4 KiB, close, one by one", "files/s"),
    "many": Case(f"the same, {file_cases.SMALL_FILES} at once", "files/s"),
    "read": Case("64 KiB reads", "MiB/s", 1 << 20),
    "write": Case("4 KiB writes", "writes/s"),
    "seek": Case("seek and read 4 KiB", "reads/s"),
    "seek64": Case(f"the same, {file_cases.TASKS} tasks", "reads/s"),
    "lines": Case("lines of text", "lines/s"),
    "direct": Case(f"random reads of 4 KiB with O_DIRECT, {file_cases.TASKS} at once", "reads/s", reference=FIO),
}


@dataclass
class Outcome:
    rates: dict[int, float] = field(default_factory=dict)  # by round
    disqualified: str = ""

    def summary(self, reference: Mapping[int, float], scale: int) -> dict[str, Any]:
        if self.disqualified:
            return {"disqualified": self.disqualified}
        ratio = runner.ratios(self.rates, reference)
        rates = [rate / scale for rate in self.rates.values()]
        return {"rate": runner.spread(rates).median, "ratio": ratio and ratio._asdict(), "samples": rates}


def contenders_of(case: str, chosen: Sequence[str]) -> list[str]:
    if CASES[case].reference == FIO:
        # No other library reads at an offset into memory that is aligned.
        return [name for name in chosen if name in (FIO, OURS, BESIDE)]
    return [name for name in chosen if name != FIO]


def measure(case: str, folder: Path, options: argparse.Namespace) -> dict[str, Outcome]:
    contenders = contenders_of(case, options.contenders)
    outcomes = {name: Outcome() for name in contenders}
    cpu, _ = runner.server_and_load_cpu()
    for number, name in runner.interleaved(contenders, options.rounds):
        outcome = outcomes[name]
        if outcome.disqualified:
            continue
        command = fio(folder, options.seconds) if name == FIO else sample(name, case, folder, options.seconds)
        with runner.pinned(cpu):
            try:
                answer = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, cwd=runner.ROOT)
            except subprocess.TimeoutExpired:
                outcome.disqualified = f"not done after {TIMEOUT_S} s"
                continue
        if answer.returncode != 0:
            outcome.disqualified = (answer.stderr.strip() or "no output").splitlines()[-1]
        else:
            result = json.loads(answer.stdout)
            outcome.rates[number] = result["jobs"][0]["read"]["iops"] if name == FIO else result
    return outcomes


def sample(contender: str, case: str, folder: Path, seconds: float) -> list[str]:
    return [sys.executable, "-m", "benchmarks.file_cases", contender, case, str(folder), str(seconds)]


def fio(folder: Path, seconds: float) -> list[str]:
    options = {
        "name": "direct",
        "filename": folder / "direct",
        "rw": "randread",
        "bs": file_cases.BLOCK_BYTES,
        "direct": 1,
        "ioengine": "io_uring",
        "iodepth": file_cases.TASKS,
        "time_based": 1,
        "runtime": f"{round(seconds * 1000)}ms",
        "ramp_time": f"{round(seconds * 250)}ms",
        "output-format": "json",
    }
    return [FIO, *(f"--{name}={value}" for name, value in options.items())]


def table(case: Case, summaries: Mapping[str, Mapping[str, Any]], outcomes: Mapping[str, Outcome]) -> str:
    lines = [f"\n{case.title}", f"  {'':18} {case.unit:>12}  ratio    low   high"]
    for name, row in summaries.items():
        if "disqualified" in row:
            lines.append(f"  {name:18} disqualified: {row['disqualified']}")
        else:
            ratio = "{median:6.2f} {low:6.2f} {high:6.2f}".format(**row["ratio"]) if row["ratio"] else ""
            lines.append(f"  {name:18} {row['rate']:12,.0f} {ratio}")
    others = [name for name, row in summaries.items() if name not in (OURS, BESIDE, SYNC, FIO) and "rate" in row]
    if others and OURS in outcomes:
        best = max(others, key=lambda name: float(summaries[name]["rate"]))
        if ratio := runner.ratios(outcomes[OURS].rates, outcomes[best].rates):
            lines.append(f"  {OURS} against {best}: {ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})")
    return "\n".join(lines)


def report(options: argparse.Namespace) -> None:
    results = []
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        direct_bytes = QUICK_DIRECT_BYTES if options.quick else file_cases.DIRECT_BYTES
        file_cases.prepare(Path(name), direct_bytes if "direct" in options.cases else 0)
        for case in options.cases:
            outcomes = measure(case, Path(name), options)
            reference = outcomes.get(CASES[case].reference, Outcome()).rates
            summaries = {name: outcome.summary(reference, CASES[case].scale) for name, outcome in outcomes.items()}
            print(table(CASES[case], summaries, outcomes), flush=True)
            results += [{"case": case, "contender": name, **row} for name, row in summaries.items()]
    if options.json:
        record = {
            "benchmark": "files",
            "machine": runner.machine(),
            "versions": runner.versions([contender.package for contender in CONTENDERS.values()]),
            "reference": {case: CASES[case].reference for case in options.cases},
            "seconds": options.seconds,
            "results": results,
        }
        runner.write_json(options.json, record)


def installed(name: str) -> bool:
    if name == FIO:
        return shutil.which(FIO) is not None
    return name == SYNC or importlib.util.find_spec(CONTENDERS[name].module.partition(".")[0]) is not None


def main(arguments: Sequence[str] | None = None) -> None:
    everybody = [SYNC, FIO, *CONTENDERS]
    parser = argparse.ArgumentParser(description="Files: how do libraries compare?")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--contenders", nargs="+", choices=everybody, default=everybody)
    parser.add_argument("--seconds", type=float, default=1.0, help="measured; a quarter more is warm-up")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one short round, to see that everything runs")
    parser.add_argument("--folder", type=Path, help="where the files are made, by default where temporary ones are")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    if options.quick:
        options.seconds, options.rounds = 0.01, 1
    missing = [name for name in options.contenders if not installed(name)]
    options.contenders = [name for name in options.contenders if name not in missing]
    for name in missing:
        print(f"{name} is not installed, and left out")
    report(options)


if __name__ == "__main__":
    main()
