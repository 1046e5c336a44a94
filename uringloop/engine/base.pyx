"""`EngineBase`: what the endpoints of a loop and its `Sockets` share."""

from libc.stdlib cimport free, malloc

from ..ring.core.core cimport UL_DATAGRAM_BUFFER_SIZE
from ..ring.dispatcher cimport Dispatcher
from .address cimport AddressCache
from .core cimport ul_streams_give_turns, ul_streams_send


cdef class EngineBase:
    """What the endpoints of a loop and its `Sockets` share.

    Args:
        loop: the `EventLoop`.
        dispatcher: of the loop's ring.
        transports: the loop's transports by descriptor, as weak references.
        unread: keeps what cancelled receives had taken.

    Attributes:
        call_soon: of the loop.
    """

    def __cinit__(self, loop, Dispatcher dispatcher, dict transports, unread, *args):
        self.loop = loop
        self.dispatcher = dispatcher
        self.transports = transports
        self.unread = unread
        self.call_soon = loop.call_soon
        dispatcher.send_written = ul_streams_send
        dispatcher.give_turns = ul_streams_give_turns

    def __dealloc__(self):
        free(self.received)

    cdef char *take_received(self) except NULL:
        """Return memory to receive into, until `give_received`: a callback may run the loop, which then receives elsewhere."""
        cdef char *memory = self.received
        self.received = NULL
        if memory == NULL:
            memory = <char *>malloc(UL_DATAGRAM_BUFFER_SIZE)
            if memory == NULL:
                raise MemoryError
        return memory

    cdef give_received(self, char *memory):
        if self.received == NULL:
            self.received = memory
        else:
            free(memory)

    cdef AddressCache known_addresses(self):
        """Return the addresses of late, for datagram sockets."""
        if self.addresses is None:
            self.addresses = AddressCache()
        return self.addresses
