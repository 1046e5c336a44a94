cdef class Tls:
    cdef object protocol, transport, incoming, outgoing, session

    cdef drop_transport(self)
    cdef bint receive(self, const char *data, Py_ssize_t size) except -1
    cdef decrypt(self)
    cdef send(self)


cdef Tls tls_of(protocol)
