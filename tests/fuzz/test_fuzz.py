"""A few lives of each kind, in a process of their own; `python -m tests.fuzz` goes on for as long as one likes."""

import pytest

import uringloop
from tests.children import python
from tests.fuzz.__main__ import KINDS


@pytest.mark.skipif(not uringloop.is_available(), reason="no io_uring here")
@pytest.mark.parametrize("kind", KINDS)
def test_some_lives(kind: str) -> None:
    finished = python(["-m", "tests.fuzz", kind, "--seed", "1", "--lives", "15", "--seconds", "20"])
    assert (finished.returncode, finished.stderr) == (0, "")
    assert f"lives of {kind} from seed 1 on" in finished.stdout
