"""examples/chain_fsync.py, whole and broken at each of its writes."""

from pathlib import Path

import pytest

from tests.examples.test_examples import run

RECORD_BYTES = 8 + len("record 0")


def test_all_records_are_durable(tmp_path: Path) -> None:
    finished = run("chain_fsync.py", tmp_path / "journal")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.splitlines()[-1] == f"record 2: durable, {3 * RECORD_BYTES} bytes so far"
    content = (tmp_path / "journal").read_bytes()
    assert content == b"".join(b"\x08" + bytes(7) + b"record %d" % number for number in range(3))


@pytest.mark.parametrize(
    ("limit", "why"),
    [
        (RECORD_BYTES, "part 0 of the chain (Write) failed: File too large; cancelled: 1, 2"),
        (RECORD_BYTES + 3, "part 0 of the chain (Write) moved less than was asked for: 3; cancelled: 1, 2"),
        (RECORD_BYTES + 8, "part 1 of the chain (Write) failed: File too large; cancelled: 2"),
    ],
)
def test_a_record_that_does_not_fit(tmp_path: Path, limit: int, why: str) -> None:
    finished = run("chain_fsync.py", tmp_path / "journal", "--limit", str(limit))
    assert (finished.returncode, finished.stderr) == (0, "")
    first, second = finished.stdout.splitlines()
    assert first == f"record 0: durable, {RECORD_BYTES} bytes so far"
    assert why in second
    assert (tmp_path / "journal").stat().st_size == RECORD_BYTES
