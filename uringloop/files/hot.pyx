# cython: language_level=3, boundscheck=False, wraparound=False
"""The hot half of files, compiled because it runs once for each line, each small read, write and seek, and each small
file.

`Position` is the base of `RawFile`, `Window` of `BufferedFile`, `Decoded` of `TextFile`, `Context` of `Opening`.  Their
methods return a `Call`, which is what a coroutine is: nothing happens before it is awaited, and then what the buffer or
the page cache can answer is answered at once.  Only for everything else the call makes a coroutine, one of those of the
Python classes, and forwards to it.

What `await` takes from a call that is over is the value of a StopIteration.  One is kept for all of them, because making
one each time would take longer than all the rest.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine
from os import isatty, lseek
from types import CoroutineType
from warnings import warn

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF
from cpython.unicode cimport PyUnicode_FindChar, PyUnicode_Substring
from libc.stdint cimport int64_t
from libc.string cimport memchr, memcpy
from posix.stat cimport S_ISBLK, S_ISCHR, S_ISREG
from posix.unistd cimport SEEK_CUR, SEEK_END

from ..ring import read_now

cdef extern from *:
    """
    static PyObject *spare_stop;

    /* The spare one keeps its value until the next call: nothing large, and nothing that must be dropped in time. */
    static int may_be_kept(PyObject *value)
    {
        if (PyBytes_CheckExact(value))
            return PyBytes_GET_SIZE(value) <= 65536;
        if (PyUnicode_CheckExact(value))
            return PyUnicode_GET_LENGTH(value) <= 65536;
        return value == Py_None || PyLong_CheckExact(value);
    }

    /* Raises StopIteration(value), without the traceback that Cython would add. */
    static void raise_stop(PyObject *value)
    {
        PyStopIterationObject *stop = (PyStopIterationObject *)spare_stop;
        if (!may_be_kept(value)) {
            PyObject *once = PyObject_CallOneArg(PyExc_StopIteration, value);
            if (once != NULL)
                PyErr_SetObject(PyExc_StopIteration, once);
            Py_XDECREF(once);
            return;
        }
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

    static void set_next(PyTypeObject *type, PyObject *(*next)(PyObject *)) { type->tp_iternext = next; }

    static void take_anext(PyTypeObject *type, PyTypeObject *base)
    {
        type->tp_as_async->am_anext = base->tp_as_async->am_anext;
    }
    """
    void raise_stop(value)
    void set_next(PyTypeObject *type, PyObject *(*next)(PyObject *) except? NULL)
    void take_anext(PyTypeObject *type, PyTypeObject *base)

cdef extern from "Python.h":
    long long as_long_long "PyLong_AsLongLongAndOverflow" (object number, int *overflow)
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_NEXT
    PySendResult PyIter_Send(PyObject *iterator, PyObject *value, PyObject **result)
    PyObject *Py_None


#: So many bytes, and no file is longer than that.
NEVER = 1 << 62
#: So many calls are served from a buffer before it is asked whether others are to have their turn.
CREDIT = 64
#: Of a buffer.  A turn of the loop costs more than a system call does: larger than the standard library's.
BUFFER_SIZE_BYTES = 128 * 1024
#: What reading ahead begins with.
FIRST_WINDOW_BYTES = 4096
#: A read at once takes at most this much: some 50 microseconds.
PIECE_BYTES = 512 * 1024

cdef int64_t NEVER_BYTES = NEVER
cdef int64_t USUAL_BYTES = BUFFER_SIZE_BYTES
cdef int64_t FIRST_BYTES = FIRST_WINDOW_BYTES
cdef int64_t PIECE = PIECE_BYTES
cdef object MISS = object()
# Held in C variables, because Python would look a global name up in a dict each time.
cdef object read_cached = read_now
cdef object Coroutines = CoroutineType

cdef enum Kind:
    READ
    READLINE
    SEEK
    WRITE
    NEXT_LINE
    OPEN
    CLOSE
    LOCK
    UNLOCK

cdef tuple NAMES = (
    "read", "readline", "seek", "write", "__anext__", "__aenter__", "close", "Lock.__aenter__", "Lock.__aexit__"
)


@cython.final
@cython.freelist(32)
cdef class Call:
    """A coroutine of a file's method.

    Attributes:
        file: whose method it is; None as soon as it is awaited.
        first: and second: its arguments.
        running: the coroutine that does what cannot be done at once.
    """

    cdef Kind kind
    cdef object file, first, second
    cdef object running

    def __dealloc__(self):
        # As for any coroutine.  The file is still there, because its own deallocation does not come here.
        if self.file is not None:
            warn(f"coroutine {self.__name__!r} was never awaited", RuntimeWarning, stacklevel=1)

    @property
    def __name__(self):
        """Of the method."""
        return NAMES[self.kind]

    @property
    def cr_await(self):
        """What it waits for; see `types.CoroutineType`."""
        return self.running

    def __await__(self):
        if self.running is not None:
            raise RuntimeError("coroutine is being awaited already")
        return self

    def __iter__(self):
        return self

    def __next__(self):
        raise NotImplementedError  # replaced below

    def send(self, value, /):
        """See `coroutine.send`."""
        if self.running is None:
            return next(self)
        return self.forward(self.running.send, value)

    def throw(self, *exception):
        """See `coroutine.throw`."""
        if self.running is None:
            self.file = None
            raise exception[0] if len(exception) < 2 or exception[1] is None else exception[1]
        return self.forward(self.running.throw, *exception)

    def forward(self, method, *arguments):
        try:
            return method(*arguments)
        except BaseException:
            self.running = None
            raise

    def close(self):
        """See `coroutine.close`."""
        self.file = None
        running, self.running = self.running, None
        if running is not None:
            running.close()

    cdef answer(self):
        """What there is to answer at once; else MISS, and there is a coroutine running."""
        file, self.file = self.file, None
        if self.kind == READ:
            return (<Window>file).read_here(self)
        if self.kind == NEXT_LINE:
            return (<Lines>file).next_here(self)
        if self.kind == SEEK:
            return (<Window>file).seek_here(self)
        if self.kind == WRITE:
            return (<Window>file).write_here(self)
        if self.kind == READLINE:
            return (<Window>file).readline_here(self)
        if self.kind == OPEN:
            return (<Context>file).open_here(self)
        if self.kind == CLOSE:
            return (<Window>file).close_here(self)
        if self.kind == LOCK:
            return (<Lock>file).lock_here(self)
        (<Lock>file).release()
        return None


cdef inline Call call(file, Kind kind, first=None, second=None):
    cdef Call self = Call.__new__(Call)
    self.kind = kind
    self.file = file
    self.first = first
    self.second = second
    return self


cdef PyObject *next_of_call(PyObject *raw) except? NULL:
    cdef Call self = <Call>raw
    cdef PyObject *result = NULL
    if self.running is None:
        if self.file is None:
            raise RuntimeError("cannot reuse already awaited coroutine")
        value = self.answer()
        if value is not MISS:
            raise_stop(value)
            return NULL
    cdef PySendResult status = PyIter_Send(<PyObject *>self.running, Py_None, &result)
    if status == PYGEN_NEXT:
        return result
    self.running = None
    if status == PYGEN_RETURN:
        value = <object>result
        Py_DECREF(value)
        raise_stop(value)
    return NULL


set_next(<PyTypeObject *>Call, next_of_call)
Coroutine.register(Call)


cdef class Lock:
    """One call on a file at a time, in the order in which they were made.  To be held with `async with`.

    As `asyncio.Lock`, but the holder hands over to the next one directly, so that nobody gets in between, and taking it
    when it is free costs no coroutine.

    Attributes:
        locked: somebody holds it.
    """

    cdef readonly bint locked
    cdef object queue

    def __aenter__(self):
        return call(self, LOCK)

    def __aexit__(self, kind, value, traceback):
        return call(self, UNLOCK)

    cdef lock_here(self, Call call):
        if self.locked:
            call.running = self.wait()
            return MISS
        self.locked = True
        return None

    def acquire(self):
        """A coroutine that waits for one's turn."""
        return call(self, LOCK)

    async def wait(self):
        if self.queue is None:
            self.queue = deque()
        waiter = asyncio.get_running_loop().create_future()
        self.queue.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                # It was handed over, but never taken.
                self.release()
            else:
                self.queue.remove(waiter)
            raise

    cpdef release(self):
        """Hand over to the next one, if there is one."""
        while self.queue:
            waiter = self.queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.locked = False


cdef class Context:
    """The base of what `open` returns.

    Args:
        opens: a function of the arguments, which returns a file or a coroutine for one.
    """

    cdef object opens
    cdef tuple arguments
    cdef public object _file

    def __cinit__(self, opens, *arguments):
        self.opens = opens
        self.arguments = arguments

    cdef open_here(self, Call call):
        if self._file is None:
            file = self.opens(*self.arguments)
            if type(file) is Coroutines:
                call.running = self._keep(file)
                return MISS
            self._file = file
        return self._file

    def __await__(self):
        return call(self, OPEN)

    def __aenter__(self):
        return call(self, OPEN)


cdef class Base:
    """The base of all files: one call at a time, and whether it is closed.

    `_dropped` is called when nobody refers to a file any more that was not closed.

    Attributes:
        _loop: that closes it if a close is cancelled.
        _lock: held by the call in progress.
        _is_closed: or about to be.
        _closing: the task that closes it.
    """

    cdef public object _loop, _closing
    cdef readonly Lock _lock
    cdef public bint _is_closed

    def __cinit__(self, *args, **kwargs):
        # Until it is made there is nothing to close.
        self._is_closed = True
        self._lock = Lock.__new__(Lock)

    def __del__(self):
        if not self._is_closed:
            self._dropped()


cdef class Position(Base):
    """The base of a raw file: where it is, and reading there at once.

    Args:
        loop: in which it is used.
        submitter: where its operations go.
        descriptor: of the file.
        status: st_mode, st_size and st_blksize of stat(2), just now.
        mode: in which it was opened.
        name: as it was given to `open`.
        shared: others use the descriptor too.
        direct: it has O_DIRECT, so that no read is at once.

    Attributes:
        mode_flags: what its mode allows.
        is_regular: it is a file on disk.
        is_terminal: it is one.
        block_size_bytes: st_blksize of stat(2).
        written_bytes: written so far, also by writes that were cancelled.
        uncertain: a write was left to itself, and nobody knows what became of it.
        _descriptor: the file's.
        _position: in bytes from the start, unless it is shared.
        _positioned: it has a position of its own.
        _shared: others may use the descriptor, whose own position is the file's.
        _cached: it may be read at once.
        _local: that was seen to work: its file system has no server to be asked.
        _size_bytes: when it was opened, None once it may be another.
        may_go_on: says whether one more thing may be done before the loop turns.
    """

    cdef public object _submitter, _descriptor, _name, _size_bytes, _unread, mode_flags, may_go_on
    cdef public int64_t _position, block_size_bytes, written_bytes
    cdef public bint _positioned, _seekable, _writable, _shared, _cached, _local, is_regular, is_terminal, uncertain

    def __init__(self, loop, submitter, descriptor, status, mode, name, bint shared, bint direct):
        cdef int st_mode = status[0]
        self._loop = loop
        self._submitter = submitter
        self.may_go_on = submitter.may_go_on
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
        """Close a file of which nothing can be left to be written; False if it may be, or a call is in progress.

        Where RWF_NOWAIT is known to work there is no server to be told of the close either.
        """
        if self._writable or not self._cached or not self._local or self._lock.locked:
            return False
        self._is_closed = True
        self._descriptor.close()
        return True

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

    cdef int64_t expected(self) except -2:
        """How much there is to the end, as far as is known; -1 if it is not.  A file that says 0 may be of /proc."""
        if self._size_bytes is None or self._shared or not self._positioned:
            return -1
        cdef int64_t count = <int64_t>self._size_bytes - self._position
        return count if 0 < count < PIECE else -1


cdef class Lines(Base):
    """What is iterated over by lines: `next_line` is a coroutine function for what cannot be answered at once."""

    cdef next_here(self, Call call):
        call.running = self.next_line()
        return MISS

    def __aiter__(self):
        return self

    def __anext__(self):
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
        cdef Py_ssize_t end
        if self.iterating:
            end = PyUnicode_FindChar(self.chars, 10, self.used, len(self.chars), 1)
            if end >= 0:
                line = PyUnicode_Substring(self.chars, self.used, end + 1)
                self.used = end + 1
                return line
        call.running = self.next_line()
        return MISS


def iterated(type kind):
    """A class decorator: `async for` calls `Lines.__anext__` directly, and does not look the method up each time."""
    take_anext(<PyTypeObject *>kind, <PyTypeObject *>Lines)
    return kind
