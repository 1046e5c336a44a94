"""The timer heap: a list of asyncio's handles, beside an array of their deadlines in the same order.

A comparison reads the array alone: the time of a handle is two pointers away.

The list is also asyncio's `_scheduled`, which tools read and change.  They cancel all timers in it, or pop and push
with heapq.  While a tool holds a reference to the list, the list alone counts, and heapq keeps its order.
"""

from heapq import heapify, heappop, heappush

cdef extern from *:
    # Cython's own declaration takes an object, and holds it meanwhile.
    Py_ssize_t count_references "Py_REFCNT"(PyObject *object)
    void set_size "Py_SET_SIZE"(object list, Py_ssize_t size)

cdef extern from *:
    """
    /* Add to a number, and return the sum.  Without the GIL other threads do that meanwhile. */
    static inline Py_ssize_t add_to(Py_ssize_t *number, Py_ssize_t count)
    {
    #ifdef Py_GIL_DISABLED
        return __atomic_add_fetch(number, count, __ATOMIC_RELAXED);
    #else
        return *number += count;
    #endif
    }

    #define load_count(number) __atomic_load_n(number, __ATOMIC_RELAXED)
    """
    Py_ssize_t add_to(Py_ssize_t *number, Py_ssize_t count)
    Py_ssize_t load_count(const Py_ssize_t *number)

cdef enum:
    # Cancelled timers are swept out of the heap when they are more than this many and more than half of it.
    SWEEP_FROM = 100


cdef struct Deadline:
    double when
    uint64_t number  # of two timers for the same time, the one made first is due first


cdef inline bint earlier(Deadline a, Deadline b) noexcept:
    return a.when < b.when or (a.when == b.when and a.number < b.number)


