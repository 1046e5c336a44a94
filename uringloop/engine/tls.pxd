from cpython.object cimport PyObject


cdef class Tls:
    cdef object protocol, transport, incoming, outgoing
    cdef dict state  # the protocol's attributes
    cdef object encrypted, encrypt, add_encrypted, read, pending  # methods of the BIOs and of the session

    cdef drop_transport(self)
    cdef PyObject *attribute(self, str name) except NULL
    cdef bint has(self, str name) except -1
    cdef bint is_open(self) except -1
    cdef bint receive(self, const char *data, Py_ssize_t size) except -1
    cdef decrypt(self)
    cdef send(self)


cdef Tls tls_of(protocol)
