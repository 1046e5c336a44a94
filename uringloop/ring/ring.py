"""`LoopRing`: the ring of an event loop, which its `Dispatcher` drives."""

from collections.abc import Callable
from typing import Any

from .base import RingBase
from .core._cffi import ffi, lib
from .dispatcher import Dispatcher


class LoopRing(RingBase):
    """One io_uring under an event loop; see `RingBase` for the arguments."""

    def allow_growth(self, cq_entries: int) -> bool:
        """Let the completion queue grow to so many entries after an overflow; return whether the kernel can grow it."""
        return bool(lib.ul_ring_allow_growth(self.handle, cq_entries))

    def dispatcher(
        self, report: Callable[[BaseException, Any], object], kind: type[Dispatcher] = Dispatcher
    ) -> Dispatcher:
        """Make the dispatcher of an event loop, of this kind.

        Args:
            report: called with (exception, operation) for an exception without an owner.
            kind: a subclass of `Dispatcher`.
        """
        handle = self.handle
        address, capacity = int(ffi.cast("uintptr_t", handle)), lib.ul_ring_entries(handle, 1)
        self._dispatcher = dispatcher = kind(address, capacity, report)
        dispatcher.features = self.features
        return dispatcher

    def use_dispatcher(self, dispatcher: Dispatcher) -> None:
        """Give this ring to a dispatcher that has none."""
        self._dispatcher = dispatcher
        dispatcher.move(self.address)
        dispatcher.grow(lib.ul_ring_entries(self.handle, 1))
        dispatcher.features = self.features

    def drop_dispatcher(self) -> None:
        """Take this ring from its dispatcher, which has used it for nothing yet and may get another one."""
        if self._dispatcher is not None:
            self._dispatcher.move(0)
            self._dispatcher = None

    def take_dispatcher(self, other: "LoopRing") -> None:
        """Move the dispatcher of another ring to this one."""
        assert other._dispatcher is not None
        dispatcher, other._dispatcher = other._dispatcher, None
        self.use_dispatcher(dispatcher)