@cython.final
cdef class TimerHeap:
    """The waiting timers, with the first deadline on top."""

    cdef list handles  # each at the place of its deadline
    cdef Deadline *deadlines
    cdef Py_ssize_t capacity
    cdef Py_ssize_t cancelled  # so many of those in the heap, which are left there at first
    cdef uint64_t next_number
    cdef bint shared  # others may have changed the list: the deadlines are out of date
    cdef Py_ssize_t known  # so many deadlines were right before

    def __cinit__(self):
        self.handles = []

    def __dealloc__(self):
        free(self.deadlines)

    cdef share(self):
        """Return the list, which the caller may change at will."""
        if not self.shared:
            self.shared = True
            self.known = len(self.handles)
        return self.handles

    cdef replace(self, list handles):
        """Take another list."""
        self.shared = True
        self.known = 0
        self.handles = handles

    cdef take_back(self):
        """Use the deadlines again, if no other reference to the list exists and all deadlines are known."""
        cdef Py_ssize_t place, size = len(self.handles), cancelled = 0
        cdef double when
        if count_references(<PyObject *>self.handles) > 1:
            return
        self.reserve(size)
        for place in range(size):
            handle = self.handles[place]
            if type(handle) is not TimerHandle and type(handle) is not asyncio.TimerHandle:
                return
            if type(handle._when) is not float and type(handle._when) is not int:
                return
            when = handle._when
            cancelled += is_cancelled(handle)
            if place >= self.known or self.deadlines[place].when != when:
                self.deadlines[place] = Deadline(when, self.next_number)
                self.next_number += 1
        self.shared = False
        self.cancelled = cancelled
        self.order()

    cdef inline int reserve(self, Py_ssize_t size) except -1:
        return self.grow(max(size, self.capacity * 2 + 64)) if size > self.capacity else 0

    cdef int grow(self, Py_ssize_t capacity) except -1:
        cdef Deadline *larger = <Deadline *>realloc(self.deadlines, capacity * sizeof(Deadline))
        if larger == NULL:
            raise MemoryError
        self.deadlines = larger
        self.capacity = capacity
        return 0

    cdef Py_ssize_t count_cancelled(self) except -1:
        """Return the number of cancelled timers; count them if a tool may have changed the list."""
        return sum(handle._cancelled for handle in self.handles) if self.shared else load_count(&self.cancelled)

    cdef inline double first(self) except? -1:
        """Return the first deadline; the heap must not be empty."""
        return <double>self.handles[0]._when if self.shared else self.deadlines[0].when

    cdef push(self, handle, double when):
        cdef Deadline deadline
        cdef Py_ssize_t place = len(self.handles), parent
        if self.shared:
            heappush(self.handles, handle)
            return
        self.reserve(place + 1)
        deadline = Deadline(when, self.next_number)
        self.next_number += 1
        self.handles.append(handle)
        cdef PyObject **handles = PySequence_Fast_ITEMS(self.handles)
        while place > 0:
            parent = (place - 1) >> 1
            if not earlier(deadline, self.deadlines[parent]):
                break
            self.deadlines[place] = self.deadlines[parent]
            handles[place] = handles[parent]
            place = parent
        self.deadlines[place] = deadline
        handles[place] = <PyObject *>handle

    cdef pop(self, bint *cancelled):
        """Return the first timer, out of the heap; store whether it was cancelled."""
        if self.shared:
            handle = heappop(self.handles)
            handle._scheduled = False
            cancelled[0] = is_cancelled(handle)
            if cancelled[0]:
                self.uncount_cancelled()
            return handle
        cdef PyObject **handles = PySequence_Fast_ITEMS(self.handles)
        cdef Py_ssize_t last = len(self.handles) - 1
        cdef PyObject *first = handles[0]
        cdef PyObject *moved = handles[last]
        # The first element leaves through the list's last place, which the list gives up.
        handles[last] = first
        handle = self.handles.pop()
        if last > 0:
            self.sink(0, moved, self.deadlines[last])
        cancelled[0] = self.leave(handle)
        return handle

    cdef inline bint leave(self, handle) except -1:
        """Note that a timer is out of the heap, and return whether it was cancelled."""
        cdef bint cancelled
        if IS_FREE_THREADED:
            return self.leave_shared(handle)
        set_slot(handle, SCHEDULED, False)
        cancelled = is_cancelled(handle)
        if cancelled:
            self.uncount_cancelled()
        return cancelled

    cdef bint leave_shared(self, handle) except -1:
        """Do the same while another thread may be cancelling the timer: it counts it before that, or never."""
        cdef bint cancelled
        with cython.critical_section(handle):
            set_slot(handle, SCHEDULED, False)
            cancelled = is_cancelled(handle)
        if cancelled:
            self.uncount_cancelled()
        return cancelled

    cdef void sink(self, Py_ssize_t place, PyObject *handle, Deadline deadline) noexcept:
        """Put a handle into an empty place, or below it; references within the list only move, so no count changes."""
        cdef PyObject **handles = PySequence_Fast_ITEMS(self.handles)
        cdef Py_ssize_t size = len(self.handles), child
        while True:
            child = 2 * place + 1
            if child >= size:
                break
            if child + 1 < size and earlier(self.deadlines[child + 1], self.deadlines[child]):
                child += 1
            if not earlier(self.deadlines[child], deadline):
                break
            self.deadlines[place] = self.deadlines[child]
            handles[place] = handles[child]
            place = child
        self.deadlines[place] = deadline
        handles[place] = handle

    cdef void order(self) noexcept:
        """Make a heap of unordered handles and deadlines."""
        cdef Py_ssize_t place
        for place in range(len(self.handles) // 2 - 1, -1, -1):
            self.sink(place, PySequence_Fast_ITEMS(self.handles)[place], self.deadlines[place])

    cdef sweep(self, Freelist *freelist):
        """Drop cancelled timers: all if they are many, else those on top."""
        cdef bint cancelled
        if len(self.handles) > SWEEP_FROM and load_count(&self.cancelled) * 2 > len(self.handles):
            if self.shared:
                self.drop_cancelled_of_shared()
            else:
                self.drop_cancelled(freelist)
            if self.shared or not IS_FREE_THREADED:
                self.cancelled = 0
        while self.handles and is_cancelled(self.handles[0]):
            self.pop(&cancelled)
        if not self.handles:
            self.cancelled = 0

    cdef void uncount_cancelled(self) noexcept:
        """Count one cancelled timer less, as far as tools that took timers have left any."""
        if add_to(&self.cancelled, -1) < 0:
            self.cancelled = 0

    cdef drop_cancelled(self, Freelist *freelist):
        # At first: before Python 3.12 a new object may start the collector, and a finalizer may schedule timers.
        cdef list dropped = []
        cdef PyObject **handles = PySequence_Fast_ITEMS(self.handles)
        cdef Py_ssize_t place, kept = 0
        cdef PyObject *handle
        for place in range(len(self.handles)):
            if not is_cancelled(<object>handles[place]):
                handles[kept], handles[place] = handles[place], handles[kept]
                self.deadlines[kept] = self.deadlines[place]
                kept += 1
        # A freed object may schedule timers: the heap is whole by then.
        for place in range(kept, len(self.handles)):
            dropped.append(<object>handles[place])
        del self.handles[kept:]
        self.order()
        for place in range(len(dropped) - 1, -1, -1):
            handle = PySequence_Fast_ITEMS(dropped)[place]
            set_size(dropped, place)
            if IS_FREE_THREADED:
                self.leave_shared(<object>handle)
            else:
                set_slot(<object>handle, SCHEDULED, False)
            give_cancelled_timer(handle, freelist)

    cdef drop_cancelled_of_shared(self):
        kept = [handle for handle in self.handles if not handle._cancelled]
        for handle in self.handles:
            if handle._cancelled:
                handle._scheduled = False
        heapify(kept)
        self.handles[:] = kept
