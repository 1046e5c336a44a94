"""`open_direct`: files that are read and written past the page cache (O_DIRECT), by way of registered buffers.

They are for programs that cache by themselves, as databases do, and for reads that would only flood the cache.  The
device transfers whole blocks, from and to aligned memory.  So each transfer borrows one of a loop's buffers.  The
buffers are aligned, and the kernel has pinned them once, not for each transfer.  If none is free, a transfer waits.

Buffers cannot be registered if the program has registered others with this ring, or if RLIMIT_MEMLOCK is too low.  Then
the same memory serves unregistered.  So it does on epoll; without a ring, threads use it.

If the device has polled queues, reads go through a ring of their own; see `polled.py`.
"""

import asyncio
import contextlib
import errno
import os
import warnings
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, NamedTuple, Self

from ..companion import Submitter, submitter
from ..operations import Descriptor, Operation
from ..operations.compiled import Read, ReadFixed, Write, WriteFixed
from ..operations.file import Close, DirectAlignment, Open
from ..operations.path import Path
from ..ring import LoopRing, Opcode, RingUnavailableError, allocate
from .layers.base import CLOSED_MESSAGE, bytes_of
from .layers.waiting import in_thread, made_in_thread
from .opening import Opening, parse_mode, parse_path
from .polled import PolledRing, absent_on_epoll, explained, has_polled_queue

BUFFERS = 64
BUFFER_BYTES = 64 * 1024
_USUAL_BLOCK_BYTES = 4096
_BUFFERS = "_uringloop_direct_buffers"
#: Of the one registered buffer; all others are parts of it.
_INDEX = 0


class _Buffers:
    """The buffers of a loop.

    Args:
        ring: registers them; None without one.
    """

    def __init__(self, ring: LoopRing | None) -> None:
        self.ring = ring
        memory = allocate(BUFFERS * BUFFER_BYTES)
        self._table: Any = None
        if ring is not None and {Opcode.READ_FIXED, Opcode.WRITE_FIXED} <= ring.features.opcodes:
            with contextlib.suppress(OSError):
                self._table = ring.register_buffers([memory])
        view = memoryview(memory)
        self._free = [view[start : start + BUFFER_BYTES] for start in range(0, len(view), BUFFER_BYTES)]
        self._room = asyncio.Semaphore(BUFFERS)

    def is_registered_with(self, ring: LoopRing) -> bool:
        return self._table is not None and self.ring is ring

    @contextlib.asynccontextmanager
    async def borrow(self) -> AsyncIterator[memoryview]:
        async with self._room:
            buffer = self._free.pop()
            try:
                yield buffer
            finally:
                self._free.append(buffer)


def _buffers_of(holder: Any, ring: LoopRing | None) -> _Buffers:
    """Return the buffers of a loop or its companion; new ones if that has another ring now."""
    buffers: _Buffers | None = getattr(holder, _BUFFERS, None)
    if buffers is None or buffers.ring is not ring:
        buffers = _Buffers(ring)
        # Each file of a loop that cannot hold the buffers has its own.
        with contextlib.suppress(AttributeError):
            setattr(holder, _BUFFERS, buffers)
    return buffers


class _Ways(NamedTuple):
    """Three ways to transfer.

    Attributes:
        plain: the operation for memory that is not registered.
        fixed: the operation for a registered buffer.
        blocking: the function for a thread.
    """

    plain: Callable[..., Operation]
    fixed: Callable[..., Operation]
    blocking: Any


_READ = _Ways(Read, ReadFixed, os.preadv)
_WRITE = _Ways(Write, WriteFixed, os.pwritev)


