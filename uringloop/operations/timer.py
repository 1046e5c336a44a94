"""Operations that wait for time to pass.

Times are relative and in nanoseconds: TIMEOUT_ABS is wrong in time namespaces (seen on Linux 6.18).  `Clock` names the
clock.  A loop's own timers and `asyncio.timeout` need none of this.
"""

import enum
import errno
import struct

from ..ring import Dispatcher, Opcode, Pin
from .control import Removal
from .multishot import Multishot
from .operation import Operation

#: struct __kernel_timespec.
_TIMESPEC = struct.Struct("=qq")
_NS_PER_S = 1_000_000_000
#: A multishot timeout ends after so many times, and is armed again.  A timeout whose interval is shorter than a system
#: call has always fired again when a cancel comes, so no cancel would ever find it.
_TIMES_MAX = 64


class Clock(enum.IntFlag):
    """The clock of a timeout; see clock_gettime(2)."""

    MONOTONIC = 0
    BOOTTIME = 1 << 2
    REALTIME = 1 << 3


class _TimeoutFlag(enum.IntFlag):
    """IORING_TIMEOUT_*."""

    UPDATE = 1 << 1
    LINK_TIMEOUT_UPDATE = 1 << 4
    ETIME_SUCCESS = 1 << 5
    MULTISHOT = 1 << 6


def _timespec(timeout_ns: int) -> Pin:
    if timeout_ns < 0:
        raise ValueError(f"a timeout cannot be negative: {timeout_ns} ns")
    return Pin(_TIMESPEC.pack(*divmod(timeout_ns, _NS_PER_S)))


class Timeout(Multishot):
    """Waits for a time, or for other completions of the ring; io_uring_prep_timeout(3).

    The result is True if the time is over, and False if enough operations completed before.  The multishot form gives
    True again and again.

    Args:
        timeout_ns: the time to wait, each time.
        count: end also after so many completions of the ring; 0 for the time alone.  In the multishot form it is the
            number of times, 0 for ever; one SQE asks for at most 64.
        clock: the clock that counts.
    """

    __slots__ = ("_clock", "_count", "_left", "_pin")
    opcode = Opcode.TIMEOUT
    may_pause = False

    def __init__(self, timeout_ns: int, count: int = 0, clock: Clock = Clock.MONOTONIC) -> None:
        super().__init__()
        self._pin = _timespec(timeout_ns)
        self._count = count
        self._left = count
        self._clock = clock

    def stage(self, dispatcher: Dispatcher) -> int:
        flags = self._clock | (_TimeoutFlag.MULTISHOT if self.is_multishot else 0)
        return dispatcher.stage(self, self.opcode, self.fd, self._pin.address, 1, self._times(), flags)

    def _times(self) -> int:
        if not self.is_multishot:
            return self._count
        return min(self._left, _TIMES_MAX) if self._count > 0 else _TIMES_MAX

    def finish(self, res: int) -> int:
        # The end of the time is the success.
        return super().finish(1 if res == -errno.ETIME else res)

    def answer(self, res: int, flags: int) -> int:
        if res in (-errno.ETIME, 1):
            self._left -= 1
            return 1
        return res

    def is_end(self, res: int) -> bool:
        return res < 0 or (self._count > 0 and self._left == 0)

    def result(self, res: int, flags: int) -> bool:
        return res == 1


class TimeoutUpdate(Operation):
    """Gives a `Timeout` in flight, or a chain's with is_link, a new time; io_uring_prep_timeout_update(3).

    The result is None.  FileNotFoundError: the timeout is not in flight.

    Args:
        target: the timeout.
        timeout_ns: the time to wait, from now on.
    """

    __slots__ = ("_flags", "_pin", "_target")
    opcode = Opcode.TIMEOUT_REMOVE

    def __init__(self, target: "Timeout | LinkTimeout", timeout_ns: int) -> None:
        super().__init__()
        self._target = target
        self._pin = _timespec(timeout_ns)
        self._flags = _TimeoutFlag.UPDATE
        if isinstance(target, LinkTimeout):
            self._flags |= _TimeoutFlag.LINK_TIMEOUT_UPDATE

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, self._target.token, 0, self._pin.address, self._flags)

    def result(self, res: int, flags: int) -> None:
        return None


class TimeoutRemove(Removal):
    """Ends a `Timeout` early; io_uring_prep_timeout_remove(3)."""

    __slots__ = ()
    opcode = Opcode.TIMEOUT_REMOVE


class LinkTimeout(Operation):
    """Cancels the part of a chain before it, if that takes longer; io_uring_prep_link_timeout(3).

    `Chain.add` makes it.  Outside a chain the kernel refuses it with EINVAL.  The result is True if time ran out.

    Attributes:
        has_expired: whether it cancelled the part.
    """

    __slots__ = ("_clock", "_pin", "has_expired")
    opcode = Opcode.LINK_TIMEOUT

    def __init__(self, timeout_ns: int, clock: Clock = Clock.MONOTONIC) -> None:
        super().__init__()
        self._pin = _timespec(timeout_ns)
        self._clock = clock
        self.has_expired = False

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, self._pin.address, 1, 0, self._clock)

    def finish(self, res: int) -> int:
        # EALREADY: the part was about to end, and may have been cut short.
        self.has_expired = res in (-errno.ETIME, -errno.EALREADY)
        return super().finish(1 if self.has_expired else 0 if res in (-errno.ECANCELED, -errno.ENOENT) else res)

    def result(self, res: int, flags: int) -> bool:
        return bool(res)
