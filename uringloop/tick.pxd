# `Tick`: the tick that runs, shared by the scheduler and the ring's dispatcher, so that neither calls the other.
#
# The scheduler counts the callbacks of the tick.  By that count the dispatcher decides when written bytes go to the
# kernel: see docs/decisions.md, "Small writes of busy ticks are collected".

from libc.stdint cimport int64_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

cdef enum:
    # In a tick with at most so many callbacks each write leaves at once, as with asyncio: an enter for all costs as
    # much.
    FEW = 2
    # In other ticks the first so many writes leave at once, if the last tick that wrote made no more.
    FEW_WRITES = 1
    # In other ticks the waiting bytes leave before the next callback after so long, and later writes leave at once.
    # Each
    # callback that ran meanwhile adds to that time: many small callbacks are no reason to hurry.
    UNSENT_MAX_NS = 100_000
    UNSENT_CALLBACK_NS = 10_000


cdef struct Tick:
    Py_ssize_t outcomes, handles  # to be dispatched, to be run; 0 outside of a tick
    bint unsent  # written bytes wait for the tick's end
    int64_t due_ns  # on the monotonic clock: how long they do; only of a tick with more than a few callbacks
    bint held  # some of them only for the end of the callback, which may close the connection


cdef inline int64_t monotonic_ns() noexcept:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * 1_000_000_000 + now.tv_nsec


cdef inline bint has_few(Tick *tick) noexcept:
    return tick.outcomes + tick.handles <= FEW


cdef inline void begin_waiting(Tick *tick) noexcept:
    """Let the bytes written from now on wait."""
    tick.due_ns = monotonic_ns() + UNSENT_MAX_NS


cdef inline bint is_late(Tick *tick) noexcept:
    """Return whether a tick with many callbacks has gone on for long."""
    return monotonic_ns() > tick.due_ns


cdef inline bint must_send(Tick *tick) noexcept:
    """Return, between two callbacks, whether the waiting bytes have waited long enough."""
    if not tick.unsent:
        return False
    tick.due_ns += UNSENT_CALLBACK_NS
    return tick.held or is_late(tick)
