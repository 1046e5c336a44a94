from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from ..meter cimport Meter, begin_outcome
from .core.core cimport ul_outcome, ul_ring

cdef int copy_counters(Meter meter, ul_ring *ring) except -1


cdef inline int meter_outcome(Meter meter, ul_outcome *outcome, dict operations) except -1:
    """Time the outcome that is about to be handed to its owner."""
    if outcome.owner == NULL:
        operation = operations.get(outcome.token)
        return begin_outcome(meter, NULL if operation is None else <PyObject *>operation, 0)
    return begin_outcome(meter, <PyObject *>outcome.owner, outcome.what)
