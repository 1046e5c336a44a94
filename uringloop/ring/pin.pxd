cdef class Pin:
    cdef Py_buffer view
