"""`FileTransfer`: a part of a file on its way into a stream socket, which sometimes has to wait.

Bytes that the page cache has go to the socket at once (`sender.pyx`).  For others a worker reads a piece into a buffer.
So a file outside the page cache never holds up the loop; os.sendfile would.

A buffer serves one piece, and never waits for a full socket.  Bytes that the socket did not take are dropped, and come
from the page cache the next time.  So a few buffers, and a few workers, serve any number of slow peers.

A transfer that waits holds file and socket by its own descriptors.  A caller may close its own meanwhile, and
no other file or peer takes their place.
"""

import asyncio
import contextlib
import mmap
import os
import select
import sys
from collections.abc import AsyncIterator

from ..operations import Descriptor, Operation, Read, Ready
from ..ring import Dispatcher, SqeFlag
from .sender import FILE_ENDS, NOT_CACHED, SENT_ALL, SENT_MUCH, SOCKET_FULL, send_bytes, send_cached

#: Before Python 3.14 asyncio leaves the file's position unchanged if nothing was sent.
_ALWAYS_MOVES = sys.version_info >= (3, 14)
#: The most buffers in use at a time; each keeps perhaps a worker busy.
BUFFERS_MAX = 16
#: The most buffers to keep for later.
BUFFERS_IDLE_MAX = 4
BUFFER_BYTES = 256 * 1024
#: Reads begin and end at multiples of it, as O_DIRECT wants.
_BLOCK_BYTES = 4096


class ReadBuffers:
    """Lends at most `BUFFERS_MAX` buffers at a time; a further `lend` waits."""

    def __init__(self) -> None:
        self._idle: list[mmap.mmap] = []
        self._free = asyncio.Semaphore(BUFFERS_MAX)

    @contextlib.asynccontextmanager
    async def lend(self) -> AsyncIterator[mmap.mmap]:
        """Return a buffer for the body, which is kept for later unless the body raises: a read may still use it."""
        async with self._free:
            buffer = self._idle.pop() if self._idle else mmap.mmap(-1, BUFFER_BYTES)
            yield buffer
            if len(self._idle) < BUFFERS_IDLE_MAX:
                self._idle.append(buffer)


class FileTransfer:
    """A part of a file on its way into a stream socket.

    Args:
        loop: runs the transfer.
        dispatcher: stages on the loop's ring.
        buffers: the loop's.
        sock_fd: the descriptor of a connected socket.
        file_fd: the file's descriptor.
        offset: the first byte of the file to send.
        count: the number of bytes; None for all.
        sent_bytes: the number of bytes that were sent before.

    Attributes:
        sent_bytes: the number of bytes that the socket has taken.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        dispatcher: Dispatcher,
        buffers: ReadBuffers,
        sock_fd: int,
        file_fd: int,
        offset: int,
        count: int | None,
        sent_bytes: int = 0,
    ) -> None:
        self._loop = loop
        self._dispatcher = dispatcher
        self._buffers = buffers
        self._sock = Descriptor(sock_fd, owned=False)
        self._file = Descriptor(file_fd, owned=False)
        self._offset = offset
        self._count = count
        self._operation: Operation | None = None
        self._stopped: BaseException | None = None
        self._held = False
        self.sent_bytes = sent_bytes

    @property
    def stopped(self) -> bool:
        """Return whether `stop` was called."""
        return self._stopped is not None

    def stop(self, error: BaseException) -> None:
        """Send no more, and have `run` raise."""
        self._stopped = error
        if self._operation is not None:
            self._operation.abandon()

    async def run(self, has_budget: bool) -> int:
        """Send until the end, and leave the file's position behind the last sent byte, also after an error.

        Args:
            has_budget: whether the running callback may send before it yields.

        Returns:
            The number of bytes sent.

        Raises:
            OSError: the kernel's errno for the file or the socket.
        """
        try:
            reason = SENT_ALL if has_budget else SENT_MUCH
            while True:
                if reason != SENT_ALL:
                    await self._wait(reason)
                if self._is_complete():
                    break
                sent_bytes, reason = send_cached(self._sock.fd, self._file.fd, self._position(), self._left_bytes())
                self.sent_bytes += sent_bytes
                if reason == NOT_CACHED:
                    reason = await self._send_uncached()
                if reason == FILE_ENDS:
                    break
        except OSError:
            if self._stopped is not None:
                raise self._stopped from None
            raise
        finally:
            if self.sent_bytes or _ALWAYS_MOVES:
                os.lseek(self._file.fd, self._position(), os.SEEK_SET)
            # Now, because a traceback may hold the transfer.  An operation in flight holds its descriptor.
            if self._operation is None or not self._operation.in_flight:
                self._file.close()
                self._sock.close()
        return self.sent_bytes

    def _position(self) -> int:
        return self._offset + self.sent_bytes

    def _left_bytes(self) -> int | None:
        return None if self._count is None else self._count - self.sent_bytes

    def _is_complete(self) -> bool:
        return self._count is not None and self.sent_bytes >= self._count

    async def _wait(self, reason: int) -> None:
        """Wait until more can be sent: until the socket takes more, or for one turn of the loop."""
        self._hold()
        if reason == SOCKET_FULL:
            await self._submit(Ready(self._sock, select.POLLOUT))
        else:
            await asyncio.sleep(0)
        if self._stopped is not None:
            raise self._stopped

    def _hold(self) -> None:
        """Hold file and socket for a wait; as with asyncio, the caller holds them if no descriptor is left."""
        if not self._held:
            self._held = True
            with contextlib.suppress(OSError):
                self._file = Descriptor(os.dup(self._file.fd))
                self._sock = Descriptor(os.dup(self._sock.fd))

    async def _send_uncached(self) -> int:
        """Read a piece in a worker and send it; return why there is no more of it."""
        self._hold()
        position, left_bytes = self._position(), self._left_bytes()
        skipped_bytes = position % _BLOCK_BYTES
        async with self._buffers.lend() as buffer:
            size_bytes = BUFFER_BYTES
            if left_bytes is not None:
                size_bytes = min(size_bytes, -(-(skipped_bytes + left_bytes) // _BLOCK_BYTES) * _BLOCK_BYTES)
            reading = Read(self._file, memoryview(buffer)[:size_bytes], position - skipped_bytes)
            reading.modifiers = SqeFlag.ASYNC
            read_bytes = await self._submit(reading) - skipped_bytes
            if left_bytes is not None:
                read_bytes = min(read_bytes, left_bytes)
            if read_bytes <= 0:
                return FILE_ENDS
            sent_bytes = send_bytes(self._sock.fd, memoryview(buffer)[skipped_bytes : skipped_bytes + read_bytes])
            self.sent_bytes += sent_bytes
            return SENT_ALL if sent_bytes == read_bytes else SOCKET_FULL

    async def _submit(self, operation: Operation) -> int:
        if self._stopped is not None:
            raise self._stopped
        self._operation = operation
        result: int = await operation.run(self._loop, self._dispatcher)
        if self._stopped is not None:
            raise self._stopped
        return result
