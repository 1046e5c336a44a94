"""`Companion`: a ring beside another loop than uringloop's, so that operations can be awaited there too.

Each loop has one, made by its first operation and closed with the loop.  Its backend is io_uring, or epoll(7) where
io_uring is refused.  All operations of one turn of the loop are submitted together at the turn's end.  The loop watches
a descriptor of the ring, which a later completion makes readable: an eventfd of io_uring, or epoll's own set.

The eventfd alone is not enough.  With DEFER_TASKRUN it fires before the CQE exists.  It is silent for more than about
twenty completions at once, and for CQEs that overflowed.  So after each look at the ring the companion re-arms the
descriptor first, and then checks the ring's flags.  If there is more, the loop looks again in its next turn.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol

from .hooks import PrivateLoop
from .operations import Chain, Operation, close_ring, read_at
from .operations.positional import PositionalTransfer
from .ring import Descriptor, Dispatcher, LoopRing, Opcode
from .ring.choosing import BackendChoice, open_chosen, resolve
from .ring.setup import Backend
from .ring.statistics import Statistics

_BOUNDED_WORKERS_PER_CPU = 4
#: The time that calls may take without a turn of the loop.
SLICE_NS = 100_000
#: The companion of each loop, or None for a loop that can have none.
_ATTRIBUTE = "_uringloop_companion"
_MISSING: Any = object()


class Submitter(Protocol):
    """Submits operations: uringloop's own loop, or a `Companion` beside another one."""

    @property
    def opcodes(self) -> frozenset[Opcode]:
        """Return the operations that the kernel has."""

    @property
    def ring(self) -> LoopRing:
        """Return the ring, to register resources with; a loop that changes threads gets another one."""

    async def submit(self, operation: Operation) -> Any:
        """Run one operation and return its result, without suspending if it completes at once and no handle waits."""

    def read_at(self, file: int | Descriptor, buffer: Any, offset: int) -> Coroutine[Any, Any, int]:
        """Read into a writable buffer, as pread(2); return the number of bytes."""

    def begin_write(self, file: int | Descriptor, buffer: Any, offset: int) -> PositionalTransfer:
        """Put a write in flight, as pwrite(2); `operations.transferred` waits for it."""

    async def submit_chain(self, chain: Iterable[Operation]) -> list[Any]:
        """Run operations of which each begins when the one before has ended well; return their results."""

    def has_budget(self) -> bool:
        """Return whether one more call may run before the loop's next turn."""


def submitter(loop: asyncio.AbstractEventLoop) -> Submitter | None:
    """Return what submits this loop's operations: the loop itself if it is uringloop's, else its companion.

    Returns:
        None if the loop can have no ring: it offers no hook for its close.

    Raises:
        OSError: no descriptor or no memory is left for the companion's ring.
        RingUnavailableError: URINGLOOP_BACKEND asks for io_uring, which cannot be used here.
        RuntimeError: the loop ran in another thread, where operations are in flight.
    """
    if isinstance(loop, PrivateLoop):
        return loop  # type: ignore[return-value]  # the only one that is made is EventLoop
    companion: Companion | None = getattr(loop, _ATTRIBUTE, _MISSING)
    if companion is _MISSING:
        companion = attach(loop)
    if companion is not None:
        companion.take_thread()
    return companion


