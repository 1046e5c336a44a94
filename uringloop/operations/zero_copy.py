"""Sends and receives without a copy: the network card reads and writes the memory itself.

A send gives two CQEs: its result, and later a notification that the memory is free.  Only the second one ends the
operation.  A card or peer that cannot do it, as loopback, has the kernel copy all the same.  On a real card it pays
from about 3 KB on.
"""

import enum
from typing import Any

from ..ring import TRANSFER_MAX_BYTES, CqeFlag, Dispatcher, Opcode, Pin
from .message import SendMessage
from .multishot import Multishot
from .operation import Operation
from .socket import RECV_MULTISHOT

_MSG_NOSIGNAL = 0x4000
_COPIED = 1 << 31
_MORE, _NOTIF = int(CqeFlag.MORE), int(CqeFlag.NOTIF)


class ZeroCopyFlag(enum.IntFlag):
    """IORING_RECVSEND_* and IORING_SEND_ZC_* in an SQE's ioprio."""

    POLL_FIRST = 1 << 0
    FIXED_BUF = 1 << 2
    REPORT_USAGE = 1 << 3


_FIXED_BUF, _REPORT_USAGE = int(ZeroCopyFlag.FIXED_BUF), int(ZeroCopyFlag.REPORT_USAGE)


class _Notified(Operation):
    """An operation whose memory the kernel releases only with a notification, after the result."""

    __slots__ = ()

    def complete(self, res: int, flags: int) -> None:
        if flags & _MORE:
            self._completion = res, 0
            return
        if flags & _NOTIF:
            sent, _ = self._completion or (0, 0)
            self._completion = sent, res
            res = sent
        super().complete(res, flags)

    @property
    def was_copied(self) -> bool:
        """Return whether the kernel copied after all; known at the end."""
        return bool((self._completion or (0, 0))[1] & _COPIED)


class SendZeroCopy(_Notified):
    """send(2) or sendto(2) without copying; its result is the number of bytes.  Needs Linux 6.0.

    Args:
        data: must not change before the result.
        flags: socket.MSG_*; MSG_NOSIGNAL is always added.
        packed_address: the target (`address.pack`); empty for a connected socket.
        index: the number of the registered buffer that contains the data; None for other memory.
    """

    __slots__ = ("_flags", "_index", "_name", "_pin")
    opcode = Opcode.SEND_ZC

    def __init__(
        self, fd: int, data: Any, flags: int = 0, packed_address: bytes = b"", index: int | None = None
    ) -> None:
        super().__init__(fd)
        self._pin = Pin(data)
        self._name = Pin(packed_address)
        self._flags = flags | _MSG_NOSIGNAL
        self._index = index

    def stage(self, dispatcher: Dispatcher) -> int:
        name_bytes = self._name.size_bytes
        how = _REPORT_USAGE | (0 if self._index is None else _FIXED_BUF)
        return dispatcher.stage(
            self,
            self.opcode,
            self.fd,
            self._pin.address,
            min(self._pin.size_bytes, TRANSFER_MAX_BYTES),
            self._name.address if name_bytes else 0,
            self._flags,
            ioprio=how,
            buf_index=self._index or 0,
            file_index=name_bytes,
        )

    def release(self) -> None:
        self._pin.release()


class SendMessageZeroCopy(_Notified, SendMessage):
    """sendmsg(2) without copying; arguments and result as of `SendMessage`.  Needs Linux 6.1."""

    __slots__ = ()
    opcode = Opcode.SENDMSG_ZC

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(
            self, self.opcode, self.fd, self._header.address, 1, 0, self._flags, ioprio=ZeroCopyFlag.REPORT_USAGE
        )


class ReceiveZeroCopy(Multishot):
    """Receives into memory that the network card fills; it has the multishot form only.  Needs Linux 6.15.

    It needs a ring with CQE32 and a registered interface queue, which only some cards have; EINVAL without them.  The
    result is the number of bytes.

    Args:
        queue_id: the number of the registered interface queue.
        size_bytes: the most bytes to receive, 0 for no limit.
    """

    __slots__ = ("_queue_id", "_size_bytes")
    opcode = Opcode.RECV_ZC
    ends_with_zero = True

    def __init__(self, fd: int, queue_id: int = 0, size_bytes: int = 0) -> None:
        super().__init__(fd)
        self._queue_id = queue_id
        self._size_bytes = size_bytes

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(
            self,
            self.opcode,
            self.fd,
            0,
            self._size_bytes,
            ioprio=RECV_MULTISHOT,
            file_index=self._queue_id,
        )
