"""`EventLoop`: asyncio's loop with io_uring underneath.

This module has the loop's sleep and its wakeups, and connects all other parts.  asyncio's own code stays where it does
well: happy eyeballs, executors, signal handlers, the TLS protocol.

One tick, in asyncio's order: sleep until there is work; run the handles that were ready before; dispatch the
completions; then run the handles that watched descriptors and the timers have made ready.

The loop sleeps in the ring: one system call submits, waits and carries the timeout.  If something is ready, and nothing
is staged or has completed, the loop makes no system call.  The ring watches the epoll set of readers and writers, too.

With sleep="selector" it sleeps in that set, which has the ring's eventfd.  With DEFER_TASKRUN the eventfd fires before
the CQE exists.  It is silent for more than about twenty completions at once, and for overflowed ones.  So before a
sleep the loop re-arms the eventfd and then checks the ring's flags, and after a sleep it reaps everything.

The ring watches the eventfd by which threads wake the loop (`Inbox`).  It polls asyncio's self-pipe too, for signals.
"""

import asyncio
import logging
import select
import socket
import threading
import time
import weakref
from asyncio import Handle
from functools import partial
from typing import Any

from . import hooks
from .children.process import ProcessTransport, start_process
from .engine import Engine, Sockets
from .executor import run_in_executor
from .immortal import share
from .measuring import Measuring
from .names import NameResolution
from .operations import Poll, close_ring
from .options import BULK_STREAM_COUNT_MAX, SPIN_NS, Sleep, options_of
from .ring import Descriptor, Dispatcher, LoopRing
from .ring.base import BUFFER_COUNT, BUFFER_COUNT_MAX, BUFFER_SIZE_BYTES, CQ_ENTRIES, SQ_ENTRIES
from .ring.callbacks import callbacks
from .ring.choosing import BackendChoice, resolve
from .ring.setup import Backend
from .scheduler import Scheduler
from .selector.selector import Selector
from .sendfile import FileSending
from .signals import SignalHandling, SignalWakeup, in_main_thread
from .sockets import Leftovers, SocketOperations
from .transports.making import TransportMaking
from .transports.serving import Serving

_log = logging.getLogger("asyncio")

#: So many staged reads leave early, so that a disk works while the tick stages the rest.
_EARLY_COUNT = 8


