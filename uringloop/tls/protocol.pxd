from .outgoing cimport Outgoing


cdef class TlsProtocol(Outgoing):
    cdef object waiter
    cdef dict extra
    cdef object handshake_timeout_s, shutdown_timeout_s, handshake_began_s
    cdef object handshake_timer, shutdown_timer
    cdef int told
    cdef bint ended  # the transport has received an end of file
    cdef bint buffered, feeds

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
    cdef start_shutdown_timer(self)
    cdef do_flush(self)
    cdef do_shutdown(self)
    cdef shutdown_done(self, error)
