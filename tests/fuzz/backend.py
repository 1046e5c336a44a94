"""The backend that a run is for: loops and rings of the fuzzers ask here."""

import os
from typing import Literal

_VARIABLE = "URINGLOOP_BACKEND"


def choose(backend: Literal["io_uring", "epoll"]) -> None:
    """Have loops made from now on use a backend."""
    os.environ[_VARIABLE] = backend


def chosen() -> Literal["io_uring", "epoll"]:
    """Return the backend of rings by hand, which read no variable."""
    return "epoll" if os.environ.get(_VARIABLE) == "epoll" else "io_uring"
