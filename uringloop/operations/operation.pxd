from ..ring.fillable cimport Fillable


cdef class Operation(Fillable):
    cdef object __weakref__
    cdef public object fd
    cdef public bint abandoned, detained
    cdef public object _completion, _report, _waiter

    cdef int set_fd(self, fd) except -1


cdef class FileOperation(Operation):
    cdef public object _descriptor, filename  # the former holds the file open; None for a number

    cdef int set_file(self, file) except -1
