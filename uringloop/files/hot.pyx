# cython: language_level=3, boundscheck=False, wraparound=False
"""The hot half of files, compiled because it runs once for each line or each small read and write.

What the buffer or the page cache can answer is answered without a coroutine, by a `Ready`.  Everything else goes to the
coroutines of the Python classes that are built on these: `Position` is the base of `RawFile`, `Window` of
`BufferedFile`, `Decoded` of `TextFile`.

What `await` takes from a `Ready` is the value of a StopIteration.  One is kept for all of them, because making one each
time would take longer than all the rest.
"""

from collections.abc import Coroutine

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject, PyTypeObject
from cpython.unicode cimport PyUnicode_FindChar, PyUnicode_Substring
from libc.stdint cimport int64_t
from libc.string cimport memcpy

from ..ring import read_now

cdef extern from *:
    """
    static PyObject *spare_stop;

    /* Raises StopIteration(value), without the traceback that Cython would add. */
    static void raise_stop(PyObject *value)
    {
        PyStopIterationObject *stop = (PyStopIterationObject *)spare_stop;
        if (stop == NULL || Py_REFCNT(stop) != 1) {
            /* Somebody keeps the last one. */
            PyObject *fresh = PyObject_CallOneArg(PyExc_StopIteration, value);
            if (fresh == NULL)
                return;
            Py_XSETREF(spare_stop, fresh);
            stop = (PyStopIterationObject *)fresh;
        } else {
            PyObject *old = stop->value;
            Py_INCREF(value);
            stop->value = value;
            Py_XDECREF(old);
        }
    #if PY_VERSION_HEX >= 0x030C0000
        PyErr_SetRaisedException(Py_NewRef(stop));
    #else
        PyErr_SetObject(PyExc_StopIteration, (PyObject *)stop);
    #endif
    }

    static void raise_spent(void)
    {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
    }

    static void set_next(PyTypeObject *type, PyObject *(*next)(PyObject *)) { type->tp_iternext = next; }

    static void take_anext(PyTypeObject *type, PyTypeObject *base)
    {
        type->tp_as_async->am_anext = base->tp_as_async->am_anext;
    }
    """
    void raise_stop(value)
    void raise_spent()
    void take_anext(PyTypeObject *type, PyTypeObject *base)
    void set_next(PyTypeObject *type, PyObject *(*next)(PyObject *) noexcept)

cdef extern from "Python.h":
    long long as_long_long "PyLong_AsLongLongAndOverflow" (object number, int *overflow)


cdef object SPENT = object()
cdef object read_cached = read_now


@cython.final
@cython.freelist(32)
@cython.no_gc
cdef class Ready:
    """A coroutine that has ended before it began: awaiting it gives the value at once, and once."""

    cdef object value

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        raise NotImplementedError  # replaced below

    def send(self, value, /):
        """See `generator.send`: there is nobody to get it."""
        return next(self)

    def throw(self, kind, value=None, traceback=None, /):
        """See `generator.throw`."""
        self.value = SPENT
        raise kind if value is None else value

    def close(self):
        """See `generator.close`."""
        self.value = SPENT


cdef inline Ready ready(value):
    cdef Ready self = Ready.__new__(Ready)
    self.value = value
    return self


cdef PyObject *next_of_ready(PyObject *self) noexcept:
    value = (<Ready>self).value
    if value is SPENT:
        raise_spent()
    else:
        (<Ready>self).value = SPENT
        raise_stop(value)
    return NULL


set_next(<PyTypeObject *>Ready, next_of_ready)
Coroutine.register(Ready)


#: So many bytes, and no file is longer than that.
NEVER = 1 << 62
#: So many calls are served from a buffer before it is asked whether others are to have their turn.
CREDIT = 64
#: What reading ahead begins with.
FIRST_WINDOW_BYTES = 4096
#: A read at once takes at most this much: some 50 microseconds.
PIECE_BYTES = 512 * 1024

cdef int64_t NEVER_BYTES = NEVER
cdef int64_t FIRST_BYTES = FIRST_WINDOW_BYTES
cdef int64_t PIECE = PIECE_BYTES


cdef class Position:
    """The base of a raw file: where it is, and reading there at once.

    Attributes:
        _descriptor: the file's.
        _position: in bytes from the start, unless it is shared.
        _positioned: it has a position of its own.
        _shared: others may use the descriptor, whose own position is the file's.
        _cached: it may be read at once.
        _local: that was seen to work: its file system has no server to be asked.
        may_go_on: says whether one more thing may be done before the loop turns.
    """

    cdef public object _descriptor, may_go_on
    cdef public int64_t _position
    cdef public bint _positioned, _shared, _cached, _local

    def __cinit__(self, *args, **kwargs):
        pass

    def position(self):
        raise NotImplementedError

    def move(self, position):
        raise NotImplementedError

    def read_at_once(self, Py_ssize_t size):
        """Up to size bytes if they are cached; None if that takes longer, or others are to have their turn."""
        if not self._cached or self.may_go_on() is not True:
            return None
        if self._shared:
            self.position()
        try:
            data = read_cached(self._descriptor.fd, min(size, PIECE), self._position)
        except OSError:
            # EOPNOTSUPP, or what the ring will say again.
            self._cached = False
            return None
        self._local = True
        if data is not None:
            if self._shared:
                self.move(self._position + PyBytes_GET_SIZE(data))
            else:
                self._position += PyBytes_GET_SIZE(data)
        return data


