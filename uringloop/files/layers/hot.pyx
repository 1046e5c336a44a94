# cython: language_level=3, boundscheck=False, wraparound=False
"""The hot half of files, compiled because it runs once for each line, each small read, write and seek, and each small
file.

`Position` is the base of `RawFile`, `Window` of `BufferedFile`, `Decoded` of `TextFile`, `Context` of `Opening`.  Their
methods return a `Call`, which is what a coroutine is: nothing happens before it is awaited, and then what the buffer or
the page cache can answer is answered at once.  Only for everything else the call makes a coroutine, one of those of the
Python classes, and forwards to it.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine
from inspect import CO_COROUTINE
from os import isatty, lseek
from types import CoroutineType
from warnings import warn

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF
from libc.stdint cimport int64_t
from libc.string cimport memchr, memcpy
from posix.stat cimport S_ISBLK, S_ISCHR, S_ISREG
from posix.unistd cimport SEEK_CUR, SEEK_END

from ..cached import read_now

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
    EXIT
    LOCK
    UNLOCK

cdef tuple NAMES = (
    "read",
    "readline",
    "seek",
    "write",
    "__anext__",
    "__aenter__",
    "close",
    "__aexit__",
    "Lock.__aenter__",
    "Lock.__aexit__",
)


include "hot_call.pxi"


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

    cdef close_here(self, Call call):
        file, self._file = self._file, None
        if file is None:
            return None
        if isinstance(file, Window):
            return (<Window>file).close_here(call)
        call.running = file.__aexit__(*call.first)
        return MISS

    def __aexit__(self, kind, value, traceback):
        return call(self, EXIT, (kind, value, traceback))


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
        has_budget: says whether one more thing may be done before the loop turns.
    """

    cdef public object _submitter, _descriptor, _name, _size_bytes, _unread, mode_flags, has_budget
    cdef public int64_t _position, block_size_bytes, written_bytes
    cdef public bint _positioned, _seekable, _writable, _shared, _cached, _local, is_regular, is_terminal, uncertain

    def __init__(self, loop, submitter, descriptor, status, mode, name, bint shared, bint direct):
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
        if not self._cached or self.has_budget() is not True:
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


include "hot_buffer.pxi"


looks_async(Lock.__aenter__, Lock.__aexit__, Lock.acquire, Context.__aenter__, Context.__aexit__)
looks_async(Window.read, Window.readline, Window.seek, Window.write, Window.close, Window.__aexit__, Lines.next_call)


def iterated(type kind):
    """A class decorator: `async for` calls `Lines.__anext__` directly, and does not look the method up each time."""
    kind.__anext__ = Lines.next_call
    take_anext(<PyTypeObject *>kind, <PyTypeObject *>Lines)
    return kind
