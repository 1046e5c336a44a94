"""`Engine`: what a loop hands to its transports."""

from ..ring.dispatcher cimport Dispatcher
from .base cimport EngineBase
from .sock cimport Sockets


cdef class Engine(EngineBase):
    """What carries the bytes of a loop's transports and of its socket methods.

    Args:
        loop: the `EventLoop`.
        dispatcher: of the loop's ring.
        transports: the loop's transports by descriptor, as weak references.
        unread: keeps what cancelled receives had taken.
        has_buffers: the ring makes a group of receive buffers when it is needed.

    Attributes:
        sockets: for the loop's socket methods; None before the first of these.
    """

    cdef readonly Sockets sockets
    cdef bint has_buffers

    def __init__(self, loop, Dispatcher dispatcher, dict transports, unread, bint has_buffers):
        self.has_buffers = has_buffers

    def open_sockets(self):
        """Return `sockets`, which the first call makes."""
        if self.sockets is None:
            self.sockets = Sockets(self, self.has_buffers)
        return self.sockets
