# The tick that runs, as the scheduler and the ring's dispatcher share it: neither calls the other for it.
#
# The scheduler counts what the tick runs, and the dispatcher decides by that when written bytes go to the kernel.  See
# "A write's way" in ARCHITECTURE.md.

from libc.stdint cimport int64_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

cdef enum:
    # In a tick with at most so many callbacks each write goes out at once, as asyncio's: an enter for all costs as much.
    FEW = 2
    # And where the last tick that wrote made at most so many writes, however much else is to be run.
    FEW_WRITES = 1
    # Then what other ticks wrote leaves before the next callback, and what they write from then on goes out at once.
    UNSENT_MAX_NS = 500_000


cdef struct Tick:
    Py_ssize_t events, handles  # to be dispatched, to be run; 0 outside of a tick
    int64_t begin_ns  # on the monotonic clock; only of a tick with more than a few of them
    bint unsent  # written bytes wait for the tick's end
    bint held  # some of them only for the end of the callback, which may close the connection


cdef inline int64_t monotonic_ns() noexcept:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * 1_000_000_000 + now.tv_nsec


cdef inline bint has_few(Tick *tick) noexcept:
    return tick.events + tick.handles <= FEW


cdef inline bint is_late(Tick *tick) noexcept:
    """Whether a tick of many has gone on for long."""
    return monotonic_ns() - tick.begin_ns > UNSENT_MAX_NS


cdef inline bint must_send(Tick *tick) noexcept:
    """Between two callbacks: whether what waits to be sent has waited long enough."""
    return tick.unsent and (tick.held or is_late(tick))
