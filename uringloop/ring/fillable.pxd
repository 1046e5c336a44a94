from libc.stdint cimport uint64_t

from .core.core cimport io_uring_sqe
from .dispatcher cimport Dispatcher


cdef enum Life:
    NEW
    IN_FLIGHT
    DONE


cdef class Fillable:
    cdef public uint64_t token
    cdef public int modifiers
    cdef public object _dispatcher
    cdef Life life
    cdef bint is_compiled  # and no subclass in Python, so that the methods below tell all of it
    # Of `Ring.run_many`: the number of the call, 0 for none, and the place of the result.
    cdef uint64_t call_number
    cdef Py_ssize_t index

    cdef int begin(self, Dispatcher dispatcher) except -1
    cdef int check_life(self) except -1
    cdef int check(self) except -1
    cdef void fill(self, io_uring_sqe *sqe) noexcept
    cdef int end(self, int res) noexcept
