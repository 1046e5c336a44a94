"""`benchmarks/ring.py` runs: every case with what is installed; what it reads is checked."""

import json
from pathlib import Path

import pytest

from benchmarks import ring, ring_cases
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
