from libc.stdint cimport uint32_t, uint64_t

from .fillable cimport Fillable
from .queues cimport Completion, Queues


cdef class Many:
    cdef Queues queues
    cdef object set_aside  # the ring's deque of completions that its caller has not asked for
    cdef uint64_t number
    cdef Py_ssize_t running
    cdef list results  # a `Completion` in place of a result that is not converted yet
    cdef Fillable started  # and maybe not staged
    cdef dict firsts  # by place, the result and flags of the first of several CQEs
    cdef bint has_failed, has_completions

    cdef list run(self, operations, Py_ssize_t depth, bint return_exceptions)
    cdef int run_all(self, operations, Py_ssize_t depth) except -1
    cdef int start(self, operation, Py_ssize_t place) except -1
    cdef int take_all(self) except -1
    cdef int take(self, uint64_t token, int res, uint32_t flags) except -1
    cdef int take_completion(self, Completion completion) except -1
    cdef bint take_claimed(self) except -1
    cdef int keep(self, operation, Py_ssize_t place, int res) except -1
    cdef list tokens_in_flight(self)
    cdef bint is_mine(self, token, operation) except -1
    cdef int abandon(self) except -1
    cdef int let_go(self) except -1
    cdef int dispose(self) except -1
    cdef list converted(self, bint return_exceptions)
