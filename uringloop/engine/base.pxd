from ..ring.dispatcher cimport Dispatcher
from .address cimport AddressCache


cdef class EngineBase:
    cdef readonly object loop, call_soon, leftovers
    cdef object enabled  # the features' names
    cdef readonly Dispatcher dispatcher
    cdef readonly dict transports
    cdef readonly bint has_buffers
    cdef bint receives_many  # one armed receive serves a connection until it ends
    cdef public object owner_thread
    cdef object options
    cdef AddressCache addresses  # made with the first datagram socket: it is large
    cdef char *received  # endpoints receive into it by readiness, UL_DATAGRAM_BUFFER_SIZE bytes; NULL: none, or in use

    cdef int refuse_closed(self) except -1
    cdef char *take_received(self) except NULL
    cdef give_received(self, char *memory)
    cdef AddressCache known_addresses(self)
