"""Outcomes for the loop's meter: the names of those that take long, and the ring's counters for its page.

An outcome has no handle.  It bears the name of the protocol's method that it leads to, or of its operation.
"""

from libc.stdint cimport uint32_t

from ..meter cimport Meter
from .core.core cimport ul_ring, ul_ring_backend, ul_ring_statistics, ul_statistics
from .owner cimport Owner

from ..meter import class_name

cdef extern from *:
    """
    _Static_assert(sizeof(ul_statistics) <= 32 * sizeof(uint64_t), "a page has room for all counters of a ring");
    """


def name_outcome(receiver, uint32_t what):
    """Return the name of an outcome, and the object that has heard of it.

    Args:
        receiver: the outcome's owner or operation.
        what: its bits.
    """
    # The ring needs no asyncio, which hooks.py imports.
    from ..hooks import application_of

    cdef str method = "complete"
    if isinstance(receiver, Owner):
        protocol = (<Owner>receiver).hearer()
        application = application_of(protocol)
        method = (<Owner>receiver).method_for(what, application is protocol)
        receiver = receiver if application is None else application
    return f"{class_name(receiver)}.{method}", receiver


cdef int copy_counters(Meter meter, ul_ring *ring) except -1:
    """Copy a ring's counters into the meter's page."""
    ul_ring_statistics(ring, <ul_statistics *>meter.page.ring)
    meter.page.backend = ul_ring_backend(ring)
    return 0