class EventLoop(
    Scheduler, Measuring, SocketOperations, FileSending, NameResolution, TransportMaking, Serving, SignalHandling
):
    """An asyncio event loop on io_uring.

    Args:
        sleep: the place to sleep: "ring", or "selector", the epoll set of readers and writers; "auto" is the ring.
        backend: the carrier of the operations: "io_uring", the kernel; "epoll", a ring in user space on epoll(7); or
            "auto", io_uring where it works and else epoll.  The variable URINGLOOP_BACKEND takes the place of "auto".
        without: optional features of the kernel not to use (keys of `uringloop.ring.OPTIONAL`).
        sq_entries: the size of the submission queue.
        cq_entries: the size of the completion queue.  From Linux 6.13 on it has at most 1024 until it first overflows.
        buffer_count: the first number of receive buffers, a power of two.  Datagrams have at most 64.
        buffer_count_max: the largest number, to which they double.  Datagrams have at most 512.
        buffer_size_bytes: the size of a receive buffer of streams.  A buffer for datagrams holds the largest one.
        bulk_stream_count_max: so many streams at a time may receive up to 256 KiB at once, if much comes; 0 for none.
        spin_ns: while waits are short, wait awake for at most so long before a sleep in the ring; 0 never does.

    Raises:
        RingUnavailableError: the backend is "io_uring", which cannot be used here; the message names the cause and the
            remedy.
        OSError: the kernel refused a need of asyncio's own loop, such as a descriptor.
        ValueError: the way to sleep, the backend or a feature is unknown, or a size is below 1.
    """

    __slots__ = (
        *hooks.LOOP_ATTRIBUTES,
        "_choice",
        "_claimer",
        "_descriptor",
        "_dispatcher",
        "_engine",
        "_epoll_selector",
        "_expected",
        "_file_buffers",
        "_inbox",
        "_is_watching",
        "_leftovers",
        "_listeners",
        "_making",
        "_options",
        "_owner_thread",
        "_registry",
        "_reserve",
        "_resolver",
        "_resolver_poll",
        "_ring",
        "_signals",
        "_sockets",
        "_transports_by_fd",
        "_wakeup",
    )

    def __init__(
        self,
        *,
        sleep: Sleep = "auto",
        backend: BackendChoice = "auto",
        without: frozenset[str] | set[str] | tuple[str, ...] = frozenset(),
        sq_entries: int = SQ_ENTRIES,
        cq_entries: int = CQ_ENTRIES,
        buffer_count: int = BUFFER_COUNT,
        buffer_count_max: int = BUFFER_COUNT_MAX,
        buffer_size_bytes: int = BUFFER_SIZE_BYTES,
        bulk_stream_count_max: int = BULK_STREAM_COUNT_MAX,
        spin_ns: int = SPIN_NS,
    ) -> None:
        self._options = options_of(
            sleep,
            backend,
            sq_entries,
            cq_entries,
            buffer_count,
            buffer_count_max,
            buffer_size_bytes,
            bulk_stream_count_max,
            spin_ns,
            without=without,
        )
        self._choice = resolve(backend)
        self._owner_thread: int | None = None
        self._making = threading.RLock()
        self._claimer: int | None = None
        self._ring: LoopRing | None = None
        self._descriptor: Descriptor | None = None
        self._reserve: list[int] = []
        opened = None
        expected = self._options.expect(self._choice)
        self._dispatcher = Dispatcher(0, 0, partial(_report, weakref.ref(self)))
        self._epoll_selector = Selector(self._dispatcher)
        self._registry = self._epoll_selector.registry
        try:
            if expected is None:
                opened = self._open_ring(enable=False)
                expected = opened[0].backend
            else:
                self._reserve_descriptors()
            self._expected: Backend = expected
            self._make(spin_ns)
            if opened is not None:
                self._use_ring(*opened)
        except BaseException:
            if opened is not None:
                opened[0].close(only_watches=True)
                opened[1].close()
            self._release_descriptors()
            self._epoll_selector.close()
            self._closed = True
            raise

    def _make(self, spin_ns: int) -> None:
        """Make the other parts, which need no more of the kernel than asyncio's loop does."""
        self._dispatcher.make = self._make_ring
        self._dispatcher.spin_ns = spin_ns
        self._dispatcher.early_count = _EARLY_COUNT
        self._wakeup: Poll | None = None
        self._resolver = self._resolver_poll = None
        self._leftovers = Leftovers()
        self._listeners = self._file_buffers = self._sockets = None
        self._epoll_selector.serve = self._serve_by_hand
        super().__init__(self._epoll_selector)
        self._transports_by_fd = hooks.transports_by_descriptor(self)
        self._watch_by(self._registry)
        self._registry.begin = self._begin_watching
        self._registry.refuse(self._transports_by_fd)
        self._engine = Engine(self, self._dispatcher, self._transports_by_fd, self._leftovers, self._options)
        self._is_watching = False
        self._choose_sleep()
        self._send_by(self._dispatcher.tick_address, self._dispatcher.send_waiting)
        self._clock_resolution = 1e-9
        self._start_measuring_if_asked()

    # Running

    def run_forever(self) -> None:
        """Run until `stop()`; see `asyncio.loop.run_forever`.

        Raises:
            RuntimeError: the loop was made before a fork, or its operations are in flight on another thread.
        """
        self._check_closed()
        self._check_running()
        self._claim()
        try:
            self._take_thread()
            takes = in_main_thread()
            try:
                self._take_signals()
                super().run_forever()
            finally:
                if takes:
                    self._give_signals_back()
        finally:
            self._claimer = None

    def _claim(self, refusal: str = "This event loop is already running") -> None:
        """Be the one thread that runs the loop or closes it; the caller sets `_claimer` back.

        Raises:
            RuntimeError: another thread is it, with this refusal; or the loop is closed.
        """
        # The child has no thread that could let go of the lock.
        with threading.RLock() if self._dispatcher.forked else self._making:
            self._check_closed()
            thread = threading.get_ident()
            # An interrupt of this thread may have left it.
            if self._claimer not in (None, thread):
                raise RuntimeError(refusal)
            self._claimer = thread

    def _watch_self_pipe(self) -> None:
        """Let signals and threads end the sleeps; called before the first sleep, and before the first submission.

        A loop that does neither needs no poll: each tick runs the callbacks of other threads anyway.
        """
        if self._wakeup is None:
            multishot = "multishot_poll" in self._engine.features
            self._dispatcher.wake_by(self._inbox, multishot)
            if self._options.sleep == "selector":
                # The ring's own eventfd tells of this one late, and not each time; see docs/kernel.md.
                self._registry.add_edge(self._inbox.fd)
            wakeup = Poll(self._ssock.fileno(), select.POLLIN, multishot, self._read_from_self)
            wakeup.submit(self._dispatcher)
            self._wakeup = wakeup
        self._choose_hurry()
        self._dispatcher.first = None

    def _run_slowly(self, count: int) -> None:
        """Run ready handles in debug mode, and log those that took long."""
        for _ in range(count):
            if not self._ready:
                return  # a callback ran the loop within this run
            self._dispatcher.send_if_late()
            self._run_timed(self._ready.popleft())

    def _dispatch_by_handles(self) -> None:
        """Dispatch each completion by a handle of its own, for debug mode and for tools that replaced `Handle._run`."""
        for callback in callbacks(self._dispatcher):
            handle = Handle(callback, callback.arguments, self)
            if self._debug:
                self._run_timed(handle)
            else:
                handle._run()
            callback()  # a tool that did not call it loses nothing

    def _run_timed(self, handle: Handle) -> None:
        if handle._cancelled:
            return
        try:
            self._current_handle = handle
            start = self.time()
            handle._run()
            duration = self.time() - start
            if duration >= self.slow_callback_duration:
                _log.warning("Executing %s took %.3f seconds", hooks.format_handle(handle), duration)
        finally:
            self._current_handle = None
            # This frame is in the traceback of the callback's exception, which the handle may hold.
            del handle

    # Scheduling

    #: See `asyncio.loop.time`: seconds on the monotonic clock.
    time = staticmethod(time.monotonic)

    # Sleeping

    def _choose_sleep(self) -> None:
        """Set the function that sleeps, by the parts of the loop that have something to do before or after."""
        sockets = self._sockets
        self._registry.look = None if sockets is None else sockets.look
        sleep = self._sleep_in_selector if self._options.sleep == "selector" else None
        self._sleep_by(self._dispatcher, sockets, self._is_watching, sleep)

    def _begin_watching(self) -> None:
        """Have each sleep ask the registry; called before the first reader or writer."""
        self._is_watching = True
        self._choose_sleep()

    def _open_sockets(self) -> Sockets:
        """Return the engine's half of the socket methods, made by the first of them."""
        self._check_closed()
        return self._engine.open_sockets()

    def _use_sockets(self, sockets: Sockets) -> None:
        """Have each sleep ask the engine's `Sockets`; called when it is made."""
        self._sockets = sockets
        self._choose_sleep()

    def _look(self, timeout_ns: int) -> int:
        """Release sockets that were closed; return how long to sleep, see `Sockets.look`."""
        return timeout_ns if self._sockets is None else self._sockets.look(timeout_ns)

    def _sleep_in_selector(self, timeout_ns: int) -> None:
        dispatcher = self._dispatcher
        timeout_ns = self._look(timeout_ns)
        if timeout_ns != 0 and dispatcher.first is not None:
            dispatcher.first()
        if dispatcher.wait(0):
            timeout_ns = 0
        dispatcher.arm_descriptor()
        if dispatcher.has_work():
            timeout_ns = 0
        self._registry.sleep(timeout_ns)
        dispatcher.disarm_descriptor()
        dispatcher.wait(0)

    def _serve_by_hand(self, timeout_ns: int) -> list[tuple[Any, int]]:
        """Sleep for a tool with ticks of its own; a ready handle dispatches the completions."""
        if self._thread_id not in (None, threading.get_ident()):
            raise RuntimeError("this event loop runs in another thread")
        self._take_thread()
        is_taken = self._signals.taken
        takes = not is_taken and in_main_thread()
        try:
            if not is_taken:
                self._take_signals()
            self._sleep_by_hand(timeout_ns)
        finally:
            if takes:
                self._give_signals_back()
        if self._dispatcher.has_outcomes():
            self.call_soon(self._dispatcher.dispatch)
        return []

    def _run_changed(self) -> None:
        """Submit the SQEs of a run's last tick: no run may follow, or the outer one may compute for long."""
        if self._owner_thread == threading.get_native_id() and not self._dispatcher.forked:
            try:
                self._dispatcher.submit()
            except Exception as error:
                # asyncio has still to end its run, so this must not raise.
                ended_by = error.__context__
                # A run that this refusal has ended raises it itself.
                if not (isinstance(error, OSError) and isinstance(ended_by, OSError) and ended_by.errno == error.errno):
                    _report(weakref.ref(self), error, self)

    def _make_self_pipe(self) -> None:
        """Make asyncio's self-pipe and the inbox's descriptor, which the ring polls from the first run on."""
        self._inbox = self._open_inbox()
        self._ssock, self._csock = socket.socketpair(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._internal_fds += 1
        self._signals = SignalWakeup(self._csock.fileno())

    # Threads

    run_in_executor = run_in_executor

    # Child processes

    async def _make_subprocess_transport(
        self,
        protocol: asyncio.BaseProtocol,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        extra: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> ProcessTransport:
        return await start_process(self, protocol, args, shell, stdin, stdout, stderr, bufsize, extra, **kwargs)

    # Information

    @property
    def backend(self) -> Backend:
        """Return the carrier of the operations, "io_uring" or "epoll"; this may make the ring."""
        if self._ring is None and self._may_make_ring() and not (self._closed or self._dispatcher.forked):
            self._made_ring()
        return self._expected

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]} backend={self._expected}>"

    # Closing

    def close(self) -> None:
        """Close the loop; see `asyncio.loop.close`.

        The loop cancels all operations in flight and waits for their ends.  A file read that runs cannot be cancelled,
        and the kernel writes into its memory until it ends.

        Raises:
            RingUnavailableError: the kernel refuses to enter the ring; the loop is closed all the same.
        """
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        self._claim("Cannot close a running event loop")
        self._dispatcher.first = None
        try:
            ring = self._end_making()
            if ring is not None:
                close_ring(ring, self._dispatcher, self._owner_thread)
        finally:
            super().close()
            self._inbox.close()
            if self._resolver is not None:
                self._resolver.close()
            if self._descriptor is not None:
                self._descriptor.close()
            self._break_cycles()
            self._claimer = None

    def _break_cycles(self) -> None:
        """Drop references to the loop, so that a closed one is freed at once, without the garbage collector."""
        self._wakeup = None
        self._resolver = self._resolver_poll = self._file_buffers = None
        if self._sockets is not None:
            self._sockets.held.clear()
        del self._engine
        self._epoll_selector.serve = None
        self._end_measuring()
        self._sleep_by(self._dispatcher, None, False, None)
        self._drop_keywords()


def _report(loop: "weakref.ref[EventLoop]", error: BaseException, source: Any) -> None:
    """Give an exception without an owner to the loop's exception handler."""
    message = f"Exception in callback of {source!r}"
    alive = loop()
    if alive is not None:
        alive.call_exception_handler({"message": message, "exception": error})
    else:
        _log.error(message, exc_info=error)


# Loops of several threads use these all the time.
share("asyncio", "_asyncio", "socket", "ssl", __package__)
