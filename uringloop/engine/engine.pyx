"""`Engine`: the object that a loop hands to its transports."""

from libc.stdint cimport uint32_t

from ..ring.core.core cimport ul_buffers_open
from .base cimport EngineBase
from .core cimport (
    UL_DATAGRAM_BUFFER_SIZE, UL_GROUP_DATAGRAM, UL_OPEN_MULTISHOT, UL_OPEN_OWN_TCP, UL_OPEN_PIPE, UL_OPEN_POLLS,
)
from .datagram cimport Datagram
from .sock cimport Sockets
from .stream cimport Stream

cdef extern from "<sys/socket.h>" nogil:
    enum:
        AF_NETLINK


cdef class Engine(EngineBase):
    """Carry the bytes of a loop's transports and of its socket methods.

    Args:
        loop: an `EventLoop`.
        dispatcher: the loop's `Dispatcher`.  `use_ring` follows when it gets a ring.
        transports: a dict of the loop's transports by descriptor, as weak references.
        leftovers: the loop's `Leftovers`.
        options: the loop's `Options`.

    Attributes:
        owner_thread: the native id of the thread that the ring belongs to, None before the loop first ran.
        features: a frozenset of the optional features that are enabled.
        sockets: the `Sockets` of the loop's socket methods; None before the first of these.
        call_soon: the loop's method.
    """

    cdef readonly Sockets sockets

    def open_sockets(self):
        """Return `sockets`, which the first call makes.  From then on each sleep of the loop asks them too.

        Raises:
            RuntimeError: the loop is closed.
        """
        if self.sockets is None:
            self.refuse_closed()
            self.sockets = Sockets(self)
            self.loop._use_sockets(self.sockets)
        return self.sockets

    def open_stream(self, transport, int fd, file, bint delays_small_writes, context=None, receive_context=None):
        """Open the stream of a connection; `begin` starts it.

        Args:
            transport: the object that the stream tells of errors and ends; see `Stream`.
            fd: the descriptor of the connected socket, non-blocking.
            file: the socket object that has this descriptor; None: only the caller knows the descriptor.
            delays_small_writes: whether it is a TCP socket, whose delay of small writes must end.
            context: a `Context` for all callbacks.  None: those of received bytes run in `receive_context`, and each
                other in a copy of the current one.
            receive_context: a `Context` that nothing else uses; a copy of the current one if None.

        Returns:
            The `Stream`.

        Raises:
            RuntimeError: the loop is closed.
            MemoryError: the core got no memory.
        """
        self.refuse_closed()
        cdef uint32_t flags = UL_OPEN_MULTISHOT if self.receives_many else 0
        if delays_small_writes and file is None:
            flags |= UL_OPEN_OWN_TCP
        cdef Stream stream = Stream.__new__(Stream)
        stream.delays_small_writes = delays_small_writes
        stream.own_context = context
        stream.context = receive_context if context is None else context
        stream.open(self, transport, fd, file, flags)
        return stream

    def open_pipe(self, transport, pipe, bint multishot):
        """Open the stream of one end of a pipe; `begin` starts it.

        Args:
            transport: as for `open_stream`.
            pipe: an object that has the descriptor, non-blocking.
            multishot: one read may serve the pipe until it ends.

        Returns:
            The `Stream`.  It reads and writes instead of receiving and sending, and writes at once what the pipe takes.
        """
        self.refuse_closed()
        cdef uint32_t flags = UL_OPEN_PIPE
        if multishot and "multishot_read" in self.enabled:
            flags |= UL_OPEN_MULTISHOT
        if "waiting_pipes" not in self.enabled:
            flags |= UL_OPEN_POLLS
        cdef Stream stream = Stream.__new__(Stream)
        stream.is_pipe = True
        stream.open(self, transport, pipe.fileno(), pipe, flags)
        return stream

    def open_datagram(self, transport, sock, remote, bint sends_empty, uint32_t overhead_bytes):
        """Open a datagram socket; `begin` starts it.

        Args:
            transport: the object that the datagram socket tells of errors; see `Datagram`.
            sock: a non-blocking socket of a family whose addresses the transport knows.
            remote: the only address that `sendto` accepts, None for any.
            sends_empty: datagrams without content are sent; otherwise they are ignored.
            overhead_bytes: the count of a queued datagram beside its own size.

        Returns:
            The `Datagram`.

        Raises:
            RuntimeError: the loop is closed.
            MemoryError: the core got no memory.
        """
        self.refuse_closed()
        # Of netlink(7) ENOBUFS says that messages were lost, and of a buffer group that it is empty.
        cdef bint multishot = sock.family != AF_NETLINK and self.open_datagram_buffers()
        peer = None
        try:
            peer = sock.getpeername()
        except OSError:
            pass
        cdef Datagram datagram = Datagram.__new__(Datagram)
        datagram.remote = remote
        datagram.sends_empty = sends_empty
        datagram.name_peer(peer)
        datagram.open(self, transport, sock, multishot, overhead_bytes)
        return datagram

    cdef bint open_datagram_buffers(self):
        """Make the buffer group of datagram sockets, unless it exists; return whether it does.

        A buffer has room for the largest datagram, so the group waits for a socket that needs it.
        """
        cdef uint32_t count, count_max
        if not self.receives_many:
            return False
        count, count_max = self.options.datagram_buffer_counts()
        return ul_buffers_open(
            self.dispatcher.ring, UL_GROUP_DATAGRAM, count, UL_DATAGRAM_BUFFER_SIZE, count_max, 1
        ) == 0
