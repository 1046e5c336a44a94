"""Operations that move no bytes: poll, and those on other operations, or other rings."""

import errno
from collections.abc import Callable

from ..ring import POLL_ADD_MULTI, CancelFlag, CqeFlag, Dispatcher, Opcode, message_user_data
from .base import ANY_SLOT, Slot, State
from .multishot import Multishot
from .operation import Operation

_POLL_UPDATE_EVENTS = 1 << 1
_MESSAGE_SEND_FD = 1
_U32 = 1 << 32
# A plain number: an enum's operator would double the time of a completion.
_MORE = int(CqeFlag.MORE)


class Poll(Operation):
    """Watches a descriptor until abandoned, as poll(2), and calls back each time that it is ready.

    Args:
        fd: the descriptor.
        events: poll(2) events, such as select.POLLIN.
        multishot: one SQE for all times; otherwise it is armed again each time.
        callback: called without arguments.
    """

    __slots__ = ("_callback", "_events", "_multishot")
    opcode = Opcode.POLL_ADD
    may_move = True

    def __init__(self, fd: int, events: int, multishot: bool, callback: Callable[[], object]) -> None:
        super().__init__(fd)
        self._events = events
        self._multishot = multishot
        self._callback = callback

    def stage(self, dispatcher: Dispatcher) -> int:
        length = POLL_ADD_MULTI if self._multishot else 0
        return dispatcher.stage(self, self.opcode, self.fd, 0, length, 0, self._events)

    def complete(self, res: int, flags: int) -> None:
        dispatcher = self._dispatcher
        if not flags & _MORE:
            self.state = State.DONE
        if self.abandoned:
            return
        try:
            self._callback()
        finally:
            if self.state is State.DONE and not self.abandoned:
                assert dispatcher is not None
                self.submit(dispatcher)


class PollUpdate(Operation):
    """Has a poll in flight watch for other events; io_uring_prep_poll_update(3).

    The result is None.  FileNotFoundError: the operation is not in flight.

    Args:
        target: a `Ready` or `Poll`.
        events: poll(2) events, such as select.POLLIN.
        multishot: whether the target has its multishot form.
    """

    __slots__ = ("_events", "_flags", "_target")
    opcode = Opcode.POLL_REMOVE

    def __init__(self, target: Operation, events: int, multishot: bool = False) -> None:
        super().__init__()
        self._target = target
        self._events = events
        self._flags = _POLL_UPDATE_EVENTS | (POLL_ADD_MULTI if multishot else 0)

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, self._target.token, self._flags, 0, self._events)

    def result(self, res: int, flags: int) -> None:
        return None


class _Ending(Operation):
    """Ends another operation in flight.

    The kernel does not find a multishot operation that completes at that moment.  A loop then asks again.
    """

    __slots__ = ("_target", "_tries")
    _TRIES = 8

    def __init__(self, target: Operation | None) -> None:
        super().__init__()
        self._target = target
        self._tries = 0

    def complete(self, res: int, flags: int) -> None:
        missed = res in (-errno.ENOENT, -errno.EALREADY) and not self.abandoned and self._tries < self._TRIES
        if missed and isinstance(self._target, Multishot) and self._target.is_multishot and self._target.in_flight:
            assert self._dispatcher is not None
            self._tries += 1
            self.state = State.DONE
            self.submit(self._dispatcher)
        else:
            super().complete(res, flags)


class Removal(_Ending):
    """Ends another operation in flight, whose error is then ECANCELED.

    The result is None.  FileNotFoundError: the operation is not in flight.
    """

    __slots__ = ()
    _target: Operation

    def __init__(self, target: Operation) -> None:
        super().__init__(target)

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, self._target.token)

    def result(self, res: int, flags: int) -> None:
        return None


class PollRemove(Removal):
    """Ends a poll; io_uring_prep_poll_remove(3)."""

    __slots__ = ()
    opcode = Opcode.POLL_REMOVE


