"""A ring beside a loop that is not uringloop's, so that operations can be awaited there too.

One ring a loop, made when it is first asked for and closed with the loop.  What is staged during a turn of the loop is
submitted together at the end of it.  What completes later signals the ring's eventfd, which the loop watches as any
other descriptor.

The eventfd alone is not enough: with DEFER_TASKRUN it fires before the CQE exists, and is silent for more than about
twenty completions at once and for CQEs that overflowed.  So after each look at the ring the eventfd is let speak first,
and then the ring's flags are checked: if there is more, the loop comes back in its next turn.
"""

import asyncio
import contextlib
import os
import threading
import time
import warnings
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol

from .hooks import PrivateLoop
from .operations import Chain, Operation, close_ring, read_at
from .ring import (
    Descriptor,
    Dispatcher,
    LoopRing,
    Opcode,
    RingUnavailableError,
    disabled_by_variable,
    open_eventfd,
)

_BOUNDED_WORKERS_PER_CPU = 4
#: For what may be done without a turn of the loop.
SLICE_NS = 100_000
#: Of a loop: its companion, or None if it can have none.
_ATTRIBUTE = "_uringloop_companion"
_MISSING: Any = object()


class Submitter(Protocol):
    """Where operations go: uringloop's own loop, or a `Companion` beside another one."""

    @property
    def opcodes(self) -> frozenset[Opcode]:
        """The operations that the kernel has."""

    @property
    def ring(self) -> LoopRing:
        """The ring, for what is registered with it; another one after the loop has changed threads."""

    async def submit(self, operation: Operation) -> Any:
        """Run one operation and return its result; without suspending if it is over at once and nobody else waits."""

    def read_at(self, file: int | Descriptor, buffer: Any, offset: int) -> Coroutine[Any, Any, int]:
        """pread(2) into a writable buffer; returns the number of bytes."""

    async def submit_chain(self, chain: Iterable[Operation]) -> list[Any]:
        """Run operations of which each begins when the one before has ended well; returns their results."""

    def has_budget(self) -> bool:
        """Whether one more thing may be done before the loop turns."""


def submitter(loop: asyncio.AbstractEventLoop) -> Submitter | None:
    """Where operations of this loop go: the loop itself if it is uringloop's, else its companion.

    Returns:
        None where there can be no ring: io_uring is refused, which is told once by a RuntimeWarning unless
        URINGLOOP_DISABLE says so, or the loop has no place for what must happen when it closes.

    Raises:
        RuntimeError: the loop ran in another thread, where operations are in flight.
    """
    if isinstance(loop, PrivateLoop):
        return loop  # type: ignore[return-value]  # the only one that is made is EventLoop
    companion: Companion | None = getattr(loop, _ATTRIBUTE, _MISSING)
    if companion is _MISSING:
        companion = _attach(loop)
    if companion is not None:
        companion.take_thread()
    return companion


class _Dispatcher(Dispatcher):
    """Tells the companion when there is something to submit."""

    wake: Callable[[], object]

    def stage(self, *fields: Any, **named: Any) -> int:
        self.wake()
        return super().stage(*fields, **named)

    def cancel(self, token: int) -> None:
        self.wake()
        super().cancel(token)


