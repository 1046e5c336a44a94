"""Cases, rounds, ratios, tables, records.

Absolute figures belong to one machine on one day; only ratios within a run carry over.  So the contenders take turns
within each round, their order rotates from round to round, and a ratio is taken within its round.  A ratio above 1
always means better.
"""

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from benchmarks import contenders, runner
from benchmarks.runner import ROOT, Disqualified

#: A load generator that is busy for more than this share of the time bounds the rate.
SATURATED = 0.95
#: The CPU time of what is measured: steadier than the rate on a machine that has other work.
CPU = "cpu"

T = TypeVar("T")
Figures = Mapping[str, float]


class Spread(NamedTuple):
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Case:
    """One question to all contenders.  `measure` gives figures by name, "value" among them; it may disqualify."""

    name: str
    measure: Callable[[str], Figures]
    contenders: Sequence[str]
    unit: str = "messages/s"
    lower_is_better: bool = False


@dataclass
class Outcome:
    samples: dict[int, Figures] = field(default_factory=dict)  # by round
    disqualified: str = ""

    def values(self) -> dict[int, float]:
        return {number: sample["value"] for number, sample in self.samples.items()}

    def median(self) -> float:
        return statistics.median(self.values().values())


def interleaved(order: Sequence[T], rounds: int) -> Iterator[tuple[int, T]]:
    for number in range(rounds):
        first = number % len(order)
        for each in (*order[first:], *order[:first]):
            yield number, each


def ask(case: Case, rounds: int) -> dict[str, Outcome]:
    outcomes = {contender: Outcome() for contender in case.contenders}
    for number, contender in interleaved(case.contenders, rounds):
        outcome = outcomes[contender]
        if not outcome.disqualified:
            try:
                outcome.samples[number] = {name: _rounded(figure) for name, figure in case.measure(contender).items()}
            except Disqualified as reason:
                outcome.disqualified = str(reason)
    return outcomes


def _rounded(figure: float) -> float:
    """None of them is more exact."""
    return float(f"{figure:.5g}")


def ratio(case: Case, mine: Outcome, other: Outcome) -> dict[str, float] | None:
    """Median and spread of what was measured side by side."""
    ours, theirs = mine.values(), other.values()
    ratios = [ours[number] / theirs[number] for number in ours.keys() & theirs.keys()]
    if case.lower_is_better:
        ratios = [1 / each for each in ratios]
    return spread(ratios)._asdict() if ratios else None


def recorded_ratio(result: Mapping[str, Any], mine: str, other: str, figure: str = "value") -> Spread | None:
    """The same from a record, between any two contenders; of the figures besides the value, lower is better."""
    ours, theirs = (result["contenders"].get(name, {}).get("samples") for name in (mine, other))
    if not ours or not theirs:
        return None
    values = [(_figure(each, figure), _figure(beside, figure)) for each, beside in zip(ours, theirs, strict=True)]
    ratios = [mine_value / other_value for mine_value, other_value in values if mine_value and other_value]
    if not ratios:
        return None
    return spread([1 / each for each in ratios] if result["lower_is_better"] or figure != "value" else ratios)


def _figure(sample: Figures, name: str) -> float:
    """Return a figure of a sample, 0 if it has none; CPU is its CPU time, by whichever names it has that."""
    if name != CPU:
        return sample.get(name, 0)
    return sample.get("cpu_us") or sample.get("user_us", 0) + sample.get("system_us", 0)


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def best_peer(case: Case, outcomes: Mapping[str, Outcome]) -> str | None:
    others = {*contenders.LOOPS, *contenders.TRANSPORTS}
    peers = [name for name in outcomes if name in others and contenders.OURS not in name.split()]
    peers = [name for name in peers if outcomes[name].samples and not outcomes[name].disqualified]
    choose = min if case.lower_is_better else max
    return choose(peers, key=lambda name: outcomes[name].median(), default=None)


