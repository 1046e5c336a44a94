"""The compiled halves of `StreamReader` and `StreamWriter`: reads that return at once what is there, and `drain`.

A method returns a `StreamCall`.  When that is awaited, its owner answers at once, or the call waits.  A read waits for
the reader's next bytes, on a future of the loop.  It has taken no bytes until then, so a cancelled one loses none.

Unusual arguments, and a `drain` that must wait, are left to asyncio's own coroutine functions: they work on the same
attributes.
"""

import sys
from asyncio import IncompleteReadError, LimitOverrunError
from warnings import warn

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF
from libc.string cimport memchr

from ..call cimport (
    IS_FREE_THREADED, PYGEN_NEXT, PYGEN_RETURN, Call, Py_None, PyIter_Send, PySendResult, check_loop, set_next, stop,
)
from ..engine.endpoint cimport OPEN
from ..engine.stream cimport Stream
from ..engine.stream_reader cimport FedProtocol, FedReader

from ..call import looks_async
from ..hooks import (
    STREAM_LIMIT_BYTES, StreamReaderOfAsyncio, StreamReaderProtocolOfAsyncio, StreamWriterOfAsyncio, describe_stack,
    usual_loop,
)

cdef extern from "<string.h>" nogil:
    void *memmem(const void *haystack, size_t haystack_bytes, const void *needle, size_t needle_bytes)

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX
    bint PyLong_CheckExact(object)
    long long PyLong_AsLongLongAndOverflow(object, int *overflow) except? -1

ctypedef void (*Dealloc)(PyObject *) noexcept

cdef extern from *:
    """
    static destructor dealloc_of(PyTypeObject *type) { return type->tp_dealloc; }
    static void set_dealloc(PyTypeObject *type, destructor dealloc) { type->tp_dealloc = dealloc; }

    /* The iterator of `await future`. */
    static PyObject *awaited(PyObject *future)
    {
        PyAsyncMethods *methods = Py_TYPE(future)->tp_as_async;
        if (methods != NULL && methods->am_await != NULL)
            return methods->am_await(future);
        return PyErr_Format(PyExc_TypeError, "'%.100s' object can't be awaited", Py_TYPE(future)->tp_name);
    }
    """
    object awaited(object future)
    Dealloc dealloc_of(PyTypeObject *type)
    void set_dealloc(PyTypeObject *type, Dealloc dealloc)

cdef object Reader = StreamReaderOfAsyncio, Writer = StreamWriterOfAsyncio
cdef object FEED_DATA = FedReader.feed_data
cdef object DRAIN_HELPER = StreamReaderProtocolOfAsyncio._drain_helper
cdef str FOUND = "Separator is found, but chunk is longer than limit"
cdef str NOT_FOUND = "Separator is not found, and chunk exceed the limit"
cdef tuple NAMES = (
    "StreamReader.read",
    "StreamReader.readexactly",
    "StreamReader.readline",
    "StreamReader.readuntil",
    "StreamReader.__anext__",
    "StreamWriter.drain",
)


@cython.final
cdef class StreamCall(Call):
    """A coroutine of a stream's method.

    The owner is None as soon as asyncio's coroutine runs in the call's place, and after the end.  As long as a read
    waits, `running` is the iterator of its future, and `second` that future.  After a search in vain, `first` says how
    far the stream was searched.
    """

    cdef str name(self):
        return NAMES[self.kind]

    cdef answer(self, owner):
        """Return what the method returns, or this call if it must wait: then it has its owner again."""
        cdef int kind = self.kind
        if kind == DRAIN:
            return (<WriterBase>owner).answer_drain(self)
        if (<ReaderBase>owner).shared is not None:
            (<ReaderBase>owner).load()
        if kind == READ:
            return (<ReaderBase>owner).answer_read(self)
        if kind == READ_EXACTLY:
            return (<ReaderBase>owner).answer_exactly(self)
        if kind == READ_UNTIL:
            return (<ReaderBase>owner).answer_until(self)
        if (<ReaderBase>owner).overrides_line and kind == NEXT_LINE:
            return leave_to(self, Reader.__anext__(owner))
        if (<ReaderBase>owner).overrides_until:
            return leave_to(self, Reader.readline(owner))
        return (<ReaderBase>owner).answer_line(self)

    cdef end_wait(self):
        """Let the reader forget the future that this call waits for."""
        if self.second is not None:
            if self.owner is not None and (<ReaderBase>self.owner).waiter is self.second:
                (<ReaderBase>self.owner).waiter = None
            self.second = None
        self.running = None

    def __next__(self):
        raise NotImplementedError  # replaced below

    def send(self, value, /):
        """Run to the next suspension; see `coroutine.send`."""
        if self.owner is None and self.running is not None:
            try:
                return self.running.send(value)
            except BaseException:
                self.running = None
                raise
        if value is not None and self.running is None:
            raise TypeError("can't send non-None value to a just-started coroutine")
        return next(self)

    def throw(self, *exception):
        """Raise an exception where the call is suspended; see `coroutine.throw`."""
        if self.running is None:
            if self.owner is None:
                raise RuntimeError("cannot reuse already awaited coroutine")
            self.owner = None
            raise exception[0] if len(exception) < 2 or exception[1] is None else exception[1]
        try:
            return self.running.throw(*exception)
        except BaseException:
            self.end_wait()
            self.owner = None
            raise

    def close(self):
        """Raise GeneratorExit where the call is suspended; see `coroutine.close`."""
        running = self.running
        self.end_wait()
        self.owner = None
        if running is not None:
            running.close()

    def __dealloc__(self):
        # The attributes are still there, because Call's own deallocation comes later.
        if self.second is not None:
            self.end_wait()
        elif self.owner is not None and self.kind != NEXT_LINE:
            warn(f"coroutine {self.name()!r} was never awaited", RuntimeWarning, stacklevel=1)


