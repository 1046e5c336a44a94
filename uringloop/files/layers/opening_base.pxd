from .call cimport CallOwner, FileCall


cdef class OpeningBase(CallOwner):
    cdef object opens
    cdef tuple arguments
    cdef public object _file

    cdef open_here(self, FileCall call)
    cdef close_here(self, FileCall call)
