"""`Sockets`: the compiled half of `loop.sock_*`: at once on a ready socket, as asyncio does, else through the ring.

A receive that finds its socket empty is a wasted system call.  So `Sockets` remembers which sockets the last receive
emptied.  The next receive of such a socket goes straight to the ring, where many share one system call.
"""

import asyncio
import socket
from operator import index as operator_index
from os import strerror

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_CheckExact, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.errno cimport EAGAIN, ECONNABORTED, EINTR, ENOBUFS, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memset

from ..ring.core.core cimport (
    IORING_CQE_F_BUFFER, IORING_CQE_F_SOCK_NONEMPTY, IORING_OP_RECV, IOSQE_BUFFER_SELECT, io_uring_sqe, ul_buffers_need,
    ul_disown, ul_now_ns,
)
from ..patched cimport Patched, call_patched, patched
from ..ring.dispatcher cimport Awaited, Dispatcher, raise_errno
from ..tick cimport check_thread
from .base cimport EngineBase

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

    /* PyDict_Size without its check of the type. */
    static inline Py_ssize_t size_of_dict(PyObject *dict)
    {
        return ((PyDictObject *)dict)->ma_used;
    }

    /* The offset of the descriptor in a socket object: before its family. */
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
    object PyObject_CallOneArg(object callable, object argument)

cdef enum:
    # The most bytes of one receive.  Fresh memory of that size would cost more than the receive itself.
    SCRATCH_BYTES = 65536
    # Room for the address of any family.
    ADDRESS_BYTES = 128
    # Each tick looks through so many waits; more only so often.
    FEW_WAITS = 32
    LOOK_INTERVAL_NS = 10_000_000

cdef object SocketType = socket.socket
# From the class itself, which saves the search through it.
cdef object FILENO = socket.SocketType.fileno
# A plain number: `socket.socket` makes an enum of it, which takes longer than the rest of a receive.
cdef object TYPE = socket.SocketType.type
cdef Patched FUTURE = patched(asyncio.futures, "Future")


cdef int accept_from(sock, void *name, unsigned int *size_bytes, bint mends) except? -1:
    """Call accept4(2) without waiting; return a descriptor or a negative errno, -EAGAIN for a socket that blocks.

    A process that shares the socket may have made it blocking.  Another one may take the connection that was announced,
    and accept4 would then block this loop.

    Args:
        mends: make the socket non-blocking again.
    """
    cdef int fd = PyObject_CallOneArg(FILENO, sock) if type(sock) is SocketType else sock.fileno()
    cdef int flags = fcntl(fd, F_GETFL)
    if flags >= 0 and not flags & O_NONBLOCK and not mends:
        return -EAGAIN
    if flags < 0 or not flags & O_NONBLOCK and fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0:
        return -errno
    fd = accept4(fd, name, size_bytes, SOCK_NONBLOCK | SOCK_CLOEXEC)
    return fd if fd >= 0 else -errno


def accept_now(sock):
    """Return the descriptor of a connection that waits, non-blocking, or a negative errno.

    A socket that blocks is made non-blocking, as asyncio's servers make theirs.
    """
    return accept_from(sock, NULL, NULL, True)


cdef object BareSocket = socket.SocketType
cdef Py_ssize_t DESCRIPTOR_OFFSET = descriptor_offset(BareSocket.__dict__["family"])


cdef int descriptor_of(sock) except? -2:
    """Return the socket's descriptor, -1 if it is closed.  A call of `fileno` would cost more than a tick may."""
    # By its type: an object that only says to be a socket, as a mock does, has other memory there.
    if DESCRIPTOR_OFFSET > 0 and (type(sock) is SocketType or issubclass(type(sock), BareSocket)):
        return (<int *>(<char *><PyObject *>sock + DESCRIPTOR_OFFSET))[0]
    return sock.fileno()


cdef check_descriptor_offset(sock):
    """Do without the offset on a Python whose socket objects are laid out in another way."""
    global DESCRIPTOR_OFFSET
    if descriptor_of(sock) != sock.fileno():
        DESCRIPTOR_OFFSET = -1


