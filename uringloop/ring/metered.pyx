"""Outcomes dispatched one by one, each counted and timed by the loop's meter, and the ring's counters for its page.

An outcome has no handle.  It bears the name of the protocol's method that it leads to, or of its operation.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from ..meter cimport RING_COUNTERS_MAX, Meter, between, count_in
from ..tick cimport count_cycles
from .core.core cimport ul_outcome, ul_ring_backend, ul_ring_statistics, ul_statistics
from .dispatcher cimport Dispatcher
from .owner cimport Owner

from ..hooks import application_of
from ..meter import class_name

cdef extern from *:
    """
    _Static_assert(sizeof(ul_statistics) <= 32 * sizeof(uint64_t), "a page has room for all counters of a ring");
    """


cdef class Timing:
    """Times the next outcome of a dispatcher, from its making to `end`.

    Args:
        dispatcher: a dispatcher with an outcome that waits.
        meter: the loop's meter.
    """

    cdef Dispatcher dispatcher
    cdef Meter meter
    cdef object owner, hearer
    cdef uint64_t begin_cycles
    cdef uint32_t what

    def __init__(self, Dispatcher dispatcher, Meter meter):
        self.dispatcher, self.meter = dispatcher, meter
        self.begin(count_cycles())

    cdef begin(self, uint64_t now_cycles):
        cdef ul_outcome *outcome = &self.dispatcher.outcomes[self.dispatcher.cursor]
        cdef Owner owner
        self.begin_cycles = now_cycles
        if outcome.owner == NULL:
            self.owner = None
            self.hearer = self.dispatcher.operations.get(outcome.token)
        else:
            owner = <Owner>outcome.owner
            self.owner, self.hearer, self.what = owner, owner.hearer(), outcome.what

    cpdef uint64_t end(self):
        """Count the outcome; return the cycles of its end."""
        cdef uint64_t end_cycles = count_cycles()
        cdef int64_t took = between(self.begin_cycles, end_cycles)
        cdef Meter meter = self.meter
        count_in(&meter.page.lag, between(meter.page.mark_cycles, self.begin_cycles), meter.page.ns_per_cycle)
        meter.page.completions += 1
        if took >= meter.slow_cycles:
            meter.note_slow(took, self.name(), self.hearer)
            end_cycles = count_cycles()
        meter.sync(len(meter.ready), end_cycles)
        return end_cycles

    cdef str name(self):
        cdef str method = "complete"
        hearer = self.hearer
        if self.owner is not None:
            application = application_of(hearer)
            method = (<Owner>self.owner).method_for(self.what, application is hearer)
            hearer = self.owner if application is None else application
        return f"{class_name(hearer)}.{method}"


def dispatch_metered(Dispatcher dispatcher, Meter meter):
    """Do the work of `Dispatcher.dispatch`, and time each outcome.

    Raises:
        RuntimeError: a callback forked, and this is the child.
    """
    cdef uint64_t last = dispatcher.taken + <uint64_t>(dispatcher.count - dispatcher.cursor), now_cycles
    cdef Timing timing
    if dispatcher.taken < last:
        timing = Timing(dispatcher, meter)
        while True:
            dispatcher.hand_over(dispatcher.taken + 1)
            now_cycles = timing.end()
            if dispatcher.taken >= last or dispatcher.cursor >= dispatcher.count:
                break
            timing.begin(now_cycles)
    copy_counters(dispatcher, meter)


cdef void copy_counters(Dispatcher dispatcher, Meter meter) noexcept:
    """Copy the ring's counters into the meter's page."""
    if dispatcher.ring != NULL:
        ul_ring_statistics(dispatcher.ring, <ul_statistics *>meter.page.ring)
        meter.page.backend = ul_ring_backend(dispatcher.ring)
