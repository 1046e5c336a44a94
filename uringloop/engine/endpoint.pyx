"""`Endpoint`: a transport's half in the engine, and its life from open over closing to closed.

Closing is the delicate part, because three things end at times of their own: the protocol's part, with
`connection_lost`; the queue, which a closing endpoint still sends; and the kernel's hold on the descriptor.  As in asyncio
the protocol is told in the tick after the transport was closed, or when the queue is sent.  The file is closed right
after that, or later, when the kernel has let go of it.
"""

from libc.errno cimport ECONNRESET, errno
from posix.unistd cimport close as close_fd

from ..ring.dispatcher cimport Owner, raise_errno
from .base cimport EngineBase

cdef extern from "Python.h":
    object PyWeakref_NewRef(object referent, object callback)

# The states of a connection, in one table.
#
#     OPEN ---> CLOSING ---> CLOSED
#
# OPEN carries bytes both ways.  CLOSING delivers no more to the protocol: what is queued is being sent or was dropped, and
# the kernel may still hold the file.  CLOSED: `connection_lost` was called.
cdef int[3] NEXT = [CLOSING, CLOSED, NOWHERE]
cdef tuple STATES = ("open", "closing", "closed")


def _wake(waiter):
    if not waiter.done():
        waiter.set_result(None)


cdef class Endpoint(Owner):
    """A socket or pipe that the core serves by itself, between the dispatcher, which tells of events, and a transport.

    It owns the file, which is an object (`file`), or only a descriptor until the transport makes an object of it.
    """

    # What the kinds of endpoints do in their own ways

    cdef bint close_in_core(self, bint abort) except -1:
        """Stop receiving; send what is queued, or drop it.

        Afterwards `lost` says whether there is nothing to be sent: the connection is over for the protocol, and writes
        are ignored.  A paused protocol may still have something: `finish` is called again when it was resumed.

        Returns:
            Whether nothing is in flight either; otherwise `file_released` is called later.
        """
        raise NotImplementedError

    cdef bint is_quiet(self):
        """Whether nothing is queued or in flight, so that the file may be closed."""
        raise NotImplementedError

    cdef free_core(self):
        """Let go of the core's half; only when nothing is in flight."""
        raise NotImplementedError

    cdef leaving(self, bint abort):
        """The transport is being closed, maybe not for the first time."""

    cdef closing_file(self):
        """The last moment in which the file can be asked."""

    cdef left(self):
        """The connection is over."""

    # Beginning

    cdef open_life(self, EngineBase engine, int fd, file, transport, dict transports, own_context):
        engine.dispatcher.check()
        self.engine = engine
        self.dispatcher = engine.dispatcher
        self.call_soon = engine.call_soon
        self.transport = transport
        self.own_context = own_context
        self.fd = fd
        self.file = file
        self.transports = transports

    def begin(self, protocol, waiter, bint starts=True):
        """The end of the transport's making: the protocol is told soon, then this starts, then the waiter is told."""
        self.set_protocol(protocol)
        if self.transports is not None:
            self.transports[self.fd] = PyWeakref_NewRef(self.transport, None)
        self.soon(protocol.connection_made, self.transport)
        if starts:
            self.soon(self.start)
        if waiter is not None:
            self.soon(_wake, waiter)

    def give_back(self):
        """Leave the descriptor to the caller, open: the transport could not be made."""
        if self.transports is not None:
            self.transports.pop(self.fd, None)
        self.fd = -1
        file, self.file = self.file, None
        self.state = CLOSED
        self.closing = self.lost = True
        self.left()
        self.free()
        return file

    cdef soon(self, callback, argument=None):
        if argument is None:
            self.call_soon(callback, context=self.own_context)
        else:
            self.call_soon(callback, argument, context=self.own_context)

    def set_protocol(self, protocol):
        self.protocol = protocol

    # The states

    @property
    def state(self):
        """As `repr` calls it."""
        return STATES[self.state]

    @property
    def is_open(self):
        return self.state == OPEN

    cdef int advance(self, int to) except -1:
        if NEXT[self.state] != to:
            raise RuntimeError(f"a connection cannot go from {STATES[self.state]} to {STATES[to]}")
        self.state = to
        return 0

    def leave(self, bint abort=False):
        """Close, unless that is under way; an abort drops what a closing endpoint still sends."""
        self.leaving(abort)
        if self.state == OPEN:
            self.advance(CLOSING)
        elif not abort:
            return
        self.finish(abort)

    def force_close(self, error):
        """Abort, and tell the protocol the first error."""
        if self.ending or self.state == CLOSED:
            return
        if self.error is None:
            self.error = error
        self.leave(True)

    cdef finish(self, bint abort):
        """Have the core's half closed, and the protocol told once there is nothing more to be sent."""
        self.released = self.close_in_core(abort)
        if self.lost and not self.ending:
            self.ending = True
            self.soon(self._lose_connection)

    def _lose_connection(self):
        """Tell the protocol; the file is closed now if the kernel is done with it, else by `file_released`."""
        self.advance(CLOSED)
        # Not kept: its traceback may lead back to the transport.
        error, self.error = self.error, None
        try:
            self.protocol.connection_lost(error)
        finally:
            self.set_protocol(None)
            if self.is_quiet():
                self.close_file()
            self.left()
            if self.released:
                self.free()

    def file_released(self):
        """Nothing of the file is queued or in flight any more."""
        self.released = True
        if self.state == CLOSED:
            self.close_file()
            self.free()
        elif not self.ending:
            self._lose_connection()

    def close_file(self):
        """Close it, if it is open; only when nothing is queued or in flight."""
        cdef int fd, result
        if self.fd < 0:
            return
        self.closing_file()
        fd, self.fd = self.fd, -1
        file, self.file = self.file, None
        if fd < 0:
            return
        if self.transports is not None:
            self.transports.pop(fd, None)
        if file is not None:
            file.close()
            return
        with nogil:
            result = close_fd(fd)
        if result < 0 and errno != ECONNRESET:
            raise_errno(-errno)

    cdef free(self):
        """Let go of the core's half, now or when the last of its events was dispatched."""
        self.freeing = True
        if self.untold > 0:
            return
        self.free_core()
        self.dispatcher.owners.discard(self)
        self.transport = self.protocol = None

    cdef tuple shown(self):
        owner = self if self.transport is None else self.transport
        return owner, () if self.protocol is None else (self.protocol,)
