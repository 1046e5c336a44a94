from libc.stdint cimport int64_t, uint32_t, uint64_t

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
    # The in-flight table, by the low bits of a token's number.  What finds its place taken is in `operations`.
    cdef list held
    cdef uint64_t *tokens  # of the operations in `held`; 0: this place is free
    cdef uint32_t place_mask
    cdef Py_ssize_t held_count
    cdef uint64_t calls  # of `run_many` so far
    cdef int calls_under_way
    # Of those: what other code has taken, such as the iterable of the operations; by token, the call's number and the
    # place of each operation that is not `Fillable`.
    cdef list claimed
    cdef dict others

    cdef find(self, uint64_t token)
    cdef list table(self)
    cdef let_go(self, uint64_t token)
    cdef int enter_and_reap(self, uint32_t wait_for, int64_t timeout_ns, const uint64_t *blocked,
                            uint32_t enter_flags) except -1
    cdef Completion next_completion(self)
    cdef uint64_t call_of(self, Completion completion) except? 0
    cdef Completion completion_of(self, operation, uint64_t token, int res, uint32_t flags)
    cdef Py_ssize_t count_in_flight(self) except -1
