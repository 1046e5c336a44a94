"""The end of a new descriptor or slot that has no owner."""

import os

from ..ring import Dispatcher, Opcode
from .base import Slot, file_index
from .operation import Operation


def close_made(dispatcher: Dispatcher | None, descriptor: int) -> None:
    """Close a descriptor that has no owner, or empty such a slot of the dispatcher's ring."""
    if not isinstance(descriptor, Slot):
        os.close(descriptor)
    elif dispatcher is not None:
        _Emptying(descriptor).submit(dispatcher)


class _Emptying(Operation):
    """Empties a slot, without a waiter."""

    __slots__ = ("_slot",)
    opcode = Opcode.CLOSE

    def __init__(self, slot: Slot) -> None:
        super().__init__()
        self._slot = slot

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, 0, file_index=file_index(self._slot))

    def abandon(self) -> None:
        """Do nothing: the kernel completes it soon."""
