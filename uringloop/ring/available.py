"""`is_available`: whether a loop can be made here."""

import os

from .ring import LoopRing
from .setup import open_eventfd


def is_available() -> bool:
    """Return whether a loop may use io_uring in this process; asks the kernel, unless URINGLOOP_DISABLE is set."""
    try:
        with LoopRing() as ring:
            eventfd = open_eventfd()
            try:
                ring.register_eventfd(eventfd)
            finally:
                os.close(eventfd)
    except OSError:
        return False
    return True
