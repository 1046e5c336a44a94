"""Operations that move no bytes: nop, poll."""

from collections.abc import Callable

from ..ring import POLL_ADD_MULTI, CqeFlag, Dispatcher, Opcode
from .base import Operation, State


class Nop(Operation):
    """Does nothing, and completes."""

    __slots__ = ()
    opcode = Opcode.NOP


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
        if not flags & CqeFlag.MORE:
            self.state = State.DONE
        if self.abandoned:
            return
        try:
            self._callback()
        finally:
            if self.state is State.DONE and not self.abandoned:
                assert dispatcher is not None
                self.submit(dispatcher)
