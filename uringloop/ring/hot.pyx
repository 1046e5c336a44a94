# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=False
"""The hot half: the tick with its dispatch, and `Stream`, compiled over the same C core that cffi binds.

What runs once a message lives here; everything else is Python.  No callback runs while CQEs are walked in C: `wait`
copies what they say into an array of events, `dispatch` walks that.  If a callback lets KeyboardInterrupt or SystemExit
through, the rest of the array is dispatched on the next tick, before anything else runs.

The GIL is released only around a wait that may block, and nothing but the system call runs without it.
"""

from asyncio import BufferedProtocol
from logging import getLogger

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.contextvars cimport PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EINTR, EBUSY, EAGAIN, ETIME
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from os import strerror

_log = getLogger("asyncio")

cdef enum:
    # Writes of at least this many bytes are referenced, not copied.
    PIN_FROM_BYTES = 16384
    # Writes of at least this many bytes to an idle stream go to the socket at once, as asyncio's do: a protocol is then
    # paused only when the socket is full, not whenever it writes more than the high-water mark.
    SEND_NOW_FROM_BYTES = 65536
    LOST_WRITES_BEFORE_WARNING = 5


cdef raise_errno(int error):
    raise OSError(-error, strerror(-error))


cdef class Pin:
    """An object's buffer held still, so that the kernel may read or write it: neither resized nor freed until dropped.

    Args:
        buffer: bytes, bytearray, memoryview, or another object with a contiguous buffer.
        writable: the kernel will write into it.

    Raises:
        TypeError: the object has no buffer.
        BufferError: it is not contiguous, or read-only where writable is asked for.
    """

    cdef Py_buffer view

    def __cinit__(self, buffer, *, bint writable=False):
        PyObject_GetBuffer(buffer, &self.view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)

    def __dealloc__(self):
        PyBuffer_Release(&self.view)

    @property
    def address(self):
        return <uintptr_t>self.view.buf

    @property
    def size_bytes(self):
        return self.view.len


