"""`Endpoint`: the engine's half of a transport, and its life from open to closed.

Closing is delicate, because three ends come at times of their own: the protocol's, with `connection_lost`; that of the
queue, which a closing endpoint still sends; and that of the kernel's hold on the descriptor.  As with asyncio, the
protocol is told in the tick after the close, or when the queue is sent.  The file closes right after that, or later,
when the kernel has released it.
"""

from logging import getLogger

from cpython.contextvars cimport PyContext_CopyCurrent
from libc.errno cimport ECONNRESET, errno
from posix.unistd cimport close as close_fd

from ..ring.dispatcher cimport raise_errno
from ..ring.core.core cimport ul_descriptor_closes
from ..ring.owner cimport Owner, drop_owner
from ..tick cimport Tick, check_thread, is_foreign
from .base cimport EngineBase

_log = getLogger("asyncio")

cdef enum:
    # asyncio counts the loss itself as the first of five.
    LOST_WRITES_BEFORE_WARNING = 4

# The states of an endpoint, in one table:
#
#     OPEN ---> FLUSHING ---> ENDING ---> CLOSED
#       |                                   ^
#       +----------- detached --------------+
#
# OPEN carries bytes both ways.  FLUSHING delivers no more to the protocol; the queue is being sent.  ENDING: nothing
# more is sent, writes are ignored, and `connection_lost` comes soon.  CLOSED: `connection_lost` was called.  From
# FLUSHING on the kernel may still hold the file, until the endpoint is `released`.
cdef int[4] FOLLOWING = [1 << FLUSHING | 1 << CLOSED, 1 << ENDING, 1 << CLOSED, 0]
cdef tuple NAMES = ("open", "flushing", "ending", "closed")
#: As asyncio's transports call the states.
cdef tuple SHOWN = ("open", "closing", "closing", "closed")


def _wake(waiter):
    if not waiter.done():
        waiter.set_result(None)


