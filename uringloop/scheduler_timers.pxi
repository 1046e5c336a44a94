"""The timer heap: asyncio's handles in a list, each beside its deadline in an array of the same order.

A comparison looks at the array alone: the time of a handle is two pointers away.
"""

cdef enum:
    # Cancelled timers are swept out of the heap when there are more than this many, and they are more than half of it.
    SWEEP_FROM = 100


cdef struct Deadline:
    double when
    uint64_t number  # of two timers for the same time, the one made first is due first


cdef inline bint earlier(Deadline a, Deadline b) noexcept:
    return a.when < b.when or (a.when == b.when and a.number < b.number)


@cython.final
cdef class TimerHeap:
    """The timers that wait, the first one due at the top."""

    cdef list handles  # each at the place of its deadline
    cdef Deadline *deadlines
    cdef Py_ssize_t capacity
    cdef Py_ssize_t cancelled  # so many of those in the heap, which are left there at first
    cdef uint64_t next_number

    def __cinit__(self):
        self.handles = []

    def __dealloc__(self):
        free(self.deadlines)

    cdef drop(self):
        """Forget all timers."""
        self.handles.clear()
        self.cancelled = 0

    cdef push(self, handle, double when):
        cdef Deadline deadline = Deadline(when, self.next_number)
        cdef Py_ssize_t place = len(self.handles), parent
        cdef Deadline *larger
        if place == self.capacity:
            larger = <Deadline *>realloc(self.deadlines, (self.capacity * 2 + 64) * sizeof(Deadline))
            if larger == NULL:
                raise MemoryError
            self.deadlines = larger
            self.capacity = self.capacity * 2 + 64
        self.handles.append(handle)
        self.next_number += 1
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

    cdef pop(self):
        cdef PyObject **handles = PySequence_Fast_ITEMS(self.handles)
        cdef Py_ssize_t last = len(self.handles) - 1
        cdef PyObject *first = handles[0]
        cdef PyObject *moved = handles[last]
        # The list's last place, which it gives up, is where its first element leaves.
        handles[last] = first
        handle = self.handles.pop()
        if last > 0:
            self.sink(0, moved, self.deadlines[last])
        set_slot(handle, SCHEDULED, False)
        return handle

    cdef void sink(self, Py_ssize_t place, PyObject *handle, Deadline deadline) noexcept:
        """Put a handle into an empty place, or below it.  Within the list references only move: nothing is counted."""
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

    cdef sweep(self):
        """Drop cancelled timers: all of them if they are many, else those on top."""
        cdef Py_ssize_t size = len(self.handles), place, kept = 0
        if size > SWEEP_FROM and self.cancelled * 2 > size:
            handles = self.handles
            self.handles = []
            for place in range(size):
                handle = handles[place]
                if <object>slot(handle, CANCELLED)[0] is True:
                    set_slot(handle, SCHEDULED, False)
                else:
                    self.deadlines[kept] = self.deadlines[place]
                    self.handles.append(handle)
                    kept += 1
            for place in range(kept // 2 - 1, -1, -1):
                self.sink(place, PySequence_Fast_ITEMS(self.handles)[place], self.deadlines[place])
            self.cancelled = 0
        while self.handles and <object>slot(self.handles[0], CANCELLED)[0] is True:
            self.cancelled -= 1
            self.pop()
