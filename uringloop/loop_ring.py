"""The ring of a loop: made when something first needs it, given to the thread that runs the loop, and replaced.

Many loops, as those of tests, end before anything needs a ring.  The ring of a process's first loop is made with the
loop, and so is one that must be an io_uring: there a refusal shall come at once.

A ring of io_uring belongs to one thread.  A run in another thread replaces it, if it only watches.
"""

import contextlib
import errno
import os
import socket
import sys
import threading
from functools import partial

from .engine import Engine
from .hooks import PrivateLoop
from .operations import Operation, Poll
from .options import Options
from .ring import Descriptor, Dispatcher, LoopRing, RingUnavailableError
from .ring.choosing import Choice, open_chosen
from .ring.errors import refusal
from .ring.setup import Backend
from .selector.selector import Selector

_BOUNDED_WORKERS = 4 * (os.cpu_count() or 1)
_RING_CLOSE_TIMEOUT_S = 10
#: The most descriptors of a ring, on epoll: two of its set, and its timer.
_RING_DESCRIPTOR_COUNT = 3


class RingKeeping(PrivateLoop):
    """The loop's ring, and the thread that it belongs to."""

    # Written by EventLoop.
    _choice: Choice
    _descriptor: Descriptor | None
    _dispatcher: Dispatcher
    _engine: Engine
    _epoll_selector: Selector
    _expected: Backend
    _making: threading.RLock
    _options: Options
    _owner_thread: int | None
    _reserve: list[int]
    _ring: LoopRing | None
    _wakeup: Poll | None

    def _watch_self_pipe(self) -> None:
        """Poll the self-pipe through the ring."""
        raise NotImplementedError

    def _made_ring(self) -> LoopRing:
        """Return the ring; make it if nothing has needed it before."""
        if self._ring is None:
            self._check_closed()
            self._make_ring()
        assert self._ring is not None
        return self._ring

    def _make_ring(self) -> None:
        """Make the ring, which something needs for the first time, on io_uring or where it is refused now on epoll.

        The first run starts it, or this if that has begun.

        Raises:
            RuntimeError: the loop is closed, or it belongs to another thread, or to the parent of this process.
            OSError: epoll(7) is refused too.
        """
        if self._dispatcher.forked:
            raise refusal(errno.EOWNERDEAD)
        with self._making:
            if self._ring is not None:
                return  # another thread has made it meanwhile
            if self._dispatcher.make is None:
                raise RuntimeError("Event loop is closed")  # by another thread
            if not self._may_make_ring():
                raise refusal(errno.EEXIST)
            runs = self._owner_thread is not None
            opened = None
            try:
                self._release_descriptors()
                opened = self._open_ring(enable=runs)
                self._use_ring(*opened)
            except BaseException:
                self._undo_making(opened)
                raise
            if runs:
                opened[0].limit_workers(_BOUNDED_WORKERS)

    def _undo_making(self, opened: tuple[LoopRing, Descriptor] | None) -> None:
        """Be as before, so that the next need makes a ring: an interrupt of the program may be what failed this one."""
        self._ring = None
        self._dispatcher.make = self._make_ring
        if opened is not None:
            ring, descriptor = opened
            ring.drop_dispatcher()
            ring.close(only_watches=True)
            descriptor.close()
        with contextlib.suppress(OSError):
            self._reserve_descriptors()

    def _end_making(self) -> LoopRing | None:
        """Return the ring; if there is none, let none be made from now on.

        Another thread may be making it.  A forked child has no such thread, and cannot wait for it.
        """
        with threading.RLock() if self._dispatcher.forked else self._making:
            if self._ring is None:
                self._dispatcher.close()
                self._release_descriptors()
            return self._ring

    def _may_make_ring(self) -> bool:
        return self._owner_thread in (None, threading.get_native_id())

    def _open_ring(self, *, enable: bool) -> tuple[LoopRing, Descriptor]:
        """Open a ring, and a descriptor of it that ends the sleeps in the selector."""
        ring, descriptor = open_chosen(self._choice, partial(self._options.open_ring, enable=enable))
        if self._options.sleep == "selector":
            try:
                self._epoll_selector.registry.add_edge(descriptor.fd)
            except BaseException:
                ring.close(only_watches=True)
                descriptor.close()
                raise
        return ring, descriptor

    def _use_ring(self, ring: LoopRing, descriptor: Descriptor) -> None:
        """Take the loop's first ring."""
        self._engine.use_ring(ring)
        ring.use_dispatcher(self._dispatcher)
        self._ring, self._descriptor, self._expected = ring, descriptor, ring.backend
        self._dispatcher.make = None

    def _reserve_descriptors(self) -> None:
        """Hold as many descriptors as a ring needs, so that a program which uses up all others gets one still."""
        fd = self._epoll_selector.fileno()
        while len(self._reserve) < _RING_DESCRIPTOR_COUNT:
            self._reserve.append(os.dup(fd))

    def _release_descriptors(self) -> None:
        while self._reserve:
            os.close(self._reserve.pop())

    def _take_thread(self) -> None:
        """Give the ring to this thread: the kernel lets no other one enter it."""
        if self._dispatcher.forked:
            exit = sys.exception()
            if isinstance(exit, SystemExit | KeyboardInterrupt):
                # The child is ending, through a runner that would still cancel the parent's tasks.
                raise exit
            raise RuntimeError(
                "this event loop was made before fork(); make a new one in the child, with uringloop.new_event_loop()"
            )
        thread = threading.get_native_id()
        if self._owner_thread == thread:
            return
        moved: list[Operation] = []
        with self._making:
            if self._ring is not None:
                if self._owner_thread is None:
                    moved = self._enable_ring(self._ring)
                elif self._ring.is_single_issuer:
                    moved = self._leave_thread(self._ring)
                self._ring.limit_workers(_BOUNDED_WORKERS)
            self._owner_thread = self._engine.owner_thread = thread
        if self._wakeup is None:
            self._dispatcher.first = self._watch_self_pipe
        for operation in moved:
            operation.reset()
            operation.submit(self._dispatcher)

    def _enable_ring(self, ring: LoopRing) -> list[Operation]:
        """Start the ring, or a new one on epoll if io_uring is refused now; return the operations to be staged again.

        Raises:
            RingUnavailableError: io_uring is refused, and was asked for; or operations of the caller are staged.
        """
        try:
            ring.enable()
        except RingUnavailableError:
            moved, left = self._movable(ring)
            if left:
                raise
            self._replace_ring(ring).close(only_watches=True)
            return moved
        return []

    def _leave_thread(self, ring: LoopRing) -> list[Operation]:
        """Replace the ring by a new one for this thread; return the operations to be staged again there.

        Only watching operations move: the kernel does nothing for them while no thread enters their ring.
        """
        self._dispatcher.reap()
        self._dispatcher.dispatch()
        moved, left = self._movable(ring)
        if left > 0:
            raise RuntimeError(
                f"this event loop ran in another thread, where {left} operations are in flight: "
                "run it there, or close its connections and files before it is run elsewhere"
            )
        self._close_ring(self._replace_ring(ring))
        return moved

    def _movable(self, ring: LoopRing) -> tuple[list[Operation], int]:
        """Return the operations in flight that another ring may take over, and the number of all others."""
        operations = self._dispatcher.operations.values()
        left = sum(not operation.may_move for operation in operations)
        left += ring.statistics()["streams"] + ring.statistics()["datagrams"]
        return [one for one in operations if one.may_move and one.in_flight and not one.abandoned], left

    def _replace_ring(self, old: LoopRing) -> LoopRing:
        """Open a ring for this thread in the place of the old one, and return that."""
        ring, descriptor = self._open_ring(enable=True)
        self._engine.use_ring(ring)
        ring.take_dispatcher(old)
        assert self._descriptor is not None
        self._descriptor.close()
        self._ring, self._descriptor, self._expected = ring, descriptor, ring.backend
        return old

    def _close_ring(self, ring: LoopRing) -> None:
        """Close a ring that watches, and wait until it has stopped.

        The kernel tears a ring down in the background.  A connection that arrives meanwhile wakes only one of the
        waiting accepts, and the old one would swallow it.  The old poll of the self-pipe is the witness.  After
        the kernel has removed all polls of the ring, it releases that end, and the other end sees it.
        """
        self._read_from_self()
        witness = self._csock.dup()
        for mine, fresh in zip((self._ssock, self._csock), socket.socketpair(), strict=True):
            fresh.setblocking(False)
            os.dup2(fresh.fileno(), mine.fileno(), inheritable=False)
            fresh.close()
        ring.close(only_watches=True)
        with witness:
            witness.settimeout(_RING_CLOSE_TIMEOUT_S)
            while witness.recv(4096):
                pass
