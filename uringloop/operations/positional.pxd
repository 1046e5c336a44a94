from ..ring.descriptor cimport Descriptor
from ..ring.dispatcher cimport Awaited


cdef class PositionalRead(Awaited):
    cdef Py_buffer view
    cdef int fd
    cdef object filename
    cdef Descriptor descriptor  # held until the read has ended; None for a number

    cdef error(self, int res)
