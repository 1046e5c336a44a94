# cython: language_level=3, boundscheck=False, wraparound=False
"""The tick, the ready queue, the timer heap, and running handles; compiled, because every callback passes here.

Nothing here knows of I/O: where to sleep and whom to tell of what completed are arguments.  The handles are asyncio's
`Handle` and `TimerHandle`, with a compiled `cancel`, made without their Python `__init__`: their slots are filled in
directly, at the offsets that the running Python gives them.  The ready queue is asyncio's own deque
(`BaseEventLoop._ready`).  Time is the loop's clock in seconds, as `loop.time()` gives it; what leaves for the kernel is in
nanoseconds.
"""

import asyncio

from cpython.contextvars cimport PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF, Py_REFCNT, Py_XDECREF
from cpython.tuple cimport PyTuple_GET_SIZE
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, realloc
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from .hooks import ThreadSafeHandle, describe_callback

cdef extern from *:
    """
    #include <structmember.h>

    /* Where a class with __slots__ keeps one of them; -1 with an exception if it is no slot. */
    static Py_ssize_t slot_offset(PyObject *type, const char *name)
    {
        Py_ssize_t offset = -1;
        PyObject *descriptor = PyObject_GetAttrString(type, name);
        if (descriptor == NULL)
            return -1;
        if (Py_TYPE(descriptor) == &PyMemberDescr_Type)
            offset = ((PyMemberDescrObject *)descriptor)->d_member->offset;
        else
            PyErr_Format(PyExc_ImportError, "asyncio's handles have no slot %s any more", name);
        Py_DECREF(descriptor);
        return offset;
    }

    static int has_weak_references(PyObject *handle)
    {
        return *(PyObject **)((char *)handle + Py_TYPE(handle)->tp_weaklistoffset) != NULL;
    }
    """
    bint has_weak_references(object handle)
    Py_ssize_t slot_offset(object type, const char *name) except -1
    PyObject *PyType_GenericAlloc(PyTypeObject *type, Py_ssize_t items) except NULL
    PyObject **PySequence_Fast_ITEMS(object sequence)
    # What Cython makes of a call asks for the thread's state twice more, to count the recursion, and makes a dict anew.
    object PyObject_Call(object callable, object arguments, object keywords)
    object PyObject_CallNoArgs(object callable)
    object PyObject_CallOneArg(object callable, object argument)
    object PyObject_Vectorcall(object callable, PyObject *const *arguments, size_t count, PyObject *names)

cdef enum:
    # Cancelled timers are swept out of the heap when there are more than this many, and they are more than half of it.
    SWEEP_FROM = 100
    # As many handles are kept for the next ones: a thread that keeps the GIL for its 5 ms schedules more than that.  They
    # take 3 MB; if so many never wait at once, so many are never made.
    SPARES_MAX = 32768
    # Signals and other threads have their turn between bytecodes, so also within most callbacks; but not within all.
    TICKS_IN_A_ROW = 32

cdef int64_t NS_PER_S = 1_000_000_000
# See may_go_on: a turn of the loop costs some microseconds.
cdef int64_t SLICE_NS = 500_000
cdef int64_t SLICE_MIN_NS = 15_000


cdef int64_t monotonic_ns() noexcept:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * NS_PER_S + now.tv_nsec


# Held in C variables, because Python would look a global name up in a dict each time.
cdef object Future = asyncio.Future
cdef object Task = asyncio.Task

cdef Py_ssize_t CALLBACK = slot_offset(asyncio.Handle, b"_callback")
cdef Py_ssize_t ARGS = slot_offset(asyncio.Handle, b"_args")
cdef Py_ssize_t CANCELLED = slot_offset(asyncio.Handle, b"_cancelled")
cdef Py_ssize_t LOOP = slot_offset(asyncio.Handle, b"_loop")
cdef Py_ssize_t TRACEBACK = slot_offset(asyncio.Handle, b"_source_traceback")
cdef Py_ssize_t REPR = slot_offset(asyncio.Handle, b"_repr")
cdef Py_ssize_t CONTEXT = slot_offset(asyncio.Handle, b"_context")
cdef Py_ssize_t WHEN = slot_offset(asyncio.TimerHandle, b"_when")
cdef Py_ssize_t SCHEDULED = slot_offset(asyncio.TimerHandle, b"_scheduled")


