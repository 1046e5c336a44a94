# What `loop.sock_*` does with a socket: at once where that is ready, as asyncio does, and through the ring where it is
# not.  Part of hot.pyx.
#
# A receive that finds its socket empty is a system call for nothing.  So what the last receive said is remembered: after
# one that emptied the socket, the next goes to the ring unasked, where many share one system call.

from libc.errno cimport ECONNABORTED

cdef extern from "sys/socket.h" nogil:
    int MSG_DONTWAIT, MSG_NOSIGNAL, SOCK_STREAM
    ssize_t recv(int fd, void *buffer, size_t size_bytes, int flags)
    ssize_t send(int fd, const void *data, size_t size_bytes, int flags)

    int SOCK_CLOEXEC, SOCK_NONBLOCK
    int accept4(int fd, void *address, unsigned int *size_bytes, int flags)

cdef extern from "fcntl.h" nogil:
    int F_GETFL, F_SETFL, O_NONBLOCK
    int fcntl(int fd, int command, ...)

cdef extern from *:
    """
    static PyObject *get_member(PyObject *descriptor, PyObject *owner)
    {
        return Py_TYPE(descriptor)->tp_descr_get(descriptor, owner, (PyObject *)Py_TYPE(owner));
    }
    """
    object get_member(object descriptor, object owner)
    object PyObject_Call(object callable, object arguments, object keywords)
    object PyObject_CallOneArg(object callable, object argument)

cdef enum:
    # What one receive takes at most.  Into fresh memory of that size it would cost more than the receive itself.
    SCRATCH_BYTES = 65536
    # Room for the address of any family.
    ADDRESS_BYTES = 128

cdef object SocketType = socket.socket
# As it is in the class, which saves the search through it.
cdef object FILENO = socket.SocketType.fileno
# A plain number: `socket.socket` makes an enum of it, which takes longer than all else that a receive does here.
cdef object TYPE = socket.SocketType.type
# Looked up each time: tools as nest_asyncio replace the class.
cdef dict FUTURES = vars(asyncio.futures)


cdef int accept_from(sock, void *name, unsigned int *size_bytes) except? -1:
    """accept4(2) without waiting; a negative errno if it failed.

    A process that shares the socket may have made it blocking.  Another one may take the connection that was announced,
    and accept4 would then block this loop.
    """
    cdef int fd = PyObject_CallOneArg(FILENO, sock) if type(sock) is SocketType else sock.fileno()
    cdef int flags = fcntl(fd, F_GETFL)
    if flags < 0 or not flags & O_NONBLOCK and fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0:
        return -errno
    fd = accept4(fd, name, size_bytes, SOCK_NONBLOCK | SOCK_CLOEXEC)
    return fd if fd >= 0 else -errno


def accept_now(sock):
    """Return the descriptor of a connection that waits, non-blocking, or a negative errno."""
    return accept_from(sock, NULL, NULL)


