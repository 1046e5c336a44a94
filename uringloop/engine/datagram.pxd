from libc.stdint cimport uint32_t

from ..ring.core.core cimport UL_NAME_SIZE, ul_event
from .address cimport AddressCache
from .core cimport ul_datagram
from .endpoint cimport Endpoint


cdef class Datagram(Endpoint):
    cdef ul_datagram *handle
    cdef object context, remote
    cdef list held
    cdef int family
    cdef bint has_peer, has_named_peer, sends_empty
    cdef bint orphaned  # its loop is being closed: nobody hears of it any more
    cdef int lost_writes
    # The addresses last received from and last sent to: most datagrams go to one of these.
    cdef object source, target
    cdef char source_name[UL_NAME_SIZE]
    cdef char target_name[UL_NAME_SIZE]
    cdef uint32_t source_size, target_size
    cdef AddressCache addresses

    cdef receive_event(self, ul_event *event)
    cdef go_on(self, uint32_t what)
    cdef abort_in_core(self)
    cdef forget_core(self)
    cdef call_in_context(self, callback)
    cdef receive_datagram(self, ul_event *event)
    cdef receive_ready(self)
    cdef sender_of(self, const char *data)
    cdef address_of(self, const char *name, uint32_t name_size)
    cdef receive(self, item, address)
    cdef in_context(self, item, address)
    cdef deliver(self, data, address)
    cdef deliver_error(self, int res)
    cdef bint name_target(self, addr) except -1
    cdef uint32_t pack_elsewhere(self, addr) except? 0xFFFFFFFF
    cdef send(self, data, const char *name, uint32_t name_size)
    cdef warn_of_lost_write(self)
    cdef bint close_in_core(self, bint abort) except -1
    cdef bint is_quiet(self)
    cdef free_core(self)
    cdef int check(self, int result) except -1
