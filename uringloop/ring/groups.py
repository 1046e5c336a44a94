"""`BufferGroup`: buffers from which the kernel picks one when bytes arrive; io_uring_setup_buf_ring(3).

So a thousand idle connections need no thousand buffers.  A completion names its buffer (`Completion.buffer_id`), which
is lent from then on until it is recycled.
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
        count: the number of buffers.
        size_bytes: the size of a buffer.
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
        """Return the number of lent buffers."""
        return self._lender.lent

    def lend(self, completion: Completion) -> Loan:
        """Lend the bytes of a completion, in the buffer that the kernel picked; recycle the loan, or use it in a
        `with`.

        Lend each completion's buffer once, even after a failure or an empty receive: the kernel lacks it until then.

        Raises:
            ValueError: the completion has no buffer, or its buffer was lent before.
        """
        return self._lender.lend(completion)

    def close(self) -> None:
        """Unregister the group; loans stay readable.

        No operation in flight may use the group: the kernel could write into one of its buffers.
        """
        if self._is_open:
            self._is_open = False
            self._lender.close()
            self._ring._register(Unregister.PBUF_RING, pack("QIHH24x", 0, 0, self.group_id, 0), 1)
