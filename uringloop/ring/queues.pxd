from libc.stdint cimport uint32_t, uint64_t

from .core.core cimport io_uring_sqe
from .dispatcher cimport Dispatcher


cdef class Completion:
    cdef readonly object operation
    cdef readonly uint64_t user_data
    cdef readonly int res
    cdef readonly uint32_t flags
    cdef bint lent  # its buffer was: once is all


cdef class StagedSqe:
    cdef Queues queues
    cdef uint32_t place
    cdef readonly int opcode
    cdef readonly uint64_t user_data

    cdef io_uring_sqe *fields(self) except NULL


cdef class Queues(Dispatcher):
    cdef set skipping  # tokens of what completes only if it fails