@cython.final
cdef class Searched:
    """A separator, and the position in the stream up to which none begins."""

    cdef bytes separator
    cdef Py_ssize_t position

    def __init__(self, bytes separator, Py_ssize_t position):
        self.separator, self.position = separator, position


cdef inline StreamCall make_call(owner, CallKind kind, first):
    cdef StreamCall call = StreamCall.__new__(StreamCall)
    call.kind, call.owner, call.first = kind, owner, first
    return call


cdef PyObject *next_of_call(PyObject *raw) except? NULL:
    cdef StreamCall call = <StreamCall>raw
    cdef PyObject *result
    cdef PySendResult status
    if call.running is None and call.owner is None:
        raise RuntimeError("cannot reuse already awaited coroutine")
    while True:
        if call.running is None:
            owner, call.owner = call.owner, None
            if IS_FREE_THREADED:
                check_loop(owner._loop)
            value = call.answer(owner)
            if value is not call:
                stop(value)
                return NULL
        running = call.running  # a `close` within drops the attribute
        result = NULL
        status = PyIter_Send(<PyObject *>running, Py_None, &result)
        if status == PYGEN_NEXT:
            return result
        call.end_wait()
        if status != PYGEN_RETURN:
            call.owner = None
            return NULL
        value = <object>result
        Py_DECREF(value)
        if call.owner is None:  # asyncio's coroutine has done everything
            stop(value)
            return NULL


cdef Dealloc dealloc_done = dealloc_of(<PyTypeObject *>Call), dealloc_owed = dealloc_of(<PyTypeObject *>StreamCall)


cdef void dealloc_call(PyObject *raw) noexcept:
    """Free a call.  One that is done skips `__dealloc__`, for which Cython puts the exception in handling aside."""
    # Without references: the object has none any more.
    if <PyObject *>(<StreamCall>raw).owner == Py_None and <PyObject *>(<StreamCall>raw).second == Py_None:
        dealloc_done(raw)
    else:
        dealloc_owed(raw)


set_next(<PyTypeObject *>StreamCall, next_of_call)
set_dealloc(<PyTypeObject *>StreamCall, dealloc_call)


cdef inline Py_ssize_t size_of(number) except? -1:
    """Return an int as a number of bytes, or the nearest one there is."""
    cdef int overflow = 0
    cdef long long size_bytes = PyLong_AsLongLongAndOverflow(number, &overflow)
    if overflow:
        return PY_SSIZE_T_MAX if overflow > 0 else -2
    return size_bytes


cdef leave_to(StreamCall call, coroutine):
    """Have asyncio's coroutine do the rest of a call."""
    call.running = coroutine
    return call


