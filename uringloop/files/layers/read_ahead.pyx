"""`ReadAhead`: the compiled base of a buffered file: its buffer, and the calls that the buffer alone can answer.

It is compiled because it runs once for each line, each small read, write and seek, and each small file.
"""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from libc.string cimport memchr, memcpy

from .call cimport CLOSE, NEXT_LINE, READ, READLINE, SEEK, WRITE, FileCall, make_call
from .line_reader cimport LineReader
from .raw_base cimport RawBase

from ...call import looks_async

cdef extern from "Python.h":
    long long as_long_long "PyLong_AsLongLongAndOverflow" (object number, int *overflow)

#: A number of bytes that no file has.
NEVER = 1 << 62
#: The buffer serves this many calls before the file asks again whether other callbacks are to run.
BUDGET_CALLS = 64
#: Of a buffer.  A turn of the loop costs more than a system call does: larger than the standard library's.
BUFFER_SIZE_BYTES = 128 * 1024
#: Of the first read ahead.
FIRST_READ_AHEAD_BYTES = 4096

cdef int64_t NEVER_BYTES = NEVER
cdef int64_t USUAL_BYTES = BUFFER_SIZE_BYTES
cdef int64_t FIRST_BYTES = FIRST_READ_AHEAD_BYTES
cdef int USUAL_CALLS = BUDGET_CALLS


