"""Internet addresses, between Python's form and the kernel's."""

from cpython.long cimport PyLong_CheckExact
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.tuple cimport PyTuple_CheckExact
from cpython.unicode cimport PyUnicode_CheckExact
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset, strlen


cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL


cdef extern from "<arpa/inet.h>" nogil:
    enum:
        AF_INET
        AF_INET6
        INET6_ADDRSTRLEN
    struct in_addr:
        pass
    struct in6_addr:
        pass
    struct sockaddr_in:
        uint16_t sin_family
        uint16_t sin_port
        in_addr sin_addr
    struct sockaddr_in6:
        uint16_t sin6_family
        uint16_t sin6_port
        uint32_t sin6_flowinfo
        in6_addr sin6_addr
        uint32_t sin6_scope_id
    int inet_pton(int family, const char *text, void *address)
    const char *inet_ntop(int family, const void *address, char *text, uint32_t size)
    uint16_t htons(uint16_t value)
    uint16_t ntohs(uint16_t value)
    uint32_t htonl(uint32_t value)
    uint32_t ntohl(uint32_t value)


cdef enum:
    FLOW_LABEL_MAX = 0xFFFFF
    KNOWN_BITS = 8


cdef bint is_within(value, int64_t highest) except -1:
    return PyLong_CheckExact(value) and 0 <= value <= highest


cdef bint parse_host(int family, host, void *into) except -1:
    """Store a host that is an address literal; return whether it is one."""
    cdef Py_ssize_t size = 0
    cdef const char *text
    if not PyUnicode_CheckExact(host) or not host.isascii():
        return False
    text = PyUnicode_AsUTF8AndSize(host, &size)
    return <Py_ssize_t>strlen(text) == size and inet_pton(family, text, into) == 1


cdef uint32_t pack_address(int family, address, char *name) except? 0xFFFFFFFF:
    """Store the sockaddr of a literal address of `socket.sendto`; return its size, 0 for another address."""
    cdef sockaddr_in *inet = <sockaddr_in *>name
    cdef sockaddr_in6 *inet6 = <sockaddr_in6 *>name
    if not PyTuple_CheckExact(address) or len(address) < 2 or not is_within(address[1], 0xFFFF):
        return 0
    if family == AF_INET and len(address) == 2:
        memset(inet, 0, sizeof(sockaddr_in))
        inet.sin_family = AF_INET
        inet.sin_port = htons(address[1])
        return sizeof(sockaddr_in) if parse_host(AF_INET, address[0], &inet.sin_addr) else 0
    if family == AF_INET6 and len(address) <= 4:
        memset(inet6, 0, sizeof(sockaddr_in6))
        inet6.sin6_family = AF_INET6
        inet6.sin6_port = htons(address[1])
        if len(address) > 2:
            if not is_within(address[2], FLOW_LABEL_MAX):
                return 0
            inet6.sin6_flowinfo = htonl(address[2])
        if len(address) > 3:
            if not is_within(address[3], 0xFFFFFFFF):
                return 0
            inet6.sin6_scope_id = address[3]
        return sizeof(sockaddr_in6) if parse_host(AF_INET6, address[0], &inet6.sin6_addr) else 0
    return 0


cdef unpack_address(const char *name):
    """Return the address in the form of `socket.recvfrom`."""
    cdef char text[INET6_ADDRSTRLEN]
    cdef const sockaddr_in *inet = <const sockaddr_in *>name
    cdef const sockaddr_in6 *inet6 = <const sockaddr_in6 *>name
    if inet.sin_family == AF_INET:
        inet_ntop(AF_INET, &inet.sin_addr, text, INET6_ADDRSTRLEN)
        return (<bytes>text).decode("ascii"), ntohs(inet.sin_port)
    inet_ntop(AF_INET6, &inet6.sin6_addr, text, INET6_ADDRSTRLEN)
    return (<bytes>text).decode("ascii"), ntohs(inet6.sin6_port), ntohl(inet6.sin6_flowinfo), inet6.sin6_scope_id


cdef class AddressCache:
    """The latest internet addresses, so that one tuple serves all datagrams of a peer."""

    def __dealloc__(self):
        for i in range(KNOWN_COUNT):
            Py_XDECREF(self.known[i].address)

    cdef find(self, const char *name, uint32_t name_size):
        cdef uint64_t key[4]
        cdef uint64_t mixed
        cdef PyObject *previous
        memset(key, 0, KEY_SIZE)
        memcpy(key, name, name_size)
        mixed = (key[0] ^ key[1] * 3 ^ key[2] * 5 ^ key[3] * 7) * 0x9E3779B97F4A7C15ULL
        cdef Known *known = &self.known[mixed >> (64 - KNOWN_BITS)]
        if known.address != NULL and memcmp(known.key, key, KEY_SIZE) == 0:
            return <object>known.address
        address = unpack_address(name)
        Py_INCREF(address)
        previous = known.address
        memcpy(known.key, key, KEY_SIZE)
        known.address = <PyObject *>address
        Py_XDECREF(previous)
        return address
