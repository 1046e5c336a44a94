from ..ring.descriptor cimport Descriptor
from ..ring.dispatcher cimport Awaited


cdef class PositionalTransfer(Awaited):
    cdef Py_buffer view
    cdef int fd
    cdef object filename
    cdef Descriptor descriptor  # held until the transfer has ended; None for a number
    cdef readonly int moved_bytes
    cdef readonly bint at_once

    cdef error(self, int res)