cdef class ReadAhead(LineReader):
    """The base of a buffered file: its buffer, see `buffered.py`, and the calls that the buffer alone can answer.

    `read_slowly`, `read_on`, `readline_slowly`, `seek_slowly`, `write_slowly` and `close_slowly` are coroutine
    functions of the Python class for everything else.

    Args:
        loop: the event loop of the file.
        raw: the `RawBase` below.
        buffering: size of the buffer in bytes, -1 for the usual one.

    Attributes:
        _read_limit: reads that end up to this place of the buffer are answered here; -1 for none.
        _write_limit: the same for writes, into a buffer that is a bytearray.
        _budget_calls: the number of such calls before the file asks whether other callbacks are to run.
        _bypass_from_bytes: reads of at least so many bytes go straight to the raw file, because the buffer is empty.
            NEVER if it is not.
        _read_ahead_bytes: the size of the next read ahead.
        _adapts: whether that size changes with how the file is read.
        _buffer_size_bytes: the size of the buffer.
        _readable: whether the file may be read.
        _writable: whether the file may be written.
    """

    def __cinit__(self, *args, **kwargs):
        self._buffer = b""
        self._read_end = self._write_end = self._read_limit = self._write_limit = -1
        self._bypass_from_bytes = NEVER_BYTES

    def __init__(self, loop, RawBase raw, int64_t buffering):
        self._loop = loop
        self._raw = raw
        self._readable = raw.mode_flags.readable
        self._writable = raw._writable
        self._adapts = buffering < 0
        self._buffer_size_bytes = max(USUAL_BYTES, raw.block_size_bytes) if self._adapts else buffering
        self._read_ahead_bytes = FIRST_BYTES if self._adapts else buffering
        if not self._writable:
            self._bypass_from_bytes = self._read_ahead_bytes
        self._is_closed = False

    cdef answer(self, FileCall call):
        if call.kind == READ:
            return self.read_here(call)
        if call.kind == NEXT_LINE:
            line = self.line_here()
            if line is not None:
                return line
            call.running = self.next_line()
            return call
        if call.kind == SEEK:
            return self.seek_here(call)
        if call.kind == WRITE:
            return self.write_here(call)
        if call.kind == READLINE:
            return self.readline_here(call)
        return self.close_here(call)

    @cython.final
    cdef bint spend(self):
        """Take one call from the budget; return False if it has none left."""
        if self._budget_calls <= 0:
            return False
        self._budget_calls -= 1
        return True

    def read(self, size=-1, /):
        """Read bytes; see `io.BufferedReader.read`.

        Args:
            size: the number of bytes; -1 or None reads to the end of the file.

        Returns:
            The bytes; fewer than size only at the end of the file.

        Raises:
            OSError: as from read(2).
            ValueError: the file is closed, or size is below -1.
            io.UnsupportedOperation: the file is not open for reading.
        """
        return make_call(self, READ, size, None)

    @cython.final
    cdef read_here(self, FileCall call):
        cdef int overflow = 0
        cdef int64_t count
        begun = None
        size = call.first
        if type(size) is int:
            count = as_long_long(size, &overflow)
            if overflow:
                pass
            elif 0 <= count <= self._read_limit - self._pos and self.spend():
                data = PyBytes_FromStringAndSize(PyBytes_AS_STRING(self._buffer) + self._pos, count)
                self._pos += count
                return data
            elif self.bypasses(count) and self._raw._cached:
                if self._raw.has_budget() is not True:
                    if not self._lock.locked:
                        return self.take_turn(call)
                else:
                    begun = self._raw.read_cached(self.wanted_bytes(count))
                    if self.is_whole(begun, count):
                        return begun
        call.running = self.read_slowly(size, begun)
        return call

    @cython.final
    cdef bint bypasses(self, int64_t count):
        """Return whether a read of so many bytes, -1 for all, goes straight to the raw file; the buffer is empty."""
        if count == -1:
            return self._bypass_from_bytes < NEVER_BYTES and self._raw.expected_bytes() > 0
        return self._bypass_from_bytes <= count < NEVER_BYTES and (
            self._adapts or count % self._read_ahead_bytes == 0
        )

    @cython.final
    cdef int64_t wanted_bytes(self, int64_t count):
        # One byte more than are expected: a read that does not fill it has met the end.
        return self._raw.expected_bytes() + 1 if count == -1 else count

    @cython.final
    cdef bint is_whole(self, begun, int64_t count):
        """Return whether a read is complete with these bytes, or None."""
        if begun is None:
            return False
        cdef int64_t held = PyBytes_GET_SIZE(begun)
        if count >= 0:
            return held == count or held == 0
        if self._raw._shared or self._raw._position != <int64_t>self._raw._size_bytes:
            return False
        self._raw._size_bytes = None
        return True

    @cython.final
    cdef take_turn(self, FileCall call):
        """Let other callbacks run before a read, with the lock held: calls on this file come after it."""
        self._lock.locked = True
        self._read_limit = self._write_limit = -1
        self._bypass_from_bytes = NEVER_BYTES
        call.running = self
        return call

    cdef answer_again(self, FileCall call):
        cdef int64_t count = call.first
        begun = None
        try:
            # Meanwhile the raw file may have been closed or detached, and the size have become unknown.
            if self._raw is not None and self._raw._cached and self.wanted_bytes(count) > 0:
                begun = self._raw.read_cached(self.wanted_bytes(count))
                if self.is_whole(begun, count):
                    self.give_up()
                    return begun
            call.running = self.read_on(count, begun)
        except BaseException:
            self.give_up()
            raise
        return call

    cdef give_up(self):
        self._lock.release()
        if not self._lock.locked:
            # As `_serve` with an empty buffer.
            self._budget_calls = USUAL_CALLS
            self._bypass_from_bytes = self._read_ahead_bytes

    def readline(self, size=-1, /):
        """Read up to and including the next newline, or up to the end of the file; see `io.IOBase.readline`.

        Args:
            size: the largest number of bytes; -1 or None for any number.

        Returns:
            The line; b"" at the end of the file.

        Raises:
            OSError: as from read(2).
            ValueError: the file is closed.
            io.UnsupportedOperation: the file is not open for reading.
        """
        return make_call(self, READLINE, size, None)

    @cython.final
    cdef readline_here(self, FileCall call):
        size = call.first
        line = None
        if size is None or (type(size) is int and size == -1):
            line = self.line_here()
        if line is not None:
            return line
        call.running = self.readline_slowly(size)
        return call

    @cython.final
    cdef line_here(self):
        """Return the next line if the buffer has all of it, else None."""
        cdef const char *start
        cdef const char *end
        if self._pos >= self._read_limit:
            return None
        start = PyBytes_AS_STRING(self._buffer) + self._pos
        end = <const char *>memchr(start, b"\n", self._read_limit - self._pos)
        if end == NULL or not self.spend():
            return None
        line = PyBytes_FromStringAndSize(start, end + 1 - start)
        self._pos += PyBytes_GET_SIZE(line)
        return line

    def seek(self, offset, whence=0, /):
        """Move the position; see `io.IOBase.seek`.

        Args:
            offset: in bytes.
            whence: os.SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA or SEEK_HOLE; see lseek(2).

        Returns:
            The position, in bytes from the start.

        Raises:
            OSError: EINVAL, the position would be negative.
            ValueError: another whence, or the file is closed.
            io.UnsupportedOperation: the file has no position, as a pipe.
        """
        return make_call(self, SEEK, offset, whence)

    @cython.final
    cdef seek_here(self, FileCall call):
        cdef int overflow = 0
        cdef int64_t target
        cdef RawBase raw
        offset = call.first
        whence = call.second
        if self._bypass_from_bytes < NEVER_BYTES and type(offset) is int and type(whence) is int and whence == 0:
            target = as_long_long(offset, &overflow)
            raw = self._raw
            if target >= 0 and not overflow and raw._positioned and not raw._shared:
                raw._position = target
                self._read_end = self._read_limit = -1
                if self._adapts:
                    self._read_ahead_bytes = self._bypass_from_bytes = FIRST_BYTES
                return offset
        call.running = self.seek_slowly(offset, whence)
        return call

    def write(self, data, /):
        """Write bytes; see `io.BufferedWriter.write`.

        The file writes later what fits into its buffer, at the latest in `close`.  Large data is written from where it
        is, so it must not change until the call returns.

        Args:
            data: bytes, or another buffer in one piece.

        Returns:
            The number of bytes in data.

        Raises:
            OSError: as from write(2): ENOSPC, EDQUOT, EFBIG, EIO, EPIPE.
            ValueError: the file is closed.
            io.UnsupportedOperation: the file is not open for writing.
        """
        return make_call(self, WRITE, data, None)

    @cython.final
    cdef write_here(self, FileCall call):
        cdef Py_ssize_t count
        data = call.first
        if type(data) is bytes:
            count = PyBytes_GET_SIZE(data)
            if count <= self._write_limit - self._pos and self.spend():
                memcpy(PyByteArray_AS_STRING(self._buffer) + self._pos, PyBytes_AS_STRING(data), count)
                self._pos += count
                self._write_end = self._pos
                return count
        call.running = self.write_slowly(data)
        return call

    def close(self):
        """Write the buffered data and close the file; a second close does nothing.  Wait for calls in progress first.

        A cancelled close closes the file all the same.  If it has to wait, the loop finishes it.

        Raises:
            OSError: the buffered data could not be written; the file is closed nevertheless.
        """
        return make_call(self, CLOSE, None, None)

    def __aexit__(self, kind, value, traceback):
        return make_call(self, CLOSE, None, None)

    cdef close_here(self, FileCall call):
        cdef RawBase raw
        if not self._is_closed and not self._lock.locked and self._write_end <= self._write_pos:
            raw = self._raw
            if raw is not None and not raw._is_closed and raw.close_here():
                self._is_closed = True
                self._read_limit = self._write_limit = self._read_end = -1
                self._bypass_from_bytes = NEVER_BYTES
                self._buffer = b""
                return None
        call.running = self.close_slowly()
        return call


looks_async(ReadAhead.read, ReadAhead.readline, ReadAhead.seek, ReadAhead.write, ReadAhead.close, ReadAhead.__aexit__)
