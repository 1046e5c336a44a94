"""`Sqe`: one SQE filled in by hand, for requests that no operation serves.

The fields are written into the queue itself, so they can be set until the SQE is submitted.  After that the place may
be another SQE's, and setting them is refused.
"""

import errno
import os
from collections.abc import Sequence
from typing import Any

from .abi import Opcode
from .memory import Vector
from .pin import Pin
from .queues import StagedSqe


class Sqe(StagedSqe):
    """A staged SQE, which does nothing until a `prep` method fills it in.  It is its completion's `operation`.

    Attributes:
        user_data: unique on this ring.
        flags: IOSQE_*, see `SqeFlag`.
        data: an object of the caller, as of io_uring_sqe_set_data(3).
    """

    data: Any = None

    def __init__(self) -> None:
        self._held: list[Any] = []

    def hold(self, memory: Any) -> None:
        """Keep an object, such as a `Pin`, until the last CQE: the kernel may touch its memory until then."""
        self._held.append(memory)

    def prep_nop(self) -> int:
        """Do nothing, and complete."""
        return self.prep(Opcode.NOP, -1)

    def prep_read(self, fd: int, buffer: bytearray | memoryview, offset: int) -> int:
        """Fill in a pread(2) at an offset in bytes; -1 reads at the file's own position."""
        return self._prep_one(Opcode.READ, fd, Pin(buffer, writable=True), offset)

    def prep_write(self, fd: int, buffer: bytes | bytearray | memoryview, offset: int) -> int:
        """Fill in a pwrite(2) at an offset in bytes; -1 writes at the file's own position."""
        return self._prep_one(Opcode.WRITE, fd, Pin(buffer), offset)

    def prep_readv(self, fd: int, buffers: Sequence[bytearray | memoryview], offset: int) -> int:
        """Fill in a preadv(2) at an offset in bytes; -1 reads at the file's own position."""
        return self._prep_vector(Opcode.READV, fd, Vector(buffers, writable=True), offset)

    def prep_writev(self, fd: int, buffers: Sequence[bytes | bytearray | memoryview], offset: int) -> int:
        """Fill in a pwritev(2) at an offset in bytes; -1 writes at the file's own position."""
        return self._prep_vector(Opcode.WRITEV, fd, Vector(buffers), offset)

    def _prep_one(self, opcode: Opcode, fd: int, pin: Pin, offset: int) -> int:
        self.hold(pin)
        return self.prep(opcode, fd, pin.address, pin.size_bytes, offset % (1 << 64))

    def _prep_vector(self, opcode: Opcode, fd: int, vector: Vector, offset: int) -> int:
        self.hold(vector)
        return self.prep(opcode, fd, vector.address, vector.count, offset % (1 << 64))

    # The methods of an operation that a ring calls

    def finish(self, res: int) -> int:
        """Take the last CQE; return its result."""
        return res

    def release(self) -> None:
        """Drop the objects of `hold`."""
        self._held.clear()

    def result(self, res: int, flags: int) -> int:
        """Return the CQE's result."""
        return res

    def error(self, res: int) -> OSError:
        """Return the exception for a negative result."""
        absence = self.features.absence(self.opcode) if res == -errno.EINVAL else None
        text = os.strerror(-res)
        return OSError(-res, text if absence is None else f"{text}: {absence}")

    def dispose(self, res: int, flags: int) -> None:
        """Do nothing with a result that no caller takes: the caller alone knows its meaning."""
