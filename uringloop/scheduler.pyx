# cython: language_level=3, boundscheck=False, wraparound=False
"""The ready queue, the timer heap, and running handles; compiled, because every callback passes here.

Nothing here knows of I/O.  The handles are asyncio's own `Handle` and `TimerHandle`, made without their Python `__init__`:
their slots are filled in directly, at the offsets that the running Python gives them.  The ready queue is asyncio's own
deque (`BaseEventLoop._ready`).  Time is the loop's clock in seconds, as `loop.time()` gives it; what leaves for the kernel
is in nanoseconds.
"""

from asyncio import Handle, TimerHandle

from cpython.contextvars cimport PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, realloc

from .hooks import describe_callback

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
    """
    Py_ssize_t slot_offset(object type, const char *name) except -1
    PyObject *PyType_GenericAlloc(PyTypeObject *type, Py_ssize_t items) except NULL

cdef enum:
    # Cancelled timers are swept out of the heap when there are more than this many, and they are more than half of it.
    SWEEP_FROM = 100

cdef int64_t NS_PER_S = 1_000_000_000

cdef Py_ssize_t CALLBACK = slot_offset(Handle, b"_callback")
cdef Py_ssize_t ARGS = slot_offset(Handle, b"_args")
cdef Py_ssize_t CANCELLED = slot_offset(Handle, b"_cancelled")
cdef Py_ssize_t LOOP = slot_offset(Handle, b"_loop")
cdef Py_ssize_t TRACEBACK = slot_offset(Handle, b"_source_traceback")
cdef Py_ssize_t REPR = slot_offset(Handle, b"_repr")
cdef Py_ssize_t CONTEXT = slot_offset(Handle, b"_context")
cdef Py_ssize_t WHEN = slot_offset(TimerHandle, b"_when")
cdef Py_ssize_t SCHEDULED = slot_offset(TimerHandle, b"_scheduled")


cdef inline PyObject **slot(handle, Py_ssize_t offset):
    return <PyObject **>(<char *><PyObject *>handle + offset)


cdef inline void set_slot(handle, Py_ssize_t offset, value):
    cdef PyObject *old = slot(handle, offset)[0]
    Py_INCREF(value)
    slot(handle, offset)[0] = <PyObject *>value
    Py_XDECREF(old)


cdef new_handle(type, loop, callback, args, context):
    cdef PyObject *raw = PyType_GenericAlloc(<PyTypeObject *>type, 0)
    handle = <object>raw
    Py_XDECREF(raw)
    set_slot(handle, CALLBACK, callback)
    set_slot(handle, ARGS, args)
    set_slot(handle, CANCELLED, False)
    set_slot(handle, LOOP, loop)
    set_slot(handle, TRACEBACK, None)
    set_slot(handle, REPR, None)
    set_slot(handle, CONTEXT, PyContext_CopyCurrent() if context is None else context)
    return handle


cdef struct Deadline:
    double when
    uint64_t number  # of two timers for the same time, the one made first is due first


cdef inline bint earlier(Deadline a, Deadline b):
    return a.when < b.when or (a.when == b.when and a.number < b.number)


cdef class Scheduler:
    """The handles of one loop.

    Args:
        loop: an `asyncio.BaseEventLoop`; its `time`, `call_exception_handler` and ready queue are used.
    """

    cdef object loop, ready, append, popleft
    cdef Deadline *deadlines
    cdef list timers  # the heap's handles, each at the place of its deadline
    cdef Py_ssize_t capacity
    cdef Py_ssize_t cancelled
    cdef uint64_t next_number
    cdef bint closed

    def __init__(self, loop):
        self.loop = loop
        self.ready = loop._ready
        self.append = self.ready.append
        self.popleft = self.ready.popleft
        self.timers = []

    def __dealloc__(self):
        free(self.deadlines)

    def close(self):
        """Drop everything; what is scheduled from now on is refused."""
        self.closed = True
        self.timers.clear()
        self.cancelled = 0

    cdef int check(self) except -1:
        if self.closed:
            raise RuntimeError("Event loop is closed")
        return 0

    # Scheduling

    def call_soon(self, callback, *args, context=None):
        """See `asyncio.loop.call_soon`."""
        self.check()
        handle = new_handle(Handle, self.loop, callback, args, context)
        self.append(handle)
        return handle

    def call_later(self, delay, callback, *args, context=None):
        """See `asyncio.loop.call_later`; delay in seconds."""
        if delay is None:
            raise TypeError("delay must not be None")
        return self.call_at(self.loop.time() + delay, callback, *args, context=context)

    def call_at(self, when, callback, *args, context=None):
        """See `asyncio.loop.call_at`; when on the loop's clock, in seconds."""
        if when is None:
            raise TypeError("when cannot be None")
        self.check()
        handle = new_handle(TimerHandle, self.loop, callback, args, context)
        set_slot(handle, WHEN, when)
        self.schedule(handle)
        return handle

    def schedule(self, handle):
        """Put a timer into the heap, where it stays until it is due or swept out."""
        set_slot(handle, SCHEDULED, True)
        self.push(handle, Deadline(<double><object>slot(handle, WHEN)[0], self.next_number))
        self.next_number += 1

    def timer_cancelled(self, handle):
        """Told by a timer that was cancelled."""
        if <object>slot(handle, SCHEDULED)[0] is True:
            self.cancelled += 1

    # The heap

    cdef push(self, handle, Deadline deadline):
        cdef Py_ssize_t place = len(self.timers), parent
        cdef Deadline *larger
        if place == self.capacity:
            self.capacity = self.capacity * 2 + 64
            larger = <Deadline *>realloc(self.deadlines, self.capacity * sizeof(Deadline))
            if larger == NULL:
                raise MemoryError
            self.deadlines = larger
        self.timers.append(handle)
        while place > 0:
            parent = (place - 1) >> 1
            if not earlier(deadline, self.deadlines[parent]):
                break
            self.deadlines[place] = self.deadlines[parent]
            self.timers[place] = self.timers[parent]
            place = parent
        self.deadlines[place] = deadline
        self.timers[place] = handle

    cdef pop(self):
        first = self.timers[0]
        last = self.timers.pop()
        if self.timers:
            self.sink(0, last, self.deadlines[len(self.timers)])
        set_slot(first, SCHEDULED, False)
        return first

    cdef sink(self, Py_ssize_t place, handle, Deadline deadline):
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
            self.timers[place] = self.timers[child]
            place = child
        self.deadlines[place] = deadline
        self.timers[place] = handle

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
                self.sink(place, self.timers[place], self.deadlines[place])
            self.cancelled = 0
        while self.timers and <object>slot(self.timers[0], CANCELLED)[0] is True:
            self.cancelled -= 1
            self.pop()

    # Running

    def timeout_ns(self):
        """How long the loop may sleep: until the first timer is due, -1 for ever, 0 if anything is ready."""
        cdef double delay
        if self.cancelled:
            self.sweep()
        if self.ready:
            return 0
        if not self.timers:
            return -1
        delay = self.deadlines[0].when - <double>self.loop.time()
        # Never early: a timer that is a fraction of a nanosecond away is waited for.
        return min(<int64_t>(min(delay, 1e9) * NS_PER_S) + 1, 1_000_000_000 * NS_PER_S) if delay > 0 else 0

    def pop_due(self):
        """Make the timers that are due ready, in their order."""
        cdef double end
        if not self.timers:
            return
        end = <double>self.loop.time() + 1e-9
        while self.timers and self.deadlines[0].when < end:
            handle = self.pop()
            if <object>slot(handle, CANCELLED)[0] is True:
                self.cancelled -= 1
            else:
                self.append(handle)

    def run(self, Py_ssize_t count):
        """Run as many ready handles, each in its context."""
        cdef Py_ssize_t i
        for i in range(count):
            handle = self.popleft()
            if <object>slot(handle, CANCELLED)[0] is not True:
                if type(handle) is Handle or type(handle) is TimerHandle:
                    self.run_handle(handle)
                else:
                    handle._run()

    cdef run_handle(self, handle):
        context = <object>slot(handle, CONTEXT)[0]
        callback = <object>slot(handle, CALLBACK)[0]
        args = <tuple>slot(handle, ARGS)[0]
        try:
            PyContext_Enter(context)
        except BaseException as error:
            self.report(handle, error)
            return
        try:
            callback(*args)
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
        self.loop.call_exception_handler(context)