cdef class Sockets:
    """The compiled half of the loop's socket methods.

    An operation that waits in the ring holds its file.  So each tick looks for sockets that were closed meanwhile, and
    cancels their operations: then the close takes effect.  As with asyncio, the waiters are not told.

    Args:
        engine: the loop's.
    """

    def __cinit__(self, EngineBase engine):
        loop = engine.loop
        self.dispatcher = engine.dispatcher
        self.loop = loop
        self.of_loop = {"loop": loop}
        self.check_socket = loop._check_socket
        self.has_budget = loop.has_budget
        self.transports = engine.transports
        self.leftovers = engine.leftovers
        self.has_buffers = engine.has_buffers
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

    cpdef int64_t look(self, int64_t timeout_ns) except? -2:
        """Cancel operations on closed sockets; return how long to sleep, less if the next look comes before."""
        cdef Py_ssize_t count = self.receiving_count + size_of_dict(self.held)
        cdef int64_t now_ns
        if count == 0:
            return timeout_ns
        if count > FEW_WAITS:
            now_ns = ul_now_ns()
            if now_ns < self.look_again_ns:
                return timeout_ns if 0 <= timeout_ns <= LOOK_INTERVAL_NS else LOOK_INTERVAL_NS
            self.look_again_ns = now_ns + LOOK_INTERVAL_NS
        self.abandon_closed()
        return timeout_ns

    cdef abandon_closed(self):
        """Abandon the waits on closed sockets: each holds its socket's file, so the close would have no effect.

        The waiting task goes on waiting until it is cancelled, as with asyncio.
        """
        cdef PyObject *place = self.receiving
        cdef Receiving receiving
        while place != NULL:
            receiving = <Receiving>place
            place = receiving.next
            if descriptor_of(receiving.sock) != receiving.fd and not self.ends(receiving, receiving.token):
                self.left[receiving.fd] = receiving.waiter
                receiving.abandon_silently()
        if size_of_dict(self.held) == 0:
            return
        closed = None
        for operation, sock in self.held.items():
            if descriptor_of(sock) != operation.fd:
                closed = [*(closed or ()), operation]
        for operation in closed or ():
            del self.held[operation]
            if not self.ends(operation, operation.token):
                self.left[operation.fd] = operation.take_waiter()
                operation.abandon()

    cdef bint ends(self, operation, uint64_t token):
        """Return whether an operation whose socket was closed is being cancelled already.

        A staged one loses its descriptor: the number may be another file's.
        """
        if self.dispatcher.ring != NULL:
            ul_disown(self.dispatcher.ring, token)
        return operation.abandoned

    cdef int descriptor(self, sock) except -2:
        """Return the socket's descriptor, after all checks."""
        cdef int fd
        check_thread(&self.dispatcher.tick)
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
        """Call recv(2) without waiting; return -1 if the socket is empty, or if the callback has no budget."""
        cdef ssize_t count
        if self.was_emptied(fd) or not self.has_budget():
            return -1
        count = recv(fd, buffer, size_bytes, MSG_DONTWAIT)
        if count < 0 and errno not in (EAGAIN, EINTR):
            raise_errno(-errno)
        self.remember(fd, count < size_bytes)
        return count

    def receive(self, sock, n):
        """Return up to n bytes of a stream if they are there, else a `Receiving` in flight.

        Return None if n is 0, for a datagram socket, or on a ring without buffers.
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
        if not self.leftovers.empty:
            kept = self.leftovers.take(sock, size_bytes)
            if kept is not None:
                return kept
        size_bytes = min(size_bytes, SCRATCH_BYTES)
        count = self.receive_now(fd, self.scratch, size_bytes)
        if count >= 0:
            return PyBytes_FromStringAndSize(self.scratch, count)
        if not self.has_buffers or not ul_buffers_need(self.dispatcher.ring):
            return None
        receiving = Receiving.__new__(Receiving)
        receiving.dispatcher = self.dispatcher
        receiving.sockets = self
        receiving.sock = sock
        receiving.fd = fd
        receiving.size_bytes = size_bytes
        receiving.waiter = call_patched(&FUTURE, (), self.of_loop)
        receiving.stage()
        receiving.join()
        return receiving

    def receive_into(self, int fd, buffer):
        """Receive into a writable buffer; return the number of bytes, or None if the socket is empty."""
        cdef Py_buffer view
        cdef ssize_t count
        check_thread(&self.dispatcher.tick)
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
        check_thread(&self.dispatcher.tick)
        if not self.has_budget():
            return None
        fd = accept_from(sock, name, &size_bytes, False)
        if fd >= 0:
            return fd, PyBytes_FromStringAndSize(name, min(size_bytes, <unsigned int>ADDRESS_BYTES))
        if fd not in (-EAGAIN, -EINTR, -ECONNABORTED):
            raise_errno(fd)
        return None

    def send(self, sock, data):
        """Call send(2) without waiting; return None if it takes all bytes, else their number."""
        cdef int fd = self.descriptor(sock)
        cdef Py_buffer view
        cdef ssize_t count
        if not self.has_budget():
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


cdef class Receiving(Awaited):
    """A receive of a stream socket, in flight.  The waiter gets the bytes."""

    cdef join(self):
        """Join the list of waiting receives."""
        self.next = self.sockets.receiving
        if self.next != NULL:
            (<Receiving>self.next).previous = <PyObject *>self
        self.sockets.receiving = <PyObject *>self
        self.sockets.receiving_count += 1

    cdef part(self):
        """Leave the list of waiting receives, if it is in it."""
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

    cdef abandon_silently(self):
        """End without telling the waiter: the socket was closed."""
        self.waiter = None
        self.abandon()

    cdef stage(self):
        cdef io_uring_sqe *sqe = self.dispatcher.next_sqe(self)
        sqe.opcode = IORING_OP_RECV
        sqe.flags = IOSQE_BUFFER_SELECT
        sqe.fd = self.fd
        sqe.len = self.size_bytes
        self.token = sqe.user_data
        self.in_flight = True

    cdef arrive(self, int res, uint32_t flags):
        cdef Dispatcher dispatcher = self.dispatcher
        data = b""
        if flags & IORING_CQE_F_BUFFER:
            data = dispatcher.bytes_of_buffer(flags, max(res, 0))
        elif res == -ENOBUFS and not self.abandoned:
            # Other receives hold all buffers of the group; their dispatch recycles them.
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
        """Keep bytes without a waiter for the next receive."""
        if data and type(data) is bytes:
            self.sockets.leftovers.keep(self.sock, data)

    def __repr__(self):
        return f"<Receiving fd={self.fd}{' abandoned' if self.abandoned else ''}>"
