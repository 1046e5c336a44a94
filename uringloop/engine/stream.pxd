from libc.stdint cimport uint32_t

from ..ring.core.core cimport ul_outcome
from ..ring.owner cimport flag
from .base cimport EngineBase
from .core cimport ul_stream
from .endpoint cimport Endpoint
from .receiver cimport Receiver


cdef class Stream(Endpoint):
    cdef ul_stream *handle
    cdef Receiver receiver  # None: the protocol's methods are called
    cdef flag buffered, feeds, eof_written, sendfile_waits
    cdef flag delays_small_writes, has_written

    cdef open(self, EngineBase engine, transport, int fd, file, uint32_t flags)
    cdef bint has_core(self)
    cdef int receive_in_core(self)
    cdef int hold_in_core(self)
    cdef deliver_item(self, item)
    cdef end(self, item)
    cdef take_outcome(self, ul_outcome *outcome)
    cdef void warm(self, const ul_outcome *outcome) noexcept
    cdef receive_in_context(self, ul_outcome *outcome)
    cdef go_on(self, uint32_t what)
    cdef drop_core(self)
    cdef failed(self, int res, direction)
    cdef receive_ready(self)
    cdef receive_much(self)
    cdef int take(self, char *data) except -1
    cdef receive_data(self, ul_outcome *outcome)
    cdef deliver(self, const char *data, Py_ssize_t size, whole)
    cdef delivery_failed(self)
    cdef deliver_in_place(self, const char *data, Py_ssize_t size, whole)
    cdef Py_ssize_t fill_buffer(self, const char *data, Py_ssize_t size) except -1
    cdef write_one(self, data)
    cdef append_all(self, list pieces)
    cdef bint may_write(self, data, str method) except -1
    cdef bint sends_at_once(self) noexcept
    cdef Py_ssize_t append(self, data, bint at_once) except -1
    cdef write_memory(self, const char *data, Py_ssize_t size_bytes)
    cdef disable_nagle(self, Py_ssize_t size_bytes)
    cdef bint sends_queue(self) except -1
    cdef size_t queued_bytes(self)
    cdef release_pins(self)
    cdef closing(self, bint abort)
    cdef int close_in_core(self, bint abort)
    cdef closing_file(self)
    cdef lost(self)
    cdef bint is_idle(self)
    cdef free_core(self)