class Cancel(_Ending):
    """Cancels operations in flight on this ring; io_uring_prep_cancel(3).

    Give one of target, fd and cancelled_opcode.  The await of a cancelled operation raises an OSError with ECANCELED.
    To end an await in a task, cancel the task instead.

    The result is the number of cancelled operations.  FileNotFoundError: none was found.  EALREADY: it already runs.

    Args:
        target: cancel this operation.
        fd: cancel an operation on this descriptor, or `Slot`.
        cancelled_opcode: cancel an operation of this kind; needs Linux 6.6.
        all: cancel all that match; without it only the first, with the result 0.
    """

    __slots__ = ("_flags", "_kind")
    opcode = Opcode.ASYNC_CANCEL

    def __init__(
        self,
        target: Operation | None = None,
        *,
        fd: int | None = None,
        cancelled_opcode: Opcode | None = None,
        all: bool = False,
    ) -> None:
        if sum(given is not None for given in (target, fd, cancelled_opcode)) != 1:
            raise TypeError("give one of target, fd and cancelled_opcode")
        super().__init__(target)
        self._kind = cancelled_opcode or 0
        self._flags = CancelFlag.ALL if all else 0
        if fd is not None:
            # Not this operation's own descriptor, so that it is no fixed file of it either.
            self.fd = int(fd)
            self._flags |= CancelFlag.FD | (CancelFlag.FD_FIXED if isinstance(fd, Slot) else 0)
        elif cancelled_opcode is not None:
            self._flags |= CancelFlag.OP

    def stage(self, dispatcher: Dispatcher) -> int:
        token = 0 if self._target is None else self._target.token
        return dispatcher.stage(self, self.opcode, self.fd, token, self._kind, 0, self._flags)


class MessageRing(Operation):
    """Puts a completion into another ring's queue; io_uring_prep_msg_ring(3).

    The result is None.  EBADFD: the descriptor is no ring's.

    Args:
        ring_fd: the other ring, in this process or inherited.
        number: the `Completion.number` that the other ring sees; it has 60 bits.
        answer: the result that the other ring sees; it has 32 bits.

    Raises:
        ValueError: the number or the answer does not fit.
    """

    __slots__ = ("_answer", "_user_data")
    opcode = Opcode.MSG_RING

    def __init__(self, ring_fd: int, number: int, answer: int = 0) -> None:
        super().__init__(ring_fd)
        if not -_U32 // 2 <= answer < _U32 // 2:
            raise ValueError(f"the result of a completion has 32 bits, not {answer}")
        self._user_data = message_user_data(number)
        self._answer = answer

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, 0, self._answer % _U32, self._user_data)

    def result(self, res: int, flags: int) -> None:
        return None


class SendFile(Operation):
    """Puts a registered file into another ring's table as well; io_uring_prep_msg_ring_fd(3).

    The result is the `Slot` there.  ENFILE: that table is full.

    Args:
        ring_fd: the other ring.
        source: the slot in this ring's table.
        number: the `Completion.number` that the other ring sees; it has 60 bits.  Its result is the slot.
        target: the slot in the other ring's table; `ANY_SLOT` for a free one.

    Raises:
        ValueError: the number does not fit.
    """

    __slots__ = ("_source", "_target", "_user_data")
    opcode = Opcode.MSG_RING

    def __init__(self, ring_fd: int, source: Slot, number: int, target: Slot = ANY_SLOT) -> None:
        super().__init__(ring_fd)
        self._source = source
        self._target = target
        self._user_data = message_user_data(number)

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(
            self,
            self.opcode,
            self.fd,
            _MESSAGE_SEND_FD,
            0,
            self._user_data,
            file_index=self._target + 1,
            addr3=self._source,
        )

    def result(self, res: int, flags: int) -> Slot:
        return Slot(res) if self._target == ANY_SLOT else self._target
