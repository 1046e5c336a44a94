"""`close_ring`: cancel the operations in flight, wait for their ends, and close the ring.

The kernel writes into the memory of an operation even after its ring's descriptor is closed.  So a ring is closed only
when nothing is in flight but operations that merely watch.
"""

import os
import threading
import time

from ..ring import Dispatcher, RingBase

_THREAD_END_NS = 1_000_000_000
_LOOK_S = 0.001


def close_ring(ring: RingBase, dispatcher: Dispatcher, owner_thread: int | None) -> None:
    """Cancel what is in flight, wait for it, and close the ring.

    Args:
        ring: one that was made before a fork is only dropped.
        dispatcher: the ring's.
        owner_thread: the native id of the ring's thread, None if the ring never ran.

    Raises:
        RingUnavailableError: the kernel refuses to enter the ring; the ring is closed all the same.
    """
    only_watches = False
    try:
        only_watches = ring.forked or owner_thread is None or _drain(ring, dispatcher, owner_thread)
    finally:
        # If the kernel refuses even to wait, the memory that it may still write to is never freed.
        ring.close(only_watches=only_watches)


def _drain(ring: RingBase, dispatcher: Dispatcher, owner_thread: int) -> bool:
    """Cancel and wait; return whether nothing is left that may write to memory."""
    if owner_thread == threading.get_native_id() or not ring.is_single_issuer:
        if not (ring.unfinished or dispatcher.owners or dispatcher.has_outcomes()):
            return True
        operations = list(dispatcher.operations.values())
        only_polls = ring.unfinished == len(operations) and all(operation.may_move for operation in operations)
        for operation in operations:
            operation.abandon()
        if not only_polls or dispatcher.owners:
            dispatcher.cancel_all()
        while ring.unfinished > ring.detained or dispatcher.has_outcomes():
            dispatcher.wait(-1)
            dispatcher.dispatch()
        return ring.detained == 0
    # Only the ring's own thread can cancel.  When that thread ended, the kernel cancelled all and waited.
    dispatcher.reap()
    for operation in list(dispatcher.operations.values()):
        operation.abandoned = True
    dispatcher.dispatch()
    if _has_ended(owner_thread):
        return True  # what was not reaped has ended too: its CQE overflowed
    watching = sum(operation.may_move for operation in dispatcher.operations.values())
    return bool(ring.unfinished == watching)


def _has_ended(thread: int) -> bool:
    """Return whether the thread of this native id is gone; wait for a moment if it is on its way out of the kernel."""
    deadline_ns = time.monotonic_ns() + _THREAD_END_NS
    while os.path.exists(f"/proc/self/task/{thread}"):
        if thread in {known.native_id for known in threading.enumerate()} or time.monotonic_ns() > deadline_ns:
            return False
        time.sleep(_LOOK_S)
    return True
