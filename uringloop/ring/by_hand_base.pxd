from libc.stdint cimport int64_t, uint32_t

from .queues cimport Completion, Queues


cdef class ByHandBase:
    cdef Queues queues  # None before the first use
    cdef readonly object _set_aside

    cdef Queues use(self)
    cdef int prepare_in(self, Queues queues, operation) except -1
    cdef int enter(self, uint32_t wait_for, int64_t timeout_ns, signal_mask) except -1
    cdef Completion take_next(self, Queues queues)
    cdef Completion peek(self)
    cdef Completion wait(self, int64_t timeout_ns, signal_mask)
    cdef Completion next_of(self, operation)
