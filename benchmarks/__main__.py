"""All benchmarks, one after the other, then the report.

    python -m benchmarks --folder benchmarks/.results --only echo udp

It takes about a quarter of an hour.  In the folder are then `results.json`, `report.html` and what benchmarks/report.py
makes besides.  What cannot run here is left out, and named in the report.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import report, results
from benchmarks.runner import ROOT

FOLDER = ROOT / "benchmarks" / ".results"
QUICK = ("--rounds", "1", "--seconds", "0.02")

#: Each question with what is asked here of all that could be.
PLAN = (
    ("echo", "--modes protocol --transports tcp --connections 1 64 1000 --seconds 0.3"),
    ("echo", "--modes buffered --transports tcp --connections 64 --seconds 0.3"),
    ("echo", "--modes streams sock --transports tcp --connections 64 --seconds 0.3"),
    ("echo", "--modes streams sock --transports tcp --connections 1 1000 --rounds 3 --seconds 0.3"),
    ("echo", "--modes protocol --transports unix --connections 64 --seconds 0.3"),
    ("echo", "--modes streams sock --transports unix --connections 64 --seconds 0.3"),
    ("echo", "--modes protocol --transports tcp --connections 64 --sizes 64 16384 262144 --seconds 0.3"),
    ("echo", "--modes protocol --transports tcp --connections 64 --depths 8 --seconds 0.3"),
    ("streams", "--rounds 3 --seconds 0.1"),
    ("udp", "--seconds 0.3"),
    ("messages", "--rounds 3 --seconds 0.1"),
    ("tls", "--only echo --seconds 0.3"),
    ("tls", "--only handshake in out --rounds 3 --seconds 0.3"),
    ("https", "--rounds 3 --seconds 0.2"),
    ("accept", "--seconds 0.5"),
    ("bulk", "--seconds 0.4"),
    ("flood", "--seconds 1"),
    ("sendfile", "--sizes 4096 16384 65536 1048576 --seconds 0.3"),
    ("sendfile", "--sizes 268435456 --rounds 3 --seconds 0.5"),
    ("tail", "--seconds 1"),
    ("scheduling", "--seconds 0.05"),
    ("spawn", "--seconds 0.1"),
    ("threads", "--seconds 0.1"),
    ("cores", "--rounds 3 --seconds 0.3"),
    ("names", "--seconds 0.2"),
    ("readers", "--seconds 0.1"),
    ("libraries", "--rounds 3 --seconds 0.2"),
    ("web", "--rounds 3 --clients"),
    ("web", "--rounds 3 --servers --seconds 0.2"),
    ("memory", ""),
    ("measuring", "--seconds 0.3"),
    ("files", "--rounds 3 --seconds 0.2"),
    ("ring", "--rounds 3 --seconds 0.1"),
)


def run(benchmark: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Its record, or one that says why there is none."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "record.json")
        command = [sys.executable, "-m", f"benchmarks.{benchmark}", *arguments, "--json", str(path)]
        finished = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False)
        if finished.returncode == 0:
            return results.read(path)[0]
    complaint = finished.stderr.strip().rpartition("\n")[2]
    print(f"\n{benchmark} is left out: {complaint}")
    return {"benchmark": benchmark, "left_out": complaint, "results": []}


def main(arguments: Sequence[str] | None = None) -> None:
    questions = list(dict.fromkeys(benchmark for benchmark, _ in PLAN))
    parser = argparse.ArgumentParser(description="All benchmarks, then the report.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the report is written")
    parser.add_argument("--only", nargs="+", choices=questions, default=questions)
    parser.add_argument("--quick", action="store_true", help="one short round, to see that everything runs")
    parser.add_argument("--nice", type=int, default=0, help="of what is measured, against other work; below 0 as root")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    records = []
    for benchmark, asked in PLAN:
        if benchmark in options.only:
            print(f"\n== {benchmark} {asked}", flush=True)
            quick = QUICK if options.quick else ()
            records.append(run(benchmark, [*asked.split(), *quick, "--nice", str(options.nice)]))
    path = options.folder / "results.json"
    results.write_json(path, {"records": records})
    report.write(path, options.folder)
    print(f"\n{options.folder / 'report.html'} after {(time.monotonic() - began) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