cdef inline PyObject **slot(handle, Py_ssize_t offset) noexcept:
    return <PyObject **>(<char *><PyObject *>handle + offset)


cdef inline void set_slot(handle, Py_ssize_t offset, value) noexcept:
    cdef PyObject *old = slot(handle, offset)[0]
    Py_INCREF(value)
    slot(handle, offset)[0] = <PyObject *>value
    Py_XDECREF(old)


cdef inline void empty_slot(handle, Py_ssize_t offset) noexcept:
    cdef PyObject *old = slot(handle, offset)[0]
    slot(handle, offset)[0] = NULL
    Py_XDECREF(old)


cdef struct Spares:
    # Handles that have run and that nobody else refers to: cheaper to fill in again than to free and make.  They refer to
    # nothing, the loop among it, which the garbage collector could not see.
    PyObject **handles
    int count, capacity


cdef make_handle_of(type, Spares *spares):
    """One whose callback, arguments, loop and context are yet to be set."""
    cdef PyObject *raw
    if spares.count > 0:
        spares.count -= 1
        raw = spares.handles[spares.count]
        handle = <object>raw
        Py_XDECREF(raw)
        return handle
    raw = PyType_GenericAlloc(<PyTypeObject *>type, 0)
    handle = <object>raw
    Py_XDECREF(raw)
    set_slot(handle, CANCELLED, False)
    set_slot(handle, TRACEBACK, None)
    set_slot(handle, REPR, None)
    return handle


cdef void spare_handle(handle, Spares *spares) noexcept:
    """Keep one that has run, if the caller's reference is the last."""
    if Py_REFCNT(handle) > 1 or has_weak_references(handle) or <object>slot(handle, CANCELLED)[0] is True:
        return
    if spares.count == spares.capacity and not grow_spares(spares):
        return
    set_slot(handle, CALLBACK, None)  # for `repr`, should anybody find it
    empty_slot(handle, ARGS)
    empty_slot(handle, LOOP)
    empty_slot(handle, CONTEXT)
    # What emptying them freed may have run handles.
    if spares.count < spares.capacity:
        Py_INCREF(handle)
        spares.handles[spares.count] = <PyObject *>handle
        spares.count += 1


cdef bint grow_spares(Spares *spares) noexcept:
    """Whether there is room for more."""
    cdef int capacity = spares.capacity * 2 or 64
    if capacity > SPARES_MAX:
        return False
    cdef void *larger = realloc(spares.handles, capacity * sizeof(PyObject *))
    if larger == NULL:
        return False
    spares.handles = <PyObject **>larger
    spares.capacity = capacity
    return True


cdef void drop_spares(Spares *spares) noexcept:
    while spares.count > 0:
        spares.count -= 1
        Py_XDECREF(spares.handles[spares.count])
    free(spares.handles)


cdef bint cancel_handle(handle):
    """Whether it was not cancelled before."""
    if <object>slot(handle, CANCELLED)[0] is True:
        return False
    set_slot(handle, CANCELLED, True)
    if (<Scheduler?><object>slot(handle, LOOP)[0])._debug:
        # What it was is still told of a cancelled one.
        set_slot(handle, REPR, repr(handle))
    set_slot(handle, CALLBACK, None)
    set_slot(handle, ARGS, None)
    return True


class CompiledHandle(asyncio.Handle):
    """See `asyncio.Handle`."""

    __slots__ = ()

    def cancel(self):
        cancel_handle(self)


class CompiledTimerHandle(asyncio.TimerHandle):
    """See `asyncio.TimerHandle`."""

    __slots__ = ()

    def cancel(self):
        if cancel_handle(self):
            (<Scheduler>slot(self, LOOP)[0]).count_cancelled(self)


CompiledHandle.__name__ = "Handle"
CompiledTimerHandle.__name__ = "TimerHandle"
cdef object Handle = CompiledHandle
cdef object TimerHandle = CompiledTimerHandle


cdef struct Deadline:
    double when
    uint64_t number  # of two timers for the same time, the one made first is due first


cdef inline bint earlier(Deadline a, Deadline b) noexcept:
    return a.when < b.when or (a.when == b.when and a.number < b.number)


