"""Operations that wait for a child, a futex or an epoll set."""

import enum
import os
import struct
from collections.abc import Sequence
from typing import Any

from ..ring import Dispatcher, Opcode, Pin
from .operation import Operation

#: siginfo_t: si_signo, si_code, then si_pid, si_uid, si_status; see waitid(2).
_SIGNAL = struct.Struct("=i4xi4xIIi")
_SIGNAL_BYTES = 128
#: struct epoll_event, which is packed on x86-64 only.
_EPOLL_EVENT = struct.Struct("=IQ" if os.uname().machine == "x86_64" else "=I4xQ")
#: struct futex_waitv: the value, the address, flags.
_FUTEX_WAITV = struct.Struct("=QQI4x")
_FUTEX2_SIZE_U32 = 2
_FUTEX_WORD_BYTES = 4
_ANY_BIT = 0xFFFFFFFF


class WaitChild(Operation):
    """waitid(2); its result is an `os.waitid_result`, or None with os.WNOHANG if no child is ready.

    Args:
        kind: os.P_PID, os.P_PGID, os.P_ALL or os.P_PIDFD.
        identifier: the id of that kind.
        options: such as os.WEXITED; see `os.waitid`.
    """

    __slots__ = ("_answer", "_kind", "_options", "_pin")
    opcode = Opcode.WAITID

    def __init__(self, kind: int, identifier: int, options: int = os.WEXITED) -> None:
        # The kernel reads the identifier from the descriptor field.
        super().__init__(int(identifier))
        self._kind = kind
        self._options = options
        self._answer = bytearray(_SIGNAL_BYTES)
        self._pin = Pin(self._answer, writable=True)

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, 0, self._kind, self._pin.address, file_index=self._options)

    def result(self, res: int, flags: int) -> os.waitid_result | None:
        number, code, pid, uid, status = _SIGNAL.unpack_from(self._answer)
        return os.waitid_result((pid, uid, number, status, code)) if pid else None


class FutexFlag(enum.IntFlag):
    """FUTEX2_* of futex(2)."""

    PRIVATE = 128


def _word(word: Any) -> Pin:
    pin = Pin(word, writable=True)
    if pin.size_bytes < _FUTEX_WORD_BYTES or pin.address % _FUTEX_WORD_BYTES:
        raise ValueError("a futex is a word of four bytes, at an address that is a multiple of four")
    return pin


class FutexWait(Operation):
    """futex(2), FUTEX_WAIT_BITSET: waits until another thread or process wakes this word.  Needs Linux 6.7.

    The result is None.  EAGAIN: the word has another value.

    Args:
        word: a writable buffer of four bytes, such as of a shared `mmap.mmap`.
        value: the word's present value; the operation waits only while it is unchanged.
        mask: a wake counts only if it has one of these bits.
        flags: PRIVATE if only this process uses the word.
    """

    __slots__ = ("_flags", "_mask", "_pin", "_value")
    opcode = Opcode.FUTEX_WAIT

    def __init__(self, word: Any, value: int, mask: int = _ANY_BIT, flags: FutexFlag | int = 0) -> None:
        super().__init__()
        self._pin = _word(word)
        self._value = value
        self._mask = mask
        self._flags = flags | _FUTEX2_SIZE_U32

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self._flags, self._pin.address, 0, self._value, addr3=self._mask)

    def result(self, res: int, flags: int) -> None:
        return None

    def release(self) -> None:
        self._pin.release()


class FutexWake(Operation):
    """futex(2), FUTEX_WAKE_BITSET; its result is the number of woken waiters.  Needs Linux 6.7.

    Args:
        word: see `FutexWait`.
        count: the most waiters to wake.
        mask: wake only waiters that share one of these bits.
        flags: those of the waiters.
    """

    __slots__ = ("_count", "_flags", "_mask", "_pin")
    opcode = Opcode.FUTEX_WAKE

    def __init__(self, word: Any, count: int = 1, mask: int = _ANY_BIT, flags: FutexFlag | int = 0) -> None:
        super().__init__()
        self._pin = _word(word)
        self._count = count
        self._mask = mask
        self._flags = flags | _FUTEX2_SIZE_U32

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self._flags, self._pin.address, 0, self._count, addr3=self._mask)

    def release(self) -> None:
        self._pin.release()


class FutexWaitAny(Operation):
    """futex_waitv(2): waits until one of several words is woken.  Needs Linux 6.7.

    The result is the number of the word, from 0 on.  EAGAIN: a word has another value.

    Args:
        words: each word with its present value; at most 128.
        flags: those of `FutexWait`, for all words.
    """

    __slots__ = ("_count", "_pins", "_vector")
    opcode = Opcode.FUTEX_WAITV

    def __init__(self, words: Sequence[tuple[Any, int]], flags: FutexFlag | int = 0) -> None:
        super().__init__()
        self._pins = [_word(word) for word, _ in words]
        self._count = len(self._pins)
        self._vector = Pin(
            b"".join(
                _FUTEX_WAITV.pack(value, pin.address, flags | _FUTEX2_SIZE_U32)
                for pin, (_, value) in zip(self._pins, words, strict=True)
            )
        )

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, 0, self._vector.address, self._count)

    def release(self) -> None:
        for pin in self._pins:
            pin.release()


class EpollAction(enum.IntEnum):
    """EPOLL_CTL_* of epoll_ctl(2)."""

    ADD = 1
    DEL = 2
    MOD = 3


class EpollControl(Operation):
    """epoll_ctl(2); its result is None.

    Args:
        epoll_fd: the epoll set.
        action: add, change or remove.
        fd: the descriptor in the set.
        events: select.EPOLL*.
        data: the number that `EpollWait` gives for it; without it, the descriptor's number, as with `select.epoll`.
    """

    __slots__ = ("_action", "_event", "_watched")
    opcode = Opcode.EPOLL_CTL

    def __init__(self, epoll_fd: int, action: EpollAction, fd: int, events: int = 0, data: int | None = None) -> None:
        super().__init__(epoll_fd)
        self._action = action
        self._watched = fd
        self._event = Pin(_EPOLL_EVENT.pack(events, fd if data is None else data))

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, self._event.address, self._action, self._watched)

    def result(self, res: int, flags: int) -> None:
        return None


class EpollWait(Operation):
    """epoll_wait(2); its result is a list of (data, events), as `select.epoll.poll` gives.  Needs Linux 6.15.

    Args:
        epoll_fd: the epoll set.
        count_max: the most events to return.
    """

    __slots__ = ("_answer", "_count_max", "_pin")
    opcode = Opcode.EPOLL_WAIT

    def __init__(self, epoll_fd: int, count_max: int = 64) -> None:
        super().__init__(epoll_fd)
        self._count_max = count_max
        self._answer = bytearray(_EPOLL_EVENT.size * count_max)
        self._pin = Pin(self._answer, writable=True)

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, self._pin.address, self._count_max)

    def result(self, res: int, flags: int) -> list[tuple[int, int]]:
        answers = _EPOLL_EVENT.iter_unpack(self._answer[: res * _EPOLL_EVENT.size])
        return [(data, events) for events, data in answers]
