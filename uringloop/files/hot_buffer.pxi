# Buffers: of bytes (`Window`) and of decoded characters (`Decoded`), and what goes by them alone.  Part of hot.pyx.

cdef extern from *:
    """
    /* The line that begins there, which is moved behind it; None if it does not end here. */
    static PyObject *line_from(PyObject *text, Py_ssize_t *start)
    {
        Py_ssize_t length = PyUnicode_GET_LENGTH(text), end;
        PyObject *line;
        if (PyUnicode_IS_ASCII(text)) {
            const char *data = (const char *)PyUnicode_1BYTE_DATA(text) + *start;
            const char *newline = (const char *)memchr(data, '\\n', length - *start);
            if (newline == NULL)
                Py_RETURN_NONE;
            end = *start + (newline + 1 - data);
            line = PyUnicode_New(end - *start, 127);
            if (line != NULL)
                memcpy(PyUnicode_1BYTE_DATA(line), data, end - *start);
        } else {
            end = PyUnicode_FindChar(text, '\\n', *start, length, 1) + 1;
            if (end <= 0)
                Py_RETURN_NONE;
            line = PyUnicode_Substring(text, *start, end);
        }
        if (line != NULL)
            *start = end;
        return line;
    }
    """
    object line_from(str text, Py_ssize_t *start)


cdef class Lines(Base):
    """What is iterated over by lines: `next_line` is a coroutine function for what cannot be answered at once."""

    cdef next_here(self, Call call):
        call.running = self.next_line()
        return MISS

    def __aiter__(self):
        return self

    def __anext__(self):
        cdef Call next_line = Call.__new__(Call)
        next_line.kind = NEXT_LINE
        next_line.file = self
        return next_line

    def next_call(self):
        """`__anext__`, where it is called by its name: a function, which the one of a compiled class is not."""
        return call(self, NEXT_LINE)


