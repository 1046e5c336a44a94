from libc.stdint cimport int64_t

from .call cimport FileCall
from .line_reader cimport LineReader
from .raw_base cimport RawBase


cdef class ReadAhead(LineReader):
    cdef public object _buffer
    cdef public RawBase _raw  # None after it was detached
    cdef public int64_t _pos, _read_end, _write_pos, _write_end, _raw_pos
    cdef public int64_t _read_limit, _write_limit, _bypass_from_bytes, _read_ahead_bytes, _buffer_size_bytes
    cdef public bint _adapts, _readable, _writable
    cdef public int _budget_calls

    cdef bint spend(self)
    cdef read_here(self, FileCall call)
    cdef bint bypasses(self, int64_t count)
    cdef int64_t wanted_bytes(self, int64_t count)
    cdef bint is_whole(self, begun, int64_t count)
    cdef take_turn(self, FileCall call)
    cdef readline_here(self, FileCall call)
    cdef line_here(self)
    cdef seek_here(self, FileCall call)
    cdef write_here(self, FileCall call)
    cdef close_here(self, FileCall call)
