# `Datagram`, the hot half of a datagram transport: a part of hot.pyx.

from cpython.long cimport PyLong_CheckExact
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from cpython.tuple cimport PyTuple_CheckExact
from cpython.unicode cimport PyUnicode_CheckExact
from libc.errno cimport EMSGSIZE
from libc.string cimport memcmp, memset, strlen


cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL


cdef extern from "<arpa/inet.h>" nogil:
    enum:
        AF_INET
        AF_INET6
        INET6_ADDRSTRLEN
        MSG_TRUNC
    struct in_addr:
        pass
    struct in6_addr:
        pass
    struct sockaddr_in:
        uint16_t sin_family
        uint16_t sin_port
        in_addr sin_addr
    struct sockaddr_in6:
        uint16_t sin6_family
        uint16_t sin6_port
        uint32_t sin6_flowinfo
        in6_addr sin6_addr
        uint32_t sin6_scope_id
    int inet_pton(int family, const char *text, void *address)
    const char *inet_ntop(int family, const void *address, char *text, uint32_t size)
    uint16_t htons(uint16_t value)
    uint16_t ntohs(uint16_t value)
    uint32_t htonl(uint32_t value)
    uint32_t ntohl(uint32_t value)


cdef enum:
    FLOW_LABEL_MAX = 0xFFFFF
    KNOWN_BITS = 8
    KNOWN_COUNT = 256
    KEY_SIZE = 32
    READY_DATAGRAMS = 32


cdef bint is_within(value, int64_t highest) except -1:
    return PyLong_CheckExact(value) and 0 <= value <= highest


cdef bint parse_host(int family, host, void *into) except -1:
    """Whether host is an address literal; then it is stored."""
    cdef Py_ssize_t size = 0
    cdef const char *text
    if not PyUnicode_CheckExact(host) or not host.isascii():
        return False
    text = PyUnicode_AsUTF8AndSize(host, &size)
    return <Py_ssize_t>strlen(text) == size and inet_pton(family, text, into) == 1


cdef uint32_t pack_address(int family, address, char *name) except? 0xFFFFFFFF:
    """Store the sockaddr of an address that is a literal, as `socket.sendto` takes it; 0 for any other."""
    cdef sockaddr_in *inet = <sockaddr_in *>name
    cdef sockaddr_in6 *inet6 = <sockaddr_in6 *>name
    if not PyTuple_CheckExact(address) or len(address) < 2 or not is_within(address[1], 0xFFFF):
        return 0
    if family == AF_INET and len(address) == 2:
        memset(inet, 0, sizeof(sockaddr_in))
        inet.sin_family = AF_INET
        inet.sin_port = htons(address[1])
        return sizeof(sockaddr_in) if parse_host(AF_INET, address[0], &inet.sin_addr) else 0
    if family == AF_INET6 and len(address) <= 4:
        memset(inet6, 0, sizeof(sockaddr_in6))
        inet6.sin6_family = AF_INET6
        inet6.sin6_port = htons(address[1])
        if len(address) > 2:
            if not is_within(address[2], FLOW_LABEL_MAX):
                return 0
            inet6.sin6_flowinfo = htonl(address[2])
        if len(address) > 3:
            if not is_within(address[3], 0xFFFFFFFF):
                return 0
            inet6.sin6_scope_id = address[3]
        return sizeof(sockaddr_in6) if parse_host(AF_INET6, address[0], &inet6.sin6_addr) else 0
    return 0


cdef unpack_address(const char *name):
    """The address as `socket.recvfrom` gives it."""
    cdef char text[INET6_ADDRSTRLEN]
    cdef const sockaddr_in *inet = <const sockaddr_in *>name
    cdef const sockaddr_in6 *inet6 = <const sockaddr_in6 *>name
    if inet.sin_family == AF_INET:
        inet_ntop(AF_INET, &inet.sin_addr, text, INET6_ADDRSTRLEN)
        return (<bytes>text).decode("ascii"), ntohs(inet.sin_port)
    inet_ntop(AF_INET6, &inet6.sin6_addr, text, INET6_ADDRSTRLEN)
    return (<bytes>text).decode("ascii"), ntohs(inet6.sin6_port), ntohl(inet6.sin6_flowinfo), inet6.sin6_scope_id


cdef struct Known:
    uint64_t key[4]  # a sockaddr, zeros behind it
    PyObject *address