cdef class Scheduler:
    """What an event loop does with handles: a base class beside `asyncio.BaseEventLoop`, which it comes before.

    It holds, as fields, those of asyncio's attributes that every callback needs.  Of asyncio's methods it uses `time`,
    `call_exception_handler`, `_write_to_self`, and those that check arguments in debug mode.
    """

    cdef object ready, append, popleft
    cdef object sleep, sleep_watching, dispatch
    cdef dict watched
    cdef public bint _closed, _debug, _stopping
    cdef public object _task_factory, _thread_id
    cdef bint in_tick  # also after one that an exception has ended
    cdef bint sleeping  # from before the loop looks whether anything is ready until it has slept
    cdef bint woken  # a thread has written to the self-pipe, and the loop has not read it yet
    cdef dict keywords  # what a future is made with, and a task
    cdef Spares spares, spare_timers
    cdef Deadline *deadlines
    cdef list timers  # the heap's handles, each at the place of its deadline
    cdef Py_ssize_t capacity
    cdef Py_ssize_t cancelled
    cdef uint64_t next_number
    cdef uint64_t runs  # handles run so far
    cdef uint64_t slice_of_run
    cdef int64_t slice_end_ns

    def __cinit__(self):
        self.keywords = {"loop": self}
        self.timers = []
        self._closed = True  # until asyncio has made the loop: one that could not be made is not "unclosed"

    def __dealloc__(self):
        free(self.deadlines)
        drop_spares(&self.spares)
        drop_spares(&self.spare_timers)

    @property
    def _ready(self):
        return self.ready

    @_ready.setter
    def _ready(self, ready):
        self.ready = ready
        self.append = ready.append
        self.popleft = ready.popleft

    def _drop_timers(self):
        """Forget the timers, of a loop that is closed."""
        self.timers.clear()
        self.cancelled = 0

    cdef int check(self) except -1:
        if self._closed:
            raise RuntimeError("Event loop is closed")
        return 0

    def get_debug(self):
        """See `asyncio.loop.get_debug`: every future asks, when it is made."""
        return self._debug

    # Scheduling

    def create_future(self):
        """See `asyncio.loop.create_future`."""
        return PyObject_Call(Future, (), self.keywords)

    def create_task(self, coro, **keywords):
        """See `asyncio.loop.create_task`."""
        if self._task_factory is not None or self._debug:
            return asyncio.BaseEventLoop.create_task(self, coro, **keywords)
        self.check()
        return Task(coro, loop=self, **keywords) if keywords else PyObject_Call(Task, (coro,), self.keywords)

    def call_soon(self, callback, *args, context=None):
        """See `asyncio.loop.call_soon`."""
        self.check()
        if self._debug:
            self._check_thread()
        handle = self.make_handle("call_soon", callback, args, context)
        PyObject_CallOneArg(self.append, handle)
        return handle

    def call_soon_threadsafe(self, callback, *args, context=None):
        """See `asyncio.loop.call_soon_threadsafe`."""
        self.check()
        if ThreadSafeHandle is None:
            handle = self.make_handle("call_soon_threadsafe", callback, args, context)
        else:
            handle = self.make_thread_safe_handle(callback, args, context)
        PyObject_CallOneArg(self.append, handle)
        # While the loop runs callbacks it looks by itself, and the GIL keeps that and this apart.
        if self.sleeping and not self.woken:
            self.woken = True
            self._write_to_self()
        return handle

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
            return self.fill_handle(make_handle_of(Handle, &self.spares), callback, args, context)
        # asyncio's own remembers where it was made.
        self._check_callback(callback, method)
        return asyncio.Handle(callback, args, self, context)

    cdef fill_handle(self, handle, callback, args, context):
        set_slot(handle, CALLBACK, callback)
        set_slot(handle, ARGS, args)
        set_slot(handle, LOOP, self)
        set_slot(handle, CONTEXT, PyContext_CopyCurrent() if context is None else context)
        return handle

    cdef make_thread_safe_handle(self, callback, args, context):
        """Its `cancel` waits for a callback that is running."""
        if self._debug:
            self._check_callback(callback, "call_soon_threadsafe")
        handle = ThreadSafeHandle(callback, args, self, context)
        if handle._source_traceback:
            # Where its own __init__ made it.
            handle._source_traceback.pop()
        return handle

    cdef schedule(self, when, callback, args, context):
        """Put a timer into the heap, where it stays until it is due or swept out."""
        self.check()
        if not self._debug:
            handle = self.fill_handle(make_handle_of(TimerHandle, &self.spare_timers), callback, args, context)
            set_slot(handle, WHEN, when)
        else:
            self._check_thread()
            self._check_callback(callback, "call_at")
            handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.push(handle, Deadline(when, self.next_number))
        self.next_number += 1
        set_slot(handle, SCHEDULED, True)
        return handle

    def _timer_handle_cancelled(self, handle):
        """Told by one of asyncio's own timers that was cancelled."""
        self.count_cancelled(handle)

    cdef void count_cancelled(self, handle) noexcept:
        if <object>slot(handle, SCHEDULED)[0] is True:
            self.cancelled += 1

    def _woke(self):
        """Told when the loop has read what woke it.

        Not before: of a thread that writes between the two the byte would be read and the flag left set, and nobody
        would write again.  Who calls after the read and before this is in the ready queue already.
        """
        self.woken = False

    # The heap

    cdef push(self, handle, Deadline deadline):
        cdef Py_ssize_t place = len(self.timers), parent
        cdef Deadline *larger
        if place == self.capacity:
            larger = <Deadline *>realloc(self.deadlines, (self.capacity * 2 + 64) * sizeof(Deadline))
            if larger == NULL:
                raise MemoryError
            self.deadlines = larger
            self.capacity = self.capacity * 2 + 64
        self.timers.append(handle)
        cdef PyObject **timers = PySequence_Fast_ITEMS(self.timers)
        while place > 0:
            parent = (place - 1) >> 1
            if not earlier(deadline, self.deadlines[parent]):
                break
            self.deadlines[place] = self.deadlines[parent]
            timers[place] = timers[parent]
            place = parent
        self.deadlines[place] = deadline
        timers[place] = <PyObject *>handle

    cdef pop(self):
        cdef PyObject **timers = PySequence_Fast_ITEMS(self.timers)
        cdef Py_ssize_t last = len(self.timers) - 1
        cdef PyObject *first = timers[0]
        cdef PyObject *moved = timers[last]
        # The list's last place, which it gives up, is where its first element leaves.
        timers[last] = first
        handle = self.timers.pop()
        if last > 0:
            self.sink(0, moved, self.deadlines[last])
        set_slot(handle, SCHEDULED, False)
        return handle

    cdef void sink(self, Py_ssize_t place, PyObject *handle, Deadline deadline) noexcept:
        """Put a handle into an empty place, or below it.  Within the list references only move: nothing is counted."""
        cdef PyObject **timers = PySequence_Fast_ITEMS(self.timers)
        cdef Py_ssize_t size = len(self.timers), child
        while True:
            child = 2 * place + 1
            if child >= size:
                break
            if child + 1 < size and earlier(self.deadlines[child + 1], self.deadlines[child]):
                child += 1
            if not earlier(self.deadlines[child], deadline):
                break
            self.deadlines[place] = self.deadlines[child]
            timers[place] = timers[child]
            place = child
        self.deadlines[place] = deadline
        timers[place] = handle

    cdef sweep(self):
        """Drop cancelled timers: all of them if they are many, else those on top."""
        cdef Py_ssize_t size = len(self.timers), place, kept = 0
        if size > SWEEP_FROM and self.cancelled * 2 > size:
            timers = self.timers
            self.timers = []
            for place in range(size):
                handle = timers[place]
                if <object>slot(handle, CANCELLED)[0] is True:
                    set_slot(handle, SCHEDULED, False)
                else:
                    self.deadlines[kept] = self.deadlines[place]
                    self.timers.append(handle)
                    kept += 1
            for place in range(kept // 2 - 1, -1, -1):
                self.sink(place, PySequence_Fast_ITEMS(self.timers)[place], self.deadlines[place])
            self.cancelled = 0
        while self.timers and <object>slot(self.timers[0], CANCELLED)[0] is True:
            self.cancelled -= 1
            self.pop()

    # Running

    def _sleep_by(self, sleep, sleep_watching, dict watched, dispatch):
        """Settle how to sleep, and whom to tell afterwards.

        Args:
            sleep: called with nanoseconds, -1 for ever; returns when something completed, or another thread wants the loop.
            sleep_watching: the same, while there is anything in the next:
            watched: the selector's keys.
            dispatch: called to tell of what completed.
        """
        self.sleep = sleep
        self.sleep_watching = sleep_watching
        self.watched = watched
        self.dispatch = dispatch

    def _run_once(self):
        """A tick, and if the loop runs those after it that find something ready, up to TICKS_IN_A_ROW."""
        cdef int i
        for i in range(TICKS_IN_A_ROW):
            self.tick()
            if self._stopping or self._thread_id is None or not self.ready:
                return

    cdef tick(self):
        """Sleep until there is work, then do it: what was ready, what completed, what is ready since the sleep."""
        cdef Py_ssize_t before, after
        if self.in_tick:
            # A callback let KeyboardInterrupt or SystemExit through: first what it left.
            PyObject_CallNoArgs(self.dispatch)
        self.in_tick = True
        self.sleeping = True
        timeout_ns = 0 if self._stopping else self.timeout_ns()
        before = len(self.ready)
        if self.watched:
            PyObject_CallOneArg(self.sleep_watching, timeout_ns)
        else:
            PyObject_CallOneArg(self.sleep, timeout_ns)
        self.sleeping = False
        self.pop_due()
        after = len(self.ready)
        self.run(before)
        PyObject_CallNoArgs(self.dispatch)
        self.run(after - before)
        self.in_tick = False

    cdef int64_t timeout_ns(self) except? -2:
        """How long the loop may sleep: until the first timer is due, -1 for ever, 0 if anything is ready."""
        cdef double delay
        if self.cancelled:
            self.sweep()
        if self.ready:
            return 0
        if not self.timers:
            return -1
        delay = self.deadlines[0].when - <double>self.time()
        # Never early: a timer that is a fraction of a nanosecond away is waited for.
        return min(<int64_t>(min(delay, 1e9) * NS_PER_S) + 1, 1_000_000_000 * NS_PER_S) if delay > 0 else 0

    cdef pop_due(self):
        """Make the timers that are due ready, in their order."""
        cdef double end
        if not self.timers:
            return
        end = <double>self.time() + 1e-9
        while self.timers and self.deadlines[0].when < end:
            handle = self.pop()
            if <object>slot(handle, CANCELLED)[0] is True:
                self.cancelled -= 1
            else:
                PyObject_CallOneArg(self.append, handle)

    def may_go_on(self):
        """Whether the callback that runs may do one more thing that does not wait, or must give others their turn.

        All that are ready together get SLICE_NS before the first of them runs again, but none less than SLICE_MIN_NS.
        """
        cdef int64_t now_ns = monotonic_ns()
        if self.slice_of_run != self.runs:
            self.slice_of_run = self.runs
            self.slice_end_ns = now_ns + max(SLICE_NS // (1 + <int64_t>len(self.ready)), SLICE_MIN_NS)
            return True
        return now_ns < self.slice_end_ns

    cdef run(self, Py_ssize_t count):
        """Run as many ready handles, each in its context."""
        cdef Py_ssize_t i
        if self._debug:
            # Not counted one by one: in debug mode all that run in a tick share a slice.
            self.runs += 1
            self._run_slowly(count)
            return
        for i in range(count):
            handle = PyObject_CallNoArgs(self.popleft)
            self.runs += 1
            if <object>slot(handle, CANCELLED)[0] is not True:
                if type(handle) is Handle:
                    self.run_handle(handle)
                    spare_handle(handle, &self.spares)
                elif type(handle) is TimerHandle:
                    self.run_handle(handle)
                    spare_handle(handle, &self.spare_timers)
                else:
                    handle._run()

    cdef run_handle(self, handle):
        context = <object>slot(handle, CONTEXT)[0]
        callback = <object>slot(handle, CALLBACK)[0]
        args = <object>slot(handle, ARGS)[0]
        try:
            PyContext_Enter(context)
        except BaseException as error:
            self.report(handle, error)
            return
        try:
            PyObject_Vectorcall(callback, PySequence_Fast_ITEMS(args), PyTuple_GET_SIZE(args), NULL)
        except (SystemExit, KeyboardInterrupt):
            PyContext_Exit(context)
            raise
        except BaseException as error:
            # The exception handler may run in this context: it is left first.
            PyContext_Exit(context)
            self.report(handle, error)
        else:
            PyContext_Exit(context)

    def report(self, handle, error):
        """As `asyncio.Handle` reports a callback that raised."""
        callback = <object>slot(handle, CALLBACK)[0]
        args = <object>slot(handle, ARGS)[0]
        context = {
            "message": f"Exception in callback {describe_callback(callback, args)}",
            "exception": error,
            "handle": handle,
        }
        source_traceback = <object>slot(handle, TRACEBACK)[0]
        if source_traceback:
            context["source_traceback"] = source_traceback
        self.call_exception_handler(context)