cdef class Window:
    """The base of a buffered file: its buffer, as `buffered.py` describes it, and what goes by that alone.

    Attributes:
        _read_limit: reads that end before this are served here; -1 for none.
        _write_limit: the same of writes, into a buffer that is a bytearray.
        _credit: so many of both, before it is asked whether others are to have their turn.
        _straight: reads of so many bytes go straight to the raw file, because nothing is in the buffer; or NEVER.
        _window: so much is read ahead.
        _adapts: that changes with how the file is read.
        _size: of the buffer, in bytes.
    """

    cdef public object _buffer
    cdef public object _raw
    cdef public int64_t _pos, _read_end, _write_pos, _write_end, _raw_pos
    cdef public int64_t _read_limit, _write_limit, _straight, _window, _size
    cdef public bint _adapts
    cdef public int _credit

    def __cinit__(self, *args, **kwargs):
        self._buffer = b""
        self._read_end = self._write_end = self._read_limit = self._write_limit = -1
        self._straight = NEVER_BYTES

    def read_slowly(self, size, begun):
        raise NotImplementedError

    def seek_slowly(self, offset, whence):
        raise NotImplementedError

    def write_slowly(self, data):
        raise NotImplementedError

    def read(self, size=-1, /):
        """Read size bytes, fewer only at the end of the file; -1 or None reads to the end.

        Raises:
            OSError: as from read(2).
            ValueError: the file is closed, or size is below -1.
            io.UnsupportedOperation: the file is not open for reading.
        """
        cdef int overflow = 0
        cdef int64_t count
        if type(size) is int:
            count = as_long_long(size, &overflow)
            if count >= 0 and not overflow:
                if count <= self._read_limit - self._pos and self._credit > 0:
                    self._credit -= 1
                    data = PyBytes_FromStringAndSize(PyBytes_AS_STRING(self._buffer) + self._pos, count)
                    self._pos += count
                    return ready(data)
                if count >= self._straight and (self._adapts or count % self._window == 0):
                    data = (<Position>self._raw).read_at_once(count)
                    if data is not None and (PyBytes_GET_SIZE(data) == count or PyBytes_GET_SIZE(data) == 0):
                        return ready(data)
                    return self.read_slowly(size, data)
        return self.read_slowly(size, None)

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
        cdef int overflow = 0
        cdef int64_t target
        cdef Position raw
        if self._straight < NEVER_BYTES and type(offset) is int and type(whence) is int and whence == 0:
            target = as_long_long(offset, &overflow)
            raw = <Position>self._raw
            if target >= 0 and not overflow and raw._positioned and not raw._shared:
                raw._position = target
                self._read_end = self._read_limit = -1
                if self._adapts:
                    self._window = self._straight = FIRST_BYTES
                return ready(offset)
        return self.seek_slowly(offset, whence)

    def write(self, data, /):
        """Write bytes; returns their number.  What fits into the buffer is written later, at the latest by `close`.

        Large data is written from where it is: it must stay as it is until this returns.

        Raises:
            OSError: as from write(2): ENOSPC, EDQUOT, EFBIG, EIO, EPIPE.
            ValueError: the file is closed.
            io.UnsupportedOperation: the file is not open for writing.
        """
        cdef Py_ssize_t count
        if type(data) is bytes:
            count = PyBytes_GET_SIZE(data)
            if count <= self._write_limit - self._pos and self._credit > 0:
                self._credit -= 1
                memcpy(PyByteArray_AS_STRING(self._buffer) + self._pos, PyBytes_AS_STRING(data), count)
                self._pos += count
                self._write_end = self._pos
                return ready(count)
        return self.write_slowly(data)


cdef class Decoded:
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

    def next_line(self):
        """A coroutine for the next line, when it is not here."""
        raise NotImplementedError

    def __aiter__(self):
        return self

    def __anext__(self):
        cdef Py_ssize_t end
        if self.iterating:
            end = PyUnicode_FindChar(self.chars, 10, self.used, len(self.chars), 1)
            if end >= 0:
                line = PyUnicode_Substring(self.chars, self.used, end + 1)
                self.used = end + 1
                return ready(line)
        return self.next_line()


def iterated(type kind):
    """A class decorator: `async for` calls `Decoded.__anext__` directly, and does not look the method up each time."""
    take_anext(<PyTypeObject *>kind, <PyTypeObject *>Decoded)
    return kind