class _Dispatcher(Dispatcher):
    """Tells the companion of staged SQEs."""

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
        loop: a loop that runs in this thread.
        backend: the choice of the ring's backend.

    Raises:
        OSError: no descriptor or no memory is left.
        RingUnavailableError: URINGLOOP_BACKEND asks for io_uring, which cannot be used here.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, backend: BackendChoice = "auto") -> None:
        self._loop = loop
        self._backend: BackendChoice = backend
        self._is_awake = False
        self._slice_end_ns = 0
        self._turn_is_due = False
        self._thread = threading.get_native_id()
        self._ring, self._descriptor = open_chosen(resolve(backend), _open_ring)
        try:
            self._dispatcher = self._ring.dispatcher(self._report, _Dispatcher)
            assert isinstance(self._dispatcher, _Dispatcher)
            self._dispatcher.take_thread()
            self._dispatcher.wake = self._wake
            loop.add_reader(self._descriptor, self._signalled)
        except BaseException:
            self._ring.close(only_watches=True)
            os.close(self._descriptor)
            raise

    @property
    def opcodes(self) -> frozenset[Opcode]:
        """Return the operations that the kernel has."""
        return self._ring.features.opcodes

    @property
    def ring(self) -> LoopRing:
        """Return the ring, to register resources with."""
        return self._ring

    async def submit(self, operation: Operation) -> Any:
        """Run one operation and return its result; see `EventLoop.submit`."""
        at_once = operation.may_end_at_once and self.has_budget()
        if at_once and operation.run_at_once(self._dispatcher):
            return operation.result_at_once()
        return await operation.run(self._loop, self._dispatcher)

    def read_at(self, file: int | Descriptor, buffer: Any, offset: int) -> Coroutine[Any, Any, int]:
        """Read into a writable buffer, as pread(2); return the number of bytes."""
        return read_at(self._loop, self._dispatcher, file, buffer, offset)

    def begin_write(self, file: int | Descriptor, buffer: Any, offset: int) -> PositionalTransfer:
        """Put a write in flight, as pwrite(2); `operations.transferred` waits for it."""
        waiter = self._loop.create_future()
        return PositionalTransfer(self._dispatcher, waiter, file, buffer, offset, True, self.has_budget())

    async def submit_chain(self, chain: Iterable[Operation]) -> list[Any]:
        """Run operations of which each begins when the one before has ended well; see `EventLoop.submit_chain`."""
        links = Chain(chain)
        await links.run(self._loop, self._dispatcher)
        return links.results()

    def has_budget(self) -> bool:
        """Return whether one more call may run before the loop's next turn: calls share SLICE_NS in each turn.

        The number of ready handles is unknown here.
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

    def statistics(self) -> Statistics:
        """Return the ring's counters; see `RingBase.statistics`."""
        return self._ring.statistics()

    def take_thread(self) -> None:
        """Give the ring to the thread that runs the loop now.

        Raises:
            RuntimeError: operations in flight bind the ring to its thread.
        """
        thread = threading.get_native_id()
        if thread == self._thread:
            return
        self._dispatcher.take_thread()
        if not self._ring.is_single_issuer:
            self._thread = thread
            return
        self._dispatcher.reap()
        self._dispatcher.dispatch()
        left = self._ring.unfinished
        if left:
            raise RuntimeError(
                f"this event loop ran in another thread, where {left} operations on files are in flight: "
                "run it there, or close its files before it is run elsewhere"
            )
        ring, descriptor = open_chosen(resolve(self._backend), _open_ring)
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._loop.add_reader(descriptor, self._signalled)
        old, self._ring = self._ring, ring
        self._ring.take_dispatcher(old)
        self._thread = thread
        old.close()

    def _wake(self) -> None:
        """Look at the ring again in the next turn."""
        if not self._is_awake:
            self._is_awake = True
            self._loop.call_soon(self._turn)

    def _signalled(self) -> None:
        # A forked child has its parent's eventfd and epoll set: what it takes there, the parent never sees.
        if not self._dispatcher.forked:
            self._ring.clear_descriptor(self._descriptor)
            self._turn()

    def _turn(self) -> None:
        dispatcher = self._dispatcher
        self._is_awake = False
        dispatcher.disarm_descriptor()
        try:
            dispatcher.wait(0)
            dispatcher.dispatch()
        finally:
            dispatcher.arm_descriptor()
            if dispatcher.has_work():
                self._wake()

    def _report(self, error: BaseException, source: Any) -> None:
        self._loop.call_exception_handler({"message": f"Exception in callback of {source!r}", "exception": error})

    def close(self) -> None:
        """Cancel the operations in flight, wait for their CQEs, and close the ring."""
        self._dispatcher.take_thread()
        if not self._dispatcher.forked:
            self._loop.remove_reader(self._descriptor)
        # A callback that is still scheduled finds nothing to do.
        self._is_awake = True
        try:
            close_ring(self._ring, self._dispatcher, self._thread)
        finally:
            os.close(self._descriptor)


def _open_ring(backend: Backend) -> tuple[LoopRing, int]:
    """Open a ring, and a descriptor that tells of its completions."""
    ring = LoopRing(backend=backend)
    try:
        ring.limit_workers(_BOUNDED_WORKERS_PER_CPU * (os.cpu_count() or 1))
        return ring, ring.open_descriptor()
    except BaseException:
        ring.close(only_watches=True)
        raise


def attach(loop: asyncio.AbstractEventLoop, backend: BackendChoice = "auto") -> Companion | None:
    """Make a loop's companion and return it; None if the loop can have none."""
    if not hasattr(loop, "__dict__"):
        return None
    companion = Companion(loop, backend)
    _close_with(loop, companion)
    # The loop alone holds it: a dropped loop drops it too.
    setattr(loop, _ATTRIBUTE, companion)
    return companion


def _close_with(loop: asyncio.AbstractEventLoop, companion: Companion) -> None:
    """Have the loop's `close` first close the companion: asyncio offers no other hook."""
    close_loop = loop.close

    def close() -> None:
        if not loop.is_running() and getattr(loop, _ATTRIBUTE, None) is companion:
            # From now on `close` is the class's own again.
            del loop.close
            delattr(loop, _ATTRIBUTE)
            try:
                companion.close()
            finally:
                close_loop()
            return
        close_loop()

    loop.close = close  # type: ignore[method-assign]
