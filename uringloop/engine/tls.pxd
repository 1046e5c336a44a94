from cpython.object cimport PyObject

from .receiver cimport Receiver


cdef class Tls(Receiver):
    cdef object protocol, transport, incoming, outgoing
    cdef dict state  # the protocol's attributes
    cdef object encrypted, encrypt, add_encrypted, read, pending  # methods of the BIOs and of the session

    cdef PyObject *attribute(self, str name) except NULL
    cdef bint has(self, str name) except -1
    cdef bint is_open(self) except -1
    cdef decrypt(self)
    cdef send(self)


cdef Receiver receiver_of(protocol)
