from ..tick cimport Tick
from .core.core cimport ul_ring


cdef class Sender:
    cdef ul_ring *ring  # NULL: it is not made yet, see `Dispatcher.make`, or closed
    cdef Tick tick
    cdef int writes, last_writes  # small ones since the last enter, and before it
    cdef bint late  # the tick has gone on for long: what is written goes out at once
    cdef int (*send_written)(ul_ring *ring, int all) noexcept nogil  # how the engine does that; NULL: there is none

    cdef bint sends_at_once(self) noexcept
    cdef void hold(self) noexcept
    cpdef void send_waiting(self) noexcept
    cdef void begin_batch(self) noexcept
