"""How a ring ends: everything in flight is cancelled, and what cannot be is waited for.

The kernel goes on writing into the memory of an operation after its ring's descriptor is closed, so a ring is closed
only when nothing is in flight, or what is left merely watches.
"""

import threading

from ..ring import Dispatcher, Ring


def close_ring(ring: Ring, dispatcher: Dispatcher, owner_thread: int | None) -> None:
    """Cancel what is in flight, wait for it, and close the ring.

    Args:
        ring: made before a fork it is only let go of.
        dispatcher: of the ring.
        owner_thread: the native id of the thread that the ring belongs to, None for one that never ran.

    Raises:
        RingUnavailableError: the kernel refuses to enter the ring; it is closed all the same.
    """
    only_watches = False
    try:
        only_watches = ring.forked or owner_thread is None or _drain(ring, dispatcher, owner_thread)
    finally:
        # If the kernel refuses even to wait, what it may still write to is never freed.
        ring.close(only_watches=only_watches)


def _drain(ring: Ring, dispatcher: Dispatcher, owner_thread: int) -> bool:
    """Cancel and wait; whether nothing is left that may write to memory."""
    if owner_thread == threading.get_native_id() or not ring.is_single_issuer:
        operations = list(dispatcher.operations.values())
        only_polls = ring.unfinished == len(operations) and all(operation.may_move for operation in operations)
        for operation in operations:
            operation.abandon()
        if not only_polls or dispatcher.endpoints:
            dispatcher.cancel_all()
        while ring.unfinished or dispatcher.has_events():
            dispatcher.wait(-1)
            dispatcher.dispatch()
        return True
    # Only its own thread can cancel.  If that has ended, the kernel did, and waited.
    dispatcher.reap()
    for operation in list(dispatcher.operations.values()):
        operation.abandoned = True
    dispatcher.dispatch()
    watching = sum(operation.may_move for operation in dispatcher.operations.values())
    return bool(ring.unfinished == watching)
