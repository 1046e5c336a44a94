"""How do event loops compare in TCP echo?

    python -m benchmarks.echo --modes protocol --connections 1 64 1000 --rounds 5 --json echo.json

The server is examples/echo_server.py, alone on one CPU; the load generator has another one. Where the load
generator is busy all the time (marked with *), it bounds the rate, and the CPU time per message says more.
"""

import argparse
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import runner
from benchmarks.runner import Disqualified, Sample

CONTENDERS = {
    "asyncio": "asyncio:SelectorEventLoop",
    "uvloop": "uvloop:new_event_loop",
    "uringloop": "uringloop:new_event_loop",
    "blazio": "blazio:new_event_loop",
    "talyn": "talyn:Loop",
}
REFERENCE = "uvloop"
SATURATED = 0.95

Measure = Callable[[str, int, argparse.Namespace], dict[str, "Outcome"]]


@dataclass
class Outcome:
    samples: dict[int, Sample] = field(default_factory=dict)  # by round
    disqualified: str = ""

    def rates(self) -> dict[int, float]:
        return {number: sample.rate for number, sample in self.samples.items()}

    def summary(self, reference: Mapping[int, float]) -> dict[str, Any]:
        if self.disqualified:
            return {"disqualified": self.disqualified}
        columns = [asdict(sample) for sample in self.samples.values()]
        medians = {name: median(column[name] for column in columns) for name in columns[0]}
        ratio = runner.ratios(self.rates(), reference)
        return {**medians, "ratio": ratio and ratio._asdict(), "samples": columns}


def measure(mode: str, connections: int, options: argparse.Namespace) -> dict[str, Outcome]:
    script = str(runner.ROOT / "examples" / "echo_server.py")
    return compare(
        lambda loop: [sys.executable, script, "--mode", mode, "--loop", CONTENDERS[loop], "--port", "0"],
        connections,
        options,
    )


def compare(
    command: Callable[[str], Sequence[str]], connections: int, options: argparse.Namespace, *, datagrams: bool = False
) -> dict[str, Outcome]:
    """Drive the echo server that each loop's command starts."""
    server_cpu, load_cpu = runner.server_and_load_cpu()
    outcomes = {loop: Outcome() for loop in options.loops}
    for number, loop in runner.interleaved(options.loops, options.rounds):
        outcome = outcomes[loop]
        if outcome.disqualified:
            continue
        try:
            with runner.serving(command(loop), server_cpu) as server:
                outcome.samples[number] = runner.drive(
                    server, load_cpu, connections, options.size, options.depth, options.seconds, datagrams=datagrams
                )
        except Disqualified as reason:
            outcome.disqualified = str(reason)
    return outcomes


def table(title: str, summaries: Mapping[str, dict[str, Any]]) -> str:
    heading = "messages/s  ratio    low   high   user µs  system µs    p50 µs    p99 µs"
    lines = [f"\n{title}", f"  {'':10} {heading}"]
    for loop, row in summaries.items():
        if "disqualified" in row:
            lines.append(f"  {loop:10} disqualified: {row['disqualified']}")
            continue
        ratio = row["ratio"]
        ratios = "{median:6.2f} {low:6.2f} {high:6.2f}".format(**ratio) if ratio else f"{'-':>6} {'':13}"
        mark = "*" if row["load_busy"] > SATURATED else " "
        cpu = f"{row['user_us']:9.2f} {row['system_us']:10.2f}"
        lines.append(f"  {loop:10} {row['rate']:9.0f}{mark} {ratios} {cpu} {row['p50_us']:9.1f} {row['p99_us']:9.1f}")
    return "\n".join(lines)


def importable(loop: str) -> bool:
    return importlib.util.find_spec(CONTENDERS[loop].partition(":")[0]) is not None


def parser(description: str, connections: Sequence[int]) -> argparse.ArgumentParser:
    """The options that the echo benchmarks share, with the numbers of connections that they try by default."""
    available = [loop for loop in CONTENDERS if importable(loop)]
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--connections", nargs="+", type=int, default=connections)
    parser.add_argument("--size", type=int, default=1024, help="of a message, in bytes")
    parser.add_argument("--depth", type=int, default=1, help="messages outstanding on each connection")
    parser.add_argument("--seconds", type=float, default=2.0, help="measured; a quarter more is warm-up")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loops", nargs="+", choices=available, default=available)
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser


def report(benchmark: str, modes: Sequence[str], options: argparse.Namespace, measure: Measure) -> None:
    """Measure each mode with each number of connections, print the tables, and write the record if asked for."""
    runner.allow_many_files()
    results: list[dict[str, Any]] = []
    record = {
        "benchmark": benchmark,
        "machine": runner.machine(),
        "versions": runner.versions(options.loops),
        "reference": REFERENCE,
        "size": options.size,
        "depth": options.depth,
        "seconds": options.seconds,
        "results": results,
    }
    for mode in modes:
        for connections in options.connections:
            outcomes = measure(mode, connections, options)
            reference = outcomes[REFERENCE].rates() if REFERENCE in outcomes else {}
            summaries = {loop: outcome.summary(reference) for loop, outcome in outcomes.items()}
            print(table(f"{mode}, {connections} connections, {options.size} bytes", summaries), flush=True)
            for loop, summary in summaries.items():
                results.append({"mode": mode, "connections": connections, "loop": loop, **summary})
    if options.json:
        runner.write_json(options.json, record)


def main(arguments: Sequence[str] | None = None) -> None:
    modes = ["protocol", "streams", "sock"]
    options_parser = parser("TCP echo: how do event loops compare?", [1, 64, 1000])
    options_parser.add_argument("--modes", nargs="+", choices=modes, default=modes)
    options = options_parser.parse_args(arguments)
    report("echo", options.modes, options, measure)


if __name__ == "__main__":
    main()
