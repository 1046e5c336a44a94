from .openssl cimport ul_tls


cdef Session open_session(context, server_side, server_hostname)


cdef class Session:
    cdef ul_tls tls
    cdef readonly object ssl_object  # it holds the SSL

    cdef feed(self, const char *data, Py_ssize_t size_bytes)
    cdef keep(self, const char *data, Py_ssize_t size_bytes)
    cdef drop(self)
    cdef sent(self)
    cdef bint has_bytes(self)
    cdef Py_ssize_t read_into(self, char *data, Py_ssize_t size_bytes, int *end)
    cdef handshake(self)
    cdef bytes read(self, int *end)
    cdef read_error(self)
    cdef int discard(self) except -1
    cdef bint write(self, const char *data, Py_ssize_t size_bytes) except -1
    cdef int shutdown(self) except -1
