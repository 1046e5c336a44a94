from libc.stdint cimport int64_t, uint32_t, uint64_t

from ..meter cimport Meter
from .core.core cimport io_uring_sqe, ul_begin_idly, ul_outcome, ul_ring
from .inbox cimport Inbox
from .owner cimport Owner
from .sender cimport Sender


cdef raise_errno(int error)


cdef class Awaited:
    cdef Dispatcher dispatcher
    cdef uint64_t token
    cdef public object waiter
    cdef readonly bint in_flight
    cdef public bint abandoned, detained

    cdef arrive(self, int res, uint32_t flags)


cdef class Dispatcher(Sender):
    # The queue of outcomes: those from cursor to count wait.
    cdef ul_outcome *outcomes
    cdef int count, cursor, capacity
    cdef uint64_t taken  # outcomes so far
    cdef uint64_t slept_from  # where the loop sleeps beside the ring
    cdef int contended  # so many sleeps to come may be spared
    cdef public int64_t spin_ns
    cdef public uint32_t early_count
    cdef public uint32_t unhurried  # so many operations in flight need no look in every tick
    # The engine's; or NULL.
    cdef int (*give_turns)(ul_ring *ring, ul_outcome *outcomes, uint32_t capacity) noexcept nogil
    cdef uint32_t forks  # of this process, before this was made
    cdef Inbox inbox  # of the loop; None before its first sleep, and for a ring by hand
    cdef bint is_inbox_multishot
    cdef public Meter meter  # None: the loop does not measure
    cdef object report
    cdef public object first, features, make
    cdef readonly list owners
    cdef readonly dict operations

    cdef int check(self) except -1
    cdef int make_ring(self) except -1
    cdef bint has_forked(self)
    cdef bint has_memory(self)
    cdef int check_use(self) except -1
    cdef mark(self, uint64_t token, int sqe_flags)
    cdef io_uring_sqe *next_sqe(self, operation) except NULL
    cpdef submit_early(self)
    cdef bytes_of_buffer(self, uint32_t flags, int size_bytes)
    cdef submit_cancel(self)
    cpdef finish_now(self, uint64_t token)
    cdef bint enter(self, int64_t timeout_ns) except -1
    cdef int wait_for(self, int64_t timeout_ns) except -1
    cdef bint finds_without_sleeping(self, int64_t timeout_ns)
    cdef int room(self) noexcept
    cdef int reap_all(self) except -1
    cdef int reap_ready(self) noexcept
    cdef void add(self, int count) noexcept
    cdef void watch_inbox(self) noexcept
    cpdef dispatch(self)
    cdef end_metering(self)
    cdef hand_over(self, uint64_t end)
    cdef note_told(self, Owner owner)
    cdef take_operation(self, uint64_t token, uint32_t flags)
    cdef complete(self, uint64_t token, int res, uint32_t flags)


cdef inline bint begins_idly(Dispatcher dispatcher) noexcept:
    """Begin a tick without an enter, if there is nothing to enter for; return whether it has begun."""
    if dispatcher.cursor < dispatcher.count or dispatcher.ring == NULL:
        return False
    if not ul_begin_idly(dispatcher.ring, dispatcher.unhurried):
        return False
    dispatcher.begin_batch()
    dispatcher.tick.outcomes = 0
    return True


cdef inline bint has_to_dispatch(Dispatcher dispatcher) noexcept:
    """Return whether `dispatch` does anything."""
    return dispatcher.cursor < dispatcher.count or dispatcher.tick.is_metered
