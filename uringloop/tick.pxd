# The tick that runs, as the scheduler and the ring's dispatcher share it: neither calls the other for it.
#
# The scheduler counts what the tick runs, and the dispatcher decides by that when written bytes go to the kernel.  See
# "A write's way" in ARCHITECTURE.md.

from libc.stdint cimport int64_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

cdef enum:
    # In a tick with at most so many callbacks each write goes out at once, as asyncio's: an enter for all costs as
    # much.
    FEW = 2
    # And where the last tick that wrote made at most so many writes, however much else is to be run.
    FEW_WRITES = 1
    # Then what other ticks wrote leaves before the next callback, and what they write from then on goes out at once:
    # after so long, and longer by so much for each callback that ran meanwhile, since many small ones are no reason to
    # hurry.
    UNSENT_MAX_NS = 100_000
    UNSENT_CALLBACK_NS = 10_000


cdef struct Tick:
    Py_ssize_t events, handles  # to be dispatched, to be run; 0 outside of a tick
    bint unsent  # written bytes wait for the tick's end
    int64_t due_ns  # on the monotonic clock: how long they do; only of a tick with more than a few callbacks
    bint held  # some of them only for the end of the callback, which may close the connection


cdef inline int64_t monotonic_ns() noexcept:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * 1_000_000_000 + now.tv_nsec


cdef inline bint has_few(Tick *tick) noexcept:
    return tick.events + tick.handles <= FEW


cdef inline void begin_waiting(Tick *tick) noexcept:
    """What is written from now on may wait."""
    tick.due_ns = monotonic_ns() + UNSENT_MAX_NS


cdef inline bint is_late(Tick *tick) noexcept:
    """Whether a tick of many has gone on for long."""
    return monotonic_ns() > tick.due_ns


cdef inline bint must_send(Tick *tick) noexcept:
    """Between two callbacks: whether what waits to be sent has waited long enough."""
    if not tick.unsent:
        return False
    tick.due_ns += UNSENT_CALLBACK_NS
    return tick.held or is_late(tick)
