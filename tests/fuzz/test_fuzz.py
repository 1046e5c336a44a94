"""A few lives of each kind, in a process of their own; `python -m tests.fuzz` goes on for as long as one likes."""

import pytest

import uringloop
from tests.children import python
from tests.fuzz.__main__ import KINDS
from tests.variants import EPOLL, EPOLL_ONCE

BACKENDS = [name for name in ("io_uring", "epoll") if uringloop.is_available() or name == "epoll"]


#: In CI enough on the second backend.
_KINDS_ONCE = ("sqes", "streams", "eager")


@pytest.mark.parametrize("backend", BACKENDS if EPOLL else BACKENDS[:1])
@pytest.mark.parametrize("kind", KINDS)
def test_some_lives(kind: str, backend: str) -> None:
    if EPOLL_ONCE and backend == "epoll" and kind not in _KINDS_ONCE:
        pytest.skip("make test runs it")
    lives = ["--seed", "1", "--lives", "15", "--seconds", "20", "--backend", backend]
    finished = python(["-m", "tests.fuzz", kind, *lives])
    assert (finished.returncode, finished.stderr) == (0, "")
    assert f"lives of {kind} from seed 1 on" in finished.stdout
