from libc.stdint cimport int64_t

from ...ring.descriptor cimport Descriptor
from .file_base cimport FileBase


cdef class RawBase(FileBase):
    cdef public Descriptor _descriptor
    cdef public object _submitter, _name, _size_bytes, _unread, mode_flags, has_budget, _polls_in_vain
    cdef public int64_t _position, block_size_bytes, written_bytes
    cdef public bint _positioned, _seekable, _writable, _shared, _cached, _local, is_regular, is_terminal, uncertain

    cdef bint can_be_sought(self) except -1
    cdef bint close_here(self) except -1
    cdef read_here(self, int64_t size_bytes)
    cdef read_cached(self, int64_t size_bytes)
    cdef int64_t expected_bytes(self) except -2
