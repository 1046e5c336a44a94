# cython: language_level=3, boundscheck=False, wraparound=False
"""The tick, the ready queue, the timers and the running of handles; compiled, because every callback passes here.

This module knows no I/O: its callers pass the functions that sleep and dispatch.  The handles are asyncio's, made
quickly (scheduler_handles.pxi).  The timers stand in a heap (scheduler_timers.pxi); readers and writers have a base of
the scheduler (scheduler_readers.pxi).  The methods that every callback comes by have a short way
(scheduler_calls.pxi).  Times are seconds of the loop's clock, as of `loop.time()`; times for the kernel are
nanoseconds.
"""

import asyncio
import time

cimport cython
from cpython.contextvars cimport PyContext_CopyCurrent
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, realloc

from .engine.sock cimport Sockets
from .hooks import ThreadSafeHandle, describe_callback, handles_are_run_as_usual
from .meter cimport Meter, begin_handle, finish
from .selector.registry cimport Registry
from .patched cimport Patched, call_patched, patched
from .ready cimport CAPACITY_KEPT, ReadyQueue, push, ring_push, size_of, take
from .ring.core.core cimport ul_ring  # no-cython-lint: so the core is linked, which begins_idly calls
from .ring.dispatcher cimport Dispatcher, begins_idly, has_to_dispatch
from .ring.inbox cimport Inbox, ul_wakeup_is_posted
from .tick cimport (
    IS_FREE_THREADED, Tick, begin_waiting, check_thread, has_few, load_thread, monotonic_ns, must_send,
    store_thread, this_thread,
)

cdef extern from *:
    PyObject **PySequence_Fast_ITEMS(object sequence)
    object PyObject_CallNoArgs(object callable)
    object PyObject_CallOneArg(object callable, object argument)
    PyObject *PyErr_Occurred()
    void PyErr_Clear()
    # Without the exception that `except` would look for.
    int PyContext_Enter(PyObject *context) noexcept
    int PyContext_Exit(PyObject *context) noexcept

cdef enum:
    # If something is ready after a tick, up to so many follow without the Python of asyncio's `run_forever`.
    # Signals and other threads have their turn between bytecodes, so also within most callbacks; but not within all.
    TICKS_IN_A_ROW = 32

cdef int64_t NS_PER_S = 1_000_000_000
# See has_budget: a turn of the loop costs some microseconds.
cdef int64_t SLICE_NS = 500_000
cdef int64_t SLICE_MIN_NS = 15_000


cdef Patched FUTURE = patched(asyncio.futures, "Future")
cdef Patched TASK = patched(asyncio.tasks, "Task")


include "scheduler_handles.pxi"
include "scheduler_timers.pxi"
include "scheduler_readers.pxi"


