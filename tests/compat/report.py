"""What the runner says at the end: a table by class, what did not pass and why, and all of it as JSON."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.compat.loops import LoopChoice
from tests.compat.outcomes import Outcome, Status

_TAIL_LINES = 40


@dataclass(frozen=True)
class Run:
    """A finished run."""

    choice: LoopChoice
    loop_class: str
    outcomes: tuple[Outcome, ...]
    seconds: float


def print_report(run: Run, *, verbose: bool) -> None:
    outcomes = run.outcomes
    _print_table(outcomes)
    bad = [outcome for outcome in outcomes if outcome.status.is_bad]
    for heading, status in (
        ("Skipped by CPython", Status.SKIPPED_BY_CPYTHON),
        ("Skipped by tests/compat/skips.py", Status.SKIPPED_BY_LIST),
    ):
        _print_reasons(heading, [outcome for outcome in outcomes if outcome.status is status])
    _print_reasons("Not passed", bad)
    if verbose:
        for outcome in bad:
            _print_output(outcome)
    counts = Counter(outcome.status for outcome in outcomes)
    simulated = sum(1 for outcome in outcomes if outcome.loops_simulated)
    print(
        f"\n{run.choice.label} ({run.loop_class}) on Python {platform.python_version()}: "
        f"{counts[Status.PASSED]} of {len(outcomes)} passed in {run.seconds:.0f} s",
        end="",
    )
    others = (status for status in Status if counts[status] and status is not Status.PASSED)
    print(*(f", {counts[status]} {status.value}" for status in others), sep="")
    if simulated:
        print(f"{simulated} of them script the passage of time, so ran partly on CPython's simulated loop")


def _print_table(outcomes: Sequence[Outcome]) -> None:
    by_class: dict[str, Counter[Status]] = {}
    for outcome in outcomes:
        by_class.setdefault(outcome.test_id.partition(".")[0], Counter())[outcome.status] += 1
    total: Counter[Status] = Counter(outcome.status for outcome in outcomes)
    width = max(map(len, by_class))
    cells = (f"  {status.value}" for status in Status)
    print(f"\n{'':{width}} {'tests':>7}", *cells)
    for name, counts in [*by_class.items(), ("total", total)]:
        cells = (f"{counts[status] or '':>{len(status.value) + 2}}" for status in Status)
        print(f"{name:{width}} {counts.total():>7}", *cells)


def _print_reasons(heading: str, outcomes: Sequence[Outcome]) -> None:
    if outcomes:
        print(f"\n{heading}:")
    for outcome in outcomes:
        print(f"  {outcome.test_id}: {outcome.status.value}: {outcome.reason}")


def _print_output(outcome: Outcome) -> None:
    lines = outcome.output.strip().splitlines()
    print(f"\n=== {outcome.test_id} ({outcome.status.value}, {outcome.seconds:.1f} s)")
    if len(lines) > _TAIL_LINES:
        print(f"... {len(lines) - _TAIL_LINES} lines before")
    print("\n".join(lines[-_TAIL_LINES:]))


def write_json(path: Path, run: Run) -> None:
    document = {
        "loop": run.choice.name,
        "loop_class": run.loop_class,
        "sleep": run.choice.sleep if run.choice.name == "uringloop" else None,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "seconds": round(run.seconds, 1),
        "counts": Counter(outcome.status.value for outcome in run.outcomes),
        "tests": [{**asdict(outcome), "status": outcome.status.value} for outcome in run.outcomes],
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
