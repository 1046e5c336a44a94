"""Reads and writes of several buffers, reads again and again, and how a loop awaits a `PositionalTransfer`.

A read or write that already runs cannot be cancelled: an abandoned one is waited for.
"""

import asyncio
import contextlib
import errno
from collections.abc import Callable, Sequence
from typing import Any

from ..ring import CqeFlag, Descriptor, Dispatcher, Opcode, SqeFlag, Vector
from .multishot import Multishot
from .operation import FileOperation
from .positional import PositionalTransfer

#: The offset that means the file's own position.
CURRENT_POSITION = 0xFFFFFFFFFFFFFFFF
_BUFFER = int(CqeFlag.BUFFER)


async def read_at(
    loop: asyncio.AbstractEventLoop, dispatcher: Dispatcher, file: int | Descriptor, buffer: Any, offset: int
) -> int:
    """Read as `Read` does, but in compiled code, for reads by the thousand.

    Returns:
        The number of bytes, 0 at the end of the file.

    Raises:
        OSError: as from pread(2).
        asyncio.CancelledError: raised only when the kernel has released the buffer.
    """
    reading = PositionalTransfer(dispatcher, loop.create_future(), file, buffer, offset)
    # As `transferred`, but without a coroutine for it.
    try:
        result = await reading.waiter
    except BaseException as error:
        await _abandon(reading, error)
        raise
    if type(result) is int:
        return result
    assert isinstance(result, OSError)
    raise result


async def transferred(transfer: PositionalTransfer) -> int:
    """Wait for a transfer, without suspending if it ends at once; return the number of bytes.

    Raises:
        OSError: as from pread(2) or pwrite(2).
        asyncio.CancelledError: raised only when the kernel has released the buffer.
    """
    try:
        if transfer.at_once:
            transfer.finish_now()
        result = await transfer.waiter
    except BaseException as error:
        await _abandon(transfer, error)
        raise
    if type(result) is int:
        return result
    assert isinstance(result, OSError)
    raise result


async def _abandon(transfer: PositionalTransfer, error: BaseException) -> None:
    """Abandon a transfer; if it was cancelled, wait until the kernel has released its buffer."""
    transfer.abandon()
    while isinstance(error, asyncio.CancelledError) and transfer.in_flight and not transfer.detained:
        transfer.waiter = transfer.waiter.get_loop().create_future()
        with contextlib.suppress(asyncio.CancelledError):
            await transfer.waiter


class _VectorTransfer(FileOperation):
    """Moves bytes between a file and several buffers, one after the other."""

    __slots__ = ("_flags", "_offset", "_vector")

    def __init__(self, file: int | Descriptor, vector: Vector, offset: int, flags: int) -> None:
        super().__init__(file)
        self._vector = vector
        self._offset = offset
        self._flags = flags

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(
            self, self.opcode, self.fd, self._vector.address, self._vector.count, self._offset, self._flags
        )

    def release(self) -> None:
        self._vector.release()


class ReadVector(_VectorTransfer):
    """preadv2(2) into the caller's buffers; its result is the number of bytes.

    Args:
        buffers: writable.
        offset: the first byte in the file.
        flags: os.RWF_*.
    """

    __slots__ = ()
    opcode = Opcode.READV

    def __init__(
        self, file: int | Descriptor, buffers: Sequence[Any], offset: int = CURRENT_POSITION, flags: int = 0
    ) -> None:
        super().__init__(file, Vector(buffers, writable=True), offset, flags)


class WriteVector(_VectorTransfer):
    """pwritev2(2) of buffers; its result is the number of bytes.  See `ReadVector` for the arguments."""

    __slots__ = ()
    opcode = Opcode.WRITEV

    def __init__(
        self, file: int | Descriptor, buffers: Sequence[Any], offset: int = CURRENT_POSITION, flags: int = 0
    ) -> None:
        super().__init__(file, Vector(buffers), offset, flags)


class ReadMany(FileOperation, Multishot):
    """read(2) again and again of a pipe or another file that can be polled; it has the multishot form only.

    Each result is the bytes of one read, at most one buffer of the ring's group.  It ends at the end of the file.

    Args:
        keep: called with bytes that no caller took.
    """

    __slots__ = ("_keep",)
    opcode = Opcode.READ_MULTISHOT
    ends_with_zero = True

    def __init__(self, file: int | Descriptor, keep: Callable[[bytes], object] | None = None) -> None:
        super().__init__(file)
        self._keep = keep

    def stage(self, dispatcher: Dispatcher) -> int:
        # At offset -1, as for all that has no position.
        flags = SqeFlag.BUFFER_SELECT
        return dispatcher.stage(self, self.opcode, self.fd, offset=CURRENT_POSITION, sqe_flags=flags)

    def complete(self, res: int, flags: int) -> None:
        if flags & _BUFFER and res <= 0:
            assert self._dispatcher is not None
            self._dispatcher.take_buffer(flags, 0)
        if res == -errno.ENOBUFS and self._begin_again():
            return
        super().complete(res, flags)

    def result(self, res: int, flags: int) -> bytes:
        assert self._dispatcher is not None
        return self._dispatcher.take_buffer(flags, res)

    def dispose(self, res: int, flags: int) -> None:
        self.dispose_of(self.result(res, flags))

    def dispose_of(self, result: bytes) -> None:
        if self._keep is not None:
            self._keep(result)
