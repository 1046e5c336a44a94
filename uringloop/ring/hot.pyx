# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=False
"""The hot half: the tick with its dispatch, `Endpoint` (hot_life.pxi), `Stream` (hot_stream.pxi), `Datagram`
(hot_datagram.pxi) and `Sockets` (hot_socket.pxi), compiled over the C core that cffi binds too.

What runs once a message or once a short connection lives here; everything else is Python.  No callback runs while CQEs
are walked in C: they become events at the end of a queue, and `dispatch` takes one event at a time from its front.

A callback may reap in the middle of a dispatch: it finishes an operation at once, or it runs the loop.  So the event in
hand is a copy, and nothing points into the queue while Python runs.  A dispatch within a dispatch takes the events that
the outer one has not reached.  If a callback raises KeyboardInterrupt or SystemExit, the other events stay in the
queue, and the next tick dispatches them before anything else runs.

The GIL is released only around a wait that may block, and nothing but the system call runs without it.  Beside a busy
thread even that is put off for a moment.
"""

import asyncio
import socket
from asyncio import BufferedProtocol
from asyncio.sslproto import SSLProtocol
from logging import getLogger
from operator import index as operator_index
from ssl import SSLSyscallError, SSLWantReadError

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from cpython.contextvars cimport PyContext_CopyCurrent, PyContext_Exit
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EAGAIN, EBUSY, EEXIST, EINTR, ENOBUFS, ETIME, errno
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

from os import strerror
from sys import version_info

from .errors import unavailable
from .workers import operation_error
from ..hooks import TLS_OPEN, stream_feeding, tls_is_known

from ..patched cimport Patched, look_up, patched
from ..tick cimport FEW_WRITES, Tick, begin_waiting, has_few, is_late, must_send

_log = getLogger("asyncio")

#: Of the core's sources.
BUILD = ul_build()


cdef extern from *:
    """
    static int has_other_threads(void)
    {
        PyThreadState *first = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
        return first != NULL && PyThreadState_Next(first) != NULL;
    }
    """
    bint has_other_threads()

cdef extern from *:
    """
    /* Enters a context, or a copy of it where it is entered already: by a callback that runs the loop.  Returns the
     * context to be left. */
    static PyObject *enter_context(PyObject *context)
    {
        if (PyContext_Enter(context) == 0)
            return Py_NewRef(context);
        if (!PyErr_ExceptionMatches(PyExc_RuntimeError))
            return NULL;
        PyErr_Clear();
        context = PyContext_Copy(context);
        if (context != NULL && PyContext_Enter(context) < 0)
            Py_CLEAR(context);
        return context;
    }
    """
    object enter_context(object context)

cdef enum:
    # Who waits longer for the GIL after a sleep has a busy thread beside it.
    GIL_AWAITED_NS = 2_000_000
    # Then this many sleeps are put off for a moment each, in case that what is waited for comes meanwhile.
    CONTENDED_SLEEPS = 16
    SPIN_NS = 200_000


cdef raise_errno(int error):
    if error == -EOWNERDEAD:
        raise RuntimeError(
            "this io_uring was made before fork() and belongs to the parent; make a new event loop or ring in the child"
        )
    if error == -EEXIST:
        raise RuntimeError(
            "this io_uring belongs to the thread that enabled it; use it there, or make one for each thread"
        )
    if error == -EBADFD:
        raise RuntimeError("this io_uring was made disabled and was not enabled yet")
    if error == -ENOTRECOVERABLE:
        raise unavailable(-error)
    raise OSError(-error, strerror(-error))


