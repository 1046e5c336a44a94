from libc.stdint cimport int64_t, uint32_t

from ..ready cimport ReadyQueue
from .entries cimport UL_EPOLL_MAX, Entries, Entry, ul_epoll_event


cdef class Registry(Entries):
    cdef ReadyQueue ready  # of the loop
    cdef public object look
    cdef list fired, late
    cdef object memory  # of the events that the kernel writes while the wait is in flight
    cdef ul_epoll_event *events
    cdef list lost_memory  # of waits on rings that were closed
    cdef ul_epoll_event found[UL_EPOLL_MAX]
    cdef object features
    cdef bint waits_for_events
    cdef int looks_to_spare, looks_spared

    cdef make_memory(self)
    cdef stand(self)
    cdef look_at_late(self)
    cdef bint has_same_file(self, Entry entry) noexcept
    cdef wait_for(self, int64_t timeout_ns)
    cdef use_ring(self)
    cdef bint is_likely_ready(self) noexcept
    cdef bint looks_again(self) except -1
    cdef move(self, Entry entry)
    cdef wait_in_backend(self, int64_t timeout_ns)
    cdef bint looks_in_backend(self, bint suffices) except -1
    cdef bint take_result(self, int *res) except -1
    cdef bint are_all_late(self)
    cdef bint skips_enter(self) noexcept
    cdef bint has_nothing_to_enter_for(self) noexcept
    cdef void begin_tick(self) noexcept
    cdef prepare(self)
    cdef bint looks_first(self)
    cdef void spare_looks(self) noexcept
    cdef stage(self)
    cdef Entry entry_of(self, const ul_epoll_event *event)
    cdef ask_again(self, int count)
    cdef int take(self, ul_epoll_event *events, int count) except -1
    cdef tell(self, Entry entry, uint32_t events)
