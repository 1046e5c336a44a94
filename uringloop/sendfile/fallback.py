"""sendfile where the kernel cannot send the file: over TLS.  The bytes are read, and written to the transport.

asyncio reads 16 KiB at a time in the executor.  Here the page cache answers at once, and the ring reads the rest.
"""

import asyncio
import io
import os
import stat
import sys
from collections.abc import Callable
from typing import Any

from ..hooks import sendfile_fallback_protocol
from ..operations import Descriptor, read_at
from ..ring import Dispatcher
from .sender import read_cached

_PIECE_BYTES = 64 * 1024
#: Before Python 3.14 asyncio begins at the file's own position if the offset is 0.
_ALWAYS_SEEKS = sys.version_info >= (3, 14)
#: Their methods read the descriptor, and nothing else.
_PLAIN = (io.BufferedReader, io.FileIO)


def is_plain(file: Any) -> bool:
    """Return whether reading an object's descriptor is the same as reading the object."""
    return type(file) in _PLAIN and file.readable() and stat.S_ISREG(os.fstat(file.fileno()).st_mode)


async def send_by_writing(
    loop: asyncio.AbstractEventLoop,
    dispatcher: Dispatcher,
    has_budget: Callable[[], bool],
    transport: Any,
    file: Any,
    offset: int,
    count: int | None,
) -> int:
    """Write a plain file to a transport, as asyncio's `_sendfile_fallback` does.

    Args:
        loop: runs the transfer.
        dispatcher: stages on the loop's ring.
        has_budget: tells whether the running callback may go on.
        transport: takes the bytes.
        file: see `is_plain`.
        offset: the first byte; before Python 3.14, 0 for the file's own position, as with asyncio.
        count: the number of bytes; None for all.

    Returns:
        The number of bytes written.

    Raises:
        OSError: as from pread(2), or the connection is closed.
        ValueError: the file is closed.
    """
    if offset or _ALWAYS_SEEKS:
        file.seek(offset)
    position = file.tell()
    buffer = bytearray(min(count or _PIECE_BYTES, _PIECE_BYTES))
    sent_bytes = 0
    protocol = sendfile_fallback_protocol(transport)
    try:
        while count is None or sent_bytes < count:
            left_bytes = len(buffer) if count is None else count - sent_bytes
            view = memoryview(buffer)[:left_bytes]  # a read in flight holds it if this coroutine is thrown away
            read_bytes = await _read(loop, dispatcher, file, view, position + sent_bytes)
            if not read_bytes:
                break
            await protocol.drain()
            transport.write(bytes(view[:read_bytes]))  # TLS may keep it
            sent_bytes += read_bytes
            if not has_budget():
                await asyncio.sleep(0)
        return sent_bytes
    finally:
        if sent_bytes > 0:
            file.seek(offset + sent_bytes)
        await protocol.restore()


async def _read(
    loop: asyncio.AbstractEventLoop, dispatcher: Dispatcher, file: Any, view: memoryview, offset: int
) -> int:
    read_bytes = read_cached(file.fileno(), view, offset)
    if read_bytes >= 0:
        return read_bytes
    # Its own descriptor: the caller may close his meanwhile.
    return await read_at(loop, dispatcher, Descriptor(os.dup(file.fileno())), view, offset)
