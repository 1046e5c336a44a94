"""The end of a ring by hand: cancel all operations in flight, and wait for their last CQEs.

Where there is another way than an SQE, it cancels by that way.  Behind an SQE with IO_DRAIN a cancel's SQE would wait
for the operation that it is to cancel.

Some operations do not end.  A zero-copy send reads the caller's memory until the receiver has read, which may be never.
An SQE with IO_DRAIN may then wait for ever (found by tests/fuzz on Linux 6.18).  If nothing has ended for a while, the
rest is left to the kernel, and its memory is never freed.
"""

import errno
from collections import deque

from .abi import CancelFlag, Opcode
from .queues import Completion, Queues
from .register import Registration

#: So many completions are taken before all operations are cancelled again: a multishot operation that completes during
#: its cancel goes on.
_COMPLETIONS = 64
#: After so many, no cancel finds an operation: a multishot timeout whose interval is shorter than a system call.
_COMPLETIONS_UNFOUND = 1024
#: The pause before the next look: an operation behind a drain may begin only after the cancel.
_LOOK_NS = 10_000_000
_ZERO_COPY = {Opcode.SEND_ZC, Opcode.SENDMSG_ZC}
_ZERO_COPY_LOOKS = 20
_LOOKS = 300


def drain(ring: Registration, queues: Queues, unseen: deque[Completion]) -> None:
    """End all operations in flight, and dispose of their results.  Staged SQEs are taken back.

    Args:
        ring: the ring of the queues, in its own thread.
        queues: the queues of a ring by hand.
        unseen: the completions that were set aside; empty afterwards.
    """
    for operation in queues.unstage():
        operation.finish(-errno.ECANCELED)
        operation.release()
    for seen in unseen:
        _dispose(seen)
    unseen.clear()
    looks = taken = 0
    while (completion := queues.take()) is not None or queues.in_flight:
        if completion is not None:
            _dispose(completion)
            looks = 0
            taken += 1
            if taken % _COMPLETIONS == 0:
                _cancel_all(ring, queues)
            if taken % _COMPLETIONS_UNFOUND == 0:
                queues.let_overflow()
            continue
        _cancel_all(ring, queues)
        queues.enter_for(1, _LOOK_NS, None)
        looks += 1
        only_zero_copy = all(operation.opcode in _ZERO_COPY for operation in queues.in_use())
        if looks > (_ZERO_COPY_LOOKS if only_zero_copy else _LOOKS):
            break
    else:
        queues.end_cancels()


def _dispose(completion: Completion) -> None:
    if completion.operation is not None and completion.res >= 0:
        completion.operation.dispose(completion.res, completion.flags)


def _cancel_all(ring: Registration, queues: Queues) -> None:
    try:
        ring.cancel_now(flags=CancelFlag.ANY | CancelFlag.ALL, timeout_ns=0)
    except OSError as error:
        # The kernel is older than Linux 6.0, or the ring restricted.
        if error.errno in (errno.EINVAL, errno.EACCES):
            queues.cancel_all()
