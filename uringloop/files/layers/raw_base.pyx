"""`RawBase`: the compiled base of a raw file: its position, and reading there at once."""

from os import isatty, lseek

from cpython.bytes cimport PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from posix.stat cimport S_ISBLK, S_ISCHR, S_ISREG
from posix.unistd cimport SEEK_CUR, SEEK_END

from ...ring.descriptor cimport Descriptor
from .cached cimport read_now
from .file_base cimport FileBase

#: A read at once takes at most this much: some 50 microseconds.
PIECE_BYTES = 512 * 1024

cdef int64_t PIECE = PIECE_BYTES


cdef class RawBase(FileBase):
    """The base of a raw file: its position, and reading there at once.

    Args:
        loop: the event loop of the file.
        submitter: takes the file's operations.
        descriptor: the file's `Descriptor`.
        status: st_mode, st_size in bytes and st_blksize in bytes of stat(2), just now.
        mode: the `Mode` in which the file was opened.
        name: the path or descriptor that `open` was given.
        shared: whether others use the descriptor too.
        direct: whether the descriptor has O_DIRECT, so that no read is at once.

    Attributes:
        mode_flags: the `Mode`.
        is_regular: whether it is a file on disk.
        is_terminal: whether it is a terminal.
        block_size_bytes: st_blksize of stat(2).
        written_bytes: the number of bytes written so far, also by writes that were cancelled.
        uncertain: whether a write was left to itself, so that its result is unknown.
        has_budget: a function; it tells whether the callback may do one more thing before the loop turns.
        _descriptor: the file's `Descriptor`.
        _position: in bytes from the start, unless the descriptor is shared.
        _positioned: whether the file has a position of its own.
        _shared: whether others may use the descriptor, whose own position is then the file's.
        _cached: whether the file may be read at once.
        _local: whether a read at once has worked, so that its file system has no server to ask.
        _polls_in_vain: see `RawFile._may_poll_in_vain`; None before the first question.
        _size_bytes: the size at the time of opening, None once it may be another.
    """

    def __init__(self, loop, submitter, Descriptor descriptor, status, mode, name, bint shared, bint direct):
        cdef int st_mode = status[0]
        self._loop = loop
        self._submitter = submitter
        self.has_budget = submitter.has_budget
        self._descriptor = descriptor
        self._name = name
        self.mode_flags = mode
        self._writable = mode.writable
        self._shared = shared
        self._size_bytes = status[1]
        self._unread = b""
        self.block_size_bytes = status[2]
        self.is_regular = S_ISREG(st_mode)
        self.is_terminal = S_ISCHR(st_mode) and isatty(descriptor.fd)
        self._positioned = self.is_regular or S_ISBLK(st_mode)
        self._cached = self._positioned and mode.readable and not direct
        self._seekable = self._positioned or self.can_be_sought()
        if mode.appending and self._positioned:
            self._position = self._size_bytes
            if shared:
                lseek(descriptor.fd, 0, SEEK_END)
        self._is_closed = False

    cdef bint can_be_sought(self) except -1:
        try:
            lseek(self._descriptor.fd, 0, SEEK_CUR)
        except OSError:
            return False
        return True

    def close_at_once(self):
        """Close the file if it has nothing to write; return False if it may have, or a call is in progress.

        Where RWF_NOWAIT is known to work the close has no server to tell either.
        """
        return self.close_here()

    cdef bint close_here(self) except -1:
        if self._writable or not self._cached or not self._local or self._lock.locked:
            return False
        self._is_closed = True
        self._descriptor.close()
        return True

    def read_at_once(self, int64_t size_bytes, /):
        """Return up to size_bytes bytes if they are cached; None if reading takes longer, or the budget is spent."""
        return self.read_here(size_bytes)

    cdef read_here(self, int64_t size_bytes):
        return self.read_cached(size_bytes) if self._cached and self.has_budget() is True else None

    cdef read_cached(self, int64_t size_bytes):
        """Do the same for a file that may be read at once, within the budget."""
        if self._shared:
            self.position()
        try:
            data = read_now(self._descriptor.fd, min(size_bytes, PIECE), self._position)
        except OSError:
            # EOPNOTSUPP, or an error that the ring will report again.
            self._cached = False
            return None
        self._local = True
        if data is not None:
            if self._shared:
                self.move(self._position + PyBytes_GET_SIZE(data))
            else:
                self._position += PyBytes_GET_SIZE(data)
        return data

    cdef int64_t expected_bytes(self) except -2:
        """Return the number of bytes to the end as far as it is known, else -1.  A file of /proc says 0."""
        if self._size_bytes is None or self._shared or not self._positioned:
            return -1
        cdef int64_t count_bytes = <int64_t>self._size_bytes - self._position
        return count_bytes if 0 < count_bytes < PIECE else -1
