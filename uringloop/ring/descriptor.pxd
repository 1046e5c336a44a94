cdef class Descriptor:
    cdef public int fd
    cdef public object filename
    cdef public bint owned
