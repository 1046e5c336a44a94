"""`Stream`: the engine's half of the transport of a connection or a pipe."""

from asyncio import BufferedProtocol
from sys import version_info

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.contextvars cimport PyContext_Exit
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EAGAIN
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from ..ring.core.core cimport ENOMEM, ul_outcome
from ..ring.dispatcher cimport Dispatcher, raise_errno
from ..ring.owner cimport add_owner, warm_lines
from .base cimport EngineBase
from .core cimport (
    UL_STREAM_CLOSED, UL_STREAM_DATA, UL_STREAM_EMPTY, UL_STREAM_EOF, UL_STREAM_HANGUP, UL_STREAM_LOW,
    UL_STREAM_READABLE, UL_STREAM_RECEIVE_ERROR, UL_STREAM_RELEASED, UL_STREAM_SEND_ERROR, ul_stream_abort,
    ul_stream_close, ul_stream_finished, ul_stream_free, ul_stream_hold, ul_stream_is_alone, ul_stream_may_be_last,
    ul_stream_notify_empty, ul_stream_notify_low, ul_stream_open, ul_stream_queued, ul_stream_idle, ul_stream_receive,
    ul_stream_recycle, ul_stream_released, ul_stream_send_behind, ul_stream_send_now, ul_stream_send_queued,
    ul_stream_share, ul_stream_take, ul_stream_takes_much, ul_stream_take_back, ul_stream_watch, ul_stream_write,
    ul_stream_write_eof, ul_stream_write_pinned,
)
from .endpoint cimport ENDING, Endpoint, checked, delivers, enter_context
from .joining cimport join_server, leave_server
from .receiver cimport Receiver
from .stream_reader cimport feed_reader, feeds_reader
from .tls cimport receiver_of

cdef enum:
    # Writes of at least this many bytes to an idle stream go to the socket at once, as asyncio's do.  So a full socket
    # alone pauses a protocol, and not each write above the high-water mark.  The bytes are also still in the cache.
    # The unsent rest is referenced, not copied.
    LARGE_BYTES = 16384
    # As much as asyncio reads at once.
    READY_BYTES = 262144

# A paused stream also keeps an end of file, or the errno of a failed receive.
cdef object EOF = object()

#: asyncio's words for the types that may be written.
cdef object WRITABLE = "bytes, bytearray, or memoryview" if version_info >= (3, 14) else "bytes-like"


cdef extern from "<netinet/in.h>" nogil:
    enum:
        IPPROTO_TCP

cdef extern from "<netinet/tcp.h>" nogil:
    enum:
        TCP_NODELAY
    int setsockopt(int fd, int level, int option, const void *value, uint32_t size)


cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject *)  # of an object it would count the reference that it is passed
    PyObject *new_bytes "PyBytes_FromStringAndSize"(const char *data, Py_ssize_t size_bytes) except NULL
    char *bytes_of "PyBytes_AS_STRING"(PyObject *data)
    int _PyBytes_Resize(PyObject **data, Py_ssize_t size_bytes) except -1
    object raise_if_null "(PyObject *)"(PyObject *result)

cdef extern from *:
    """
    /* Calls data_received with whole, or with new bytes if that is None.  In C, because a `try` costs as much as the
     * rest of a delivery. */
    static PyObject *deliver_bytes(PyObject *protocol, PyObject *name, const char *data, Py_ssize_t size,
                                   PyObject *whole)
    {
        PyObject *result = NULL;
        whole = whole == Py_None ? PyBytes_FromStringAndSize(data, size) : Py_NewRef(whole);
        if (whole != NULL)
            result = PyObject_CallMethodOneArg(protocol, name, whole);
        Py_XDECREF(whole);
        return result;
    }
    """
    PyObject *deliver_bytes(object protocol, object name, const char *data, Py_ssize_t size, object whole)


