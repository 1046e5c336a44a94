"""Moving bytes between descriptors without looking at them: splice(2).

A splice always runs in a kernel worker, which looks up both of its descriptors late and blocks as long as a blocking
socket does.  So it holds on to its descriptors, which are closed after it has reported; where the socket is
non-blocking and full it answers EAGAIN.
"""

from ..ring import Dispatcher, Opcode
from .base import Operation
from .file import CURRENT_POSITION, Descriptor


class Splice(Operation):
    """splice(2); the result is the number of bytes moved, 0 at the end of a file.

    Args:
        source: a file, or the reading end of a pipe.
        target: the writing end of a pipe, or a socket; one of the two is a pipe.
        size_bytes: at most.
        offset: where in the source to begin; None for a pipe.

    Attributes:
        moved_bytes: what the kernel moved, also if nobody awaited it.
    """

    __slots__ = ("_offset", "_size_bytes", "_source", "_target", "moved_bytes")
    opcode = Opcode.SPLICE

    def __init__(self, source: Descriptor, target: Descriptor, size_bytes: int, offset: int | None = None) -> None:
        super().__init__(target.fd)
        self._source = source
        self._target = target
        self._size_bytes = size_bytes
        self._offset = CURRENT_POSITION if offset is None else offset
        self.moved_bytes = 0

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(
            self,
            self.opcode,
            self.fd,
            self._offset,
            self._size_bytes,
            CURRENT_POSITION,
            file_index=self._source.fd,
        )

    def complete(self, res: int, flags: int) -> None:
        self.moved_bytes = max(res, 0)
        super().complete(res, flags)