cdef class AddressCache:
    """Internet addresses of late, so that one tuple serves all datagrams of a peer."""

    cdef Known known[KNOWN_COUNT]

    def __dealloc__(self):
        for i in range(KNOWN_COUNT):
            Py_XDECREF(self.known[i].address)

    cdef find(self, const char *name, uint32_t name_size):
        cdef uint64_t key[4]
        cdef uint64_t mixed
        cdef PyObject *previous
        memset(key, 0, KEY_SIZE)
        memcpy(key, name, name_size)
        mixed = (key[0] ^ key[1] * 3 ^ key[2] * 5 ^ key[3] * 7) * 0x9E3779B97F4A7C15ULL
        cdef Known *known = &self.known[mixed >> (64 - KNOWN_BITS)]
        if known.address != NULL and memcmp(known.key, key, KEY_SIZE) == 0:
            return <object>known.address
        address = unpack_address(name)
        Py_INCREF(address)
        previous = known.address
        memcpy(known.key, key, KEY_SIZE)
        known.address = <PyObject *>address
        Py_XDECREF(previous)
        return address


cdef item_of(const char *data):
    """What was received: bytes, or a negative errno for a datagram that was cut off."""
    cdef const io_uring_recvmsg_out *out = <const io_uring_recvmsg_out *>data
    if out.flags & MSG_TRUNC:
        return -EMSGSIZE
    return PyBytes_FromStringAndSize(data + sizeof(io_uring_recvmsg_out) + UL_NAME_SIZE, out.payloadlen)


