# What `loop.sock_*` does with a socket: at once where that is ready, as asyncio does, and through the ring where it is
# not.  Part of hot.pyx.
#
# A receive that finds its socket empty is a system call for nothing.  So what the last receive said is remembered:
# after one that emptied the socket, the next goes to the ring unasked, where many share one system call.

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
    #if PY_VERSION_HEX < 0x030C0000
    #include <structmember.h>
    #endif

    static PyObject *get_member(PyObject *descriptor, PyObject *owner)
    {
        return Py_TYPE(descriptor)->tp_descr_get(descriptor, owner, (PyObject *)Py_TYPE(owner));
    }

    /* PyDict_Size of what is known to be one. */
    static inline Py_ssize_t size_of_dict(PyObject *dict)
    {
        return ((PyDictObject *)dict)->ma_used;
    }

    /* Where a socket object has its descriptor: before its family. */
    static Py_ssize_t descriptor_offset(PyObject *family)
    {
        if (!Py_IS_TYPE(family, &PyMemberDescr_Type))
            return -1;
        return ((PyMemberDescrObject *)family)->d_member->offset - (Py_ssize_t)sizeof(int);
    }
    """
    Py_ssize_t descriptor_offset(object family)
    object get_member(object descriptor, object owner)
    Py_ssize_t size_of_dict(dict names)
    object PyObject_Call(object callable, object arguments, object keywords)
    object PyObject_CallOneArg(object callable, object argument)

cdef enum:
    # What one receive takes at most.  Into fresh memory of that size it would cost more than the receive itself.
    SCRATCH_BYTES = 65536
    # Room for the address of any family.
    ADDRESS_BYTES = 128
    # So many waits are looked through each tick, more only so often.
    FEW_WAITS = 32
    LOOK_INTERVAL_NS = 10_000_000

cdef object SocketType = socket.socket
# As it is in the class, which saves the search through it.
cdef object FILENO = socket.SocketType.fileno
# A plain number: `socket.socket` makes an enum of it, which takes longer than all else that a receive does here.
cdef object TYPE = socket.SocketType.type
cdef Patched FUTURE = patched(asyncio.futures, "Future")


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


cdef object BareSocket = socket.SocketType
cdef Py_ssize_t DESCRIPTOR_OFFSET = descriptor_offset(BareSocket.__dict__["family"])


cdef int descriptor_of(sock) except? -2:
    """Return the socket's descriptor, -1 if it is closed.  A call of `fileno` would cost more than a tick may."""
    if DESCRIPTOR_OFFSET > 0 and (type(sock) is SocketType or isinstance(sock, BareSocket)):
        return (<int *>(<char *><PyObject *>sock + DESCRIPTOR_OFFSET))[0]
    return sock.fileno()


cdef check_descriptor_offset(sock):
    """Do without the offset on a Python whose socket objects are laid out in another way."""
    global DESCRIPTOR_OFFSET
    if descriptor_of(sock) != sock.fileno():
        DESCRIPTOR_OFFSET = -1


cdef class Sockets:
    """The hot half of the loop's socket methods.

    What waits in the ring holds its file.  So each tick looks for sockets that were closed meanwhile, and cancels what
    waits on them: then the close takes effect.  As with asyncio, nobody is told who waits there.

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
    cdef PyObject *receiving  # the first that waits, a list: the dispatcher holds them
    cdef int receiving_count
    cdef readonly dict held  # what else waits: the sockets by operation
    cdef readonly dict left  # whose sockets were closed: the last waiter of each descriptor
    cdef int64_t look_again_ns
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
        if loop._ssock is not None:  # it is closed with the loop
            check_descriptor_offset(loop._ssock)
        self.held = {}
        self.left = {}
        self.scratch = <char *>malloc(SCRATCH_BYTES)
        if self.scratch == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.scratch)
        free(self.emptied)

    def wait(self, int64_t timeout_ns):
        """Look for sockets that were closed, then wait; see `Dispatcher.wait`."""
        if self.receiving_count > 0 or size_of_dict(self.held) > 0:
            timeout_ns = self.look(timeout_ns)
        return self.dispatcher.wait_for(timeout_ns)

    cpdef int64_t look(self, int64_t timeout_ns) except? -2:
        """Cancel what waits on sockets that were closed; return how long to sleep, less if that is yet to come."""
        cdef Py_ssize_t count = self.receiving_count + size_of_dict(self.held)
        cdef int64_t now_ns
        if count == 0:
            return timeout_ns
        if count > FEW_WAITS:
            now_ns = ul_now_ns()
            if now_ns < self.look_again_ns:
                return timeout_ns if 0 <= timeout_ns <= LOOK_INTERVAL_NS else LOOK_INTERVAL_NS
            self.look_again_ns = now_ns + LOOK_INTERVAL_NS
        self.leave_closed()
        return timeout_ns

    cdef leave_closed(self):
        cdef PyObject *place = self.receiving
        cdef Receiving receiving
        while place != NULL:
            receiving = <Receiving>place
            place = receiving.next
            if descriptor_of(receiving.sock) != receiving.fd and not self.ends(receiving, receiving.token):
                self.left[receiving.fd] = receiving.waiter
                receiving.leave()
        if size_of_dict(self.held) == 0:
            return
        closed = None
        for operation, sock in self.held.items():
            if descriptor_of(sock) != operation.fd:
                closed = [*(closed or ()), operation]
        for operation in closed or ():
            del self.held[operation]
            if not self.ends(operation, operation.token):
                self.left[operation.fd] = operation.leave()
                operation.abandon()

    cdef bint ends(self, operation, uint64_t token):
        """Whether an operation whose socket was closed is being cancelled already.

        What is still staged has no descriptor from now on: the number may be another file's.
        """
        if self.dispatcher.ring != NULL:
            ul_disown(self.dispatcher.ring, token)
        return operation.abandoned

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
        receiving.waiter = PyObject_Call(look_up(&FUTURE), (), self.of_loop)
        receiving.stage()
        receiving.join()
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
    """A receive of a stream socket, in flight: an operation (see operations/base.py), whose waiter gets the bytes, or
    an OSError as its result."""

    may_move = False
    cdef Sockets sockets
    cdef object sock
    cdef int fd
    cdef uint32_t size_bytes
    cdef uint64_t token
    cdef PyObject *previous
    cdef PyObject *next
    cdef public object waiter
    cdef readonly bint in_flight
    cdef public bint abandoned

    cdef join(self):
        """Join those that wait."""
        self.next = self.sockets.receiving
        if self.next != NULL:
            (<Receiving>self.next).previous = <PyObject *>self
        self.sockets.receiving = <PyObject *>self
        self.sockets.receiving_count += 1

    cdef part(self):
        """Wait no more, if it did."""
        if self.previous != NULL:
            (<Receiving>self.previous).next = self.next
        elif self.sockets.receiving == <PyObject *>self:
            self.sockets.receiving = self.next
        else:
            return
        if self.next != NULL:
            (<Receiving>self.next).previous = self.previous
        self.previous = self.next = NULL
        self.sockets.receiving_count -= 1

    cdef leave(self):
        """The socket was closed: end, and tell nobody."""
        self.waiter = None
        self.abandon()

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
        self.part()
        self.sockets.remember(self.fd, not flags & IORING_CQE_F_SOCK_NONEMPTY)
        waiter = self.waiter
        nobody = waiter is None or waiter.done()
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
