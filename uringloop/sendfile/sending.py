"""The loop's `sendfile` and `sock_sendfile`; the checks and the fallbacks are asyncio's."""

import asyncio
import errno
import io
import os
import socket
from typing import Any

from ..hooks import PrivateLoop, SendfileMode
from ..ring import Dispatcher
from ..transports.stream import StreamTransport, closed_error
from .fallback import is_plain, send_by_writing
from .sender import send_at_once
from .transfer import FileTransfer, ReadBuffers

_FAILED = "os.sendfile call failed"


class FileSending(PrivateLoop):
    """The loop's methods that send files."""

    _dispatcher: Dispatcher
    _file_buffers: ReadBuffers | None = None

    def has_budget(self) -> bool:
        """Return whether the running callback may go on without a wait."""
        raise NotImplementedError

    async def sendfile(
        self,
        transport: asyncio.WriteTransport,
        file: Any,
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool = True,
    ) -> int:
        """Send a file; see `asyncio.loop.sendfile`.  What is cached goes to the socket before this suspends."""
        if (
            type(transport) is StreamTransport
            and transport._sendfile_compatible is SendfileMode.TRY_NATIVE
            and "_sendfile_native" not in self.__dict__
            and self.has_budget()
        ):
            sent_bytes = send_at_once(transport._endpoint, file, offset, count)
            if sent_bytes >= 0:
                return sent_bytes
            if sent_bytes < -1:
                return await self._send_on(transport, file, offset, count, -1 - sent_bytes)
        return await super().sendfile(transport, file, offset, count, fallback=fallback)

    async def _sock_sendfile_native(self, sock: socket.socket, file: Any, offset: int, count: int | None) -> int:
        self._ensure_fd_no_transport(sock)
        transfer = self._open_transfer(sock, file, offset, count)
        return await _run(transfer, self.has_budget()) if transfer is not None else 0

    async def _sendfile_native(self, transp: asyncio.BaseTransport, file: Any, offset: int, count: int | None) -> int:
        """Send a file; as with asyncio, the transport neither reads nor takes writes meanwhile.

        Raises:
            ConnectionError: the transport was closed; asyncio would wait for ever.
        """
        if not isinstance(transp, StreamTransport):
            return await super()._sendfile_native(transp, file, offset, count)
        self._check_sendfile_params(transp._sock, file, offset, count)
        return await self._send_on(transp, file, offset, count)

    async def _sendfile_fallback(self, transp: Any, file: Any, offset: int, count: int | None) -> int:
        if not is_plain(file):
            return await super()._sendfile_fallback(transp, file, offset, count)
        return await send_by_writing(self, self._dispatcher, self.has_budget, transp, file, offset, count)

    async def _send_on(
        self, transp: StreamTransport, file: Any, offset: int, count: int | None, sent_bytes: int = 0
    ) -> int:
        """Send a file, of which so many bytes are sent."""
        emptied = transp._make_empty_waiter()
        reads = transp.is_reading()
        transp.pause_reading()
        try:
            await emptied
            if transp._sock is None or transp.is_closing():
                raise closed_error()
            transfer = self._open_transfer(transp._sock, file, offset, count, sent_bytes)
            if transfer is None:
                return 0
            transp.stop_sendfile = transfer.stop
            return await _run(transfer, self.has_budget())
        finally:
            transp.stop_sendfile = None
            transp._reset_empty_waiter()
            if reads:
                transp.resume_reading()

    def _open_transfer(
        self, sock: socket.socket, file: Any, offset: int, count: int | None, sent_bytes: int = 0
    ) -> FileTransfer | None:
        """Return the range to send, or None if it is empty."""
        try:
            fd = file.fileno()
            size_bytes = os.fstat(fd).st_size
        except (AttributeError, io.UnsupportedOperation, OSError):
            raise asyncio.SendfileNotAvailableError("not a regular file") from None
        if not (count or size_bytes):
            return None
        if self._file_buffers is None:
            self._file_buffers = ReadBuffers()
        return FileTransfer(self, self._dispatcher, self._file_buffers, sock.fileno(), fd, offset, count, sent_bytes)


async def _run(transfer: FileTransfer, has_budget: bool) -> int:
    """Raise as asyncio does: an error before the first byte lets the caller try without native sendfile."""
    try:
        return await transfer.run(has_budget)
    except OSError as error:
        if transfer.stopped:
            raise
        if not transfer.sent_bytes:
            raise asyncio.SendfileNotAvailableError(_FAILED) from error
        if error.errno == errno.ENOTCONN:
            raise ConnectionError("socket is not connected", errno.ENOTCONN) from error
        raise
