"""`loop.sendfile` and `loop.sock_sendfile`: a file's pages spliced into a pipe, and from there into the socket.

The kernel runs each splice in a worker of its own, so that a file that is not in the page cache never holds up the
loop, as os.sendfile would.  The price is CPU time where the file is cached (benchmarks in ARCHITECTURE.md).

A pipe is taken for one chunk only and never held while a socket is full: what the socket did not take is thrown away
with the pipe, and spliced from the file again.  So a few pipes, and a few kernel workers, serve any number of slow
peers, and nothing that one transfer left in a pipe reaches the next.

The file and the socket are held by descriptors of our own, because the kernel looks them up late: whoever closes his
meanwhile does not send another file, or to somebody else.
"""

import asyncio
import contextlib
import errno
import fcntl
import io
import os
import select
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

from .hooks import PrivateLoop
from .operations import Descriptor, Operation, Ready, Splice
from .ring import Dispatcher
from .transports.stream import StreamTransport, closed_error

#: Before Python 3.14 asyncio leaves the file's position as it is if nothing was sent.
_ALWAYS_MOVES = sys.version_info >= (3, 14)
#: In use at a time; each is two descriptors, and perhaps a busy kernel worker.
PIPES_MAX = 16
#: Kept for later.
PIPES_IDLE_MAX = 4
_PIPE_BYTES = 256 * 1024
_FAILED = "os.sendfile call failed"


class Pipe:
    """A pipe for splices.

    Attributes:
        reader: the reading end.
        writer: the writing end.
        size_bytes: how much it holds; less than asked for when the user has too many pipes (pipe(7)).
        content_bytes: how much is in it.
    """

    def __init__(self) -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.reader = Descriptor(reader)
        self.writer = Descriptor(writer)
        self.content_bytes = 0
        try:
            self.size_bytes = fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        except OSError:
            self.size_bytes = fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)

    def close(self) -> None:
        """Close both ends; nothing uses them."""
        self.reader.close()
        self.writer.close()


class PipePool:
    """At most `PIPES_MAX` pipes in use; who wants one more waits.  Empty ones are used again."""

    def __init__(self) -> None:
        self._idle: list[Pipe] = []
        self._free = asyncio.Semaphore(PIPES_MAX)

    async def take(self) -> Pipe:
        """An empty pipe.

        Raises:
            OSError: none is left, and none can be made.
        """
        await self._free.acquire()
        if self._idle:
            return self._idle.pop()
        try:
            return Pipe()
        except BaseException:
            self._free.release()
            raise

    def give_back(self, pipe: Pipe, in_use: bool) -> None:
        """Take a pipe back, to be used again if it is empty.

        Args:
            pipe: from `take`.
            in_use: by an operation in flight that nobody awaits any more: it closes the pipe when it ends.
        """
        self._free.release()
        if in_use:
            return
        if pipe.content_bytes == 0 and len(self._idle) < PIPES_IDLE_MAX:
            self._idle.append(pipe)
        else:
            pipe.close()

    def close(self) -> None:
        """Close the pipes that nobody uses."""
        while self._idle:
            self._idle.pop().close()


