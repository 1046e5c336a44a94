from libc.stdint cimport uint16_t, uint32_t

from .pin cimport Pin


cdef class Lender:
    cdef Pin entries, memory
    cdef uint32_t size_bytes, count
    cdef uint16_t tail
    cdef bint closed
    cdef readonly int lent

    cdef char *at(self, int buffer_id)
    cdef provide(self, int buffer_id)


cdef class Loan:
    cdef Lender lender
    cdef char *memory
    cdef int views
    cdef object view
    cdef readonly int size_bytes, buffer_id

    cdef recycle_now(self)
    cdef give_back(self, Lender lender)