cdef class ReaderBase(FedReader):
    """The compiled half of `StreamReader`."""

    def __init__(self, limit=STREAM_LIMIT_BYTES, loop=None):
        if limit <= 0:
            raise ValueError("Limit cannot be <= 0")
        self._limit = limit
        # asyncio's methods call each other, so a method that a class overrides counts in the others too.
        self.overrides_read = type(self).read is not ReaderBase.read
        self.overrides_until = type(self).readuntil is not ReaderBase.readuntil
        self.overrides_line = self.overrides_until or type(self).readline is not ReaderBase.readline
        self.is_fed = type(self).feed_data is FEED_DATA
        self._loop = usual_loop() if loop is None else loop
        if self._loop.get_debug():
            self._source_traceback = describe_stack(sys._getframe(0))

    # Reading

    def read(self, n=-1):
        """See `asyncio.StreamReader.read`."""
        return make_call(self, READ, n)

    def readexactly(self, n):
        """See `asyncio.StreamReader.readexactly`."""
        return make_call(self, READ_EXACTLY, n)

    def readline(self):
        """See `asyncio.StreamReader.readline`."""
        return make_call(self, READ_LINE, None)

    def readuntil(self, separator=b"\n"):
        """See `asyncio.StreamReader.readuntil`."""
        return make_call(self, READ_UNTIL, separator)

    def __aiter__(self):
        return self

    def __anext__(self):
        return make_call(self, NEXT_LINE, None)

    cdef answer_read(self, StreamCall call):
        cdef Py_ssize_t count
        if self._exception is not None:
            raise self._exception
        if not PyLong_CheckExact(call.first):
            return leave_to(call, Reader.read(self, call.first))
        count = size_of(call.first)
        if count == 0:
            return b""
        if count < 0:
            if self.overrides_read:
                return leave_to(call, Reader.read(self, count))
            if self._eof:
                data = self.take_all()
                self.resume_below_limit()
                return data
            # The bytes stay here until the end, so a cancel loses none.  As with asyncio, a transport that is faster
            # than this task pauses at times.
            count = PY_SSIZE_T_MAX - self.size_bytes - 1
            return self.wait(call, "read", self.size_bytes + min(self.full_bytes, count) + 1)
        if self.size_bytes == 0 and not self._eof:
            return self.wait(call, "read", 0)
        data = self.take(min(count, self.size_bytes))
        if self._paused:
            self.resume_below_limit()
        return data

    cdef answer_exactly(self, StreamCall call):
        cdef Py_ssize_t count
        if not PyLong_CheckExact(call.first):
            return leave_to(call, Reader.readexactly(self, call.first))
        count = size_of(call.first)
        if count < 0:
            raise ValueError("readexactly size can not be less than zero")
        if self._exception is not None:
            raise self._exception
        if count == 0:
            return b""
        if self.size_bytes < count:
            if self._eof:
                raise IncompleteReadError(self.take_all(), call.first)
            return self.wait(call, "readexactly", count)
        data = self.take(count)
        if self._paused:
            self.resume_below_limit()
        return data

    cdef answer_line(self, StreamCall call):
        cdef Py_ssize_t searched_bytes = 0 if call.first is None else self.bytes_before(call.first)
        cdef const char *begin = self.memory + self.start
        cdef const char *found
        cdef Py_ssize_t size_bytes
        if self._exception is not None:
            raise self._exception
        found = <const char *>memchr(begin + searched_bytes, c"\n", self.size_bytes - searched_bytes)
        if found != NULL:
            size_bytes = found - begin
            if size_bytes > self.limit_bytes:
                return self.too_long(call, FOUND, size_bytes, size_bytes + 1)
            line = self.take(size_bytes + 1)
            if self._paused:
                self.resume_below_limit()
            return line
        if self.size_bytes > self.limit_bytes:
            return self.too_long(call, NOT_FOUND, self.size_bytes, self.size_bytes)
        if not self._eof:
            if self.size_bytes:
                call.first = self.position + self.size_bytes
            return self.wait(call, "readuntil", 0)
        line = self.take_all()
        if not line and call.kind == NEXT_LINE:
            raise StopAsyncIteration
        return line

    cdef answer_until(self, StreamCall call):
        cdef Py_ssize_t searched_bytes = 0
        separator = call.first
        if type(separator) is Searched:
            searched_bytes = self.bytes_before((<Searched>separator).position)
            separator = (<Searched>separator).separator
        if not PyBytes_CheckExact(separator) or not separator:
            return leave_to(call, Reader.readuntil(self, separator))
        cdef Py_ssize_t separator_bytes = PyBytes_GET_SIZE(separator)
        cdef const char *begin = self.memory + self.start
        cdef const char *found
        cdef Py_ssize_t size_bytes
        if self._exception is not None:
            raise self._exception
        found = <const char *>memmem(
            begin + searched_bytes, self.size_bytes - searched_bytes, PyBytes_AS_STRING(separator), separator_bytes
        )
        if found != NULL:
            size_bytes = found - begin
            if size_bytes > self.limit_bytes:
                raise LimitOverrunError(FOUND, size_bytes)
            data = self.take(size_bytes + separator_bytes)
            if self._paused:
                self.resume_below_limit()
            return data
        # The last bytes may be the beginning of a separator.
        searched_bytes = max(self.size_bytes + 1 - separator_bytes, 0)
        if searched_bytes > self.limit_bytes:
            raise LimitOverrunError(NOT_FOUND, searched_bytes)
        if self._eof:
            raise IncompleteReadError(self.take_all(), None)
        if searched_bytes:
            call.first = Searched(separator, self.position + searched_bytes)
        return self.wait(call, "readuntil", 0)

    cdef Py_ssize_t bytes_before(self, Py_ssize_t position):
        """Return how many of the bytes that are there stand before a position of the stream."""
        return max(position - self.position, 0)

    cdef take(self, Py_ssize_t size_bytes):
        """Return bytes from the beginning, and drop them here."""
        data = PyBytes_FromStringAndSize(self.memory + self.start, size_bytes)
        self.drop(size_bytes)
        return data

    cdef take_all(self):
        return self.take(self.size_bytes)

    cdef too_long(self, StreamCall call, str message, Py_ssize_t consumed_bytes, Py_ssize_t dropped_bytes):
        """Drop a line that is longer than the limit, or all there is of it."""
        try:
            raise LimitOverrunError(message, consumed_bytes)
        except LimitOverrunError:
            self.drop(dropped_bytes)
            self.resume_below_limit()
            raise ValueError(message)

    cdef int resume_below_limit(self) except -1:
        """Resume a paused transport if few enough bytes are left."""
        if self._paused and self.size_bytes <= self.limit_bytes:
            self._paused = False
            self._transport.resume_reading()
        return 0

    # Waiting

    cdef wait(self, StreamCall call, str method, Py_ssize_t wanted_bytes):
        """Have a call wait until so many bytes are there, or the end; return the call.

        Args:
            method: the name for the error.
            wanted_bytes: fewer do not wake the call; 0: any number does.
        """
        if self.waiter is not None:
            raise RuntimeError(f"{method}() called while another coroutine is already waiting for incoming data")
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        waiter = self._loop.create_future()
        call.owner, call.running, call.second = self, awaited(waiter), waiter
        self.waiter, self.wanted_bytes = waiter, wanted_bytes
        return call


