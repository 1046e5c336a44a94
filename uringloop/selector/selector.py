"""`Selector`: asyncio's epoll selector with nanoseconds, and with the ring's eventfd in its set.

The eventfd is not among the selector's keys: an event on it only ends the sleep.
"""

import errno
import math
import os
import select
import selectors
from collections.abc import Callable
from typing import Any

from ._cffi import ffi, lib


class Selector(selectors.EpollSelector):
    """An EpollSelector that sleeps exactly, and can be woken by an eventfd that it never reads.

    Attributes:
        watched: the selector's keys; empty while its only descriptor is the eventfd.
        serve: called by `select` instead of `sleep`, with a timeout in nanoseconds, -1 for ever.  The loop serves its
            ring there too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.watched: dict[int, selectors.SelectorKey] = self._fd_to_key  # type: ignore[attr-defined]  # see hooks.py
        self.serve: Callable[[int], list[tuple[selectors.SelectorKey, int]]] | None = None
        self._events: Any = None

    def add_edge(self, fd: int) -> None:
        """Let an eventfd end a sleep, once for each signal.

        Raises:
            OSError: as from epoll_ctl(2).
        """
        result = lib.ul_epoll_add_edge(self.fileno(), fd)
        if result < 0:
            raise OSError(-result, os.strerror(-result))

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Sleep as the loop does, for a tool with ticks of its own, such as nest_asyncio.

        Args:
            timeout: at most this many seconds, never early; None sleeps for ever.

        Returns:
            The events to be processed; none with a loop, which makes their handles ready itself.
        """
        serve = self.serve or self.sleep
        return serve(-1 if timeout is None else math.ceil(max(timeout, 0) * 1e9))

    def sleep(self, timeout_ns: int) -> list[tuple[selectors.SelectorKey, int]]:
        """Sleep as `select` does, for at most timeout_ns nanoseconds; a negative number sleeps for ever."""
        if self._events is None:
            self._events = ffi.new("ul_epoll_event[]", lib.UL_EPOLL_MAX)
        count = lib.ul_epoll_sleep(self.fileno(), self._events, lib.UL_EPOLL_MAX, timeout_ns)
        if count == -errno.EINTR:
            return []
        if count < 0:
            raise OSError(-count, os.strerror(-count))
        ready = []
        for event in self._events[0:count]:
            key = self.watched.get(event.fd)
            if key is not None:
                ready.append((key, _selector_mask(event.events) & key.events))
        return ready


def _selector_mask(events: int) -> int:
    """Return selectors' mask of epoll events: errors and hang-ups wake reader and writer alike."""
    read = selectors.EVENT_READ if events & ~select.EPOLLOUT else 0
    write = selectors.EVENT_WRITE if events & ~select.EPOLLIN else 0
    return read | write