class Companion:
    """The ring beside a loop.

    Args:
        loop: running, in this thread.

    Raises:
        RingUnavailableError: io_uring cannot be used here.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_awake = False
        self._slice_end_ns = 0
        self._turn_is_due = False
        self._thread = threading.get_native_id()
        self._eventfd = open_eventfd()
        try:
            self._ring = self._make_ring()
        except BaseException:
            os.close(self._eventfd)
            raise
        try:
            self._dispatcher = self._ring.dispatcher(self._report, _Dispatcher)
            assert isinstance(self._dispatcher, _Dispatcher)
            self._dispatcher.wake = self._wake
            loop.add_reader(self._eventfd, self._signalled)
        except BaseException:
            self._ring.close(only_watches=True)
            os.close(self._eventfd)
            raise

    def _make_ring(self) -> LoopRing:
        ring = LoopRing()
        ring.signal_or_close(self._eventfd)
        ring.limit_workers(_BOUNDED_WORKERS_PER_CPU * (os.cpu_count() or 1))
        return ring

    @property
    def opcodes(self) -> frozenset[Opcode]:
        """The operations that the kernel has."""
        return self._ring.features.opcodes

    @property
    def ring(self) -> LoopRing:
        """The ring, for what is registered with it."""
        return self._ring

    async def submit(self, operation: Operation) -> Any:
        """Run one operation and return its result; see `EventLoop.submit`."""
        at_once = operation.may_end_at_once and self.has_budget()
        if at_once and operation.run_at_once(self._dispatcher):
            return operation.outcome()
        return await operation.run(self._loop, self._dispatcher)

    def read_at(self, file: int | Descriptor, buffer: Any, offset: int) -> Coroutine[Any, Any, int]:
        """pread(2) into a writable buffer; returns the number of bytes."""
        return read_at(self._loop, self._dispatcher, file, buffer, offset)

    async def submit_chain(self, chain: Iterable[Operation]) -> list[Any]:
        """Run operations of which each begins when the one before has ended well; see `EventLoop.submit_chain`."""
        links = Chain(chain)
        await links.run(self._loop, self._dispatcher)
        return links.results()

    def has_budget(self) -> bool:
        """Whether one more thing may be done before the loop turns: after SLICE_NS it may not, until the loop did.

        How many others are ready is not known here.
        """
        if self._turn_is_due:
            return False
        if time.monotonic_ns() < self._slice_end_ns:
            return True
        self._turn_is_due = True
        self._loop.call_soon(self._begin_slice)
        return False

    def _begin_slice(self) -> None:
        self._turn_is_due = False
        self._slice_end_ns = time.monotonic_ns() + SLICE_NS

    def statistics(self) -> dict[str, int]:
        """Counters of the ring; see `RingBase.statistics`."""
        return self._ring.statistics()

    def take_thread(self) -> None:
        """Have the ring belong to the thread that runs the loop now.

        Raises:
            RuntimeError: it cannot be moved, because operations are in flight.
        """
        thread = threading.get_native_id()
        if thread == self._thread or not self._ring.is_single_issuer:
            return
        self._dispatcher.reap()
        self._dispatcher.dispatch()
        left = self._ring.unfinished
        if left:
            raise RuntimeError(
                f"this event loop ran in another thread, where {left} operations on files are in flight: "
                "run it there, or close its files before it is run elsewhere"
            )
        old, self._ring = self._ring, self._make_ring()
        self._ring.take_dispatcher(old)
        self._thread = thread
        old.close()

    def _wake(self) -> None:
        """Look at the ring in the next turn."""
        if not self._is_awake:
            self._is_awake = True
            self._loop.call_soon(self._turn)

    def _signalled(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._eventfd)
        self._turn()

    def _turn(self) -> None:
        dispatcher = self._dispatcher
        self._is_awake = False
        dispatcher.disarm_eventfd()
        try:
            dispatcher.wait(0)
            dispatcher.dispatch()
        finally:
            dispatcher.arm_eventfd()
            if dispatcher.has_work():
                self._wake()

    def _report(self, error: BaseException, source: Any) -> None:
        self._loop.call_exception_handler({"message": f"Exception in callback of {source!r}", "exception": error})

    def close(self) -> None:
        """Cancel what is in flight, wait for what cannot be cancelled, and close the ring."""
        self._loop.remove_reader(self._eventfd)
        # Whatever is still scheduled finds nothing to do.
        self._is_awake = True
        try:
            close_ring(self._ring, self._dispatcher, self._thread)
        finally:
            os.close(self._eventfd)


def _attach(loop: asyncio.AbstractEventLoop) -> Companion | None:
    if not hasattr(loop, "__dict__"):
        return None
    companion = None
    try:
        companion = Companion(loop)
    except RingUnavailableError as error:
        if not disabled_by_variable():
            warnings.warn(f"files are read and written in threads: {error.strerror}", RuntimeWarning, stacklevel=4)
    else:
        _close_with(loop, companion)
    # Held by the loop alone: a loop that is dropped takes it along.
    setattr(loop, _ATTRIBUTE, companion)
    return companion


def _close_with(loop: asyncio.AbstractEventLoop, companion: Companion) -> None:
    """Close the companion just before the loop: there is no hook for that but `close` itself."""
    close_loop = loop.close

    def close() -> None:
        if not loop.is_running() and getattr(loop, _ATTRIBUTE, None) is companion:
            # From here on `close` is the class's own again.
            del loop.close
            delattr(loop, _ATTRIBUTE)
            try:
                companion.close()
            finally:
                close_loop()
            return
        close_loop()

    loop.close = close  # type: ignore[method-assign]