cdef class Sockets:
    """The hot half of the loop's socket methods.

    Args:
        dispatcher: of the loop's ring.
        loop: asked whether a callback may go on, and for all the checks of a socket where these are needed.
        transports: the loop's, weak references by descriptor.
        unread: keeps what cancelled receives had taken; its `empty` is asked first.
        has_buffers: the ring makes a group of receive buffers when it is needed.
    """

    cdef Dispatcher dispatcher
    cdef object loop, check_socket, may_go_on, unread
    cdef dict transports
    cdef dict of_loop  # what a future is made with
    cdef bint has_buffers
    cdef char *scratch
    cdef uint8_t *emptied  # by descriptor; of one that was closed meanwhile it merely guesses wrong
    cdef int emptied_size

    def __cinit__(self, Dispatcher dispatcher, loop, dict transports, unread, bint has_buffers):
        self.dispatcher = dispatcher
        self.loop = loop
        self.of_loop = {"loop": loop}
        self.check_socket = loop._check_socket
        self.may_go_on = loop.may_go_on
        self.transports = transports
        self.unread = unread
        self.has_buffers = has_buffers
        self.scratch = <char *>malloc(SCRATCH_BYTES)
        if self.scratch == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.scratch)
        free(self.emptied)

    cdef int descriptor(self, sock) except -2:
        """The socket's, after all checks."""
        cdef int fd
        if type(sock) is SocketType and not self.loop._debug and self.dispatcher.ring != NULL:
            fd = PyObject_CallOneArg(FILENO, sock)
            if not self.transports or fd not in self.transports:
                return fd
        return self.check_socket(sock)

    cdef bint was_emptied(self, int fd):
        return 0 <= fd < self.emptied_size and self.emptied[fd]

    cdef int remember(self, int fd, bint emptied) except -1:
        cdef uint8_t *larger
        cdef int size
        if fd < 0:
            return 0
        if fd >= self.emptied_size:
            size = (fd | 1023) + 1
            larger = <uint8_t *>realloc(self.emptied, size)
            if larger == NULL:
                raise MemoryError
            memset(larger + self.emptied_size, 0, size - self.emptied_size)
            self.emptied = larger
            self.emptied_size = size
        self.emptied[fd] = emptied
        return 0

    cdef ssize_t receive_now(self, int fd, void *buffer, Py_ssize_t size_bytes) except -2:
        """What recv(2) gives without waiting; -1 if nothing is there, or if others are to have their turn first."""
        cdef ssize_t count
        if self.was_emptied(fd) or not self.may_go_on():
            return -1
        count = recv(fd, buffer, size_bytes, MSG_DONTWAIT)
        if count < 0 and errno not in (EAGAIN, EINTR):
            raise_errno(-errno)
        self.remember(fd, count < size_bytes)
        return count

    def receive(self, sock, n):
        """Up to n bytes of a stream if they are there, else a `Receiving` in flight.

        None for nothing to be received, a datagram socket, or a ring without buffers.
        """
        cdef int fd = self.descriptor(sock)
        cdef Py_ssize_t size_bytes
        if type(n) is int:
            size_bytes = n
        else:
            size_bytes = operator_index(n)
            fd = self.descriptor(sock)  # that may have closed the socket
        cdef ssize_t count
        cdef Receiving receiving
        if size_bytes <= 0 or get_member(TYPE, sock) != SOCK_STREAM:
            return None
        if not self.unread.empty:
            kept = self.unread.take(sock, size_bytes)
            if kept is not None:
                return kept[0]
        size_bytes = min(size_bytes, SCRATCH_BYTES)
        count = self.receive_now(fd, self.scratch, size_bytes)
        if count >= 0:
            return PyBytes_FromStringAndSize(self.scratch, count)
        if not self.has_buffers or not ul_buffers_need(self.dispatcher.ring):
            return None
        receiving = Receiving.__new__(Receiving)
        receiving.sockets = self
        receiving.sock = sock
        receiving.fd = fd
        receiving.size_bytes = size_bytes
        receiving.waiter = PyObject_Call(FUTURES["Future"], (), self.of_loop)
        receiving.stage()
        return receiving

    def receive_into(self, int fd, buffer):
        """Receive into a writable buffer; the number of bytes, None if nothing is there."""
        cdef Py_buffer view
        cdef ssize_t count
        PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
        try:
            count = self.receive_now(fd, view.buf, view.len)
        finally:
            PyBuffer_Release(&view)
        return None if count < 0 else count

    def accept(self, sock):
        """Return a connection's descriptor, non-blocking, and the peer's packed address; None if none waits."""
        cdef char name[ADDRESS_BYTES]
        cdef unsigned int size_bytes = ADDRESS_BYTES
        cdef int fd
        if not self.may_go_on():
            return None
        fd = accept_from(sock, name, &size_bytes)
        if fd >= 0:
            return fd, PyBytes_FromStringAndSize(name, min(size_bytes, <unsigned int>ADDRESS_BYTES))
        if fd not in (-EAGAIN, -EINTR, -ECONNABORTED):
            raise_errno(fd)
        return None

    def send(self, sock, data):
        """What send(2) takes of the bytes without waiting: None for all, else their number."""
        cdef int fd = self.descriptor(sock)
        cdef Py_buffer view
        cdef ssize_t count
        if not self.may_go_on():
            return 0
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            if not PyBytes_CheckExact(data):
                fd = self.descriptor(sock)  # that may have closed the socket
            count = send(fd, view.buf, view.len, MSG_DONTWAIT | MSG_NOSIGNAL)
            if count == view.len:
                return None
        finally:
            PyBuffer_Release(&view)
        if count < 0:
            if errno not in (EAGAIN, EINTR):
                raise_errno(-errno)
            return 0
        return count


cdef class Receiving:
    """A receive of a stream socket, in flight: an operation (see operations/base.py), whose waiter gets the bytes, or an
    OSError as its result."""

    may_move = False
    cdef Sockets sockets
    cdef object sock
    cdef int fd
    cdef uint32_t size_bytes
    cdef uint64_t token
    cdef public object waiter
    cdef readonly bint in_flight
    cdef public bint abandoned

    cdef stage(self):
        self.token = self.sockets.dispatcher.stage_sqe(
            self, IORING_OP_RECV, self.fd, 0, self.size_bytes, 0, 0, 0, IOSQE_BUFFER_SELECT, 0, 0, 0
        )
        self.in_flight = True

    cdef arrive(self, int res, uint32_t flags):
        """The CQE is there; called by the dispatch, in place of an operation's `complete`."""
        cdef Dispatcher dispatcher = self.sockets.dispatcher
        data = b""
        if flags & IORING_CQE_F_BUFFER:
            data = dispatcher.bytes_of_buffer(flags, max(res, 0))
        elif res == -ENOBUFS and not self.abandoned:
            # Others hold all buffers of the group: they are recycled as these are dispatched.
            dispatcher.grow_buffers()
            self.stage()
            return
        self.in_flight = False
        self.sockets.remember(self.fd, not flags & IORING_CQE_F_SOCK_NONEMPTY)
        waiter = self.waiter
        nobody = waiter.done()
        if self.abandoned or nobody:
            self.keep(data)
        if not nobody:
            waiter.set_result(data if res >= 0 else OSError(-res, strerror(-res)))

    def keep(self, data):
        """For the next receive, bytes that nobody waits for any more."""
        if data and type(data) is bytes:
            self.sockets.unread.keep(self.sock, data)

    def abandon(self):
        """Nobody waits any more: ask the kernel to cancel, once."""
        if not self.abandoned:
            self.abandoned = True
            if self.in_flight:
                self.sockets.dispatcher.cancel(self.token)

    def __repr__(self):
        return f"<Receiving fd={self.fd}{' abandoned' if self.abandoned else ''}>"
