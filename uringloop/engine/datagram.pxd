from libc.stdint cimport uint32_t

from ..ring.core.core cimport ul_outcome
from .address cimport AddressCache
from .base cimport EngineBase
from .core cimport UL_NAME_SIZE, ul_datagram
from .endpoint cimport Endpoint


cdef class Datagram(Endpoint):
    cdef ul_datagram *handle
    cdef object remote
    cdef AddressCache addresses
    cdef int family
    cdef bint has_peer, has_named_peer, sends_empty
    cdef bint shared  # other code may have the socket
    cdef bint has_segments  # datagrams may be held, to leave as segments of one message
    cdef list emptied  # what was in the socket when it was handed out, to be delivered next; None: nothing
    # The addresses last received from and last sent to: most datagrams go to one of these.
    cdef object source, target
    cdef char source_name[UL_NAME_SIZE]
    cdef char target_name[UL_NAME_SIZE]
    cdef uint32_t source_size, target_size
    cdef uint32_t payload_offset  # of the bytes in what was received

    cdef name_peer(self, peer)
    cdef open(self, EngineBase engine, transport, sock, bint multishot, uint32_t overhead_bytes)
    cdef bint has_core(self)
    cdef int receive_in_core(self)
    cdef int hold_in_core(self)
    cdef deliver_item(self, item)
    cdef take_outcome(self, ul_outcome *outcome)
    cdef receive_in_context(self, ul_outcome *outcome)
    cdef go_on(self, uint32_t what)
    cdef drop_core(self)
    cdef receive_datagram(self, ul_outcome *outcome)
    cdef receive_joined(self, ul_outcome *outcome)
    cdef receive_ready(self)
    cdef sender_of(self, const char *data)
    cdef address_of(self, const char *name, uint32_t name_size)
    cdef list items_of(self, const char *data)
    cdef deliver_items(self, list items)
    cdef empty_socket(self)
    cdef receive_all_now(self, char *memory, list items)
    cdef receive(self, item, address)
    cdef deliver(self, data, address)
    cdef deliver_error(self, int res)
    cdef bint name_target(self, addr) except -1
    cdef uint32_t pack_elsewhere(self, addr) except? 0xFFFFFFFF
    cdef send(self, data, const char *name, uint32_t name_size)
    cdef bint holds_next(self, int row) noexcept
    cdef closing(self, bint abort)
    cdef size_t queued_bytes(self)
    cdef int close_in_core(self, bint abort)
    cdef bint is_idle(self)
    cdef free_core(self)
