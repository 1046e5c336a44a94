from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from ..ring.core.core cimport ul_ring
from ..ring.dispatcher cimport Awaited

cdef extern from "selector/epoll.h" nogil:
    enum:
        UL_EPOLL_MAX
    ctypedef struct ul_epoll_event:
        uint32_t events

cdef extern from "ring/core/readers.h" nogil:
    ctypedef struct ul_readers:
        int set_fd
        int collects, count, other_found, has_yielded
        ul_epoll_event *events


cdef refused(int error)


cdef class Entry:
    cdef object fileobj
    cdef object reader, writer  # handles; or None
    cdef int fd
    cdef uint32_t wanted  # EPOLLIN for the reader, EPOLLOUT for the writer
    cdef uint32_t armed  # the interest that the epoll set has
    cdef uint32_t generation  # of the interest: an event of another one is stale
    cdef bint in_set  # perhaps without any interest
    cdef bint elsewhere  # not in the backend's set
    cdef bint stands  # an event leaves its interest as it is
    cdef bint put_off  # its removal from the set


cdef class Entries(Awaited):
    cdef int epoll_fd
    cdef PyObject **by_fd  # the same entries, borrowed
    cdef int by_fd_size
    cdef dict entries  # by descriptor: those in use, and those that the epoll set still has
    cdef uint32_t generation  # the last one that was given
    cdef dict transports  # of the loop, by descriptor
    cdef public object begin
    cdef Py_ssize_t count  # entries in use
    cdef list removed
    cdef ul_ring *ring  # that it has seen
    cdef ul_readers *readers  # of that ring; NULL: its backend has no set for readers
    cdef bint waits  # in the backend's set

    cdef add(self, fileobj, uint32_t direction, handle)
    cdef bint is_in_other_set(self, Entry entry) noexcept
    cdef bint remove(self, fileobj, uint32_t direction) except -1
    cdef Entry find(self, fileobj)
    cdef Entry entry_for(self, int fd)
    cdef take_into_use(self, Entry entry, fileobj)
    cdef delete(self, Entry entry)
    cdef int arm(self, Entry entry, uint32_t wanted, bint may_be_new) except? -1
    cdef int control(self, Entry entry, int operation, uint32_t events, uint32_t generation) noexcept
    cdef forget(self, Entry entry)
    cdef take_out(self)
    cdef clear(self)