cdef class Datagram(Endpoint):
    """One datagram socket: datagrams in to the protocol, datagrams out from `sendto`.

    The transport is told through `send_slowly`, `pack_address`, `unpack_address`, `protocol_failed` and asyncio's
    `_maybe_pause_protocol` and `_maybe_resume_protocol`.

    Args:
        dispatcher: of the loop's ring.
        sock: non-blocking, its family AF_INET, AF_INET6 or AF_UNIX.
        transport: an object with the methods above.
        call_soon: of the loop.
        transports: of the loop, by descriptor.
        multishot: receive through the ring's buffer group.
        remote: the only address that `sendto` accepts, None for any.
        peer: the name of the peer that the socket is connected to, None if it is not.  A named one gets everything that
            is sent, an unnamed one (of a socket pair) what has no address.
        sends_empty: datagrams without content are sent; otherwise they are ignored.
        overhead_bytes: what a queued datagram counts beside its own size.
    """

    cdef ul_datagram *handle
    cdef object context, remote
    cdef list held
    cdef int family
    cdef bint has_peer, has_named_peer, sends_empty
    cdef bint orphaned  # its loop is being closed: nobody hears of it any more
    cdef int lost_writes
    # The addresses last received from and last sent to: most datagrams go to one of these.
    cdef object source, target
    cdef char source_name[UL_NAME_SIZE]
    cdef char target_name[UL_NAME_SIZE]
    cdef uint32_t source_size, target_size

    def __init__(self, Dispatcher dispatcher, sock, transport, call_soon, dict transports, bint multishot, remote, peer,
                 bint sends_empty, uint32_t overhead_bytes):
        self.open_life(dispatcher, sock.fileno(), sock, transport, call_soon, transports, None)
        self.family = sock.family
        self.remote = remote
        self.has_peer = peer is not None
        self.has_named_peer = bool(peer)
        self.sends_empty = sends_empty
        self.context = PyContext_CopyCurrent()
        self.held = []
        if dispatcher.addresses is None:
            dispatcher.addresses = AddressCache()
        self.handle = ul_datagram_open(dispatcher.ring, self.fd, <void *>self, multishot, overhead_bytes)
        if self.handle == NULL:
            raise MemoryError
        dispatcher.endpoints.add(self)

    # Receiving

    def start(self):
        """Arm the receive, unless paused or closing meanwhile."""
        if self.handle != NULL and not self.paused and not self.closing:
            self.check(ul_datagram_receive(self.handle))

    def pause(self):
        """Deliver nothing from now on, and leave what arrives to the kernel."""
        self.paused = True
        if self.handle != NULL and self.check(ul_datagram_hold(self.handle)) == 1:
            self.dispatcher.submit_cancel()

    def resume(self):
        self.paused = False
        if self.held:
            self.call_soon(self._deliver_held, context=self.context)
        else:
            self.start()

    def _deliver_held(self):
        while self.held and not self.paused and not self.closing:
            item = self.held.pop(0)
            if type(item) is int:
                self.deliver_error(item)
            else:
                self.deliver(item[0], item[1])
        if not self.held:
            self.start()

    cdef receive_event(self, ul_event *event):
        cdef uint32_t what = event.what
        if self.orphaned:
            if what & UL_DATAGRAM_DATA and self.handle != NULL:
                ul_datagram_recycle(self.handle, event)
            return
        try:
            if what & UL_DATAGRAM_DATA:
                self.receive_datagram(event)
            elif what & UL_DATAGRAM_READABLE:
                self.receive_ready()
            elif what & UL_DATAGRAM_RECEIVE_ERROR:
                self.receive(<int>event.res, None)
            elif what & UL_DATAGRAM_SEND_ERROR:
                self.in_context(<int>event.res, None)
        finally:
            if what & (UL_DATAGRAM_LOW | UL_DATAGRAM_CLOSED):
                self.go_on(what)

    cdef go_on(self, uint32_t what):
        try:
            if what & UL_DATAGRAM_LOW:
                self.call_in_context(self.transport._maybe_resume_protocol)
                if self.closing and not self.lost and not what & UL_DATAGRAM_CLOSED:
                    self.finish(False)
        finally:
            # Resuming may have queued more, which asyncio sends even from a closing socket.
            if what & UL_DATAGRAM_CLOSED and self.handle != NULL and ul_datagram_quiet(self.handle):
                self.lost = True
                self.call_in_context(self.file_released)

    cdef abort_in_core(self):
        self.closing = self.orphaned = True
        ul_datagram_abort(self.handle)

    cdef forget_core(self):
        self.handle = NULL
        self.closing = self.lost = True
        self.protocol = None

    cdef call_in_context(self, callback):
        context = enter_context(self.context)
        try:
            callback()
        finally:
            PyContext_Exit(context)

    cdef receive_datagram(self, ul_event *event):
        try:
            item = item_of(event.data)
            address = None if type(item) is int else self.sender_of(event.data)
        finally:
            ul_datagram_recycle(self.handle, event)
        self.receive(item, address)

    cdef receive_ready(self):
        """Receive by readiness, not more at once than a multishot receive takes."""
        cdef Dispatcher dispatcher = self.dispatcher
        cdef int taken, result
        cdef list items = []
        cdef char *memory = dispatcher.take_received()
        try:
            # All before the first callback: that may have a receive armed, which takes what comes after these.
            for taken in range(READY_DATAGRAMS):
                if self.handle == NULL or self.closing or self.paused or self.held:
                    break
                result = ul_datagram_take(self.handle, memory)
                if result == -EAGAIN:
                    break
                item = item_of(memory) if result > 0 else result
                items.append((item, None if type(item) is int else self.sender_of(memory)))
        finally:
            dispatcher.give_received(memory)
        try:
            while items:
                item, address = items.pop(0)
                self.receive(item, address)
        finally:
            if items and not self.closing:
                # KeyboardInterrupt or SystemExit: the others come in the next tick.
                self.held += [item if type(item) is int else (item, address) for item, address in items]
                self.call_soon(self._deliver_held, context=self.context)

    cdef sender_of(self, const char *data):
        return self.address_of(data + sizeof(io_uring_recvmsg_out), (<const io_uring_recvmsg_out *>data).namelen)

    cdef address_of(self, const char *name, uint32_t name_size):
        cdef uint32_t size = min(name_size, <uint32_t>UL_NAME_SIZE)
        if size == 0:
            return None
        if size != self.source_size or memcmp(name, self.source_name, size) != 0:
            if self.family == AF_INET or self.family == AF_INET6:
                self.source = self.dispatcher.addresses.find(name, min(size, <uint32_t>KEY_SIZE))
            else:
                self.source = self.transport.unpack_address(PyBytes_FromStringAndSize(name, size))
            memcpy(self.source_name, name, size)
            self.source_size = size
        return self.source

    cdef receive(self, item, address):
        """Deliver a datagram, or an errno, or keep it until resumed."""
        if self.closing:
            return
        if self.paused or self.held:
            self.held.append(item if type(item) is int else (item, address))
            self.check(ul_datagram_hold(self.handle))
            return
        self.in_context(item, address)

    cdef in_context(self, item, address):
        context = enter_context(self.context)
        try:
            if PyBytes_CheckExact(item):
                self.deliver(item, address)
            else:
                self.deliver_error(item)
        finally:
            PyContext_Exit(context)

    cdef deliver(self, data, address):
        try:
            self.protocol.datagram_received(data, address)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.transport.protocol_failed(error, "datagram_received")

    cdef deliver_error(self, int res):
        try:
            self.protocol.error_received(OSError(-res, strerror(-res)))
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.transport.protocol_failed(error, "error_received")

    # Sending

    def sendto(self, data, addr=None):
        """Send a datagram now, or queue it if the socket is full.  See `asyncio.DatagramTransport.sendto`.

        Raises:
            TypeError: data is not bytes, bytearray or memoryview.
            ValueError: another address than the one that the endpoint was made for.
        """
        cdef const char *name
        cdef uint32_t name_size
        if not PyBytes_CheckExact(data) and not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if not self.sends_empty and not data:
            return
        if self.remote is not None:
            if addr is not None and addr != self.remote:
                raise ValueError(f"Invalid address: must be None or {self.remote}")
            addr = self.remote
        if self.protocol is None or (self.lost and self.remote is not None):
            self.warn_of_lost_write()
            return
        if self.has_named_peer or (addr is None and self.has_peer):
            self.send(data, NULL, 0)
        elif addr is not None and addr is self.source:
            self.send(data, self.source_name, self.source_size)
        elif self.name_target(addr):
            self.send(data, self.target_name, self.target_size)
        else:
            self.transport.send_slowly(data, addr)

    def send_packed(self, data, bytes name):
        """Send to an address in the kernel's form."""
        self.send(data, PyBytes_AS_STRING(name), <uint32_t>PyBytes_GET_SIZE(name))

    cdef bint name_target(self, addr) except -1:
        """Put the address into target_name, if it is one that needs no resolving."""
        cdef uint32_t size
        if addr is None:
            return False
        if addr is self.target:
            return True
        self.target = None
        if self.family == AF_INET or self.family == AF_INET6:
            size = pack_address(self.family, addr, self.target_name)
        else:
            size = self.pack_elsewhere(addr)
        if size == 0:
            return False
        self.target = addr
        self.target_size = size
        return True

    cdef uint32_t pack_elsewhere(self, addr) except? 0xFFFFFFFF:
        cdef bytes name = self.transport.pack_address(addr)
        if name is None:
            return 0
        memcpy(self.target_name, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
        return <uint32_t>PyBytes_GET_SIZE(name)

    cdef send(self, data, const char *name, uint32_t name_size):
        cdef Py_buffer view
        cdef int result
        cdef char target[UL_NAME_SIZE]
        # A `__buffer__` in Python may send to another address, or close the transport or the loop.
        memcpy(target, name, name_size)
        try:
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        except BufferError as error:
            self.transport._fatal_error(error, "Fatal write error on datagram transport")
            return
        if self.handle == NULL:
            PyBuffer_Release(&view)
            return
        result = ul_datagram_send(self.handle, view.buf, view.len, target, name_size, not self.lost)
        PyBuffer_Release(&view)
        if result > 0:
            if self.handle != NULL and ul_datagram_queued(self.handle) > self.high_water:
                self.transport._maybe_pause_protocol()
        elif result < 0 and not (self.lost and result == -EAGAIN) and self.protocol is not None:
            self.protocol.error_received(OSError(-result, strerror(-result)))

    cdef warn_of_lost_write(self):
        if self.lost_writes >= LOST_WRITES_BEFORE_WARNING:
            _log.warning("socket.send() raised exception.")
        self.lost_writes += 1

    def notify_low(self, size_t low_water_bytes):
        """Call the transport's `_maybe_resume_protocol` when the queue has fallen to this."""
        if self.handle != NULL:
            ul_datagram_notify_low(self.handle, low_water_bytes)

    def queued(self):
        """Bytes of datagrams that the socket has not taken, with the overhead of each."""
        return ul_datagram_queued(self.handle) if self.handle != NULL else 0

    # Closing

    cdef bint close_in_core(self, bint abort) except -1:
        cdef int result
        self.closing = True
        if self.handle == NULL:
            return True
        if abort or (ul_datagram_queued(self.handle) == 0 and not self.transport._protocol_paused):
            self.lost = True
        self.held.clear()
        result = ul_datagram_abort(self.handle) if abort else ul_datagram_close(self.handle)
        self.check(result)
        return result == 1

    cdef bint is_quiet(self):
        return self.handle == NULL or ul_datagram_quiet(self.handle)

    cdef free_core(self):
        if self.handle != NULL:
            ul_datagram_free(self.handle)
            self.handle = NULL

    cdef int check(self, int result) except -1:
        if result < 0:
            raise_errno(result)
        return result