cdef class Dispatcher:
    """Stages SQEs, waits, and hands each completion to its owner.

    Args:
        ring_address: of the core's `ul_ring`.
        capacity: the largest number of completions of one tick.
        report: called with (exception, operation) when an operation's `complete` raises.

    Attributes:
        spin_ns: how long to wait awake at most where waits are short; 0 never.
        feed_from: how many staged SQEs `feed` hands over before the tick ends; 0 none.
        first: called before the first sleep, or before anything is submitted, to stage what is wanted then; it sets this
            to None.
    """

    cdef ul_ring *ring
    # The queue of events: those from cursor to count wait.
    cdef ul_event *events
    cdef int count, cursor, capacity
    cdef uint64_t taken  # events so far
    cdef int contended  # so many sleeps to come may be spared
    cdef public int64_t spin_ns
    cdef public uint32_t feed_from
    cdef Tick tick
    cdef int writes, last_writes  # small ones since the last enter, and before it
    cdef bint late  # the tick has gone on for long: what is written goes out at once
    cdef object report
    cdef public object first
    cdef readonly set endpoints
    cdef readonly dict operations
    cdef AddressCache addresses  # made with the first datagram socket: it is large
    cdef char *received  # what endpoints receive into by readiness, UL_DATAGRAM_BUFFER_SIZE bytes; NULL: none or in use

    def __cinit__(self, uintptr_t ring_address, int capacity, report):
        self.ring = <ul_ring *>ring_address
        self.capacity = capacity
        self.events = <ul_event *>malloc(capacity * sizeof(ul_event))
        if self.events == NULL:
            raise MemoryError
        self.report = report
        self.endpoints = set()
        self.operations = {}

    def __dealloc__(self):
        free(self.events)
        free(self.received)

    cdef char *take_received(self) except NULL:
        """Memory to receive into, until `give_received`: a callback may run the loop, which then receives elsewhere."""
        cdef char *memory = self.received
        self.received = NULL
        if memory == NULL:
            memory = <char *>malloc(UL_DATAGRAM_BUFFER_SIZE)
            if memory == NULL:
                raise MemoryError
        return memory

    cdef give_received(self, char *memory):
        if self.received == NULL:
            self.received = memory
        else:
            free(memory)

    def detach(self):
        """Forget the ring, which is about to be closed: everything after this is refused."""
        cdef Endpoint endpoint
        self.ring = NULL
        self.count = self.cursor = 0
        # Letting go of a protocol may run Python.
        endpoints, self.endpoints = self.endpoints, set()
        for endpoint in endpoints:
            endpoint.forget_core()

    cdef int check(self) except -1:
        if self.ring == NULL:
            raise RuntimeError("the ring is closed")
        return 0

    cdef bint has_memory(self):
        """Whether the queues and the receive buffers are there: the ring is open, and this is no forked child."""
        return self.ring != NULL and not ul_ring_forgotten(self.ring)

    def stage(self, operation, int opcode, int fd, uint64_t addr=0, uint32_t length=0, uint64_t offset=0,
              uint32_t op_flags=0, int ioprio=0, int sqe_flags=0, int buf_index=0, int file_index=0, uint64_t addr3=0):
        """Stage one SQE for an operation, which the in-flight table holds until its last CQE; returns the token."""
        return self.stage_sqe(
            operation, opcode, fd, addr, length, offset, op_flags, ioprio, sqe_flags, buf_index, file_index, addr3
        )

    cdef uint64_t stage_sqe(self, operation, int opcode, int fd, uint64_t addr, uint32_t length, uint64_t offset,
                            uint32_t op_flags, int ioprio, int sqe_flags, int buf_index, int file_index,
                            uint64_t addr3) except 0:
        cdef int error = 0
        self.check()
        if sqe_flags & IOSQE_BUFFER_SELECT and buf_index == UL_GROUP_STREAM:
            ul_buffers_need(self.ring)
        cdef io_uring_sqe *sqe = ul_next_sqe(self.ring, &error)
        if sqe == NULL:
            raise_errno(error)
        cdef uint64_t token = ul_operation_token(self.ring)
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

    cpdef feed(self):
        """Submit early if much is staged for a disk: it idles, or falls asleep, while a large batch is put together."""
        if self.feed_from > 0 and self.ring != NULL and ul_staged(self.ring) >= self.feed_from:
            self.enter(0)

    def reserve(self, uint32_t count):
        """Make room for count SQEs in a row, which go to the kernel together."""
        self.check()
        cdef int error = ul_reserve(self.ring, count)
        if error < 0:
            raise_errno(error)

    def retire(self, uint64_t token, int res=0):
        """The operation of this token ended without a CQE: it was told to, and what was linked behind it completed, or
        it was linked behind one like that, which failed.  Returns its result.
        """
        self.check()
        operation = self.operations.pop(token)
        ul_retire(self.ring)
        ul_cancel_forget(self.ring, token)
        res = operation.finish(res)
        operation.release()
        return res

    def take_buffer(self, uint32_t flags, int size_bytes):
        """The bytes that a receive with BUFFER_SELECT put into the buffer that its CQE's flags name; recycles it."""
        return self.bytes_of_buffer(flags, size_bytes)

    cdef bytes_of_buffer(self, uint32_t flags, int size_bytes):
        cdef uint32_t buffer_id = flags >> IORING_CQE_BUFFER_SHIFT
        self.check()
        if ul_ring_forgotten(self.ring):
            raise_errno(-EOWNERDEAD)
        try:
            return PyBytes_FromStringAndSize(
                ul_buffer_lend(self.ring, UL_GROUP_STREAM, buffer_id, <void *>self), size_bytes
            )
        finally:
            ul_buffer_recycle(self.ring, UL_GROUP_STREAM, buffer_id, <void *>self)

    def grow_buffers(self):
        """Add to the buffer group, if it may grow: a receive found it empty.  Whether there is a group at all."""
        return ul_buffers_found_empty(self.ring, UL_GROUP_STREAM) != -ENOBUFS

    def cancel(self, uint64_t token):
        """Ask the kernel to cancel the operation of this token; its completion still comes, unless the ring is closed.

        In a forked child the operation ends here: the kernel completes it for the parent, in the parent's memory.
        """
        if self.ring == NULL:
            return
        if ul_ring_forgotten(self.ring):
            self.complete(token, -ECANCELED, 0)
            return
        cdef int error = ul_stage_cancel(self.ring, token)
        if error < 0:
            raise_errno(error)

    def cancel_all(self):
        """Ask the kernel to cancel everything in flight, and drop what is queued to be sent."""
        cdef Endpoint endpoint
        for endpoint in self.endpoints:
            endpoint.abort_in_core()
        self.check()
        cdef int error = ul_stage_cancel_all(self.ring)
        if error < 0:
            raise_errno(error)

    def has_work(self):
        """Whether sleeping would be wrong: completions at hand or under way, SQEs staged, events not yet dispatched."""
        return self.has_memory() and (self.cursor < self.count or ul_has_work(self.ring) != 0)

    def callbacks(self):
        """Yield an `EventCallback` for each event that waits now, to be called before the next one is asked for."""
        cdef uint64_t end = self.taken + <uint64_t>(self.count - self.cursor)
        while self.taken < end and self.cursor < self.count:
            yield EventCallback.__new__(EventCallback, self)

    def has_events(self):
        return self.cursor < self.count

    def submit(self):
        """Hand what is staged to the kernel now; what completes is left for the next `wait`."""
        self.check()
        self.enter(0)
        self.tick.events = 0

    # When written bytes leave: see tick.pxd

    @property
    def tick_address(self):
        """Where the scheduler finds the `Tick`."""
        return <uintptr_t>&self.tick

    cdef bint sends_at_once(self) noexcept:
        """Whether a small write goes to its socket now.

        Where many callbacks of a tick write, one enter for all costs less.
        """
        self.writes += 1
        if has_few(&self.tick) or self.last_writes <= FEW_WRITES or self.late:
            return True
        if is_late(&self.tick):
            self.send_waiting()
            return True
        return False

    cdef void hold(self) noexcept:
        """What is written next waits for the end of the callback."""
        if has_few(&self.tick):
            begin_waiting(&self.tick)
        self.tick.held = True

    cpdef void send_waiting(self) noexcept:
        """Send what waits for the tick's end, or for the end of the callback."""
        if self.ring == NULL:
            return
        self.tick.held = False
        self.late = is_late(&self.tick)
        self.tick.unsent = ul_streams_send(self.ring, self.late) and not self.late

    def send_if_late(self):
        """The same between two callbacks, if it is time."""
        if must_send(&self.tick):
            self.send_waiting()

    cdef submit_cancel(self):
        """A receive is being cancelled, so that what arrives from now on stays with its socket or pipe.

        With DEFER_TASKRUN the next enter is soon enough: nothing is received but in an enter, after what it submits.
        """
        if not ul_ring_setup_flags(self.ring) & IORING_SETUP_DEFER_TASKRUN:
            self.enter(0)

    def finish_now(self, uint64_t token):
        """Submit what is staged; if that completed the operation of this token, take its completion: (res, flags).

        None if the completion comes by `dispatch`.  What else completed is left for the next dispatch.
        """
        cdef int place, found
        cdef ul_event event
        self.check()
        self.enter(0)
        found = self.reap_ready()
        for place in range(self.count - found, self.count):
            event = self.events[place]
            if event.owner == NULL and event.token == token and not event.flags & IORING_CQE_F_MORE:
                self.count -= 1
                memmove(&self.events[place], &self.events[place + 1], (self.count - place) * sizeof(ul_event))
                del self.operations[token]
                return event.res, event.flags
        return None

    cdef bint enter(self, int64_t timeout_ns) except -1:
        """Submit, and wait for a completion; whether a signal came first."""
        cdef int result
        cdef int64_t awake_ns
        if self.first is not None and ul_staged(self.ring):
            self.first()
        self.begin_batch()
        result = ul_prepare(self.ring, &timeout_ns)
        if result > 0 and timeout_ns == 0:
            result = ul_enter(self.ring, 0, -1)
        elif result > 0 and not self.finds_without_sleeping(timeout_ns):
            with nogil:
                result = ul_sleep(self.ring, timeout_ns, self.spin_ns)
                awake_ns = ul_now_ns()
            self.contended -= self.contended > 0
            if ul_now_ns() - awake_ns > GIL_AWAITED_NS and has_other_threads():
                self.contended = CONTENDED_SLEEPS
        if result < 0 and result not in (-EINTR, -EBUSY, -EAGAIN, -ETIME):
            raise_errno(result)
        return result == -EINTR

    cdef inline void begin_batch(self) noexcept:
        self.late = self.tick.unsent = self.tick.held = False
        if self.writes > 0:
            self.last_writes, self.writes = self.writes, 0

    cdef bint finds_without_sleeping(self, int64_t timeout_ns):
        """Whether a completion comes in a moment for which the GIL may be kept.

        Beside a thread that computes in Python, who lets go of the GIL is given it back after a switch interval, 5 ms
        in which much more would have arrived.  The other thread is not starved: the callbacks' Python gives the GIL up
        as soon as it has been asked for, for as long.
        """
        return self.contended > 0 and ul_spin(self.ring, SPIN_NS if timeout_ns < 0 else min(SPIN_NS, timeout_ns))

    def wait(self, int64_t timeout_ns):
        """Submit, wait for a completion, and copy out what completed.

        Args:
            timeout_ns: at most this long; 0 does not wait, a negative number waits for ever.

        Returns:
            The number of events to dispatch; 0 also after a signal or the timeout.
        """
        return self.wait_for(timeout_ns)

    cdef int wait_for(self, int64_t timeout_ns) except -1:
        cdef uint64_t completed
        cdef bint interrupted
        cdef int64_t deadline_ns = 0
        if self.cursor < self.count:
            timeout_ns = 0
        if timeout_ns != 0 and self.first is not None:
            self.first()
        if timeout_ns > 0:
            deadline_ns = ul_now_ns() + timeout_ns
        while True:
            self.check()
            completed = ul_completed(self.ring)
            interrupted = self.enter(timeout_ns)
            self.reap_all()
            # Behind what is small, which is told in the same tick.
            self.add(ul_streams_give_turns(self.ring, self.events + self.count, self.capacity - self.count))
            if ul_ring_wants_room(self.ring) and ul_ring_make_room(self.ring) == 0:
                self.grow(ul_ring_entries(self.ring, 1))
            self.tick.events = self.count - self.cursor
            if self.cursor < self.count or timeout_ns == 0 or interrupted or ul_completed(self.ring) == completed:
                return self.count - self.cursor
            # Sends that end well, and nothing else, are no reason to wake Python: sleep on, if anything may still come.
            if ul_in_flight(self.ring) == 0:
                return 0
            if timeout_ns > 0:
                timeout_ns = deadline_ns - ul_now_ns()
                if timeout_ns <= 0:
                    return 0

    def grow(self, int capacity):
        """Room for as many completions as the ring's queue holds now."""
        if capacity <= self.capacity:
            return
        cdef void *events = realloc(self.events, capacity * sizeof(ul_event))
        if events == NULL:
            raise MemoryError
        self.events = <ul_event *>events
        self.capacity = capacity

    cdef inline int room(self) noexcept:
        """Make room at the queue's end; returns the number of free places."""
        cdef int waiting = self.count - self.cursor
        if waiting == 0:
            self.cursor = self.count = 0
        elif self.cursor > self.capacity // 2 or self.count == self.capacity:
            # Half of the queue is moved at most once while as many events are taken.
            memmove(self.events, &self.events[self.cursor], waiting * sizeof(ul_event))
            self.cursor, self.count = 0, waiting
        return self.capacity - self.count

    cdef int reap_all(self) except -1:
        """Queue an event for everything that has completed, as far as there is room; returns their number."""
        cdef int room = self.room()
        cdef int result = ul_reap(self.ring, self.events + self.count, room)
        if result < 0:
            if result not in (-EINTR, -EBUSY, -EAGAIN, -ETIME):
                raise_errno(result)
            return 0
        if result > 0:
            self.add(result)
        return result

    cdef int reap_ready(self) noexcept:
        """The same without a system call."""
        cdef int room = self.room()
        cdef int result = ul_reap_ready(self.ring, self.events + self.count, room)
        self.add(result)
        return result

    cdef void add(self, int count) noexcept:
        """Count the events that were written behind the queue: each holds the core's half of its endpoint."""
        cdef int place
        for place in range(self.count, self.count + count):
            if self.events[place].owner != NULL:
                (<Endpoint>self.events[place].owner).untold += 1
        self.count += count

    def reap(self):
        """Copy out what has completed, without a system call: all that another thread than the ring's may do."""
        self.check()
        self.reap_ready()

    def move(self, uintptr_t ring_address):
        """Go on with another ring.  No stream or datagram socket is open; operations are to be submitted again."""
        assert not self.endpoints
        self.ring = <ul_ring *>ring_address
        self.operations.clear()

    def arm_eventfd(self):
        ul_eventfd_arm(self.ring)

    def disarm_eventfd(self):
        ul_eventfd_disarm(self.ring)

    def dispatch(self):
        """Hand each event that waits now to its operation or endpoint; the next call has those that callbacks add.

        Raises:
            RuntimeError: a callback forked, and this is the child.
        """
        cdef uint64_t end = self.taken + <uint64_t>(self.count - self.cursor)
        while self.taken < end and self.hand_over():
            pass

    cdef inline bint hand_over(self) except -1:
        """Hand the first event of the queue to its owner; returns whether there may be another one."""
        cdef ul_event event
        # A signal handler that raises does so here, where it loses no event, and not on entering a callback.
        PyErr_CheckSignals()
        if must_send(&self.tick):
            self.send_waiting()
        if self.cursor == self.count:
            return False
        if ul_ring_forgotten(self.ring):
            raise_errno(-EOWNERDEAD)
        event = self.events[self.cursor]
        self.cursor += 1
        self.taken += 1
        if event.owner != NULL:
            self.tell(<Endpoint>event.owner, &event)
        else:
            self.complete(event.token, event.res, event.flags)
        return self.ring != NULL

    cdef tell(self, Endpoint endpoint, ul_event *event):
        try:
            endpoint.receive_event(event)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.report(error, endpoint)
        finally:
            endpoint.untold -= 1
            if endpoint.freeing:
                endpoint.free()

    cdef complete(self, uint64_t token, int res, uint32_t flags):
        if flags & IORING_CQE_F_MORE:
            operation = self.operations.get(token)
        else:
            operation = self.operations.pop(token, None)
            if ul_cancel_targets(self.ring) > 0:
                ul_cancel_forget(self.ring, token)
        if operation is None:
            return  # a message from another ring
        try:
            if type(operation) is Receiving:
                (<Receiving>operation).arrive(res, flags)
            elif type(operation) is Reading:
                (<Reading>operation).complete(res, flags)
            else:
                operation.complete(res, flags)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.report(error, operation)


include "hot_pin.pxi"
include "hot_event.pxi"
include "hot_life.pxi"
include "hot_server.pxi"
include "hot_reader.pxi"
include "hot_tls.pxi"
include "hot_stream.pxi"
include "hot_datagram.pxi"
include "hot_file.pxi"
include "hot_ring.pxi"
include "hot_socket.pxi"
include "hot_loan.pxi"