cdef class Window(Lines):
    """The base of a buffered file: its buffer, as `buffered.py` describes it, and what goes by that alone.

    `read_slowly`, `readline_slowly`, `seek_slowly`, `write_slowly` and `close_slowly` are coroutine functions for
    everything else.

    Args:
        loop: in which it is used.
        raw: the file below.
        buffering: size of the buffer in bytes, -1 for the usual one.

    Attributes:
        _read_limit: reads that end before this are served here; -1 for none.
        _write_limit: the same of writes, into a buffer that is a bytearray.
        _credit: so many of both, before it is asked whether others are to have their turn.
        _straight: reads of so many bytes go straight to the raw file, because nothing is in the buffer; or NEVER.
        _window: so much is read ahead.
        _adapts: that changes with how the file is read.
        _size: of the buffer, in bytes.
        _readable: and _writable: what may be done.
    """

    cdef public object _buffer
    cdef public object _raw
    cdef public int64_t _pos, _read_end, _write_pos, _write_end, _raw_pos
    cdef public int64_t _read_limit, _write_limit, _straight, _window, _size
    cdef public bint _adapts, _readable, _writable
    cdef public int _credit

    def __cinit__(self, *args, **kwargs):
        self._buffer = b""
        self._read_end = self._write_end = self._read_limit = self._write_limit = -1
        self._straight = NEVER_BYTES

    def __init__(self, loop, Position raw, int64_t buffering):
        self._loop = loop
        self._raw = raw
        self._readable = raw.mode_flags.readable
        self._writable = raw._writable
        self._adapts = buffering < 0
        self._size = max(USUAL_BYTES, raw.block_size_bytes) if self._adapts else buffering
        self._window = FIRST_BYTES if self._adapts else buffering
        if not self._writable:
            self._straight = self._window
        self._is_closed = False

    def read(self, size=-1, /):
        """Read size bytes, fewer only at the end of the file; -1 or None reads to the end.

        Raises:
            OSError: as from read(2).
            ValueError: the file is closed, or size is below -1.
            io.UnsupportedOperation: the file is not open for reading.
        """
        return call(self, READ, size)

    cdef read_here(self, Call call):
        cdef int overflow = 0
        cdef int64_t count, expected
        begun = None
        size = call.first
        if type(size) is int:
            count = as_long_long(size, &overflow)
            if overflow:
                pass
            elif count >= 0:
                if count <= self._read_limit - self._pos and self._credit > 0:
                    self._credit -= 1
                    data = PyBytes_FromStringAndSize(PyBytes_AS_STRING(self._buffer) + self._pos, count)
                    self._pos += count
                    return data
                if count >= self._straight and (self._adapts or count % self._window == 0):
                    begun = (<Position>self._raw).read_at_once(count)
                    if begun is not None and (PyBytes_GET_SIZE(begun) == count or PyBytes_GET_SIZE(begun) == 0):
                        return begun
            elif count == -1 and self._straight < NEVER_BYTES:
                expected = (<Position>self._raw).expected()
                if expected > 0:
                    # One byte more: a read that does not fill it has met the end.
                    begun = (<Position>self._raw).read_at_once(expected + 1)
                    if begun is not None and PyBytes_GET_SIZE(begun) == expected:
                        (<Position>self._raw)._size_bytes = None
                        return begun
        call.running = self.read_slowly(size, begun)
        return MISS

    def readline(self, size=-1, /):
        """Read up to and with the next newline, or the end of the file.

        Args:
            size: at most this many bytes; -1 or None for any number.
        """
        return call(self, READLINE, size)

    cdef readline_here(self, Call call):
        size = call.first
        line = None
        if size is None or (type(size) is int and size == -1):
            line = self.line_here()
        if line is not None:
            return line
        call.running = self.readline_slowly(size)
        return MISS

    cdef next_here(self, Call call):
        line = self.line_here()
        if line is not None:
            return line
        call.running = self.next_line()
        return MISS

    cdef line_here(self):
        """The next line, if it is in the buffer; else None."""
        cdef const char *start
        cdef const char *end
        if self._pos >= self._read_limit or self._credit <= 0:
            return None
        start = PyBytes_AS_STRING(self._buffer) + self._pos
        end = <const char *>memchr(start, b"\n", self._read_limit - self._pos)
        if end == NULL:
            return None
        self._credit -= 1
        line = PyBytes_FromStringAndSize(start, end + 1 - start)
        self._pos += PyBytes_GET_SIZE(line)
        return line

    def seek(self, offset, whence=0, /):
        """Move the position.

        Args:
            offset: in bytes.
            whence: os.SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA or SEEK_HOLE; see lseek(2).

        Returns:
            The position, in bytes from the start.

        Raises:
            OSError: EINVAL, it would be negative.
            ValueError: another whence.
            io.UnsupportedOperation: there is no position, as in a pipe.
        """
        return call(self, SEEK, offset, whence)

    cdef seek_here(self, Call call):
        cdef int overflow = 0
        cdef int64_t target
        cdef Position raw
        offset = call.first
        whence = call.second
        if self._straight < NEVER_BYTES and type(offset) is int and type(whence) is int and whence == 0:
            target = as_long_long(offset, &overflow)
            raw = <Position>self._raw
            if target >= 0 and not overflow and raw._positioned and not raw._shared:
                raw._position = target
                self._read_end = self._read_limit = -1
                if self._adapts:
                    self._window = self._straight = FIRST_BYTES
                return offset
        call.running = self.seek_slowly(offset, whence)
        return MISS

    def write(self, data, /):
        """Write bytes; returns their number.  What fits into the buffer is written later, at the latest by `close`.

        Large data is written from where it is: it must stay as it is until this returns.

        Raises:
            OSError: as from write(2): ENOSPC, EDQUOT, EFBIG, EIO, EPIPE.
            ValueError: the file is closed.
            io.UnsupportedOperation: the file is not open for writing.
        """
        return call(self, WRITE, data)

    cdef write_here(self, Call call):
        cdef Py_ssize_t count
        data = call.first
        if type(data) is bytes:
            count = PyBytes_GET_SIZE(data)
            if count <= self._write_limit - self._pos and self._credit > 0:
                self._credit -= 1
                memcpy(PyByteArray_AS_STRING(self._buffer) + self._pos, PyBytes_AS_STRING(data), count)
                self._pos += count
                self._write_end = self._pos
                return count
        call.running = self.write_slowly(data)
        return MISS

    def close(self):
        """Write what is buffered and close; more than once does nothing.  Waits for calls in progress.

        A cancelled close closes all the same, by itself if it has to wait.

        Raises:
            OSError: what is buffered could not be written; the file is closed nevertheless.
        """
        return call(self, CLOSE)

    def __aexit__(self, kind, value, traceback):
        return call(self, CLOSE)

    cdef close_here(self, Call call):
        if not self._is_closed and not self._lock.locked and self._write_end <= self._write_pos:
            raw = self._raw
            if raw is not None and not (<Position>raw)._is_closed and (<Position>raw).close_at_once() is True:
                self._is_closed = True
                self._read_limit = self._write_limit = self._read_end = -1
                self._straight = NEVER_BYTES
                self._buffer = b""
                return None
        call.running = self.close_slowly()
        return MISS


cdef class Decoded(Lines):
    """The base of a text file.

    Attributes:
        chars: what was decoded last.
        used: how many of them were read.
        iterating: lines end with "\\n" alone, and the next ones are to be served from here.
    """

    cdef public str chars
    cdef public Py_ssize_t used
    cdef public bint iterating

    def __cinit__(self, *args, **kwargs):
        self.chars = ""

    cdef next_here(self, Call call):
        if self.iterating:
            line = line_from(self.chars, &self.used)
            if line is not None:
                return line
        call.running = self.next_line()
        return MISS