class FileTransfer:
    """A part of a file on its way into a stream socket.

    Args:
        loop: it runs in.
        dispatcher: of that loop's ring.
        pipes: of that loop.
        sock: connected.
        file_fd: the file.
        offset: where in the file it begins, in bytes.
        count: how many bytes; None for all there are.

    Attributes:
        sent_bytes: what the socket has taken.

    Raises:
        OSError: no descriptor is left.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        dispatcher: Dispatcher,
        pipes: PipePool,
        sock: socket.socket,
        file_fd: int,
        offset: int,
        count: int | None,
    ) -> None:
        self._loop = loop
        self._dispatcher = dispatcher
        self._pipes = pipes
        self._file = Descriptor(os.dup(file_fd))
        self._sock = Descriptor(os.dup(sock.fileno()))
        self._offset = offset
        self._count = count
        self._operation: Operation | None = None
        self._stopped: BaseException | None = None
        self.sent_bytes = 0

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped is not None

    def stop(self, error: BaseException) -> None:
        """Send no more, and have `run` raise."""
        self._stopped = error
        if self._operation is not None:
            self._operation.abandon()

    async def run(self) -> int:
        """Send until the end; the file's position is then behind what was sent, however it ends.

        Returns:
            How many bytes were sent.

        Raises:
            OSError: what the kernel said of the file or of the socket.
        """
        try:
            while not self._is_complete():
                async with self._pipe() as pipe:
                    await self._fill(pipe)
                    if pipe.content_bytes == 0:
                        break
                    socket_is_full = not await self._drain(pipe)
                if socket_is_full:
                    await self._submit(Ready(self._sock, select.POLLOUT))
        except OSError:
            if self._stopped is not None:
                raise self._stopped from None
            raise
        finally:
            if self.sent_bytes or _ALWAYS_MOVES:
                os.lseek(self._file.fd, self._offset + self.sent_bytes, os.SEEK_SET)
            if not self._is_in_flight():
                self._file.close()
                self._sock.close()
        return self.sent_bytes

    def _is_complete(self) -> bool:
        if self._count is not None:
            return self.sent_bytes >= self._count
        return self._offset + self.sent_bytes >= os.fstat(self._file.fd).st_size

    def _is_in_flight(self) -> bool:
        """Only when nobody awaits `run` any more."""
        return self._operation is not None and self._operation.in_flight

    @contextlib.asynccontextmanager
    async def _pipe(self) -> AsyncIterator[Pipe]:
        pipe = await self._pipes.take()
        try:
            yield pipe
        finally:
            self._pipes.give_back(pipe, self._is_in_flight())

    async def _fill(self, pipe: Pipe) -> None:
        size_bytes = pipe.size_bytes
        if self._count is not None:
            size_bytes = min(size_bytes, self._count - self.sent_bytes)
        splice = Splice(self._file, pipe.writer, size_bytes, self._offset + self.sent_bytes)
        try:
            await self._submit(splice)
        finally:
            pipe.content_bytes += splice.moved_bytes

    async def _drain(self, pipe: Pipe) -> bool:
        """Whether the socket took everything."""
        while pipe.content_bytes:
            splice = Splice(pipe.reader, self._sock, pipe.content_bytes)
            try:
                await self._submit(splice)
            except (BlockingIOError, InterruptedError):
                return False
            finally:
                pipe.content_bytes -= splice.moved_bytes
                self.sent_bytes += splice.moved_bytes
        return True

    async def _submit(self, operation: Operation) -> None:
        if self._stopped is not None:
            raise self._stopped
        self._operation = operation
        await operation.run(self._loop, self._dispatcher)


class FileSending(PrivateLoop):
    """The native halves of the loop's sendfile and sock_sendfile; the checks and the fallbacks are asyncio's."""

    _dispatcher: Dispatcher
    _pipes: PipePool | None = None

    async def _sock_sendfile_native(self, sock: socket.socket, file: Any, offset: int, count: int | None) -> int:
        self._ensure_fd_no_transport(sock)
        transfer = self._open_transfer(sock, file, offset, count)
        return await _run(transfer) if transfer is not None else 0

    async def _sendfile_native(self, transp: asyncio.BaseTransport, file: Any, offset: int, count: int | None) -> int:
        """As with asyncio, the transport neither reads nor takes writes meanwhile.

        Raises:
            ConnectionError: the transport was closed; asyncio would wait for ever.
        """
        if not isinstance(transp, StreamTransport):
            return await super()._sendfile_native(transp, file, offset, count)
        self._check_sendfile_params(transp._sock, file, offset, count)
        emptied = transp._make_empty_waiter()
        reads = transp.is_reading()
        transp.pause_reading()
        try:
            await emptied
            if transp._sock is None or transp.is_closing():
                raise closed_error()
            transfer = self._open_transfer(transp._sock, file, offset, count)
            if transfer is None:
                return 0
            transp.stop_sendfile = transfer.stop
            return await _run(transfer)
        finally:
            transp.stop_sendfile = None
            transp._reset_empty_waiter()
            if reads:
                transp.resume_reading()

    def _open_transfer(self, sock: socket.socket, file: Any, offset: int, count: int | None) -> FileTransfer | None:
        """None if there is nothing to be sent."""
        try:
            fd = file.fileno()
            size_bytes = os.fstat(fd).st_size
        except (AttributeError, io.UnsupportedOperation, OSError):
            raise asyncio.SendfileNotAvailableError("not a regular file") from None
        if not (count or size_bytes):
            return None
        if self._pipes is None:
            self._pipes = PipePool()
        try:
            return FileTransfer(self, self._dispatcher, self._pipes, sock, fd, offset, count)
        except OSError as error:
            raise asyncio.SendfileNotAvailableError(_FAILED) from error


async def _run(transfer: FileTransfer) -> int:
    """As asyncio: what fails before anything was sent may go better without native sendfile."""
    try:
        return await transfer.run()
    except OSError as error:
        if transfer.stopped:
            raise
        if not transfer.sent_bytes:
            raise asyncio.SendfileNotAvailableError(_FAILED) from error
        if error.errno == errno.ENOTCONN:
            raise ConnectionError("socket is not connected", errno.ENOTCONN) from error
        raise
