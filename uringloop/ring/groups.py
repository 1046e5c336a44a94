"""`BufferGroup`: buffers from which the kernel picks one when something arrives; io_uring_setup_buf_ring(3).

A thousand idle connections then need no thousand buffers.  A completion names the buffer (`Completion.buffer_id`); it
is lent from there to its recycling.
"""

from .abi import Register, Unregister
from .loan import Lender, Loan
from .pin import Pin
from .queues import Completion
from .register import Registration, pack
from .registered import allocate

_ENTRY_BYTES = 16
_COUNT_MAX = 32768


class BufferGroup:
    """Buffers for receives and reads with `SqeFlag.BUFFER_SELECT`; made by `Ring.open_group`.

    Attributes:
        group_id: the SQE's buf_index.
        count: of buffers.
        size_bytes: of one.
    """

    def __init__(self, ring: Registration, group_id: int, count: int, size_bytes: int) -> None:
        if not 0 < count <= _COUNT_MAX or count & (count - 1):
            raise ValueError(f"a group has a power of two of buffers, at most {_COUNT_MAX}, not {count}")
        if not 0 < size_bytes < 1 << 31:
            raise ValueError("a buffer needs at least one byte")
        self.group_id = group_id
        self.count = count
        self.size_bytes = size_bytes
        self._entries = allocate(count * _ENTRY_BYTES)
        self._lender = Lender(self._entries, allocate(count * size_bytes), size_bytes, count)
        self._ring = ring
        self._is_open = False
        address = Pin(self._entries, writable=True).address
        ring._register(Register.PBUF_RING, pack("QIHH24x", address, count, group_id, 0), 1)
        self._is_open = True
        self._lender.provide_all()

    @property
    def lent(self) -> int:
        """Return how many buffers were lent and are not recycled."""
        return self._lender.lent

    def lend(self, completion: Completion) -> Loan:
        """Lend the buffer that the kernel picked for a completion; recycle it, or use it in a `with`.

        Each completion's buffer is lent once, also if it failed or received nothing: until then the kernel lacks it.

        Raises:
            ValueError: the completion has no buffer, or its buffer was lent before.
        """
        return self._lender.lend(completion)

    def close(self) -> None:
        """Take the group from the kernel.  What is lent stays readable.

        Nothing that uses the group may be in flight: the kernel could be writing into one of its buffers.
        """
        if self._is_open:
            self._is_open = False
            self._lender.close()
            self._ring._register(Unregister.PBUF_RING, pack("QIHH24x", 0, 0, self.group_id, 0), 1)
