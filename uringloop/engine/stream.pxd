from libc.stdint cimport uint32_t

from ..ring.core.core cimport ul_event
from .core cimport ul_stream
from .endpoint cimport Endpoint
from .tls cimport Tls


cdef class Stream(Endpoint):
    cdef ul_stream *handle
    cdef object context, server
    cdef Tls tls  # None: no TLS
    cdef list held  # None: nothing
    cdef bint buffered, feeds, eof_written, sendfile_waits, pipe
    cdef bint orphaned  # its loop is being closed: nobody hears of it any more
    cdef int lost_writes
    cdef bint nagles, has_written

    cdef keep(self, item)
    cdef end(self, item)
    cdef hold(self, item)
    cdef receive_event(self, ul_event *event)
    cdef receive_in_context(self, ul_event *event)
    cdef go_on(self, uint32_t what)
    cdef abort_in_core(self)
    cdef forget_core(self)
    cdef failed(self, int res, direction)
    cdef receive_ready(self)
    cdef receive_much(self)
    cdef int take(self, char *data) except -1
    cdef receive_data(self, ul_event *event)
    cdef deliver(self, const char *data, Py_ssize_t size, whole)
    cdef Py_ssize_t fill_buffer(self, const char *data, Py_ssize_t size) except -1
    cdef append_all(self, list pieces)
    cdef bint may_write(self, data, str method) except -1
    cdef bint sends_at_once(self)
    cdef Py_ssize_t append(self, data, bint at_once) except -1
    cdef disable_nagle(self, Py_ssize_t size_bytes)
    cdef release_pins(self)
    cdef leaving(self, bint abort)
    cdef bint close_in_core(self, bint abort) except -1
    cdef closing_file(self)
    cdef left(self)
    cdef bint is_quiet(self)
    cdef free_core(self)
    cdef int check(self, int result) except -1
