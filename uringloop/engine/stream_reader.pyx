"""Bytes into a stream reader, without the Python calls of asyncio for each piece.

`FedReader` and `FedProtocol` are the lower halves of the classes of `uringloop.streams`: the engine puts bytes into
their memory.  A reader of asyncio's own class gets them into its bytearray in the plain case: it is neither at its end
nor so full that it pauses.  Everything else is asyncio's, also where a tool has replaced a function.
"""

import asyncio
from math import floor

from cpython.bytearray cimport (
    PyByteArray_AS_STRING, PyByteArray_CheckExact, PyByteArray_FromStringAndSize, PyByteArray_GET_SIZE,
    PyByteArray_Resize,
)
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove

from ..hooks import StreamReaderOfAsyncio, StreamReaderProtocolOfAsyncio, stream_feeding

cdef extern from "Python.h":
    bint PyLong_CheckExact(object)
    bint PyFloat_CheckExact(object)
    double PyFloat_AS_DOUBLE(object)
    long long PyLong_AsLongLongAndOverflow(object, int *overflow) except? -1
    Py_ssize_t index_of "PyNumber_AsSsize_t"(object, PyObject *) except? -1
    Py_ssize_t PY_SSIZE_T_MAX
    Py_ssize_t Py_REFCNT(PyObject *)
    PyObject *call_method "PyObject_CallMethodOneArg"(object owner, object name, object argument)
    object raise_if_null "(PyObject *)"(PyObject *result)

cdef enum:
    # An empty reader keeps no more memory than this.
    KEPT_BYTES = 2048
    # The least that a reader allocates.
    FIRST_BYTES = 128

cdef object InvalidStateError = asyncio.InvalidStateError
cdef object StreamReader = StreamReaderOfAsyncio, StreamReaderProtocol = StreamReaderProtocolOfAsyncio
cdef tuple FEEDING = stream_feeding()


cdef Py_ssize_t bytes_within(limit) except -1:
    """Return the largest size in bytes that does not exceed a limit, which is any number above zero."""
    if not PyLong_CheckExact(limit):
        if limit != limit or limit >= PY_SSIZE_T_MAX:
            return PY_SSIZE_T_MAX
        limit = floor(limit)
    return index_of(limit, NULL)


