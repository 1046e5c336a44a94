from ..engine.stream cimport Stream
from .flow cimport Flow


cdef class TlsProtocol(Flow):
    cdef object waiter
    cdef Stream stream  # the transport's, where it is this package's; None: its methods are called
    cdef dict extra
    cdef object handshake_timeout_s, shutdown_timeout_s, handshake_began_s
    cdef object handshake_timer, shutdown_timer
    cdef int state, told
    cdef Py_ssize_t lost_writes
    cdef bint ended  # the transport has received an end of file
    cdef bint receiving  # within `receive`, whose end sends
    cdef bint buffered, feeds
    cdef readonly object _write_backlog

    cdef int enter(self, int state) except -1
    cdef start_handshake(self)
    cdef do_handshake(self)
    cdef handshake_done(self, error)
    cdef wake_waiter(self, error)
    cdef bint source_is_there(self)
    cdef do_read(self)
    cdef read_copied(self)
    cdef read_buffered(self)
    cdef deliver(self, bytes data)
    cdef end_of_read(self, int end, error)
    cdef tell_eof(self)
    cdef start_shutdown(self)
    cdef do_flush(self)
    cdef do_shutdown(self)
    cdef shutdown_done(self, error)
    cdef Py_ssize_t encrypt(self, const char *data, Py_ssize_t size_bytes) except -1
    cdef do_write(self)
    cdef process_outgoing(self)
    cdef send_records(self)
    cdef fatal_error(self, error, str message=*)
