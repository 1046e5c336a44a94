from .call cimport CallOwner, FileCall


cdef class Lock(CallOwner):
    cdef readonly bint locked
    cdef object queue

    cpdef release(self)
