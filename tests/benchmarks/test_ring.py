"""`benchmarks/ring.py` runs: every case with what is installed; what it reads is checked."""

import argparse
import json
from pathlib import Path

import pytest

from benchmarks import ring, ring_cases, runner
from tests.kernel import needs

pytestmark = needs("io_uring")


def test_every_case_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = tmp_path / "ring.json"
    ring.main(["--quick", "--folder", str(tmp_path), "--json", str(record)])
    content = json.loads(record.read_text())
    assert len(content["results"]) == len(ring.NOPS) + len(ring.READS) * len(ring.QUICK_DEPTHS)
    for result in content["results"]:
        rows = result["contenders"]
        for name in (ring.OURS,) if ring.OURS in rows else ("operations", "by hand"):
            assert rows[name].get("value"), capsys.readouterr().out


def test_wrong_content_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"".join(map(ring_cases.block, range(4))).replace(b"\2", b"\3"))
    with pytest.raises(ValueError, match="is not what was written"):
        ring_cases.read_rate(tmp_path / "file", False, 4, 0.05)


def test_another_checkout_runs_its_own_rings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").touch()
    (tmp_path / "benchmarks" / "ring_cases.py").write_text("print(7)")
    monkeypatch.setattr(runner, "other_root", tmp_path)
    options = argparse.Namespace(seconds=0.01, quick=True)
    cases = [case for case, _ in ring.cases(options, tmp_path, [ring.C, ring.FIO, "liburing"])]
    assert [len(case.contenders) for case in cases] == [6] * len(ring.NOPS) + [4] * len(ring.READS)
    for case in cases[0], cases[-1]:
        assert case.measure(case.contenders[-1]) == {"value": 7}