cdef class Dispatcher:
    """Stages SQEs, waits, and hands each completion to its owner.

    Args:
        ring_address: of the core's `ul_ring`.
        capacity: the largest number of completions of one tick.
        report: called with (exception, operation) when an operation's `complete` raises.
    """

    cdef ul_ring *ring
    cdef ul_event *events
    cdef int count, cursor, capacity
    cdef uint64_t next_token
    cdef object report
    cdef set streams
    cdef readonly dict operations

    def __cinit__(self, uintptr_t ring_address, int capacity, report):
        self.ring = <ul_ring *>ring_address
        self.capacity = capacity
        self.events = <ul_event *>malloc(capacity * sizeof(ul_event))
        if self.events == NULL:
            raise MemoryError
        self.report = report
        self.streams = set()
        self.operations = {}

    def __dealloc__(self):
        free(self.events)

    def detach(self):
        """Forget the ring, which is about to be closed: everything after this is refused."""
        cdef Stream stream
        for stream in self.streams:
            stream.handle = NULL
            stream.closing = stream.lost = True
        self.streams.clear()
        self.ring = NULL
        self.count = self.cursor = 0

    cdef int check(self) except -1:
        if self.ring == NULL:
            raise RuntimeError("the ring is closed")
        return 0

    def stage(self, operation, int opcode, int fd, uint64_t addr=0, uint32_t length=0, uint64_t offset=0,
              uint32_t op_flags=0, int ioprio=0, int sqe_flags=0, int buf_index=0, int file_index=0, uint64_t addr3=0):
        """Stage one SQE for an operation, which the in-flight table holds until its last CQE; returns the token."""
        cdef int error = 0
        self.check()
        cdef io_uring_sqe *sqe = ul_next_sqe(self.ring, &error)
        if sqe == NULL:
            raise_errno(error)
        self.next_token += 1
        cdef uint64_t token = self.next_token << UL_KIND_BITS
        sqe.opcode = opcode
        sqe.flags = sqe_flags
        sqe.ioprio = ioprio
        sqe.fd = fd
        sqe.off = offset
        sqe.addr = addr
        sqe.len = length
        sqe.op_flags = op_flags
        sqe.user_data = token
        sqe.buf_index = buf_index
        sqe.splice_fd_in = file_index
        sqe.addr3 = addr3
        self.operations[token] = operation
        return token

    def take_buffer(self, uint32_t flags, int size_bytes):
        """The bytes that a receive with BUFFER_SELECT put into the buffer that its CQE's flags name; recycles it."""
        cdef uint32_t buffer_id = flags >> IORING_CQE_BUFFER_SHIFT
        try:
            return PyBytes_FromStringAndSize(ul_buffer_lend(self.ring, buffer_id), size_bytes)
        finally:
            ul_buffer_recycle(self.ring, buffer_id)

    def grow_buffers(self):
        """Add to the buffer group, if it may grow: a receive found it empty."""
        ul_buffers_grow(self.ring)

    def cancel(self, uint64_t token):
        """Ask the kernel to cancel the operation of this token; its completion still comes."""
        self.check()
        cdef int error = ul_stage_cancel(self.ring, token)
        if error < 0:
            raise_errno(error)

    def cancel_all(self):
        """Ask the kernel to cancel everything in flight, and drop what streams have queued."""
        cdef Stream stream
        for stream in self.streams:
            stream.closing = True
            ul_stream_abort(stream.handle)
        self.check()
        cdef int error = ul_stage_cancel_all(self.ring)
        if error < 0:
            raise_errno(error)

    def has_work(self):
        """Whether sleeping would be wrong: completions at hand or under way, SQEs staged, events not yet dispatched."""
        return self.cursor < self.count or ul_has_work(self.ring)

    def has_events(self):
        return self.cursor < self.count

    def submit(self):
        """Hand what is staged to the kernel now; what completes is left for the next `wait`."""
        self.check()
        self.enter(0)

    cdef bint enter(self, int64_t timeout_ns) except -1:
        """Submit, and wait for a completion; whether a signal came first."""
        cdef int result
        result = ul_prepare(self.ring, &timeout_ns)
        if result > 0 and timeout_ns == 0:
            result = ul_enter(self.ring, 0, -1)
        elif result > 0:
            with nogil:
                result = ul_enter(self.ring, 1, timeout_ns)
        if result < 0 and result not in (-EINTR, -EBUSY, -EAGAIN, -ETIME):
            raise_errno(result)
        return result == -EINTR

    def wait(self, int64_t timeout_ns):
        """Submit, wait for a completion, and copy out what completed.

        Args:
            timeout_ns: at most this long; 0 does not wait, a negative number waits for ever.

        Returns:
            The number of events to dispatch; 0 also after a signal or the timeout.
        """
        cdef uint64_t completed
        cdef bint interrupted
        cdef int64_t deadline_ns = 0
        if self.cursor < self.count:
            self.enter(0)
            return self.count - self.cursor
        if timeout_ns > 0:
            deadline_ns = ul_now_ns() + timeout_ns
        while True:
            self.check()
            completed = ul_completed(self.ring)
            interrupted = self.enter(timeout_ns)
            self.cursor = 0
            self.count = self.reap_all()
            # Sends that end well, and nothing else, are no reason to wake Python.
            if self.count > 0 or timeout_ns == 0 or interrupted or ul_completed(self.ring) == completed:
                return self.count
            if timeout_ns > 0:
                timeout_ns = deadline_ns - ul_now_ns()
                if timeout_ns <= 0:
                    return 0

    cdef int reap_all(self) except -1:
        cdef int result = ul_reap(self.ring, self.events, self.capacity)
        if result < 0:
            if result not in (-EINTR, -EBUSY, -EAGAIN, -ETIME):
                raise_errno(result)
            return 0
        return result

    def reap(self):
        """Copy out what has completed, without a system call: all that another thread than the ring's may do."""
        self.check()
        if self.cursor == self.count:
            self.cursor = 0
            self.count = ul_reap_ready(self.ring, self.events, self.capacity)

    def move(self, uintptr_t ring_address):
        """Go on with another ring.  No stream is open; operations are to be submitted again."""
        assert not self.streams
        self.ring = <ul_ring *>ring_address
        self.operations.clear()

    def arm_eventfd(self):
        ul_eventfd_arm(self.ring)

    def disarm_eventfd(self):
        ul_eventfd_disarm(self.ring)

    def dispatch(self):
        """Hand every event to its operation or stream."""
        cdef ul_event *event
        while self.cursor < self.count:
            event = &self.events[self.cursor]
            self.cursor += 1
            if event.stream != NULL:
                owner = <Stream>ul_stream_owner(event.stream)
            elif event.flags & IORING_CQE_F_MORE:
                owner = self.operations[event.token]
            else:
                owner = self.operations.pop(event.token)
            try:
                if event.stream != NULL:
                    (<Stream>owner).receive_in_context(event)
                else:
                    owner.complete(event.res, event.flags)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self.report(error, owner)


# What a paused stream keeps for later beside bytes: an end of file, or the errno of a failed receive.
cdef object EOF = object()


