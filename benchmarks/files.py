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
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import file_cases, results, runner
from benchmarks.contenders import EPOLL
from benchmarks.file_cases import BESIDE, CONTENDERS, OURS, SYNC
from benchmarks.results import Case, Outcome
from benchmarks.runner import Disqualified

FIO = "fio"
TIMEOUT_S = 120
QUICK_DIRECT_BYTES = 4 << 20


class Question(NamedTuple):
    title: str
    unit: str
    #: How many of what is counted are one of these.
    scale: int = 1
    reference: str = SYNC


CASES = {
    "open": Question("open, read 4 KiB, close, one by one", "files/s"),
    "many": Question(f"the same, {file_cases.SMALL_FILES} at once", "files/s"),
    "new": Question("open a new file, write 4 KiB, close, one by one", "files/s"),
    "new_many": Question(f"the same, {file_cases.SMALL_FILES} at once", "files/s"),
    "read": Question("64 KiB reads", "MiB/s", 1 << 20),
    "write": Question("4 KiB writes", "writes/s"),
    "seek": Question("seek and read 4 KiB", "reads/s"),
    "seek64": Question(f"the same, {file_cases.TASKS} tasks", "reads/s"),
    "lines": Question("lines of text", "lines/s"),
    "direct": Question(f"random reads of 4 KiB with O_DIRECT, {file_cases.TASKS} at once", "reads/s", reference=FIO),
}


def contenders_of(case: str, chosen: Sequence[str]) -> list[str]:
    if CASES[case].reference == FIO:
        # No other library reads at an offset into memory that is aligned.
        return [name for name in chosen if name in (FIO, OURS, EPOLL, BESIDE)]
    return [name for name in chosen if name != FIO]


def ask(case: str, folder: Path, options: argparse.Namespace) -> tuple[Case, dict[str, Outcome]]:
    def measure(name: str) -> dict[str, float]:
        command = fio(folder, options.seconds) if name == FIO else sample(name, case, folder, options.seconds)
        answer = run(command)
        rate = answer["jobs"][0]["read"]["iops"] if name == FIO else answer
        return {"value": rate / CASES[case].scale}

    asked = Case(CASES[case].title, measure, contenders_of(case, options.contenders), CASES[case].unit)
    return asked, results.ask(asked, options.rounds)


def run(command: Sequence[str], root: Path = runner.ROOT) -> Any:
    """What a program on one CPU, which runs in a checkout, prints as JSON."""
    cpu, _ = runner.server_and_load_cpu()
    with runner.start(command, [cpu], subprocess.PIPE, root=root) as process:
        try:
            printed, complaints = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise Disqualified(f"not done after {TIMEOUT_S} s") from None
    if process.returncode != 0:
        raise Disqualified((complaints.strip() or "no output").splitlines()[-1])
    return json.loads(printed)


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
        "thread": 1,  # a process of its own would leave the session, and with it the niceness
        "time_based": 1,
        "runtime": f"{round(seconds * 1000)}ms",
        "ramp_time": f"{round(seconds * 250)}ms",
        "output-format": "json",
    }
    return [FIO, *(f"--{name}={value}" for name, value in options.items())]


def summary(case: Case, outcomes: Mapping[str, Outcome], reference: str) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name, outcome in outcomes.items():
        if outcome.disqualified:
            rows[name] = {"disqualified": outcome.disqualified}
            continue
        rows[name] = {"value": outcome.median(), "samples": list(outcome.values().values())}
        if reference in outcomes:
            rows[name]["against_reference"] = results.ratio(case, outcome, outcomes[reference])
    peers = [name for name in rows if not name.startswith((OURS, SYNC, FIO)) and "value" in rows[name]]
    best = max(peers, key=lambda name: outcomes[name].median(), default=None)
    for ours in (OURS, EPOLL):
        if best and "value" in rows.get(ours, ()):
            rows[ours]["against_best"] = results.ratio(case, outcomes[ours], outcomes[best])
    return {"case": case.name, "unit": case.unit, "reference": reference, "best": best, "contenders": rows}


def table(result: Mapping[str, Any]) -> str:
    lines = [f"\n{result['case']}", f"  {'':18} {result['unit']:>12}  ratio    low   high"]
    for name, row in result["contenders"].items():
        if "disqualified" in row:
            lines.append(f"  {name:18} disqualified: {row['disqualified']}")
        else:
            lines.append(f"  {name:18} {row['value']:12,.0f} {_ratio(row.get('against_reference'))}".rstrip())
    for ours in (OURS, EPOLL):
        if against := result["contenders"].get(ours, {}).get("against_best"):
            lines.append(f"  {f'{ours} against ' + result['best']:31} {_ratio(against)}")
    return "\n".join(lines)


def _ratio(against: Mapping[str, float] | None) -> str:
    return "{median:6.2f} {low:6.2f} {high:6.2f}".format(**against) if against else ""


def report(options: argparse.Namespace, missing: Sequence[str]) -> None:
    found = []
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        direct_bytes = QUICK_DIRECT_BYTES if options.quick else file_cases.DIRECT_BYTES
        file_cases.prepare(Path(name), direct_bytes if "direct" in options.cases else 0)
        for case in options.cases:
            found.append(summary(*ask(case, Path(name), options), CASES[case].reference))
            print(table(found[-1]), flush=True)
    if options.json:
        record = {
            "benchmark": "files",
            "machine": results.machine(),
            "versions": results.versions([contender.package for contender in CONTENDERS.values()]),
            "missing": missing,
            "rounds": options.rounds,
            "seconds": options.seconds,
            "results": found,
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")


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
    parser.add_argument("--nice", type=int, default=0, help="what is measured, against other work; below 0 as root")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that everything runs")
    parser.add_argument("--folder", type=Path, help="where the files are made, by default where temporary ones are")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    runner.niceness = options.nice
    if options.quick:
        options.seconds, options.rounds = 0.01, 1
    missing = [name for name in options.contenders if not installed(name)]
    options.contenders = [name for name in options.contenders if name not in missing]
    for name in missing:
        print(f"{name} is not installed, and left out")
    report(options, missing)


if __name__ == "__main__":
    main()
