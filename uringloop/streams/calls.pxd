from ..call cimport Call
from ..engine.stream cimport Stream
from ..engine.stream_reader cimport FedProtocol, FedReader


cdef enum CallKind:
    READ
    READ_EXACTLY
    READ_LINE
    READ_UNTIL
    NEXT_LINE
    DRAIN


cdef class StreamCall(Call):
    cdef answer(self, owner)
    cdef end_wait(self)


cdef class ReaderBase(FedReader):
    cdef bint overrides_read, overrides_until, overrides_line

    cdef answer_read(self, StreamCall call)
    cdef answer_exactly(self, StreamCall call)
    cdef answer_line(self, StreamCall call)
    cdef answer_until(self, StreamCall call)
    cdef Py_ssize_t bytes_before(self, Py_ssize_t position)
    cdef take(self, Py_ssize_t size_bytes)
    cdef take_all(self)
    cdef int resume_below_limit(self) except -1
    cdef wait(self, StreamCall call, str method, Py_ssize_t wanted_bytes)
    cdef too_long(self, StreamCall call, str message, Py_ssize_t consumed_bytes, Py_ssize_t dropped_bytes)


cdef class WriterBase:
    cdef object transport, protocol, completed
    cdef Stream stream  # None: the transport is none of this package's streams
    cdef FedProtocol fed  # None: only the protocol's coroutine can tell whether there is room
    cdef public object _reader, _loop

    cdef answer_drain(self, StreamCall call)
