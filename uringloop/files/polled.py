"""`PolledRing`: a ring that polls the device for completions, for reads of direct files on a device with polled queues.

A read of a fast device takes about as long as its interrupt and the wakeup after it.  A ring with IORING_SETUP_IOPOLL
has no interrupts: only an enter with GETEVENTS finds out that a transfer is done.  So the loop cannot use it as its own
ring, and cannot sleep on it.

While transfers are under way, one callback submits the gathered ones, polls once, and calls itself again in the next
turn.  So the loop does not sleep meanwhile, which is the price of polling.  It does not block either: every other
callback runs in each turn, and many transfers share one poll.  An enter that waits for the device would save the empty
turns.  But it would hold up every callback for as long as the device takes, and no timeout ends it.
IORING_SETUP_HYBRID_IOPOLL, which sleeps for a part of that time, is for enters that wait.

Only reads are polled for.  Writes of parts of ext4's blocks ended by the device's timeout, after 30 s (Linux 6.1, on
NVMe and null_blk alike): there the kernel waits for the transfer itself, and nothing polls for it.

Such a ring (Linux 6.18) takes reads that need no device (holes, the end of the file), and reads of a device with polled
queues.  It answers EOPNOTSUPP to all others.
"""

import asyncio
import contextlib
import errno
import os
import weakref
from pathlib import Path
from typing import Any, Self

from ..operations import Operation, close_ring
from ..ring import LoopRing

#: The kernel's folder of block devices, by MAJOR:MINOR.
BLOCK_DEVICES = Path("/sys/dev/block")
_ATTRIBUTE = "_uringloop_polled_ring"


class PolledRing:
    """A ring for the reads of a loop's direct files.  It closes with the last file that uses it.

    Args:
        loop: the event loop, which turns while transfers are under way.

    Attributes:
        ring: the ring, for registering buffers with it.

    Raises:
        RingUnavailableError: io_uring cannot be used here.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._users = 0
        self._is_polling = False
        # Shared, because a loop may go on in another thread.
        self.ring = LoopRing(io_poll=True, shared=True)
        self._dispatcher = self.ring.dispatcher(self._report)

    @classmethod
    def of(cls, holder: Any, loop: asyncio.AbstractEventLoop) -> Self:
        """Return the polled ring of a loop or its companion, for one more file, which calls `leave` at its end."""
        held: weakref.ref[Self] | None = getattr(holder, _ATTRIBUTE, None)
        polled = None if held is None else held()
        if polled is None or polled.ring.closed:
            polled = cls(loop)
            # Each file of a loop that cannot hold the ring has its own.
            with contextlib.suppress(AttributeError):
                setattr(holder, _ATTRIBUTE, weakref.ref(polled))
        polled._users += 1
        return polled

    def release(self) -> None:
        """Count one file less, whose transfers have all ended; close the ring after the last one."""
        self._users -= 1
        if not self._users:
            close_ring(self.ring, self._dispatcher, None)

    async def submit(self, operation: Operation) -> Any:
        """Run a read and return its result; a cancelled read returns after its end, which is soon."""
        if not self._is_polling:
            self._is_polling = True
            self._loop.call_soon(self._poll)
        return await operation.run(self._loop, self._dispatcher)

    def _poll(self) -> None:
        dispatcher = self._dispatcher
        try:
            dispatcher.wait(0)
            dispatcher.dispatch()
        finally:
            self._is_polling = bool(dispatcher.operations)
            if self._is_polling:
                self._loop.call_soon(self._poll)

    def _report(self, error: BaseException, source: Any) -> None:
        self._loop.call_exception_handler({"message": f"Exception in callback of {source!r}", "exception": error})


def has_polled_queue(fd: int) -> bool:
    """Return whether the file's block device states in sysfs, which does not block, that it has polled queues.

    The answer is False for a file system on several devices, such as btrfs, because it has no device of its own.
    """
    device = os.fstat(fd).st_dev
    folder = BLOCK_DEVICES / f"{os.major(device)}:{os.minor(device)}"
    # The folder of a partition is below that of its disk.
    for place in (folder, folder / ".."):
        try:
            return (place / "queue" / "io_poll").read_text().strip() == "1"
        except OSError:
            continue
    return False


def absent_on_epoll() -> OSError:
    """Return the error for polling that must be, where the operations go to epoll(7)."""
    return OSError(
        errno.EOPNOTSUPP,
        f"{os.strerror(errno.EOPNOTSUPP)}: the backend epoll has no polling of devices; "
        "poll=None polls only where that works",
    )


def explained(error: OSError) -> OSError:
    """Return the kernel's error about polling with its cause and remedy."""
    if error.errno != errno.EOPNOTSUPP:
        return error
    message = (
        f"{os.strerror(error.errno)}: the file's device has no polled queues (/sys/block/DEVICE/queue/io_poll), "
        "or its file system does not poll; NVMe has them with nvme.poll_queues=N on the kernel's command line; "
        "poll=None polls only where that works"
    )
    return OSError(error.errno, message, error.filename)