cdef class Scheduler(Watching):
    """The part of an event loop that runs handles; a base class before `asyncio.BaseEventLoop`.

    Its fields hold those attributes of asyncio that every callback needs.  Of asyncio's methods it uses `time`,
    `call_exception_handler`, and those that check arguments in debug mode.
    """

    cdef Inbox inbox  # what threads have added since the last look
    cdef object sleep, send
    cdef Dispatcher dispatcher
    cdef Sockets sockets
    cdef bint is_watching
    cdef Meter meter  # None: the loop does not measure
    cdef object slow_duration
    cdef Tick own_tick
    cdef Tick *now
    cdef public bint _stopping
    cdef public object _task_factory
    cdef bint in_tick  # also after one that an exception has ended
    cdef uintptr_t ident  # Python's, of the running thread; 0: none runs the loop
    cdef dict keywords  # what a future is made with, and a task; None before the first
    cdef Freelist freelist, free_timers
    cdef TimerHeap timers
    cdef unsigned int usual_version  # of the class, while its `time` is the system's; 0: unknown
    cdef uint64_t runs  # handles run so far
    cdef uint64_t slice_of_run
    cdef int64_t slice_end_ns

    def __cinit__(self):
        self.now = &self.own_tick
        self.timers = TimerHeap()
        self.inbox = Inbox()
        self.closed = True  # until asyncio has made the loop: one that could not be made is not "unclosed"

    def __dealloc__(self):
        drop_freelist(&self.freelist)
        drop_freelist(&self.free_timers)

    @property
    def _ready(self):
        """Return the ready queue as asyncio's deque, to be read and changed; a reference to it costs time."""
        if IS_FREE_THREADED:
            check_thread(self.now)
        if self.has_posted():
            self.take_posted()
            if self.sleeping:
                self.inbox.wake()  # a thread looks, and the loop may have found nothing ready just before
        return self.ready.share()

    @_ready.setter
    def _ready(self, ready):
        self.ready.replace(ready)

    @property
    def _thread_id(self):
        cdef uintptr_t ident = load_thread(&self.ident)
        return None if ident == 0 else ident

    @_thread_id.setter
    def _thread_id(self, thread_id):
        cdef uintptr_t outer = self.ident
        if self.meter is not None:
            if outer == 0:
                self.meter.begin_run(False)
            elif thread_id is None:
                self.meter.end_run()
        store_thread(&self.ident, 0 if thread_id is None else thread_id)
        store_thread(&self.now.thread, 0 if thread_id is None else this_thread())
        if thread_id is None:
            self.now.outcomes = self.now.handles = 0  # of a tick that an exception has ended
        # The first tick of a run submits what was staged before it.
        if outer != 0:
            self._run_changed()

    @property
    def _scheduled(self):
        """Return the timers as asyncio's heap, to be read and changed; a reference to it makes timers slower."""
        return self.timers.share()

    @_scheduled.setter
    def _scheduled(self, list handles):
        self.timers.replace(handles)

    @property
    def _timer_cancelled_count(self):
        return self.timers.count_cancelled()

    @_timer_cancelled_count.setter
    def _timer_cancelled_count(self, Py_ssize_t count):
        self.timers.cancelled = count

    @property
    def slow_callback_duration(self):
        """See `asyncio.loop.slow_callback_duration`; in seconds."""
        return self.slow_duration

    @slow_callback_duration.setter
    def slow_callback_duration(self, duration):
        self.slow_duration = duration
        if self.meter is not None:
            self._slow_duration_changed()

    @cython.final
    cdef inline int check(self) except -1:
        if load_flag(&self.closed):
            raise RuntimeError("Event loop is closed")
        return 0

    def set_debug(self, enabled):
        """See `asyncio.loop.set_debug`."""
        asyncio.BaseEventLoop.set_debug(self, enabled)
        self.now.is_strict = IS_FREE_THREADED or self._debug

    # Scheduling

    cdef dict make_keywords(self):
        self.keywords = {"loop": self}
        return self.keywords

    def _drop_keywords(self):
        """Refer to this loop no more; a closed one still makes futures."""
        self.keywords = None

    def create_task(self, coro, **keywords):
        """See `asyncio.loop.create_task`."""
        if self._task_factory is not None or self._debug:
            return asyncio.BaseEventLoop.create_task(self, coro, **keywords)
        self.check()
        if keywords:
            return call_patched(&TASK, (coro,), dict(loop=self, **keywords))
        return call_patched(&TASK, (coro,), self.keywords or self.make_keywords())

    def call_soon(self, callback, *args, context=None):
        """See `asyncio.loop.call_soon`."""
        self.check()
        if self._debug:
            self._check_thread()
        handle = self.make_handle("call_soon", callback, args, context)
        if IS_FREE_THREADED and load_thread(&self.now.thread) != this_thread() and self.inbox is not None:
            # asyncio lets another thread's call pass, and so it must do no harm, also before the loop runs.
            self.inbox.put(handle, callback)
        else:
            self.make_ready(handle)
        return handle

    @cython.final
    cdef inline int make_ready(self, handle) except -1:
        if self.has_posted():
            self.take_posted()  # these came before
        return 0 if ring_push(&self.ready.ring, handle) else self.ready.push_slowly(handle)

    @cython.final
    cdef inline bint has_posted(self) noexcept:
        """Return whether threads may have added handles."""
        return self.inbox is not None and ul_wakeup_is_posted(&self.inbox.wakeup)

    def call_soon_threadsafe(self, callback, *args, context=None):
        """See `asyncio.loop.call_soon_threadsafe`."""
        self.check()
        if ThreadSafeHandle is None:
            handle = self.make_handle("call_soon_threadsafe", callback, args, context)
        else:
            handle = self.make_thread_safe_handle(callback, args, context)
        if self.inbox is None:
            raise RuntimeError("Event loop is closed")  # by the garbage collector
        if load_thread(&self.now.thread) == this_thread() and not self.sleeping:
            self.make_ready(handle)
        else:
            self.inbox.put(handle, callback)
        return handle

    cdef int take_posted(self) except -1:
        """Make the handles ready that threads have added."""
        self.inbox.move_to(self.ready)
        return 0

    def _write_to_self(self):
        """Wake the loop from any thread."""
        self.inbox.wake()

    def _open_inbox(self):
        """Return the inbox, with a descriptor that wakes the loop."""
        self.inbox.open()
        return self.inbox

    def call_later(self, delay, callback, *args, context=None):
        """See `asyncio.loop.call_later`; delay in seconds."""
        if delay is None:
            raise TypeError("delay must not be None")
        return self.schedule(self.time() + delay, callback, args, context)

    def call_at(self, when, callback, *args, context=None):
        """See `asyncio.loop.call_at`; when on the loop's clock, in seconds."""
        if when is None:
            raise TypeError("when cannot be None")
        return self.schedule(when, callback, args, context)

    cdef make_handle(self, method, callback, args, context):
        if not self._debug:
            return self.made(handle_type, &self.freelist, callback, args, context)
        # asyncio's own remembers where it was made.
        self._check_callback(callback, method)
        return asyncio.Handle(callback, args, self, context)

    @cython.final
    cdef made(self, PyTypeObject *type, Freelist *freelist, callback, args, context):
        """Do the same as `make`, with objects."""
        Py_INCREF(args)
        cdef PyObject *raw = self.make(type, freelist, <PyObject *>callback, <PyObject *>args, <PyObject *>context)
        handle = <object>raw
        Py_XDECREF(raw)
        return handle

    @cython.final
    cdef PyObject *make(
        self, PyTypeObject *type, Freelist *freelist, PyObject *callback, PyObject *args, PyObject *context
    ) except NULL:
        """Return a new reference to a handle; take the reference to its arguments.

        context: NULL or None for a copy of the current one.
        """
        cdef PyObject *handle
        # The freelist belongs to the thread that runs the loop.
        cdef bint is_here = not IS_FREE_THREADED or load_thread(&self.now.thread) == this_thread()
        handle = take_handle(type, freelist) if is_here else make_handle(type)
        set_slot(<object>handle, CALLBACK, <object>callback)
        slot(<object>handle, ARGS)[0] = args
        Py_INCREF(self)
        slot(<object>handle, LOOP)[0] = <PyObject *>self
        if context != NULL and <object>context is not None:
            set_slot(<object>handle, CONTEXT, <object>context)
        elif slot(<object>handle, CONTEXT)[0] == NULL or not is_current_context_empty():
            set_slot(<object>handle, CONTEXT, PyContext_CopyCurrent())
        return handle

    cdef make_reader(self, callback, args, context):
        self.check()
        if self._debug:
            return asyncio.Handle(callback, args, self, context)
        return self.made(handle_type, &self.freelist, callback, args, context)

    cdef make_thread_safe_handle(self, callback, args, context):
        """A handle whose `cancel` waits for a running callback."""
        if self._debug:
            self._check_callback(callback, "call_soon_threadsafe")
        handle = ThreadSafeHandle(callback, args, self, context)
        if handle._source_traceback:
            # Where its own __init__ made it.
            handle._source_traceback.pop()
        return handle

    @cython.final
    cdef int add_timer(self, handle, double due, when) except -1:
        """Give a timer its time, and put it into the heap."""
        set_slot(handle, WHEN, when)
        self.timers.push(handle, due)
        set_slot(handle, SCHEDULED, True)
        return 0

    cdef schedule(self, when, callback, args, context):
        """Put a timer into the heap, until it is due or swept out."""
        cdef double due
        self.check()
        if IS_FREE_THREADED:
            check_thread(self.now)
        due = when
        if due != due:
            # Neither earlier nor later than other times: it would break the heap's order.
            raise ValueError("a timer cannot be due at NaN")
        if not self._debug:
            handle = self.made(timer_handle_type, &self.free_timers, callback, args, context)
        else:
            self._check_thread()
            self._check_callback(callback, "call_at")
            # asyncio's own is not cancelled and counted at once.
            kind = TimerHandle if IS_FREE_THREADED else asyncio.TimerHandle
            handle = kind(when, callback, args, self, context)
        self.add_timer(handle, due, when)
        return handle

    def _timer_handle_cancelled(self, handle):
        """Count a cancelled timer; asyncio's own timers call it."""
        self.count_cancelled(handle)

    cdef void count_cancelled(self, handle) noexcept:
        # The garbage collector may have cleared the loop already.
        if has_flag(handle, SCHEDULED) and self.timers is not None:
            add_to(&self.timers.cancelled, 1)

    # Running

    def _sleep_by(self, Dispatcher dispatcher, Sockets sockets, bint is_watching, sleep):
        """Set the parts of the loop that sleep and dispatch.

        Args:
            dispatcher: dispatches after each sleep.
            sockets: looks before each sleep in the ring; None: there are none.
            is_watching: whether the registry sleeps.
            sleep: sleeps in place of the ring, called with nanoseconds, -1 for ever; it returns at a completion or a
                wakeup by another thread.  None: the loop sleeps in the ring.
        """
        self.dispatcher = dispatcher
        self.sockets = sockets
        self.is_watching = is_watching
        self.sleep = sleep

    cdef int sleep_for(self, int64_t timeout_ns) except -1:
        """Sleep until there is work, at most so many nanoseconds, -1 for ever."""
        if self.sleep is not None:
            PyObject_CallOneArg(self.sleep, timeout_ns)
        elif self.is_watching:
            self.registry.wait_for(timeout_ns)
        else:
            if self.sockets is not None:
                timeout_ns = self.sockets.look(timeout_ns)
            if timeout_ns != 0 or not begins_idly(self.dispatcher):
                self.dispatcher.wait_for(timeout_ns)
        return 0

    def _send_by(self, uintptr_t tick, send):
        """Call `send` before a callback if written bytes have waited long enough; tick is the address of a `Tick`."""
        self.now = <Tick *>tick
        self.now.is_strict = IS_FREE_THREADED or self._debug
        self.send = send

    def _measure_by(self, Meter meter):
        """Have a meter count and time the callbacks from now on; None ends that."""
        if self.meter is not None and meter is not self.meter:
            self.meter.end_run()
        if meter is not None and meter is not self.meter:
            meter.watch(self.ready)
            if self.ident != 0:
                meter.begin_run(self.sleeping)
        # The flag is set only while there is a meter.
        # Another thread may ask for the meter meanwhile.
        with cython.critical_section(self):
            if meter is not None:
                self.meter = meter
            self.now.is_metered = meter is not None
            self.meter = meter

    @property
    def _meter(self):
        with cython.critical_section(self):
            return self.meter

    def _run_once(self):
        """Run a tick, and on a running loop up to TICKS_IN_A_ROW more while handles are ready.

        A tool may wait for a result of the first tick, so the later ones do not sleep.
        """
        cdef int _i
        cdef bint sleeps = True
        for _i in range(TICKS_IN_A_ROW):
            if not self.tick(sleeps) or self._stopping or self.ident == 0:
                return
            sleeps = size_of(self.ready) > 0 or self.has_posted()
            if not sleeps and not (self.is_watching and self.sleep is None and self.registry.is_likely_ready()):
                return

    @cython.final
    cdef bint tick(self, bint sleeps) except -1:
        """Sleep until there is work; then run ready handles, completions, and handles ready since the sleep.

        sleeps: otherwise it looks for ready descriptors alone.  Returns whether it slept, or found one.
        """
        cdef Py_ssize_t before, after
        cdef int64_t timeout_ns
        cdef bint by_handles, found = True
        if self.in_tick:
            # A callback let KeyboardInterrupt or SystemExit through: first run the handles that it left.
            self.dispatcher.dispatch()
        self.in_tick = True
        self.sleeping = True
        if self.ready.shared is not None:
            self.ready.take_back()
        if self.has_posted():
            self.take_posted()
        timeout_ns = 0 if self._stopping else self.timeout_ns()
        before = size_of(self.ready)
        if timeout_ns != 0 and self.ready.ring.capacity > CAPACITY_KEPT:
            self.ready.shrink()
        if self.now.is_metered:
            self.meter.page.asleep = timeout_ns != 0
        if sleeps:
            self.sleep_for(timeout_ns)
        else:
            found = self.registry.looks_again()
        self.sleeping = False
        if self.has_posted():
            self.take_posted()
        if not found:
            self.in_tick = False
            return False
        if self.now.is_metered:
            self.meter.wake(self.now, size_of(self.ready))
        if self.timers.handles:
            self.pop_due()
        after = self.now.handles = size_of(self.ready)
        if not has_few(self.now):
            begin_waiting(self.now)
        by_handles = self._debug or run_is_replaced()
        self.run(before, by_handles)
        if by_handles:
            self._dispatch_by_handles()
        elif has_to_dispatch(self.dispatcher):
            self.dispatcher.dispatch()
        if after > before:
            self.run(after - before, by_handles)
        if self.now.is_metered:
            finish(self.meter, 0)
        self.now.outcomes = self.now.handles = 0
        self.in_tick = False
        return True

    def _sleep_by_hand(self, int64_t timeout_ns):
        """Sleep for a tool with ticks of its own, within a callback or in the loop's place.

        Args:
            timeout_ns: at most this long, -1 for ever.
        """
        self.runs += 1  # such a tool does not count: see has_budget
        self.sleeping = True
        try:
            # Another thread may have made a handle ready since the tool looked.
            if self._ready:
                timeout_ns = 0
            self.sleep_for(timeout_ns)
        finally:
            self.sleeping = False
            self._ready  # the tool may hold the queue, and does not ask again

    cdef int64_t timeout_ns(self) except? -2:
        """Return how long the loop may sleep: until the first timer is due, -1 for ever, 0 if a handle is ready."""
        cdef double delay
        if self.timers.shared:
            self.timers.take_back()
        if load_count(&self.timers.cancelled):
            self.timers.sweep(&self.free_timers)
        if size_of(self.ready) > 0:
            return 0
        if not self.timers.handles:
            return -1
        delay = self.timers.first() - self.time_s()
        # Never early: the sleep covers the last fraction of a nanosecond.
        return min(<int64_t>(min(delay, 1e9) * NS_PER_S) + 1, 1_000_000_000 * NS_PER_S) if delay > 0 else 0

    cdef pop_due(self):
        """Make the due timers ready, in their order."""
        cdef double end, due
        cdef bint cancelled = False
        end = self.time_s() + 1e-9
        while self.timers.handles:
            due = self.timers.first()
            if due >= end:
                break
            handle = self.timers.pop(&cancelled)
            if not cancelled:
                push(self.ready, handle)
                if self.now.is_metered:
                    self.meter.add_timer(end - due)

    def has_budget(self):
        """Return whether the running callback may do one more thing that does not wait, before it yields.

        All handles that are ready together share SLICE_NS, but each has at least SLICE_MIN_NS.
        """
        cdef int64_t now_ns = monotonic_ns()
        if self.slice_of_run != self.runs:
            self.slice_of_run = self.runs
            self.slice_end_ns = now_ns + max(SLICE_NS // (1 + <int64_t>size_of(self.ready)), SLICE_MIN_NS)
            return True
        return now_ns < self.slice_end_ns

    @cython.final
    cdef int run(self, Py_ssize_t count, bint by_handles) except -1:
        """Run so many ready handles, each in its context, or by its `_run` if a tool has replaced that."""
        cdef ReadyQueue ready = self.ready
        cdef PyObject *handle
        if self._debug:
            self.run_slowly(self.meter, count)
            return 0
        while count > 0:
            count -= 1
            if must_send(self.now):
                PyObject_CallNoArgs(self.send)
            handle = take(ready)
            if handle == NULL:
                return 0  # a callback ran the loop within this run, and so what was left
            self.runs += 1
            if self.now.is_metered:
                begin_handle(self.meter, callback_of(<object>handle), 1)
            if handle.ob_type == handle_type and not by_handles:
                run_handle(self, handle, &self.freelist)
            elif handle.ob_type == timer_handle_type and not by_handles:
                run_handle(self, handle, &self.free_timers)
            else:
                run_by_itself(handle)
        return 0

    cdef run_slowly(self, Meter meter, Py_ssize_t count):
        """Run ready handles in debug mode."""
        cdef Py_ssize_t _i
        # Not counted one by one: in debug mode all handles of a tick share a slice.
        self.runs += 1
        if meter is None:
            self._run_slowly(count)
            return
        for _i in range(count):
            if size_of(self.ready) == 0:
                return
            begin_handle(meter, callback_of(self.ready.first()), 0)
            self._run_slowly(1)

    @cython.final
    cdef inline double time_s(self) except? -1:
        """Return the loop's time, in seconds."""
        return monotonic_s() if self.has_usual_time() else <double>self.time()

    @cython.final
    cdef inline bint has_usual_time(self) except -1:
        """Return whether `time` is the system's: tests replace it, for the class or for this loop."""
        if type_version((<PyObject *>self).ob_type) == self.usual_version != 0:
            return has_no_attributes(self)
        return look_at_time(self)


include "scheduler_running.pxi"
include "scheduler_calls.pxi"
