"""`LoopRing`: the ring of an event loop, which its `Dispatcher` drives."""

from collections.abc import Callable
from typing import Any

from .base import RingBase
from .core._cffi import lib
from .dispatcher import Dispatcher


class LoopRing(RingBase):
    """One io_uring under an event loop; see `RingBase` for the arguments."""

    def open_datagram_buffers(self, count: int, count_max: int) -> bool:
        """Make the buffer group of datagram sockets, unless it is there; return whether it is.

        A buffer has room for the largest datagram, so this is left until there is a socket that needs it.

        Args:
            count: buffers at first, a power of two.
            count_max: the group doubles up to this many when the kernel runs out; a power of two, at most 32768.
        """
        if "multishot_receive" not in self.features.enabled:
            return False
        size_bytes = lib.UL_DATAGRAM_BUFFER_SIZE
        return bool(lib.ul_buffers_open(self.handle, lib.UL_GROUP_DATAGRAM, count, size_bytes, count_max, 1) == 0)

    def allow_growth(self, cq_entries: int) -> bool:
        """Let a loop's completion queue grow to so many entries once it has overflowed; return whether it can."""
        return bool(lib.ul_ring_allow_growth(self.handle, cq_entries))

    def dispatcher(
        self, report: Callable[[BaseException, Any], object], kind: type[Dispatcher] = Dispatcher
    ) -> Dispatcher:
        """Return a dispatcher for this ring, which calls report(exception, operation) if a `complete` raises."""
        self._dispatcher = dispatcher = kind(self.address, self.entries[1], report)
        return dispatcher

    def take_dispatcher(self, other: "LoopRing") -> None:
        """Let the dispatcher of another ring go on with this one."""
        assert other._dispatcher is not None
        self._dispatcher, other._dispatcher = other._dispatcher, None
        self._dispatcher.move(self.address)
