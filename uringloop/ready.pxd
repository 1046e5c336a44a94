# `ReadyQueue`: the handles that are ready to run, in their order; see ready.pyx.

from cpython.object cimport PyObject

cdef extern from *:
    """
    /* References in a ring, whose capacity is a power of two.  It has no room while a deque takes its place. */
    typedef struct {
        PyObject **items;
        size_t first, count, capacity;
    } ready_ring;

    /* Returns whether there was room. */
    static inline int ring_push(ready_ring *ring, PyObject *handle)
    {
        if (ring->count == ring->capacity)
            return 0;
        Py_INCREF(handle);
        ring->items[(ring->first + ring->count++) & (ring->capacity - 1)] = handle;
        return 1;
    }

    /* Returns the first handle with its reference; NULL: there is none. */
    static inline PyObject *ring_take(ready_ring *ring)
    {
        PyObject *handle;
        if (ring->count == 0)
            return NULL;
        handle = ring->items[ring->first];
        /* An empty ring begins anew, with the memory that the cache has. */
        ring->first = --ring->count == 0 ? 0 : (ring->first + 1) & (ring->capacity - 1);
        return handle;
    }
    """
    ctypedef struct ready_ring:
        PyObject **items
        size_t first, count, capacity
    bint ring_push(ready_ring *ring, object handle) noexcept
    PyObject *ring_take(ready_ring *ring) noexcept


cdef enum:
    # A loop that falls asleep keeps room for so many handles.
    CAPACITY_KEPT = 4096


cdef class ReadyQueue:
    cdef ready_ring ring
    cdef object shared  # the deque that takes the ring's place, since others may hold it; or None

    cdef int push_slowly(self, handle) except -1
    cdef PyObject *take_slowly(self) except? NULL
    cdef int reserve(self, size_t capacity) except -1
    cdef first(self)
    cdef share(self)
    cdef replace(self, handles)
    cdef int take_back(self) except -1
    cdef int shrink(self) except -1


cdef inline int push(ReadyQueue ready, handle) except -1:
    """Add a handle at the end."""
    return 0 if ring_push(&ready.ring, handle) else ready.push_slowly(handle)


cdef inline PyObject *take(ReadyQueue ready) except? NULL:
    """Take the first handle; return a new reference, or NULL if there is none."""
    cdef PyObject *handle = ring_take(&ready.ring)
    return handle if handle != NULL or ready.shared is None else ready.take_slowly()


cdef inline Py_ssize_t size_of(ReadyQueue ready) except -1:
    """Return the number of handles."""
    return <Py_ssize_t>ready.ring.count if ready.shared is None else len(ready.shared)
