from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t

from ..ring.dispatcher cimport Awaited

cdef extern from "selector/epoll.h" nogil:
    enum:
        UL_EPOLL_MAX
    ctypedef struct ul_epoll_event:
        uint32_t events


cdef class Entry:
    cdef object fileobj
    cdef object reader, writer  # handles; or None
    cdef int fd
    cdef uint32_t wanted  # EPOLLIN for the reader, EPOLLOUT for the writer
    cdef uint32_t armed  # the interest that the epoll set has
    cdef uint32_t generation  # of the interest: an event of another one is stale
    cdef bint in_set  # perhaps without any interest
    cdef bint stands  # an event leaves its interest as it is
    cdef bint put_off  # its removal from the set


cdef class Registry(Awaited):
    cdef int epoll_fd
    cdef PyObject **by_fd  # the same entries, borrowed
    cdef int by_fd_size
    cdef dict entries  # by descriptor: those in use, and those that the epoll set still has
    cdef uint32_t generation  # the last one that was given
    cdef dict transports  # of the loop, by descriptor
    cdef object ready, append  # of the loop's ready queue
    cdef public object begin, look
    cdef Py_ssize_t count  # entries in use
    cdef list fired, late, removed
    cdef object memory  # of the events that the kernel writes while the wait is in flight
    cdef ul_epoll_event *events
    cdef list lost_memory  # of waits on rings that were closed
    cdef ul_epoll_event found[UL_EPOLL_MAX]
    cdef object features
    cdef bint waits_for_events
    cdef int looks_to_spare, looks_spared

    cdef make_memory(self)
    cdef add(self, fileobj, uint32_t direction, handle)
    cdef bint remove(self, fileobj, uint32_t direction) except -1
    cdef Entry find(self, fileobj)
    cdef Entry entry_for(self, int fd)
    cdef take_into_use(self, Entry entry, fileobj)
    cdef delete(self, Entry entry)
    cdef int arm(self, Entry entry, uint32_t wanted, bint may_be_new) except? -1
    cdef forget(self, Entry entry)
    cdef take_out(self)
    cdef stand(self)
    cdef look_at_late(self)
    cdef bint has_same_file(self, Entry entry) noexcept
    cdef wait_for(self, int64_t timeout_ns)
    cdef bint take_result(self, int *res) except -1
    cdef bint skips_enter(self) noexcept
    cdef prepare(self)
    cdef bint looks_first(self)
    cdef stage(self)
    cdef Entry entry_of(self, const ul_epoll_event *event)
    cdef ask_again(self, int count)
    cdef int take(self, ul_epoll_event *events, int count) except -1
    cdef tell(self, Entry entry, uint32_t events)
