"""A moment of each soak of `python -m tests.trust`: nothing is wrong, lost or leaked."""

from pathlib import Path

import pytest

from tests.trust import __main__ as command
from tests.trust.__main__ import main, soak, table
from tests.trust.child import SOAKS
from tests.trust.counts import Counts

#: Those that take a moment; tests/load and tests/loop/test_server.py have parts of the others.
_QUICK = sorted(SOAKS.keys() - {"no descriptors", "floods"})


@pytest.mark.parametrize("name", _QUICK)
def test_nothing_is_wrong_on_this_loop(name: str) -> None:
    counts = soak("uringloop", name, 0.2, seed=1)
    assert isinstance(counts, Counts), counts
    assert (counts.wrong, counts.lost, counts.leaked) == (0, 0, 0)
    assert counts.done > 0


def test_a_page_gets_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n")
    ends: list[Counts | str] = [Counts(done=1000), "hung"]
    monkeypatch.setattr(command, "soak", lambda *_: ends.pop(0))
    options = ["--only", "floods", "--seconds", "1", "--seed", "7", "--page", str(page)]
    assert main([*options, "--loops", "asyncio", "uringloop"]) == 1
    text = page.read_text()
    assert text.startswith("before\n<!-- results -->\nSeed 7, 1 s for each soak on each loop")
    assert text.endswith("<!-- end of results -->\nafter\n")
    assert "| floods | asyncio | 1,000 | 0 | 0 | 0 | 0 | 0 |" in text
    assert "| floods | uringloop | hung |" in text
    assert "old" not in text


def test_a_fault_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "soak", lambda *_: Counts(done=1, wrong=1))
    assert main(["--only", "floods", "--loops", "uringloop"]) == 1
    assert main(["--only", "floods", "--loops", "asyncio"]) == 0


def test_a_table_has_a_row_for_each_soak_and_loop() -> None:
    rows = table({("floods", "asyncio"): Counts(), ("floods", "uringloop"): "died by SIGSEGV"}).splitlines()
    assert len(rows) == 4
    assert len({row.count("|") for row in rows}) == 1
