"""Devices and other files that io_uring would wait for in vain.

Where the kernel cannot try a transfer without waiting, it polls the file until it is ready.  Some files never report
that: the poll of /dev/kmsg knows reading only, and that of a pidfd reports no data.  read(2) and write(2) do not poll,
and end at once.
"""

import asyncio
import errno
import os
import select
import stat

from ...ring import Descriptor
from .threads import unjoined

#: The offset with which pwritev2(2) writes at the descriptor's own position.
_OWN_POSITION = -1


def has_reliable_poll(mode: int) -> bool:
    """Return whether poll(2) tells when a file with this st_mode can be read and written: a pipe or socket."""
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def is_ready(fd: int, event: int) -> bool:
    """Return whether poll(2) reports event, select.POLLIN or select.POLLOUT, for a descriptor."""
    poll = select.poll()
    poll.register(fd, event)
    return any(events & event for _, events in poll.poll(0))


def check_reads(fd: int) -> None:
    """Check that a file can be read at all, by a read of no bytes.

    Raises:
        OSError: EINVAL, the file has no such operation; EBADF, it is not open for reading.
    """
    os.readv(fd, (bytearray(),))


def write_now(fd: int, data: bytes | bytearray | memoryview) -> int | None:
    """Write at the descriptor's position without waiting.

    Returns:
        The number of bytes; 0 if the file is full and poll(2) tells when it has room; None if the file cannot promise
        not to wait.

    Raises:
        OSError: as from write(2).
    """
    try:
        return os.pwritev(fd, (data,), _OWN_POSITION, os.RWF_NOWAIT)
    except BlockingIOError:
        return 0
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return None


async def write_in_thread(fd: int, data: bytes | bytearray | memoryview) -> int:
    """Write at the descriptor's position in a thread that the end of the program does not wait for.

    Returns:
        The number of bytes.

    Raises:
        OSError: as from write(2).
        asyncio.CancelledError: the thread may go on, with its own descriptor and its own copy of the data.
    """
    own, copy = Descriptor(os.dup(fd)), bytes(data)

    def write() -> int:
        try:
            return os.write(own.fd, copy)
        finally:
            own.close()

    return await asyncio.wrap_future(unjoined.submit(write))
