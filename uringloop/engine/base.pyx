"""`EngineBase`: the objects that the endpoints of a loop and its `Sockets` share."""

from libc.stdint cimport uint32_t, uintptr_t
from libc.stdlib cimport free, malloc

from ..ring.core.core cimport ul_ring
from ..ring.dispatcher cimport Dispatcher
from .address cimport AddressCache
from .core cimport (
    UL_DATAGRAM_BUFFER_SIZE, ul_datagrams_send, ul_streams_allow_bulk, ul_streams_give_turns, ul_streams_send,
)


cdef int send_written(ul_ring *ring, int all) noexcept nogil:
    """Send what waits, of all endpoints; return whether some of it goes on waiting for the tick's end."""
    ul_datagrams_send(ring)
    return ul_streams_send(ring, all)


cdef class EngineBase:
    """Hold the objects that the endpoints of a loop and its `Sockets` share; see `Engine`."""

    def __cinit__(self, loop, Dispatcher dispatcher, dict transports, leftovers, options):
        self.loop = loop
        self.call_soon = loop.call_soon
        self.dispatcher = dispatcher
        self.transports = transports
        self.leftovers = leftovers
        self.options = options
        dispatcher.send_written = send_written
        dispatcher.give_turns = ul_streams_give_turns

    def __dealloc__(self):
        free(self.received)

    def use_ring(self, ring):
        """Serve a ring: the loop's first; or a later one, of another thread or another backend.

        Raises:
            MemoryError: the core got no memory.
        """
        cdef uintptr_t address = ring.address
        cdef bint has_buffers = ring.has_buffers
        cdef uint32_t bulk_stream_count_max = self.options.bulk_stream_count_max
        if has_buffers and ul_streams_allow_bulk(<ul_ring *>address, bulk_stream_count_max) < 0:
            raise MemoryError
        self.enabled = ring.features.enabled
        self.receives_many = "multishot_receive" in self.enabled
        self.has_buffers = has_buffers

    @property
    def features(self):
        """Return the names of the optional features that are enabled; the ring is made for that."""
        # Those of a ring whose making failed are not the next one's.
        if self.enabled is None or self.dispatcher.make is not None:
            self.refuse_closed()
        return self.enabled

    cdef int refuse_closed(self) except -1:
        """Refuse a closed loop, and make the ring of a loop that has none yet."""
        if self.dispatcher.ring == NULL:
            if self.dispatcher.make is None:
                raise RuntimeError("Event loop is closed")
            self.dispatcher.check()
        return 0

    cdef char *take_received(self) except NULL:
        """Return memory to receive into, until `give_received`.

        A callback may run the loop, which then gets other memory.
        """
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
        """Return the cache of the addresses of datagrams."""
        if self.addresses is None:
            self.addresses = AddressCache()
        return self.addresses