cdef class Stream:
    """One connected socket or pipe: bytes in to the protocol, bytes out from `write`.

    The transport owns the socket and the cold half of the state; it is told through `eof_received_by_stream`,
    `stream_failed`, `protocol_failed`, `finish`, `stream_closed`, `queue_emptied` and asyncio's `_maybe_pause_protocol` and
    `_maybe_resume_protocol`.

    Args:
        dispatcher: of the loop's ring.
        fd: the connected socket or the pipe's end, non-blocking.
        transport: an object with the methods above.
        multishot: receive through the ring's buffer group.
        receive_size_bytes: of one receive where there is no buffer group.
        pipe: read and write instead of receiving and sending, and write at once what the pipe takes.
        polls_always: poll before each read and queued write, as kernels need where these do not wait.
    """

    cdef ul_stream *handle
    cdef Dispatcher dispatcher
    cdef object transport, protocol, context, call_soon
    cdef list held
    cdef bint buffered, eof_written, sendfile_waits, pipe
    cdef readonly bint paused, closing, lost
    cdef public size_t high_water
    cdef int lost_writes

    def __init__(self, Dispatcher dispatcher, int fd, transport, call_soon, bint multishot, int receive_size_bytes,
                 bint pipe=False, bint polls_always=False):
        cdef uint32_t flags = multishot * UL_OPEN_MULTISHOT | pipe * UL_OPEN_PIPE | polls_always * UL_OPEN_POLL_ALWAYS
        dispatcher.check()
        self.dispatcher = dispatcher
        self.transport = transport
        self.call_soon = call_soon
        self.context = PyContext_CopyCurrent()
        self.held = []
        self.pipe = pipe
        self.handle = ul_stream_open(dispatcher.ring, fd, <void *>self, flags, receive_size_bytes)
        if self.handle == NULL:
            raise MemoryError
        dispatcher.streams.add(self)

    def set_protocol(self, protocol):
        self.protocol = protocol
        self.buffered = isinstance(protocol, BufferedProtocol)

    # Receiving

    def start(self):
        """Arm the receive, unless paused or closing meanwhile."""
        if self.handle != NULL and not self.paused and not self.closing:
            self.check(ul_stream_receive(self.handle))

    def watch(self, uint32_t events):
        """Have `start` receive nothing: the transport's `hung_up` is told of one of these poll(2) events or a hang-up."""
        ul_stream_watch(self.handle, events)

    def pause(self):
        """Deliver nothing from now on.  The kernel is told only if bytes do arrive: most pauses are short.  But who pauses
        a pipe may hand it to a child that shall read on."""
        self.paused = True
        if self.pipe and self.handle != NULL:
            self.check(ul_stream_hold(self.handle))

    def resume(self):
        self.paused = False
        if self.held:
            self.call_soon(self._deliver_held, context=self.context)
        else:
            self.start()

    def _deliver_held(self):
        while self.held and not self.paused and not self.closing:
            item = self.held.pop(0)
            if item is EOF:
                self.transport.eof_received_by_stream()
            elif type(item) is int:
                self.failed(item, "read")
            else:
                self.deliver(PyBytes_AS_STRING(item), PyBytes_GET_SIZE(item), item)
        if not self.held:
            self.start()

    cdef end(self, item):
        """The last thing that was received.  asyncio reads a socket once a tick, so the end never comes in the tick of
        the last bytes, and what these woke runs first."""
        self.held.append(item)
        if not self.paused:
            self.call_soon(self._deliver_held, context=self.context)

    cdef hold(self, item):
        self.held.append(item)
        self.check(ul_stream_hold(self.handle))

    cdef receive_in_context(self, ul_event *event):
        PyContext_Enter(self.context)
        try:
            self.receive_event(event)
        finally:
            PyContext_Exit(self.context)

    cdef receive_event(self, ul_event *event):
        cdef uint32_t what = event.what
        if what & UL_STREAM_RELEASED:
            self.release_pins()
        if what & UL_STREAM_DATA:
            try:
                self.receive_data(event)
            finally:
                if self.handle != NULL:
                    ul_stream_recycle(self.handle, event)
        elif what & UL_STREAM_EOF:
            self.end(EOF)
        elif what & UL_STREAM_HANGUP:
            self.transport.hung_up(event.res != 0)
        elif what & UL_STREAM_RECEIVE_ERROR:
            self.end(<int>event.res)
        elif what & UL_STREAM_SEND_ERROR:
            self.failed(event.res, "write")
        if what & UL_STREAM_LOW:
            self.transport._maybe_resume_protocol()
            if self.closing and not self.lost and not what & UL_STREAM_CLOSED:
                self.transport.finish()
        if what & UL_STREAM_EMPTY:
            self.transport.queue_emptied()
        # Resuming may have queued more, which asyncio sends even in a closing connection.
        if what & UL_STREAM_CLOSED and ul_stream_quiet(self.handle):
            self.lost = True
            self.transport.stream_closed()

    cdef failed(self, int res, direction):
        try:
            raise_errno(res)
        except OSError as error:
            self.transport.stream_failed(error, direction)

    cdef receive_data(self, ul_event *event):
        if self.closing:
            return
        if self.paused or self.held:
            self.hold(PyBytes_FromStringAndSize(event.data, event.res))
            return
        self.deliver(event.data, event.res, None)

    cdef deliver(self, const char *data, Py_ssize_t size, whole):
        cdef Py_ssize_t taken
        try:
            while size > 0 and self.buffered:
                taken = self.fill_buffer(data, size)
                data += taken
                size -= taken
                if size == 0 or self.closing:
                    return
                whole = None
                if self.paused:
                    self.held.insert(0, PyBytes_FromStringAndSize(data, size))
                    self.check(ul_stream_hold(self.handle))
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
        protocol = self.protocol
        try:
            buffer = protocol.get_buffer(-1)
            if not len(buffer):
                raise RuntimeError("get_buffer() returned an empty buffer")
            PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.transport.protocol_failed(error, "get_buffer")
            return size
        if size > view.len:
            size = view.len
        memcpy(view.buf, data, size)
        PyBuffer_Release(&view)
        try:
            protocol.buffer_updated(size)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.transport.protocol_failed(error, "buffer_updated")
        return size

    # Sending

    def write(self, data):
        """Queue bytes to be sent, in order.  See `asyncio.WriteTransport.write`.

        Raises:
            TypeError: data is not bytes, bytearray or memoryview.
            RuntimeError: after `write_eof`, or while a sendfile is in progress.
        """
        if not self.may_write(data):
            return
        self.append(data)
        if self.handle != NULL and ul_stream_queued(self.handle) > self.high_water:
            self.transport._maybe_pause_protocol()

    def writelines(self, list_of_data):
        """Queue each of several pieces.  See `asyncio.WriteTransport.writelines`."""
        for data in list_of_data:
            if self.may_write(data):
                self.append(data)
        if self.handle != NULL and ul_stream_queued(self.handle) > self.high_water:
            self.transport._maybe_pause_protocol()

    cdef bint may_write(self, data) except -1:
        if not PyBytes_CheckExact(data) and not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if self.eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self.sendfile_waits:
            raise RuntimeError("unable to write; sendfile is in progress")
        if self.lost:
            if data:
                if self.lost_writes >= LOST_WRITES_BEFORE_WARNING:
                    _log.warning("socket.send() raised exception.")
                self.lost_writes += 1
            return False
        return True

    cdef append(self, data):
        cdef Py_buffer view
        cdef const char *start
        cdef Py_ssize_t size
        cdef int error = 0
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        start = <const char *>view.buf
        size = view.len
        if size >= SEND_NOW_FROM_BYTES or self.pipe:
            size -= ul_stream_send_now(self.handle, start, size)
            start += view.len - size
        if size >= PIN_FROM_BYTES and PyBytes_CheckExact(data):
            error = ul_stream_write_pinned(self.handle, start, size, <void *>data)
            if error == 0:
                Py_INCREF(data)
        elif size > 0:
            error = ul_stream_write(self.handle, start, size)
        PyBuffer_Release(&view)
        self.check(error)

    def notify_low(self, size_t low_water_bytes):
        """Call the transport's `_maybe_resume_protocol` when the queue has fallen to this."""
        if self.handle != NULL:
            ul_stream_notify_low(self.handle, low_water_bytes)

    def queued(self):
        """Bytes accepted by `write` that the kernel has not reported sent."""
        return ul_stream_queued(self.handle) if self.handle != NULL else 0

    def write_eof(self):
        """Shut the sending side down once the queue is sent."""
        if self.eof_written or self.handle == NULL:
            return
        self.eof_written = True
        self.check(ul_stream_write_eof(self.handle))

    def hold_writes(self):
        """Refuse writes until `allow_writes`, and report the queue empty; returns whether it already is."""
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

    def close(self, bint abort=False):
        """Stop receiving; send what is queued, or drop it.

        Afterwards `lost` says whether there is nothing to be sent: the connection is over for the protocol, and writes
        are ignored.  A paused protocol may still have something: `finish` is called again when it was resumed.

        Returns:
            Whether nothing is in flight either; otherwise `stream_closed` is called later.
        """
        cdef int result
        self.closing = True
        if self.handle == NULL:
            return True
        if abort or (ul_stream_queued(self.handle) == 0 and not self.transport._protocol_paused):
            self.lost = True
        self.held.clear()
        result = ul_stream_abort(self.handle) if abort else ul_stream_close(self.handle)
        self.check(result)
        self.release_pins()
        return result == 1

    def is_quiet(self):
        """Whether nothing is queued or in flight, so that the socket may be closed."""
        return self.handle == NULL or ul_stream_quiet(self.handle)

    def free(self):
        """Let go of the core's half; only when nothing is in flight."""
        if self.handle == NULL:
            return
        self.release_pins()
        ul_stream_free(self.handle)
        self.handle = NULL
        self.dispatcher.streams.discard(self)
        self.transport = self.protocol = None

    cdef int check(self, int result) except -1:
        if result < 0:
            raise_errno(result)
        return 0
