from ..ring.dispatcher cimport Awaited


cdef class PositionalRead(Awaited):
    cdef Py_buffer view
    cdef int fd
