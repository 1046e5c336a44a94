"""`PolledRing`: a ring whose completions are asked of the device, for reads of direct files on one with polled queues.

A read of a fast device takes about as long as its interrupt, with the wakeup after it.  A ring with IORING_SETUP_IOPOLL
has no interrupts: nothing tells that a transfer is done until an enter with GETEVENTS looks.  So it cannot be the ring
of the loop, and there is nothing that the loop could sleep on.

While transfers are under way one callback submits what has gathered, looks once and calls itself again in the next
turn.  So the loop never sleeps meanwhile, which is the price of polling, and it never blocks either: in each turn all
others have theirs, and many transfers share one look.  An enter that waits for the device would spare the empty turns,
but it holds up everybody for as long as the device takes, and no timeout ends it.  IORING_SETUP_HYBRID_IOPOLL, which
sleeps for a part of that time, is for enters that wait.

Only reads are polled for.  Writes of parts of ext4's blocks ended by the device's timeout, after 30 s (Linux 6.1, on
NVMe and null_blk alike): there the kernel waits for the transfer itself, and nobody looks for it.

What the kernel (6.18) lets through such a ring needs no device (holes, the end of the file), or a device with polled
queues: else it answers EOPNOTSUPP.
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

#: Where the kernel tells of block devices, by MAJOR:MINOR.
BLOCK_DEVICES = Path("/sys/dev/block")
_ATTRIBUTE = "_uringloop_polled_ring"


class PolledRing:
    """A ring for the reads of a loop's direct files.  It closes with the last file that uses it.

    Args:
        loop: that turns while transfers are under way.

    Attributes:
        ring: for what is registered with it.

    Raises:
        RingUnavailableError: io_uring cannot be used here.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._users = 0
        self._is_polling = False
        # Shared: a loop may go on in another thread.
        self.ring = LoopRing(io_poll=True, shared=True)
        self._dispatcher = self.ring.dispatcher(self._report)

    @classmethod
    def of(cls, holder: Any, loop: asyncio.AbstractEventLoop) -> Self:
        """The one that belongs to a loop or its companion, for one more file, which is to `leave` it."""
        held: weakref.ref[Self] | None = getattr(holder, _ATTRIBUTE, None)
        polled = None if held is None else held()
        if polled is None or polled.ring.closed:
            polled = cls(loop)
            # A loop that cannot hold one has another for each file.
            with contextlib.suppress(AttributeError):
                setattr(holder, _ATTRIBUTE, weakref.ref(polled))
        polled._users += 1
        return polled

    def leave(self) -> None:
        """A file closed, all its transfers having ended."""
        self._users -= 1
        if not self._users:
            close_ring(self.ring, self._dispatcher, None)

    async def submit(self, operation: Operation) -> Any:
        """Run a read and return its result; one that was cancelled is waited for, because it ends soon."""
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
    """Whether the block device that a file is on says that it has polled queues; sysfs does not block.

    A file system on several devices, such as btrfs, has none of its own to ask.
    """
    device = os.fstat(fd).st_dev
    folder = BLOCK_DEVICES / f"{os.major(device)}:{os.minor(device)}"
    # A partition is below its disk.
    for place in (folder, folder / ".."):
        try:
            return (place / "queue" / "io_poll").read_text().strip() == "1"
        except OSError:
            continue
    return False


def explained(error: OSError) -> OSError:
    """What the kernel said to polling, with its cause and remedy."""
    if error.errno != errno.EOPNOTSUPP:
        return error
    message = (
        f"{os.strerror(error.errno)}: the file's device has no polled queues (/sys/block/DEVICE/queue/io_poll), "
        "or its file system does not poll; NVMe has them with nvme.poll_queues=N on the kernel's command line; "
        "poll=None polls only where that works"
    )
    return OSError(error.errno, message, error.filename)