cdef class Stream(Endpoint):
    """One connected socket or pipe: bytes in to the protocol, bytes out from `write`.  `Engine` opens it.

    The transport is told through `eof_received_by_stream`, `stream_failed`, `protocol_failed`, `queue_emptied`,
    `stop_sending_file`, `keep_answers` and asyncio's `_maybe_pause_protocol` and `_maybe_resume_protocol`.
    """

    cdef open(self, EngineBase engine, transport, int fd, file, uint32_t flags):
        """Open the core's half; `flags` are UL_OPEN_*."""
        self.take_file(engine, transport, fd, file)
        self.handle = ul_stream_open(engine.dispatcher.ring, fd, <void *>self, flags)
        if self.handle == NULL:
            raise MemoryError
        add_owner(engine.dispatcher.owners, self)

    def join(self, server):
        """Join the `asyncio.Server` that accepted the connection.

        Raises:
            Exception: as from the server, which may have been closed meanwhile.
        """
        join_server(self, server)

    def set_protocol(self, protocol):
        # Asking a protocol may run Python, which may set another one: first everything is asked, then it is set.
        self.check_caller()
        cdef bint feeds = feeds_reader(protocol)
        cdef Receiver receiver = receiver_of(protocol), previous = self.receiver
        cdef bint buffered = receiver is not None or isinstance(protocol, BufferedProtocol)
        self.buffered, self.feeds, self.receiver = buffered, feeds, receiver
        self.protocol = protocol
        if previous is not None:
            previous.detached()

    cdef str method_for(self, uint32_t what, bint direct):
        if what & (UL_STREAM_DATA | UL_STREAM_READABLE):
            return "buffer_updated" if self.buffered and direct else "data_received"
        return "resume_writing" if what & (UL_STREAM_LOW | UL_STREAM_EMPTY) else "connection_lost"

    # Receiving

    def preload(self, data):
        """Keep bytes that were received before the stream was made."""
        self.keep(data)

    def watch(self, uint32_t events):
        """Have `start` receive nothing, and tell `hung_up` of the transport of these poll(2) events or a hang-up."""
        ul_stream_watch(self.handle, events)

    cdef bint has_core(self):
        return self.handle != NULL

    cdef int receive_in_core(self):
        return ul_stream_receive(self.handle)

    cdef int hold_in_core(self):
        return ul_stream_hold(self.handle)

    cdef deliver_item(self, item):
        if item is EOF:
            self.transport.eof_received_by_stream()
        elif type(item) is int:
            self.failed(item, "read")
        else:
            self.deliver(PyBytes_AS_STRING(item), PyBytes_GET_SIZE(item), item)

    cdef end(self, item):
        """Keep the end, and deliver it soon.

        asyncio reads a socket once a tick, so the end never comes in the tick of the last bytes.  The tasks that the
        bytes woke run first.
        """
        self.keep(item)
        if not self.paused:
            self.deliver_soon()

    cdef void warm(self, const ul_outcome *outcome) noexcept:
        warm_lines(self.handle)
        warm_lines(<PyObject *>self.transport)
        warm_lines(<PyObject *>self.protocol)
        warm_lines(<PyObject *>self.context)
        if outcome.what & UL_STREAM_DATA:
            warm_lines(outcome.data)

    cdef take_outcome(self, ul_outcome *outcome):
        try:
            context = enter_context(self.context)
            try:
                self.receive_in_context(outcome)
            finally:
                PyContext_Exit(context)
        finally:
            if outcome.what & UL_STREAM_DATA and self.handle != NULL:
                ul_stream_recycle(self.handle, outcome)

    cdef receive_in_context(self, ul_outcome *outcome):
        cdef uint32_t what = outcome.what
        if what & UL_STREAM_RELEASED:
            self.release_pins()
        if self.orphaned:
            return
        if what & UL_STREAM_DATA:
            self.receive_data(outcome)
        elif what & UL_STREAM_READABLE:
            self.receive_ready()
        elif what & UL_STREAM_EOF:
            self.end(EOF)
        elif what & UL_STREAM_HANGUP:
            self.transport.hung_up(outcome.res != 0)
        elif what & UL_STREAM_RECEIVE_ERROR:
            self.end(<int>outcome.res)
        elif what & UL_STREAM_SEND_ERROR:
            # If a receive was told the reason, the send has merely found a broken pipe.
            last = self.held[len(self.held) - 1] if self.held else None
            self.failed(last if type(last) is int else outcome.res, "write")
        if what & (UL_STREAM_LOW | UL_STREAM_EMPTY | UL_STREAM_CLOSED):
            self.go_on(what)

    cdef go_on(self, uint32_t what):
        try:
            if what & UL_STREAM_LOW:
                self.queue_fell(what & UL_STREAM_CLOSED != 0)
            if what & UL_STREAM_EMPTY:
                self.transport.queue_emptied()
        finally:
            if what & UL_STREAM_CLOSED:
                self.core_closed()

    cdef drop_core(self):
        self.release_pins()
        self.handle = NULL
        self.orphan()

    cdef failed(self, int res, direction):
        try:
            raise_errno(res)
        except OSError as error:
            self.transport.stream_failed(error, direction)

    cdef receive_ready(self):
        """Receive by readiness, at most 256 KiB a tick, as asyncio does."""
        cdef EngineBase engine = self.engine
        cdef int size
        if not delivers(self) or self.paused or self.held:
            return
        if ul_stream_takes_much(self.handle) and not self.buffered and not self.feeds:
            self.receive_much()
            return
        cdef char *data = engine.take_received()
        try:
            size = self.take(data)
            if size > 0:
                self.deliver(data, size, None)
        finally:
            engine.give_received(data)

    cdef receive_much(self):
        """Receive straight into the bytes object for the protocol."""
        cdef PyObject *whole = new_bytes(NULL, READY_BYTES)
        cdef int size = 0
        try:
            size = self.take(bytes_of(whole))
        finally:
            # For 0 bytes it gives the empty object.
            _PyBytes_Resize(&whole, size)
            data = <object>whole
            Py_DECREF(data)
        if size > 0:
            self.deliver(PyBytes_AS_STRING(data), size, data)

    cdef int take(self, char *data) except -1:
        """Receive; return the number of bytes, 0 for none.  Deliver an end or an error soon."""
        cdef int size = ul_stream_take(self.handle, data, READY_BYTES)
        if size == 0:
            self.end(EOF)
        elif size < 0 and size != -EAGAIN:
            self.end(size)
        return max(size, 0)

    cdef receive_data(self, ul_outcome *outcome):
        if not delivers(self):
            return
        if self.paused or self.held:
            self.hold(PyBytes_FromStringAndSize(outcome.data, outcome.res))
            return
        self.deliver(outcome.data, outcome.res, None)

    cdef deliver(self, const char *data, Py_ssize_t size, whole):
        cdef PyObject *result
        if self.buffered or self.feeds:
            self.deliver_in_place(data, size, whole)
            return
        result = deliver_bytes(self.protocol, "data_received", data, size, whole)
        if result == NULL:
            self.delivery_failed()
        else:
            Py_DECREF(<object>result)

    cdef delivery_failed(self):
        try:
            raise_if_null(NULL)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.transport.protocol_failed(error, "data_received")

    cdef deliver_in_place(self, const char *data, Py_ssize_t size, whole):
        """Deliver into the memory of a buffered protocol or of a stream reader, as long as it is one."""
        cdef Py_ssize_t taken
        try:
            while size > 0 and self.buffered:
                taken = self.fill_buffer(data, size)
                data += taken
                size -= taken
                if size == 0 or not delivers(self):
                    return
                whole = None
                if self.paused:
                    if self.held is None:
                        self.held = []
                    self.held.insert(0, PyBytes_FromStringAndSize(data, size))
                    checked(ul_stream_hold(self.handle))
                    return
            if self.feeds and feed_reader(self.protocol, data, size):
                return
            if whole is None:
                whole = PyBytes_FromStringAndSize(data, size)
            self.protocol.data_received(whole)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.transport.protocol_failed(error, "data_received")

    cdef Py_ssize_t fill_buffer(self, const char *data, Py_ssize_t size) except -1:
        cdef Py_buffer view
        cdef str method = "buffer_updated"
        cdef Receiver receiver = self.receiver  # it may be replaced by a callback
        protocol = self.protocol
        try:
            if receiver is not None and receiver.receive(data, size):
                return size
            method = "get_buffer"
            buffer = protocol.get_buffer(-1)
            if not len(buffer):
                raise RuntimeError("get_buffer() returned an empty buffer")
            PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
            if not self.engine.dispatcher.has_memory():
                # `get_buffer` forked, and this is the child, or it closed the loop.
                PyBuffer_Release(&view)
                return size
            if size > view.len:
                size = view.len
            memcpy(view.buf, data, size)
            PyBuffer_Release(&view)
            method = "buffer_updated"
            protocol.buffer_updated(size)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.transport.protocol_failed(error, method)
        return size

    # Sending

    def write(self, data):
        """Queue bytes to be sent, in order.  See `asyncio.WriteTransport.write`.

        Raises:
            TypeError: data is not bytes, bytearray or memoryview.
            RuntimeError: after `write_eof`, or while a sendfile is in progress.
            MemoryError: nothing of it is queued.  If a part was sent, the connection is closed.
        """
        self.write_one(data)

    cdef write_one(self, data):
        if not self.may_write(data, "write"):
            return
        self.append(data, self.sends_at_once())
        if self.handle != NULL and ul_stream_queued(self.handle) > self.high_water:
            self.transport._maybe_pause_protocol()

    def writelines(self, list_of_data):
        """Queue each of several pieces.  See `asyncio.WriteTransport.writelines`.

        Raises:
            BufferError: one is not contiguous.  None of them is queued; if a part was sent, the connection is closed.
            MemoryError: the same.
        """
        pieces = list(list_of_data)
        for data in pieces:
            if not self.may_write(data, "writelines"):
                return
        if pieces:
            self.append_all(pieces)
        if self.handle != NULL and ul_stream_queued(self.handle) > self.high_water:
            self.transport._maybe_pause_protocol()

    cdef append_all(self, list pieces):
        """Queue all pieces, with one send for the small ones."""
        cdef bint at_once = self.sends_at_once()
        cdef Py_ssize_t size = 0
        try:
            for data in pieces:
                size += self.append(data, self.is_pipe)
        except (BufferError, MemoryError) as error:
            # Take the earlier pieces back, all or none: the caller may write all again.
            if self.handle != NULL and self.state < ENDING and not ul_stream_take_back(self.handle, size):
                self.force_close(error)
            if self.handle != NULL:
                self.release_pins()
            raise
        if at_once and self.handle != NULL:
            ul_stream_send_queued(self.handle)

    cdef bint may_write(self, data, str method) except -1:
        self.check_caller()
        if not PyBytes_CheckExact(data) and not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be a {WRITABLE} object, not {type(data).__name__!r}")
        if self.eof_written:
            raise RuntimeError(f"Cannot call {method}() after write_eof()")
        if self.sendfile_waits:
            raise RuntimeError(f"unable to {method}; sendfile is in progress")
        if self.state >= ENDING or self.handle == NULL:
            if data:
                self.note_lost_write()
            return False
        return True

    cdef bint sends_at_once(self) noexcept:
        """Return whether the next write goes to the socket now, and not together with those of other callbacks."""
        if self.handle == NULL:
            return False  # the write's data has closed the loop
        if self.is_pipe:
            return True
        cdef Dispatcher dispatcher = self.engine.dispatcher
        if dispatcher.sends_at_once():
            if not ul_stream_may_be_last(self.handle):
                return True
            dispatcher.hold()
        dispatcher.tick.unsent = True
        return False

    cdef Py_ssize_t append(self, data, bint at_once) except -1:
        """Send or queue the bytes; return their number."""
        cdef Py_buffer view
        cdef const char *start
        cdef Py_ssize_t size, size_bytes
        cdef int error = 0
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        # Checked only now: a `__buffer__` in Python may close the transport, or the loop.
        if self.handle == NULL or self.state >= ENDING or (not delivers(self) and ul_stream_finished(self.handle)):
            PyBuffer_Release(&view)
            return 0
        start = <const char *>view.buf
        size = size_bytes = view.len
        if self.delays_small_writes:
            self.disable_nagle(size)
        if size >= LARGE_BYTES:
            size -= ul_stream_send_behind(self.handle, start, size)
        elif at_once and size > 0:
            size -= ul_stream_send_now(self.handle, start, size)
        start += view.len - size
        if size >= LARGE_BYTES and PyBytes_CheckExact(data):
            error = ul_stream_write_pinned(self.handle, start, size, <void *>data)
            if error == 0:
                Py_INCREF(data)
        elif size > 0:
            error = ul_stream_write(self.handle, start, size)
        if error == -ENOMEM and start != view.buf:
            # A part was sent, which nothing takes back: no other bytes may follow it.
            self.force_close(MemoryError())
        PyBuffer_Release(&view)
        if error == -ENOMEM:
            raise MemoryError
        checked(error)
        return size_bytes

    cdef write_memory(self, const char *data, Py_ssize_t size_bytes):
        """Do the work of `write` for bytes of compiled code, which are copied."""
        cdef int error = 0
        cdef Py_ssize_t sent = 0
        if self.state >= ENDING or self.handle == NULL:
            self.note_lost_write()
            return
        if not delivers(self) and ul_stream_finished(self.handle):
            return
        if self.delays_small_writes:
            self.disable_nagle(size_bytes)
        if size_bytes >= LARGE_BYTES:
            ul_stream_send_queued(self.handle)
        if size_bytes >= LARGE_BYTES or self.sends_at_once():
            sent = ul_stream_send_now(self.handle, data, size_bytes)
        if sent < size_bytes:
            error = ul_stream_write(self.handle, data + sent, size_bytes - sent)
        if error == -ENOMEM and sent > 0:
            # A part was sent, which nothing takes back: no other bytes may follow it.
            self.force_close(MemoryError())
        if error == -ENOMEM:
            raise MemoryError
        checked(error)
        if ul_stream_queued(self.handle) > self.high_water:
            self.transport._maybe_pause_protocol()

    cdef disable_nagle(self, Py_ssize_t size_bytes):
        """End the delay as asyncio does for all its TCP sockets, but only when it matters.

        Nagle's algorithm delays no byte while none is under way, and many connections have one answer.
        """
        if self.has_written or size_bytes >= LARGE_BYTES:
            self.never_delay()
        self.has_written = True

    def share(self):
        """Hear that the application gets the socket: it may copy the descriptor, and use it after the end."""
        self.check_caller()
        self.never_delay()
        if self.handle != NULL:
            checked(ul_stream_share(self.handle))

    def never_delay(self):
        """End the socket's delay of small writes."""
        cdef int one = 1
        if self.delays_small_writes and self.fd >= 0:
            self.delays_small_writes = False
            setsockopt(self.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))

    def notify_low(self, size_t low_water_bytes):
        """Call the transport's `_maybe_resume_protocol` when the queue has fallen to this."""
        self.check_caller()
        if self.handle != NULL:
            ul_stream_notify_low(self.handle, low_water_bytes)

    cdef size_t queued_bytes(self):
        return ul_stream_queued(self.handle) if self.handle != NULL else 0

    def write_eof(self):
        """Shut the sending side down once the queue is sent."""
        if self.eof_written or self.handle == NULL:
            return
        self.check_caller()
        self.eof_written = True
        checked(ul_stream_write_eof(self.handle))

    cdef bint sends_queue(self) except -1:
        """Send the queue now; return whether a file may follow at once: the stream is open and nothing is queued."""
        if not delivers(self) or self.handle == NULL or self.eof_written or self.sendfile_waits:
            return False
        if self.delays_small_writes:
            self.never_delay()
        ul_stream_send_queued(self.handle)
        return ul_stream_queued(self.handle) == 0

    def hold_writes(self):
        """Refuse writes until `allow_writes`, and report the empty queue; return whether it is empty now."""
        self.sendfile_waits = True
        if self.handle == NULL or ul_stream_queued(self.handle) == 0:
            return True
        ul_stream_notify_empty(self.handle)
        return False

    def allow_writes(self):
        self.sendfile_waits = False

    cdef release_pins(self):
        cdef void *pin = ul_stream_released(self.handle)
        while pin != NULL:
            Py_DECREF(<object>pin)
            pin = ul_stream_released(self.handle)

    # Closing

    cdef closing(self, bint abort):
        if self.sendfile_waits:
            self.transport.stop_sending_file(abort)

    cdef int close_in_core(self, bint abort):
        cdef int result
        if self.handle == NULL:
            return 1
        result = ul_stream_abort(self.handle) if abort else ul_stream_close(self.handle)
        self.release_pins()
        return result

    cdef closing_file(self):
        # One reference is this object's own: the holder of another one may ask the transport about its socket later.
        if not self.is_pipe and self.transport is not None and Py_REFCNT(<PyObject *>self.transport) > 1:
            self.transport.keep_answers()

    cdef lost(self):
        leave_server(self)

    cdef bint is_idle(self):
        return self.handle == NULL or ul_stream_idle(self.handle)

    cdef bint is_alone(self):
        return self.handle != NULL and ul_stream_is_alone(self.handle)

    cdef free_core(self):
        if self.handle != NULL:
            self.release_pins()
            ul_stream_free(self.handle)
            self.handle = NULL