def summary(case: Case, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    best = best_peer(case, outcomes)
    against = {"against_reference": contenders.REFERENCE, "against_best": best}
    rows: dict[str, Any] = {}
    for name, outcome in outcomes.items():
        if outcome.disqualified:
            rows[name] = {"disqualified": outcome.disqualified}
            continue
        columns = list(outcome.samples.values())
        row: dict[str, Any] = {key: statistics.median(column[key] for column in columns) for key in columns[0]}
        for key, other in against.items():
            compared = outcomes.get(other or "")
            row[key] = ratio(case, outcome, compared) if compared and not compared.disqualified else None
        rows[name] = {**row, "samples": columns}
    return {
        "case": case.name,
        "unit": case.unit,
        "lower_is_better": case.lower_is_better,
        "best": best,
        "contenders": rows,
    }


#: The units of figures that stand beside the value, by the end of their name.
_UNITS = {"_us": " µs", "_percent": " %", "_MiB": " MiB"}


def figure_names(result: Mapping[str, Any]) -> dict[str, str]:
    """Return the heads of the columns beside the value, by the name of the figure."""
    names = dict.fromkeys(name for row in result["contenders"].values() for name in row)
    ends = ((name, end) for name in names for end in _UNITS if name.endswith(end))
    return {name: name.removesuffix(end) + _UNITS[end] for name, end in ends}


def table(result: Mapping[str, Any]) -> str:
    """For the terminal; * marks where the load generator was busy all the time and bounds the rate."""
    names = figure_names(result)
    heads = "".join(f"{head:>11}" for head in names.values())
    lines = [f"\n{result['case']}", f"  {'':20} {result['unit']:>12}  ratio    low   high {heads}"]
    for contender, row in result["contenders"].items():
        if "disqualified" in row:
            lines.append(f"  {contender:20} disqualified: {row['disqualified']}")
            continue
        against = row["against_reference"]
        ratios = "{median:6.2f} {low:6.2f} {high:6.2f}".format(**against) if against else " " * 20
        mark = "*" if row.get("load_busy", 0) > SATURATED else " "
        figures = "".join(f"{row[name]:11.2f}" for name in names)
        value = f"{row['value']:12,.0f}" if row["value"] >= 100 else f"{row['value']:12.3g}"
        lines.append(f"  {contender:20} {value}{mark}{ratios} {figures}")
    for ours, measured in contenders.MEASURED.items():
        if both := recorded_ratio(result, measured, ours):
            lines.append("  {} against {}: {:.3f} ({:.3f} to {:.3f})".format(measured, ours, *both))
        if cpu := recorded_ratio(result, measured, ours, CPU):
            lines.append("  {} against {} by CPU: {:.3f} ({:.3f} to {:.3f})".format(measured, ours, *cpu))
    for ours, other in contenders.OTHERS.items():
        if best := result["contenders"].get(ours, {}).get("against_best"):
            lines.append(f"  {ours} against {result['best']}, the best other loop: {best['median']:.2f}")
        for peer in dict.fromkeys((result["best"], contenders.REFERENCE)):
            if peer and (cpu := recorded_ratio(result, ours, peer, CPU)):
                lines.append("  {} against {} by CPU: {:.2f} ({:.2f} to {:.2f})".format(ours, peer, *cpu))
        if before := recorded_ratio(result, ours, other):
            lines.append("  {} against the other checkout: {:.2f} ({:.2f} to {:.2f})".format(ours, *before))
        if cpu := recorded_ratio(result, ours, other, CPU):
            lines.append("  {} against the other checkout by CPU: {:.2f} ({:.2f} to {:.2f})".format(ours, *cpu))
    return "\n".join(lines)


def parser(
    description: str | None, *, rounds: int = 5, seconds: float = 0.5, transports: bool = False
) -> argparse.ArgumentParser:
    """The options that all benchmarks share; `transports` adds the contenders that change only a loop's transports."""
    available = contenders.installed() + (contenders.installed_transports() if transports else [])
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seconds", type=float, default=seconds, help="measured for each contender in each round")
    parser.add_argument("--nice", type=int, default=0, help="what is measured, against other work; below 0 as root")
    parser.add_argument("--loops", nargs="+", choices=available, default=available)
    parser.add_argument(
        "--other", type=Path, metavar="FOLDER", help="another checkout, built in place, to compare with"
    )
    parser.add_argument("--json", type=_writable, metavar="FILE", help="where to write the record")
    return parser


def _writable(text: str) -> Path:
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"no such folder: {path.parent}")
    return path


def report(benchmark: str, cases: Iterator[Case], options: argparse.Namespace) -> None:
    """Asks each case, prints its table, and writes the record if asked for.

    `cases` is a generator: what it holds open around a case, servers for instance, is open while the case is asked.
    """
    runner.allow_many_files()
    runner.niceness = options.nice
    if options.other is not None:
        runner.other_root = options.other.resolve()
        options.loops = [
            *options.loops,
            *(contenders.OTHERS[loop] for loop in options.loops if loop in contenders.OTHERS),
        ]
    if missing := contenders.missing():
        print(f"not installed: {', '.join(missing)}")
    results: list[dict[str, Any]] = []
    with contextlib.closing(cases):  # type: ignore[type-var]
        for case in cases:
            results.append(summary(case, ask(case, options.rounds)))
            print(table(results[-1]), flush=True)
    if options.json:
        record = {
            "benchmark": benchmark,
            "command": f"python -m benchmarks.{benchmark} {' '.join(sys.argv[1:])}".rstrip(),
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "versions": versions(options.loops),
            "missing": missing,
            "reference": contenders.REFERENCE,
            "rounds": options.rounds,
            "seconds": options.seconds,
            "results": results,
        }
        write_json(options.json, record)


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a file: one of a benchmark, or those of all."""
    record = json.loads(path.read_text())
    records: list[dict[str, Any]] = record.get("records", [record])
    if not all("results" in each for each in records):
        raise ValueError(f"{path} is no record of a benchmark")
    return records


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=1) + "\n")


def machine() -> dict[str, Any]:
    models = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "kernel": platform.release(),
        "cpu": models[0] if models else platform.machine(),
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "niceness": runner.niceness,
        "tcp_congestion_control": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
    }


def versions(packages: Sequence[str]) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in dict.fromkeys(name.partition(" ")[0] for name in packages):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    with contextlib.suppress(OSError, subprocess.CalledProcessError):  # no git, or no checkout
        command = ["git", "rev-parse", "--short", "HEAD"]
        found["commit"] = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    return found
