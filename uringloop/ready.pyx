# cython: language_level=3, boundscheck=False, wraparound=False
"""`ReadyQueue`: the handles that are ready to run, in their order.

It is a ring of references: a call of a deque's method costs more than all else that a callback needs of a queue.
asyncio has a deque there (`BaseEventLoop._ready`), which tools read and change.  A tool that asks gets a deque with the
handles in it.  While it holds that, the deque alone counts.
"""

from collections import deque

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdlib cimport free, malloc

cdef extern from *:
    # Cython's own declarations take objects, and hold them meanwhile.
    Py_ssize_t count_references "Py_REFCNT"(PyObject *object)
    ctypedef int (*visitproc)(PyObject *object, void *argument) noexcept
    ctypedef int (*traverseproc)(PyObject *self, visitproc visit, void *argument) noexcept
    ctypedef int (*inquiry)(PyObject *self) noexcept
    ctypedef struct PyTypeObject:
        traverseproc tp_traverse
        inquiry tp_clear

cdef enum:
    CAPACITY_MIN = 64


@cython.final
cdef class ReadyQueue:
    """A queue of handles, of the thread that runs the loop."""

    def __dealloc__(self):
        drop_handles(&self.ring)
        free(self.ring.items)

    cdef int push_slowly(self, handle) except -1:
        if self.shared is not None:
            self.shared.append(handle)
        else:
            self.reserve(self.ring.capacity * 2 or CAPACITY_MIN)
            ring_push(&self.ring, handle)
        return 0

    cdef PyObject *take_slowly(self) except? NULL:
        if not self.shared:
            return NULL
        handle = self.shared.popleft()
        Py_INCREF(handle)
        return <PyObject *>handle

    cdef int reserve(self, size_t capacity) except -1:
        """Move the ring into memory for so many handles, a power of two."""
        cdef size_t place
        cdef PyObject **items = <PyObject **>malloc(capacity * sizeof(PyObject *))
        if items == NULL:
            raise MemoryError
        for place in range(self.ring.count):
            items[place] = item_at(&self.ring, place)
        free(self.ring.items)
        self.ring.items, self.ring.first, self.ring.capacity = items, 0, capacity
        return 0

    cdef first(self):
        """Return the first handle; the queue must not be empty."""
        return <object>item_at(&self.ring, 0) if self.shared is None else self.shared[0]

    cdef share(self):
        """Return a deque with the handles, which the caller may hold and change at will."""
        cdef size_t place
        # At first: before Python 3.12 a new object may start the collector, and a finalizer may come here or add.
        handles = deque() if self.shared is None else None
        if self.shared is None:
            for place in range(self.ring.count):
                handles.append(<object>item_at(&self.ring, place))
            self.replace(handles)
        return self.shared

    cdef replace(self, handles):
        """Take a deque in place of all handles."""
        cdef ready_ring dropped = self.ring
        self.ring = ready_ring(NULL, 0, 0, 0)
        self.shared = handles
        drop_handles(&dropped)
        free(dropped.items)

    cdef int take_back(self) except -1:
        """Use the ring again, if no other reference to the deque exists.

        Any thread may have made it, such as the one that made the loop.  This count may miss a reference that another
        thread takes at the moment.  That thread would hold an empty deque, which has a lock of its own.
        """
        cdef size_t capacity = CAPACITY_MIN
        if type(self.shared) is not deque or count_references(<PyObject *>self.shared) > 1:
            return 0
        while capacity < <size_t>len(self.shared):
            capacity *= 2
        self.reserve(capacity)
        handles, self.shared = self.shared, None
        while handles:  # an iterator would be such a new object as in `share`
            push(self, handles.popleft())
        return 0

    cdef int shrink(self) except -1:
        """Give back the memory of many handles, if none is left."""
        if self.ring.count == 0:
            self.reserve(CAPACITY_MIN)
        return 0


cdef inline PyObject *item_at(ready_ring *ring, size_t place) noexcept:
    return ring.items[(ring.first + place) & (ring.capacity - 1)]


cdef void drop_handles(ready_ring *ring) noexcept:
    cdef PyObject *handle = ring_take(ring)
    while handle != NULL:
        Py_XDECREF(handle)
        handle = ring_take(ring)


# The garbage collector sees the handles in the ring, too.

cdef traverseproc traverse_fields = (<PyTypeObject *>ReadyQueue).tp_traverse
cdef inquiry clear_fields = (<PyTypeObject *>ReadyQueue).tp_clear


cdef int traverse(PyObject *self, visitproc visit, void *argument) noexcept:
    cdef ready_ring *ring = &(<ReadyQueue>self).ring
    cdef size_t place
    cdef int result
    for place in range(ring.count):
        result = visit(item_at(ring, place), argument)
        if result != 0:
            return result
    return traverse_fields(self, visit, argument)


cdef int clear(PyObject *self) noexcept:
    drop_handles(&(<ReadyQueue>self).ring)
    return clear_fields(self)


(<PyTypeObject *>ReadyQueue).tp_traverse = traverse
(<PyTypeObject *>ReadyQueue).tp_clear = clear