class DirectFile:
    """A file without the page cache; `open_direct` makes it.

    Any number of calls may be under way at a time.  The file has no position.

    Attributes:
        name: the path, as `open_direct` was given it.
        block_size_bytes: the offsets and lengths of writes are multiples of it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ring: Submitter | None,
        polled: PolledRing | None,
        must_poll: bool,
        descriptor: Descriptor,
        name: Path,
        block: int,
    ) -> None:
        self._loop = loop
        self._submitter = ring
        #: Held until closing: transfers may be under way there when `_is_polled` becomes False.
        self._polled = polled
        self._is_polled = polled is not None
        self._must_poll = must_poll
        self._descriptor = descriptor
        self._under_way: set[asyncio.Future[None]] = set()
        self._is_closed = False
        #: Whether the close was cancelled, so that the last call under way closes the file.
        self._closes_late = False
        self.name = name
        self.block_size_bytes = block

    def _buffers_for(self, ways: _Ways) -> _Buffers:
        if self._polled is not None and self._is_polled and ways is _READ:
            return _buffers_of(self._polled, self._polled.ring)
        if self._submitter is not None:
            return _buffers_of(self._submitter, self._submitter.ring)
        return _buffers_of(self._loop, None)

    @property
    def closed(self) -> bool:
        """Whether the file is closed, or about to be."""
        return self._is_closed

    @property
    def has_registered_buffers(self) -> bool:
        """Whether the file's reads use registered buffers."""
        buffers = self._buffers_for(_READ)
        return buffers.ring is not None and buffers.is_registered_with(buffers.ring)

    @property
    def is_polled(self) -> bool:
        """Whether reads poll the device for their end, instead of waiting for it; False once that has failed."""
        return self._is_polled

    def fileno(self) -> int:
        """Return the descriptor.

        Raises:
            ValueError: the file is closed.
        """
        self._check_open()
        return self._descriptor.fd

    def _check_open(self) -> None:
        if self._is_closed:
            raise ValueError(CLOSED_MESSAGE)

    @contextlib.contextmanager
    def _busy(self) -> Any:
        self._check_open()
        busy = self._loop.create_future()
        self._under_way.add(busy)
        try:
            yield
        finally:
            self._under_way.discard(busy)
            busy.set_result(None)
            if self._closes_late and not self._under_way:
                self._descriptor.close()
                self._release_polled()

    async def pread(self, length: int, offset: int, /) -> bytes:
        """Read bytes at an offset; see `os.pread`.

        The file reads whole blocks, but length and offset need not be multiples of a block.

        Args:
            length: in bytes.
            offset: in bytes from the start of the file.

        Returns:
            The bytes; fewer than length only at the end of the file.

        Raises:
            OSError: as from pread(2), with the filename.
            ValueError: the file is closed, or a number is negative.
        """
        if length < 0 or offset < 0:
            raise ValueError("neither length nor offset may be negative")
        parts: list[bytes] = []
        missing = length
        with self._busy():
            while missing:
                skipped = offset % self.block_size_bytes
                wanted = min(missing, BUFFER_BYTES - skipped)
                buffers = self._buffers_for(_READ)
                async with buffers.borrow() as buffer:
                    span = buffer[: -(-(skipped + wanted) // self.block_size_bytes) * self.block_size_bytes]
                    count = await self._transfer(_READ, buffers, span, offset - skipped)
                    parts.append(bytes(span[skipped : min(count, skipped + wanted)]))
                if len(parts[-1]) < wanted:
                    break
                missing -= wanted
                offset += wanted
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def pwrite(self, data: Any, offset: int, /) -> int:
        """Write all bytes of data at an offset; see `os.pwrite`.

        Args:
            data: a buffer in one piece; its length is a multiple of `block_size_bytes`.
            offset: in bytes from the start of the file, a multiple of `block_size_bytes`.

        Returns:
            The number of bytes.

        Raises:
            OSError: as from pwrite(2), with the filename; a first part may have been written.
            ValueError: the file is closed, or length or offset is no multiple of a block.
        """
        view = bytes_of(data)
        if offset < 0 or offset % self.block_size_bytes or len(view) % self.block_size_bytes:
            raise ValueError(f"offset and length must be multiples of {self.block_size_bytes}")
        written = 0
        with self._busy():
            while written < len(view):
                buffers = self._buffers_for(_WRITE)
                async with buffers.borrow() as buffer:
                    size = min(len(view) - written, BUFFER_BYTES)
                    buffer[:size] = view[written : written + size]
                    written += await self._transfer(_WRITE, buffers, buffer[:size], offset + written)
        return written

    async def _transfer(self, ways: _Ways, buffers: _Buffers, span: memoryview, offset: int) -> int:
        """Move bytes between the file and span, a part of one of the buffers; return their number."""

        def operation(ring: LoopRing) -> Operation:
            if buffers.is_registered_with(ring):
                return ways.fixed(self._descriptor, span, _INDEX, offset)
            return ways.plain(self._descriptor, span, offset)

        if self._polled is not None and self._is_polled and ways is _READ:
            try:
                return int(await self._polled.submit(operation(self._polled.ring)))
            except OSError as error:
                if self._must_poll or error.errno != errno.EOPNOTSUPP:
                    raise explained(error) from None
            self._is_polled = False
        if self._submitter is None:
            try:
                count: int = await in_thread(self._loop, None, ways.blocking, self._descriptor.fd, [span], offset)
            except OSError as error:
                error.filename = self._descriptor.filename
                raise
            return count
        return int(await self._submitter.submit(operation(self._submitter.ring)))

    def _release_polled(self) -> None:
        polled, self._polled, self._is_polled = self._polled, None, False
        if polled is not None:
            polled.release()

    async def close(self) -> None:
        """Close the file when all calls under way have ended; a second close does nothing.

        A cancelled close closes the file all the same.

        Raises:
            OSError: as from close(2).
        """
        if self._is_closed:
            return
        self._is_closed = True
        try:
            while self._under_way:
                await asyncio.wait(self._under_way)
        finally:
            if self._under_way:
                self._closes_late = True
            else:
                self._release_polled()
                if self._submitter is None:
                    self._descriptor.close()
                else:
                    await self._submitter.submit(Close(self._descriptor))

    def __del__(self) -> None:
        if not getattr(self, "_is_closed", True):
            warnings.warn(f"unclosed file {self!r}", ResourceWarning, source=self, stacklevel=2)

    def __repr__(self) -> str:
        return f"<uringloop.files.DirectFile name={self.name!r}{' closed' if self._is_closed else ''}>"

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def open_direct(path: Path, mode: str = "rb", *, poll: bool | None = None) -> Opening[DirectFile]:
    """Open a file past the page cache: `await open_direct(...)`, or `async with open_direct(...) as file`.

    Args:
        path: of the file.
        mode: "rb", "r+b", "wb", "xb" or the like, but not to append.
        poll: whether reads poll the device for their end, see IORING_SETUP_IOPOLL in io_uring_setup(2).  That is the
            shortest way on a fast device.  But the loop does not sleep while a read is under way.  A truncate(2) that
            blocks the loop's thread meanwhile waits for ever.  None polls if the device has polled queues and the
            kernel allows it.

    Returns:
        An object to be awaited or entered; it gives a `DirectFile`.

    Raises:
        ValueError: the mode is not one of bytes, or appends.
        OSError: when awaited; as from open(2), with the filename: EINVAL, the file system has no O_DIRECT.  With
            poll=True: EOPNOTSUPP, the backend is epoll; or, from the first read, the device or file system does not
            poll.
        RingUnavailableError: when awaited, with poll=True: no further ring can be made.
    """
    parsed = parse_mode(mode)
    if "b" not in mode or parsed.appending:
        raise ValueError(f"mode must be of bytes and not append, not {mode!r}")
    return Opening(_open, path, parse_path(os.fspath(path), True), parsed.flags | os.O_DIRECT, poll)


async def _open(name: Path, path: str | bytes, flags: int, poll: bool | None) -> DirectFile:
    loop = asyncio.get_running_loop()
    ring = submitter(loop)
    if ring is None:
        fd = await made_in_thread(loop, None, lambda: os.open(path, flags | os.O_CLOEXEC, 0o666), os.close)
        descriptor, block = Descriptor(fd, path), _USUAL_BLOCK_BYTES
    else:
        descriptor = Descriptor(await ring.submit(Open(path, flags)), path)
    try:
        if ring is not None:
            block = await ring.submit(DirectAlignment(descriptor)) or _USUAL_BLOCK_BYTES
        polled = _polled_ring(loop, ring, descriptor.fd, poll)
    except BaseException:
        if ring is None:
            descriptor.close()
        else:
            await ring.submit(Close(descriptor))
        raise
    return DirectFile(loop, ring, polled, poll is True, descriptor, name, block)


def _polled_ring(
    loop: asyncio.AbstractEventLoop, ring: Submitter | None, fd: int, poll: bool | None
) -> PolledRing | None:
    if poll:
        if ring is not None and ring.ring.backend == "epoll":
            raise absent_on_epoll()
        return PolledRing.of(ring or loop, loop)
    if poll is None and ring is not None and ring.ring.backend == "io_uring" and has_polled_queue(fd):
        with contextlib.suppress(RingUnavailableError):
            return PolledRing.of(ring, loop)
    return None