looks_async(ReaderBase.read, ReaderBase.readexactly, ReaderBase.readline, ReaderBase.readuntil)


cdef class WriterBase:
    """The compiled half of `StreamWriter`."""

    def __init__(self, transport, protocol, reader, loop):
        if reader is not None and not isinstance(reader, Reader):
            raise AssertionError("the reader is no StreamReader")
        self._transport, self._protocol, self._reader, self._loop = transport, protocol, reader, loop

    @property
    def _transport(self):
        """The transport; after `start_tls` it is that of TLS."""
        return self.transport

    @_transport.setter
    def _transport(self, transport):
        # A wrapper may pass attributes through, and have a `write` of its own.
        stream = transport._endpoint if hasattr(type(transport), "_endpoint") else None
        self.stream = stream if isinstance(stream, Stream) else None
        self.transport = transport

    @property
    def _protocol(self):
        """The protocol, which tells whether the transport has room."""
        return self.protocol

    @_protocol.setter
    def _protocol(self, protocol):
        # A class may override it, or a tool replace it.
        drains = isinstance(protocol, FedProtocol) and type(protocol)._drain_helper is DRAIN_HELPER
        self.fed = protocol if drains else None
        self.protocol = protocol

    @property
    def _complete_fut(self):
        """A future that is done."""
        if self.completed is None:
            self.completed = self._loop.create_future()
            self.completed.set_result(None)
        return self.completed

    def write(self, data):
        """See `asyncio.StreamWriter.write`."""
        if self.stream is not None:
            self.stream.write_one(data)
        else:
            self.transport.write(data)

    def drain(self):
        """See `asyncio.StreamWriter.drain`."""
        return make_call(self, DRAIN, None)

    cdef answer_drain(self, StreamCall call):
        cdef FedProtocol protocol = self.fed
        reader = self._reader
        if (
            self.stream is not None
            and self.stream.state == OPEN
            and protocol is not None
            and not protocol._paused
            and not protocol._connection_lost
            and (reader is None or isinstance(reader, FedReader) and (<FedReader>reader)._exception is None)
        ):
            return None
        return leave_to(call, Writer.drain(self))


looks_async(WriterBase.drain)
