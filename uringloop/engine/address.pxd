from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    KNOWN_COUNT = 256
    KEY_SIZE = 32


cdef bint parse_host(int family, host, void *into) except -1
cdef uint32_t pack_address(int family, address, char *name) except? 0xFFFFFFFF
cdef unpack_address(const char *name)


cdef struct Known:
    uint64_t key[4]  # a sockaddr, zeros behind it
    PyObject *address


cdef class AddressCache:
    cdef Known known[KNOWN_COUNT]

    cdef find(self, const char *name, uint32_t name_size)
