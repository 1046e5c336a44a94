from ..ring.dispatcher cimport Dispatcher
from .address cimport AddressCache


cdef class EngineBase:
    cdef readonly object loop, call_soon, unread
    cdef readonly Dispatcher dispatcher
    cdef readonly dict transports
    cdef AddressCache addresses  # made with the first datagram socket: it is large
    cdef char *received  # what endpoints receive into by readiness, UL_DATAGRAM_BUFFER_SIZE bytes; NULL: none, or in use

    cdef char *take_received(self) except NULL
    cdef give_received(self, char *memory)
    cdef AddressCache known_addresses(self)
