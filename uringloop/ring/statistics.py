"""`Statistics`: a ring's counters since its start, and numbers of this moment."""

from typing import TypedDict, cast

from .core._cffi import ffi, lib
from .setup import Backend


class Statistics(TypedDict):
    """A ring's backend, its counters, which only grow, and numbers of this moment.

    Counters: submitted, completed, enters, overflows, rearms, no_buffers, batches_max; bytes_received and bytes_sent,
    of streams and datagrams; spins and spins_in_vain, the waits begun awake; cancels_lost, the cancels asked again
    because they found nothing.  These are of this moment: in_flight, streams, bulk_streams, datagrams (sockets),
    buffers, buffers_lent.
    """

    backend: Backend
    submitted: int
    completed: int
    enters: int
    overflows: int
    rearms: int
    batches_max: int
    no_buffers: int
    in_flight: int
    streams: int
    datagrams: int
    buffers: int
    buffers_lent: int
    bytes_received: int
    bytes_sent: int
    spins: int
    spins_in_vain: int
    bulk_streams: int
    cancels_lost: int


#: The names of all counters, in the core's order.
COUNTERS = tuple(name for name, _ in ffi.typeof("ul_statistics").fields)


def no_statistics(backend: Backend) -> Statistics:
    """Return the statistics of a ring that is not made yet."""
    return cast(Statistics, {"backend": backend, **dict.fromkeys(COUNTERS, 0)})


def read_statistics(handle: object, backend: Backend) -> Statistics:
    """Return the statistics of the core's `ul_ring *`."""
    counters = ffi.new("ul_statistics *")
    lib.ul_ring_statistics(handle, counters)
    numbers = {name: getattr(counters, name) for name in COUNTERS}
    return cast(Statistics, {"backend": backend, **numbers})