cdef class FedReader:
    """The memory of a stream reader: the engine feeds it, and `uringloop.streams` reads from it.

    The attributes are asyncio's.  `_buffer` is a bytearray, made when it is asked for.  As long as other code holds it,
    it has the bytes, and they are copied out and back for each call.
    """

    def __dealloc__(self):
        free(self.memory)

    @property
    def _limit(self):
        """The limit of a line in bytes; a reader with more than twice as many pauses."""
        return self.limit

    @_limit.setter
    def _limit(self, limit):
        self.limit_bytes, self.full_bytes = bytes_within(limit), bytes_within(2 * limit)
        self.limit = limit

    @property
    def _waiter(self):
        """The future of the read that waits, or None."""
        return self.waiter

    @_waiter.setter
    def _waiter(self, waiter):
        self.waiter, self.wanted_bytes = waiter, 0

    @property
    def _buffer(self):
        """The bytes that were fed and not read."""
        if self.shared is None:
            self.shared = PyByteArray_FromStringAndSize(self.memory + self.start, self.size_bytes)
        return self.shared

    @_buffer.setter
    def _buffer(self, bytearray buffer not None):
        self.shared = buffer
        self.load()

    cdef int load(self) except -1:
        """Take the bytes of the shared bytearray, which other code may have changed."""
        shared = self.shared
        self.position += self.size_bytes
        self.start = self.size_bytes = 0
        self.append(PyByteArray_AS_STRING(shared), PyByteArray_GET_SIZE(shared))
        if Py_REFCNT(<PyObject *>shared) == 2:  # the attribute's and this function's
            self.shared = None
        return 0

    cdef int store(self) except -1:
        """Show the bytes in the shared bytearray."""
        PyByteArray_Resize(self.shared, self.size_bytes)
        memcpy(PyByteArray_AS_STRING(self.shared), self.memory + self.start, self.size_bytes)
        return 0

    cdef int append(self, const char *data, Py_ssize_t size_bytes) except -1:
        """Copy bytes to the end of the memory."""
        cdef Py_ssize_t needed_bytes = self.size_bytes + size_bytes
        cdef char *memory
        if self.start + needed_bytes > self.capacity_bytes:
            if needed_bytes <= self.capacity_bytes and self.start >= self.size_bytes:
                memmove(self.memory, self.memory + self.start, self.size_bytes)
            else:
                # Room for more, if these are not the first: moving them again and again would take too long.
                needed_bytes = max(needed_bytes + (needed_bytes >> 1 if self.size_bytes else 0), FIRST_BYTES)
                memory = <char *>malloc(needed_bytes)
                if memory == NULL:
                    raise MemoryError
                if self.size_bytes:
                    memcpy(memory, self.memory + self.start, self.size_bytes)
                free(self.memory)
                self.memory, self.capacity_bytes = memory, needed_bytes
            self.start = 0
        memcpy(self.memory + self.start + self.size_bytes, data, size_bytes)
        self.size_bytes += size_bytes
        return 0

    cdef int drop(self, Py_ssize_t size_bytes) except -1:
        """Take bytes from the beginning of the memory."""
        self.start += size_bytes
        self.position += size_bytes
        self.size_bytes -= size_bytes
        if self.size_bytes == 0:
            self.start = 0
            if self.capacity_bytes > KEPT_BYTES:
                free(self.memory)
                self.memory = NULL
                self.capacity_bytes = 0
        if self.shared is not None:
            self.store()
        return 0

    cdef int feed(self, const char *data, Py_ssize_t size_bytes) except -1:
        """Take bytes, wake the read that waits if they are enough for it, pause the transport if they are too many."""
        if self.shared is not None:
            self.load()
        self.append(data, size_bytes)
        if self.shared is not None:
            self.store()
        if self.waiter is not None:
            if self.size_bytes < self.wanted_bytes:
                return 0
            waiter, self.waiter = self.waiter, None
            result = call_method(waiter, "set_result", None)
            if result == NULL:
                let_through(waiter)
            else:
                Py_DECREF(<object>result)
        if self.size_bytes > self.full_bytes and not self._paused and self._transport is not None:
            self.pause()
        return 0

    cdef int pause(self) except -1:
        try:
            self._transport.pause_reading()
        except NotImplementedError:
            # It is not asked again.
            self._transport = None
        else:
            self._paused = True
        return 0

    def feed_data(self, data):
        """See `asyncio.StreamReader.feed_data`; data is any bytes-like object."""
        cdef Py_buffer view
        if self._eof:
            raise AssertionError("feed_data after feed_eof")
        if not data:
            return
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self.feed(<const char *>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    def at_eof(self):
        """Return whether the end was fed and all bytes are read."""
        if self.shared is not None:
            self.load()
        return self._eof and self.size_bytes == 0


cdef int let_through(waiter) except -1:
    """Raise the error of a waiter's `set_result`, unless the waiter was cancelled."""
    try:
        raise_if_null(NULL)
    except InvalidStateError:
        if not waiter.cancelled():
            raise
    return 0


cdef class FedProtocol:
    """The part of a stream's protocol that each message needs."""

    @property
    def _stream_reader(self):
        """The reader, or None if it is gone."""
        reference = self._stream_reader_wr
        return reference() if reference is not None else None

    def data_received(self, data):
        """See `asyncio.Protocol.data_received`."""
        reference = self._stream_reader_wr
        reader = reference() if reference is not None else None
        if reader is not None:
            reader.feed_data(data)


cdef object DATA_RECEIVED = FedProtocol.data_received
cdef object STREAM_READER = FedProtocol._stream_reader


cdef bint feeds_reader(protocol):
    """Return whether the protocol's bytes may go straight into its reader."""
    if isinstance(protocol, FedProtocol):
        cls = type(protocol)
        return cls.data_received is DATA_RECEIVED and cls._stream_reader is STREAM_READER
    return type(protocol) is StreamReaderProtocol and stream_feeding() == FEEDING


cdef bint fills_reader(limit, Py_ssize_t size_bytes) except -1:
    """Return whether so many bytes, more than twice its limit, pause a reader, or only asyncio can tell."""
    cdef int overflow = 0
    cdef long long limit_bytes
    if PyLong_CheckExact(limit):
        limit_bytes = PyLong_AsLongLongAndOverflow(limit, &overflow)
        # Twice the limit may be too large a number.
        return (size_bytes - 1) >> 1 >= limit_bytes if overflow == 0 else overflow < 0
    if PyFloat_CheckExact(limit):
        return size_bytes > 2 * PyFloat_AS_DOUBLE(limit)
    return True


cdef bint feed_reader(protocol, const char *data, Py_ssize_t size_bytes) except -1:
    """Do the work of the protocol's `data_received`; return False if the caller must call it."""
    if isinstance(protocol, FedProtocol):
        reference = (<FedProtocol>protocol)._stream_reader_wr
        reader = reference() if reference is not None else None
        if not isinstance(reader, FedReader) or not (<FedReader>reader).is_fed or (<FedReader>reader)._eof:
            return False
        (<FedReader>reader).feed(data, size_bytes)
        return True
    return feed_asyncio(protocol, data, size_bytes)


cdef bint feed_asyncio(protocol, const char *data, Py_ssize_t size_bytes) except -1:
    """Do the same for a protocol and a reader of asyncio's own classes."""
    reference = protocol._stream_reader_wr
    reader = reference() if reference is not None else None
    if type(reader) is not StreamReader or reader._eof:
        return False
    buffer = reader._buffer
    if not PyByteArray_CheckExact(buffer):
        return False
    cdef Py_ssize_t before = PyByteArray_GET_SIZE(buffer)
    if fills_reader(reader._limit, before + size_bytes):
        return False
    PyByteArray_Resize(buffer, before + size_bytes)
    memcpy(PyByteArray_AS_STRING(buffer) + before, data, size_bytes)
    waiter = reader._waiter
    if waiter is not None:
        reader._waiter = None
        try:
            waiter.set_result(None)
        except InvalidStateError:
            # Asking before, as asyncio does, would nearly always be in vain.
            if not waiter.cancelled():
                raise
    return True
