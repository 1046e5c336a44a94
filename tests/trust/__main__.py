"""The faults that make people leave an event loop, looked for on this one beside uvloop and asyncio.

Each soak runs on each loop in turn, in a process of its own.  `--page` writes the table into a page, between its marks.
"""

import argparse
import dataclasses
import json
import platform
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contenders import installed
from benchmarks.results import versions
from tests.children import ROOT, environment

from .child import NAMES
from .counts import Counts

_LOOPS = ("uringloop", "uringloop epoll", "uvloop", "asyncio")
_OURS = _LOOPS[:2]
#: How long one may take besides its time, until it counts as hung.
_PATIENCE_S = 180.0
_BEGIN, _END = "<!-- results -->", "<!-- end of results -->"
_COLUMNS = ("done", "wrong", "lost", "late", "leaked", "grown KiB")


def soak(loop: str, name: str, seconds: float, seed: int) -> Counts | str:
    """Run a soak on a loop in a process of its own.

    Args:
        loop: The contender's name.
        name: The soak's.
        seconds: For how long it asks.
        seed: Its choices follow from this number.

    Returns:
        Its counts, or how the process ended.
    """
    options = ["--seconds", str(seconds), "--seed", str(seed)]
    command = [sys.executable, "-m", "tests.trust.child", loop, name, *options]
    try:
        finished = subprocess.run(
            command,
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds * 3 + _PATIENCE_S,
        )
    except subprocess.TimeoutExpired:
        return "hung"
    if finished.returncode:
        print(finished.stderr[-2000:], file=sys.stderr)
        died = finished.returncode < 0
        return f"died by {signal.Signals(-finished.returncode).name}" if died else "ended with an error"
    return Counts(**json.loads(finished.stdout))


def table(results: dict[tuple[str, str], Counts | str]) -> str:
    """Return the results as a table of Markdown, a row for each soak and loop."""
    rows = ["| soak | loop | " + " | ".join(_COLUMNS) + " |", "|---|---|" + "--:|" * len(_COLUMNS)]
    for (name, loop), counts in results.items():
        if isinstance(counts, str):
            cells = [counts, *[""] * (len(_COLUMNS) - 1)]
        else:
            cells = [f"{count:,}" for count in dataclasses.astuple(counts)]
        rows.append(f"| {name} | {loop} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _write(page: Path, text: str) -> None:
    before, begin, rest = page.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"{page} has no place for results: {_BEGIN} and {_END}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.trust", description=__doc__)
    loops = [loop for loop in _LOOPS if loop in installed()]
    parser.add_argument("--loops", nargs="+", choices=installed(), default=loops, metavar="LOOP")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), metavar="SOAK")
    parser.add_argument("--seconds", type=float, default=60, help="for each soak on each loop; 60 by default")
    parser.add_argument("--seed", type=int, default=None, help="the time by default")
    parser.add_argument("--page", type=Path, help="write the results into this page")
    options = parser.parse_args(arguments)
    seed = time.time_ns() % 1_000_000 if options.seed is None else options.seed
    results: dict[tuple[str, str], Counts | str] = {}
    for name in options.only:
        for loop in options.loops:
            counts = results[name, loop] = soak(loop, name, options.seconds, seed)
            print(f"{name:20} {loop:16} {counts}", flush=True)
    found = ", ".join(f"{package} {version}" for package, version in versions(("uringloop", "uvloop")).items())
    about = f"{found}, Linux {platform.release().partition('-')[0]}, OpenSSL {ssl.OPENSSL_VERSION.split()[1]}"
    said = f"Seed {seed}, {options.seconds:g} s for each soak on each loop, {time.strftime('%F')}: {about}."
    if options.page:
        _write(options.page, f"{said}\n\n{table(results)}")
    print(f"\n{said}\n")
    wrong = [
        (name, loop)
        for (name, loop), counts in results.items()
        if loop in _OURS and (isinstance(counts, str) or counts.wrong or counts.lost or counts.leaked)
    ]
    for name, loop in wrong:
        print(f"{name} on {loop} is not as it should be", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
