"""Ratios, records, the report, the comparison of two runs."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compare, results, targets
from benchmarks.results import Case
from benchmarks.runner import Disqualified

ROOT = Path(__file__).resolve().parents[2]
#: By loop, in three rounds.
RATES = {"asyncio": [50.0, 60.0, 40.0], "uvloop": [100.0, 200.0, 100.0], "uringloop": [150.0, 240.0, 160.0]}


def case(rates: Mapping[str, list[float]], name: str = targets.PROTOCOL_64, *, lower_is_better: bool = False) -> Case:
    left = {loop: iter(each) for loop, each in rates.items()}
    return Case(name, lambda loop: {"value": next(left[loop])}, list(rates), lower_is_better=lower_is_better)


def asked(case: Case, rounds: int = 3) -> dict[str, Any]:
    return results.summary(case, results.ask(case, rounds))


def recorded(path: Path, rates: Mapping[str, list[float]]) -> Path:
    results.write_json(path, {"benchmark": "echo", "results": [asked(case(rates))]})
    return path


def test_ratios_are_taken_within_rounds() -> None:
    ours = asked(case(RATES))["contenders"]["uringloop"]
    assert ours["value"] == 160
    assert ours["against_reference"] == {"median": 1.5, "low": 1.2, "high": 1.6}


def test_lower_is_better_turns_ratios_round() -> None:
    result = asked(case(RATES, lower_is_better=True))
    assert result["best"] == "asyncio"
    assert result["contenders"]["asyncio"]["against_reference"] == {"median": 2.5, "low": 2.0, "high": 10 / 3}


def test_who_is_disqualified_is_neither_asked_again_nor_compared_with() -> None:
    times: list[str] = []

    def measure(loop: str) -> dict[str, float]:
        times.append(loop)
        if loop == "uvloop":
            raise Disqualified("content differs")
        return {"value": 1.0}

    result = asked(Case("any", measure, ["asyncio", "uvloop", "uringloop"]))
    assert times.count("uvloop") == 1
    assert result["contenders"]["uvloop"] == {"disqualified": "content differs"}
    assert result["best"] == "asyncio"
    assert result["contenders"]["uringloop"]["against_reference"] is None
    assert "disqualified: content differs" in results.table(result)


def test_contenders_take_turns_and_another_begins_each_round() -> None:
    assert list(results.interleaved("ab", 2)) == [(0, "a"), (0, "b"), (1, "b"), (1, "a")]


def test_what_was_reached_is_beside_what_was_wanted() -> None:
    table = targets.markdown({targets.PROTOCOL_64: asked(case({**RATES, "C epoll": [150.0, 240.0, 320.0]}))})
    assert (
        "| TCP protocol echo, 64 connections | 1.50 (1.20 to 1.60) >= 1.40 | 1.50 (1.20 to 1.60) >= 1.15 (uvloop) |"
        in table
    )
    assert "| 1.00 (0.50 to 1.00) < 1.10 |" in table
    assert "| TLS echo, 64 | not measured |" in table


def test_the_backends_are_compared_with_other_loops_and_not_with_each_other() -> None:
    result = asked(case({**RATES, "uringloop epoll": [110.0, 230.0, 120.0]}))
    assert result["best"] == "uvloop"
    row = "| TCP protocol echo, 64 connections, on epoll | 1.15 (1.10 to 1.20) >= 1.15 | 1.15 (1.10 to 1.20) (uvloop) |"
    assert row in targets.markdown({targets.PROTOCOL_64: result})


def test_a_change_is_told_where_the_spreads_do_not_meet(tmp_path: Path) -> None:
    before = recorded(tmp_path / "before.json", RATES)
    after = recorded(tmp_path / "after.json", {**RATES, "uringloop": [300.0, 600.0, 300.0]})
    _, line = compare.lines(before, after, "uringloop")
    assert line.split()[-2:] == ["x2.00", "better"]
    _, line = compare.lines(after, before, "uringloop")
    assert line.split()[-1] == "worse"
    _, line = compare.lines(after, after, "uringloop")
    assert line.split()[-1] == "x1.00"


def test_what_is_no_record_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match="no record"):
        results.read(path)


def test_the_report_stands_alone(tmp_path: Path) -> None:
    record = str(recorded(tmp_path / "record.json", RATES))
    # matplotlib, where it is installed, keeps files open.
    subprocess.run([sys.executable, "-m", "benchmarks.report", record, "--folder", tmp_path], cwd=ROOT, check=True)
    page = (tmp_path / "report.html").read_text()
    assert "1.50 (1.20 to 1.60)" in page
    assert "src=" not in page
    assert "href=" not in page.replace("xlink:href=", "").replace('href="#', "")
    assert (tmp_path / "speed.md").read_text().startswith("| case |")


def test_everything_with_its_report(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "spawn", "udp", "--folder", str(tmp_path)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert finished.returncode == 0, finished.stderr
    records = json.loads((tmp_path / "results.json").read_text())["records"]
    assert [(record["benchmark"], record.get("left_out")) for record in records] == [("udp", None), ("spawn", None)]
    assert "udp, 32 connections" in (tmp_path / "report.html").read_text()
