from .call cimport CallOwner
from .lock cimport Lock


cdef class FileBase(CallOwner):
    cdef public object _loop, _closing
    cdef readonly Lock _lock
    cdef public bint _is_closed