cdef class Endpoint(Owner):
    """A socket or pipe that the core serves by itself.  It stands between dispatcher and transport.

    It owns the file, which is an object (`file`), or only a descriptor until the transport makes an object of it.

    Attributes:
        fd: the descriptor, -1 when it is closed.
        file: the object that has the descriptor, or None.
        protocol: the transport's protocol; None once the connection is over.
        opened_fd: the descriptor that it was made with.
        high_water: the queue's high-water mark, in bytes.
    """

    def __init__(self, *_):
        raise TypeError("an Engine opens endpoints")

    def __call__(self):
        """Return the transport.  So an endpoint is its own reference in asyncio's weak dictionary of transports."""
        return self.transport

    # The methods of each kind of endpoint

    cdef bint has_core(self):
        """Return whether the core's half is there."""
        raise NotImplementedError

    cdef int receive_in_core(self):
        """Arm the receive; return a negative errno if the core refuses it."""
        raise NotImplementedError

    cdef int hold_in_core(self):
        """Stop receiving; return 1 if a receive is being cancelled, or a negative errno."""
        raise NotImplementedError

    cdef size_t queued_bytes(self):
        """Return the size of the send queue in bytes."""
        raise NotImplementedError

    cdef int close_in_core(self, bint abort):
        """Stop receiving; send the queue, or drop it.

        Returns:
            1 if nothing is in flight, 0 if the core tells of that later, or a negative errno.
        """
        raise NotImplementedError

    cdef bint is_idle(self):
        """Return whether nothing is queued or in flight, so that the file may be closed."""
        raise NotImplementedError

    cdef bint is_alone(self):
        """Return whether no other code of this process can have a copy of the descriptor."""
        return False

    cdef free_core(self):
        """Free the core's half; nothing of it may be in flight."""
        raise NotImplementedError

    cdef deliver_item(self, item):
        """Deliver one kept item."""
        raise NotImplementedError

    cdef closing(self, bint abort):
        """Hear that the transport is being closed, maybe not for the first time."""

    cdef closing_file(self):
        """Hear that the file is about to be closed: the last moment in which it can be asked."""

    cdef lost(self):
        """Hear that the connection is over."""

    # Threads

    cdef int check_caller(self) except -1:
        """Refuse a call of another thread than the loop's, as far as the loop is strict."""
        return check_thread(&self.engine.dispatcher.tick)

    cdef bint hands_over(self, end, argument) except -1:
        """Have the loop's thread end the endpoint, and return whether it does.

        The garbage collector may run in any thread, and close transports.  In debug mode this refuses.
        """
        cdef Tick *tick = &self.engine.dispatcher.tick
        if not is_foreign(tick) or not tick.is_strict:
            return False
        if self.engine.loop.get_debug():
            check_thread(tick)
        self.engine.loop.call_soon_threadsafe(end, argument)
        return True

    # Beginning

    cdef take_file(self, EngineBase engine, transport, int fd, file):
        engine.refuse_closed()
        self.engine = engine
        self.transport = transport
        self.fd = self.opened_fd = fd
        self.file = file
        if self.context is None:
            self.context = PyContext_CopyCurrent()

    def begin(self, protocol, waiter, bint starts=True):
        """End the transport's making: soon the protocol is told, then this starts, then the waiter is told."""
        self.set_protocol(protocol)
        if not self.is_pipe:
            self.engine.transports[self.fd] = self
        self.soon(protocol.connection_made, self.transport)
        if starts:
            self.soon(self.start)
        if waiter is not None:
            self.soon(_wake, waiter)

    def detach(self):
        """Leave the file to the caller, open: the transport could not be made.  Return its object or None."""
        if not self.is_pipe:
            self.engine.transports.pop(self.fd, None)
        self.tell_close(self.fd, False)
        self.fd = -1
        file, self.file = self.file, None
        if self.state != CLOSED:
            self.advance(CLOSED)
        self.lost()
        self.free_half()
        return file

    cdef soon(self, callback, argument=None):
        if argument is None:
            self.engine.call_soon(callback, context=self.own_context)
        else:
            self.engine.call_soon(callback, argument, context=self.own_context)

    def set_protocol(self, protocol):
        self.check_caller()
        self.protocol = protocol

    # Receiving

    def start(self):
        """Deliver the kept items and arm the receive, unless the endpoint is paused or closing meanwhile."""
        if not self.has_core() or self.paused or not delivers(self):
            return
        if self.held:
            self._deliver_held()
        else:
            checked(self.receive_in_core())

    def pause(self):
        """Deliver nothing from now on.

        Later bytes stay with the kernel: another process may have been given the socket or the pipe, to read on.
        """
        self.check_caller()
        self.paused = True
        if self.has_core() and checked(self.hold_in_core()) == 1:
            self.engine.dispatcher.submit_cancel()

    def resume(self):
        """Deliver the kept items soon, and then later ones."""
        self.check_caller()
        self.paused = False
        if self.held:
            self.deliver_soon()
        else:
            self.start()

    cdef keep(self, item):
        """Keep a received item for later."""
        if self.held is None:
            self.held = []
        self.held.append(item)

    cdef hold(self, item):
        """Keep an item, and receive no more meanwhile."""
        self.keep(item)
        checked(self.hold_in_core())

    cdef deliver_soon(self):
        self.engine.call_soon(self._deliver_held, context=self.context)

    def _deliver_held(self):
        try:
            while self.held and not self.paused and delivers(self):
                self.deliver_item(self.held.pop(0))
        except BaseException:
            self.deliver_soon()  # KeyboardInterrupt or SystemExit: the others come in the next tick
            raise
        if not self.held:
            self.start()

    # Sending

    def queued(self):
        """Return the number of written bytes that the kernel has not reported sent."""
        self.check_caller()
        return self.queued_bytes()

    cdef note_lost_write(self):
        if self.lost_writes >= LOST_WRITES_BEFORE_WARNING:
            _log.warning("socket.send() raised exception.")
        else:
            self.lost_writes += 1

    # The states

    @property
    def state(self):
        """Return the state's name, for `repr`."""
        return SHOWN[self.state]

    @property
    def paused(self):
        """Return whether the protocol reads nothing."""
        return self.paused != 0

    @property
    def is_open(self):
        return self.state == OPEN

    cdef int advance(self, int to) except -1:
        if not FOLLOWING[self.state] & 1 << to:
            raise RuntimeError(f"an endpoint cannot go from {NAMES[self.state]} to {NAMES[to]}")
        self.state = to
        return 0

    # Closing

    def close(self, bint abort=False):
        """Close, unless that is under way; an abort drops the queue of a closing endpoint."""
        if self.hands_over(self.close, abort):
            return
        self.closing(abort)
        if self.state == OPEN:
            self.advance(FLUSHING)
        elif not abort:
            return
        self.finish(abort)

    def force_close(self, error):
        """Abort, and tell the protocol the first error."""
        if self.state >= ENDING or self.hands_over(self.force_close, error):
            return
        if self.error is None:
            self.error = error
        self.close(True)

    cdef finish(self, bint abort):
        """Close the core's half, and tell the protocol soon if the queue is empty.

        A paused protocol may have more to send, so its resume calls this again.
        """
        cdef bint ends = abort or not self.has_core()
        if not ends and self.queued_bytes() == 0:
            ends = not self.transport._protocol_paused
        self.held = None
        self.released = checked(self.close_in_core(abort)) == 1
        if self.released and not ends:
            ends = not self.transport._protocol_paused  # the close has sent the queue
        if ends and self.state == FLUSHING:
            self.advance(ENDING)
            self.soon(self._lose_connection)

    cdef queue_fell(self, bint closed):
        """Take the fall of the queue to the low-water mark; `closed` tells that `core_closed` comes next."""
        self.transport._maybe_resume_protocol()
        if self.state == FLUSHING and not closed:
            self.finish(False)

    cdef core_closed(self):
        """Take the end of the core's half, unless a resumed protocol has queued more, which asyncio sends even then."""
        if self.has_core() and self.is_idle():
            self.file_released()

    def _lose_connection(self):
        """Tell the protocol, and close the file if the kernel has released it; otherwise `file_released` does."""
        self.advance(CLOSED)
        # Not kept: its traceback may lead back to the transport.
        error, self.error = self.error, None
        try:
            self.protocol.connection_lost(error)
        finally:
            self.set_protocol(None)
            if self.is_idle():
                self.close_file()
            self.lost()
            if self.released:
                self.free_half()

    def file_released(self):
        """Hear that nothing of the file is queued or in flight any more."""
        self.released = True
        if self.state == CLOSED:
            self.close_file()
            self.free_half()
        elif self.state != ENDING:
            self.advance(ENDING)
            self._lose_connection()

    def close_file(self):
        """Close an open file; nothing of it may be queued or in flight."""
        cdef int fd, result
        if self.fd < 0:
            return
        self.closing_file()
        fd, self.fd = self.fd, -1
        file, self.file = self.file, None
        if fd < 0:
            return
        if not self.is_pipe:
            self.engine.transports.pop(fd, None)
        self.tell_close(fd, self.is_alone())
        if file is not None:
            file.close()
            return
        with nogil:
            result = close_fd(fd)
        if result < 0 and errno != ECONNRESET:
            raise_errno(-errno)

    cdef tell_close(self, int fd, bint alone):
        """Tell the ring that the endpoint lets go of its descriptor, and whether that closes the file."""
        if self.engine.dispatcher.has_memory():
            ul_descriptor_closes(self.engine.dispatcher.ring, fd, alone)

    cdef orphan(self):
        """Hear that the loop is closed: nothing comes any more, and the transport is its holders' own."""
        self.orphaned = True
        self.engine.transports.pop(self.fd, None)

    cdef abort_in_core(self):
        self.orphaned = True
        self.close_in_core(True)

    cdef free_half(self):
        self.freeing = True
        if self.untold > 0:
            return
        self.free_core()
        drop_owner(self.engine.dispatcher.owners, self)
        self.transport = self.protocol = None

    cdef tuple shown(self):
        owner = self if self.transport is None else self.transport
        return owner, () if self.protocol is None else (self.protocol,)

    cdef hearer(self):
        return self.protocol
