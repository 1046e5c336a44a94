from ..engine.stream cimport Stream
from .flow cimport Flow

# The states of a connection, as asyncio's.
cdef enum:
    UNWRAPPED
    HANDSHAKE
    WRAPPED
    FLUSHING
    SHUTDOWN


cdef class Outgoing(Flow):
    cdef Stream stream  # the transport's, where it is this package's; None: its methods are called
    cdef int state
    cdef Py_ssize_t lost_writes
    cdef bint receiving  # within `receive`, whose end sends
    cdef readonly object _write_backlog

    cdef Py_ssize_t encrypt(self, const char *data, Py_ssize_t size_bytes) except -1
    cdef do_write(self)
    cdef process_outgoing(self)
    cdef send_records(self)
    cdef fatal_error(self, error, str message=*)
