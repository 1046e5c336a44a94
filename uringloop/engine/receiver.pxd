cdef class Receiver:
    cdef bint receive(self, const char *data, Py_ssize_t size_bytes) except -1
    cdef detached(self)
