"""Devices and other files that io_uring would wait for in vain.

Where it cannot try a transfer without waiting, the kernel polls the file until it is ready.  Some files never say that:
the poll of /dev/kmsg knows of reading only, that of a pidfd of nothing that can be read.  read(2) and write(2) do not
ask, and end at once.
"""

import asyncio
import errno
import os
import select
import stat

from ...ring import Descriptor
from .threads import unjoined

#: Where pwritev2(2) writes at the descriptor's own position.
_OWN_POSITION = -1


def has_reliable_poll(mode: int) -> bool:
    """Whether poll(2) tells of a file with this st_mode when it can be read and written: of pipes and sockets."""
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def is_ready(fd: int, event: int) -> bool:
    """Whether poll(2) says select.POLLIN or select.POLLOUT of a descriptor."""
    poll = select.poll()
    poll.register(fd, event)
    return any(events & event for _, events in poll.poll(0))


def check_reads(fd: int) -> None:
    """Ask whether a file can be read at all, by reading nothing.

    Raises:
        OSError: EINVAL, it has no such operation; EBADF, it is not open for reading.
    """
    os.readv(fd, (bytearray(),))


def write_now(fd: int, data: bytes | bytearray | memoryview) -> int | None:
    """Write at the descriptor's position without waiting.

    Returns:
        The number of bytes, 0 if the file is full and poll(2) tells when it is not, None if it cannot promise not to
        wait.

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
    """Write at the descriptor's position in a thread, which nobody waits for; returns the number of bytes.

    Raises:
        OSError: as from write(2).
        asyncio.CancelledError: the thread may go on, with a descriptor and a copy of the data of its own.
    """
    own, copy = Descriptor(os.dup(fd)), bytes(data)

    def write() -> int:
        try:
            return os.write(own.fd, copy)
        finally:
            own.close()

    return await asyncio.wrap_future(unjoined.submit(write))
