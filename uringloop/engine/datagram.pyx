"""`Datagram`: the engine's half of a datagram transport."""

from os import strerror

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.contextvars cimport PyContext_Exit
from libc.errno cimport EAGAIN, EMSGSIZE
from libc.stdint cimport uint32_t
from libc.string cimport memcmp, memcpy

from ..ring.core.core cimport io_uring_recvmsg_out, ul_outcome
from ..ring.dispatcher cimport Dispatcher
from ..ring.owner cimport add_owner
from ..tick cimport is_over, waits_long
from .address cimport KEY_SIZE, pack_address
from .base cimport EngineBase
from .core cimport (
    UL_DATAGRAM_CLOSED, UL_DATAGRAM_DATA, UL_DATAGRAM_LOW, UL_DATAGRAM_READABLE, UL_DATAGRAM_RECEIVE_ERROR,
    UL_DATAGRAM_SEND_ERROR, UL_NAME_SIZE, ul_datagram_abort, ul_datagram_allow_segments, ul_datagram_announce,
    ul_datagram_close, ul_datagram_drop_arriving, ul_datagram_end_coalescing, ul_datagram_free, ul_datagram_hold,
    ul_datagram_hold_send, ul_datagram_idle, ul_datagram_note_send, ul_datagram_notify_low, ul_datagram_open,
    ul_datagram_payload_offset, ul_datagram_queued, ul_datagram_receive, ul_datagram_receive_now, ul_datagram_recycle,
    ul_datagram_segment_size, ul_datagram_send, ul_datagram_send_held, ul_datagram_share, ul_datagram_take,
    ul_datagram_take_error,
)
from .endpoint cimport ENDING, OPEN, Endpoint, checked, delivers, enter_context

cdef extern from "<sys/socket.h>" nogil:
    enum:
        AF_INET
        AF_INET6
        MSG_TRUNC

cdef enum:
    READY_DATAGRAMS = 32
    # So many may be more: each may be several that came joined.
    JOINED_DATAGRAMS = 128
    # A handed out socket may fill up while it is emptied.  After so many rounds it drops what arrives.
    EMPTYING_ROUNDS = 16


cdef item_of(const char *data, uint32_t offset):
    """Return the received bytes, or a negative errno for a datagram that was cut off."""
    cdef const io_uring_recvmsg_out *out = <const io_uring_recvmsg_out *>data
    if out.flags & MSG_TRUNC:
        return -EMSGSIZE
    return PyBytes_FromStringAndSize(data + offset, out.payloadlen)


cdef class Datagram(Endpoint):
    """One datagram socket: datagrams in to the protocol, datagrams out from `sendto`.  `Engine` opens it.

    The transport is told through `send_slowly`, `pack_address`, `unpack_address`, `protocol_failed` and asyncio's
    `_maybe_pause_protocol` and `_maybe_resume_protocol`.
    """

    cdef name_peer(self, peer):
        """Note the peer that the socket is connected to, None if there is none.

        A peer with a name gets all datagrams; one without (of a socket pair) gets those without an address.
        """
        self.has_peer = peer is not None
        self.has_named_peer = bool(peer)

    cdef open(self, EngineBase engine, transport, sock, bint multishot, uint32_t overhead_bytes):
        """Open the core's half, to receive through the ring's buffer group if `multishot` is true."""
        self.take_file(engine, transport, sock.fileno(), sock)
        self.family = sock.family
        self.addresses = engine.known_addresses()
        self.handle = ul_datagram_open(engine.dispatcher.ring, self.fd, <void *>self, multishot, overhead_bytes)
        if self.handle == NULL:
            raise MemoryError
        self.payload_offset = ul_datagram_payload_offset(self.handle)
        add_owner(engine.dispatcher.owners, self)

    def own_socket(self):
        """Let datagrams leave and come together: the loop made the socket, and no code has asked for it."""
        if not self.shared and self.handle != NULL:
            self.has_segments = ul_datagram_allow_segments(self.handle)

    def share(self):
        """Use the socket as asyncio does from now on: other code may have it."""
        if self.shared:
            return
        self.shared, self.has_segments = True, False
        if self.handle == NULL or not self.engine.dispatcher.has_memory():
            return
        ul_datagram_send_held(self.handle)
        if ul_datagram_share(self.handle):
            self.empty_socket()

    cdef str method_for(self, uint32_t what, bint direct):
        if what & (UL_DATAGRAM_DATA | UL_DATAGRAM_READABLE):
            return "datagram_received"
        if what & (UL_DATAGRAM_RECEIVE_ERROR | UL_DATAGRAM_SEND_ERROR):
            return "error_received"
        return "resume_writing" if what & UL_DATAGRAM_LOW else "connection_lost"

    # Receiving

    cdef bint has_core(self):
        return self.handle != NULL

    cdef int receive_in_core(self):
        cdef int error = 0
        if self.emptied is not None:
            error = ul_datagram_announce(self.handle)
        return error if error < 0 else ul_datagram_receive(self.handle)

    cdef int hold_in_core(self):
        return ul_datagram_hold(self.handle)

    cdef deliver_item(self, item):
        if type(item) is int:
            self.deliver_error(item)
        else:
            self.deliver(item[0], item[1])

    cdef take_outcome(self, ul_outcome *outcome):
        if self.orphaned:
            if outcome.what & UL_DATAGRAM_DATA and self.handle != NULL:
                ul_datagram_recycle(self.handle, outcome)
            return
        context = enter_context(self.context)
        try:
            self.receive_in_context(outcome)
        finally:
            PyContext_Exit(context)

    cdef receive_in_context(self, ul_outcome *outcome):
        cdef uint32_t what = outcome.what
        try:
            if what & UL_DATAGRAM_DATA:
                self.receive_datagram(outcome)
            elif what & UL_DATAGRAM_READABLE:
                self.receive_ready()
            elif what & UL_DATAGRAM_RECEIVE_ERROR:
                self.receive(<int>outcome.res, None)
            elif what & UL_DATAGRAM_SEND_ERROR:
                self.deliver_error(<int>outcome.res)
        finally:
            if what & (UL_DATAGRAM_LOW | UL_DATAGRAM_CLOSED):
                self.go_on(what)

    cdef go_on(self, uint32_t what):
        try:
            if what & UL_DATAGRAM_LOW:
                self.queue_fell(what & UL_DATAGRAM_CLOSED != 0)
        finally:
            if what & UL_DATAGRAM_CLOSED:
                self.core_closed()

    cdef drop_core(self):
        self.handle = NULL
        self.orphan()
        self.protocol = None

    cdef receive_datagram(self, ul_outcome *outcome):
        if (<const io_uring_recvmsg_out *>outcome.data).controllen != 0:
            self.receive_joined(outcome)
            return
        try:
            item = item_of(outcome.data, self.payload_offset)
            address = None if type(item) is int else self.sender_of(outcome.data)
        finally:
            ul_datagram_recycle(self.handle, outcome)
        self.receive(item, address)

    cdef receive_joined(self, ul_outcome *outcome):
        """Receive one datagram or several, as the control data behind the name tells."""
        cdef list items
        try:
            items = self.items_of(outcome.data)
        finally:
            ul_datagram_recycle(self.handle, outcome)
        self.deliver_items(items)

    cdef list items_of(self, const char *data):
        """Return each datagram that came with its sender; or a negative errno, with None."""
        cdef const io_uring_recvmsg_out *out = <const io_uring_recvmsg_out *>data
        cdef uint32_t size = ul_datagram_segment_size(self.handle, data), done
        cdef list items = []
        item = item_of(data, self.payload_offset) if size == 0 or out.flags & MSG_TRUNC else None
        if item is not None:
            return [(item, None if type(item) is int else self.sender_of(data))]
        address = self.sender_of(data)
        for done in range(0, out.payloadlen, size):
            item = PyBytes_FromStringAndSize(data + self.payload_offset + done, min(size, out.payloadlen - done))
            items.append((item, address))
        return items

    cdef receive_ready(self):
        """Receive by readiness, at most as many datagrams as a multishot receive takes at once."""
        cdef EngineBase engine = self.engine
        cdef int _taken, result
        cdef list items = []
        cdef char *memory = engine.take_received()
        try:
            # All before the first callback, which may arm a receive that takes the later ones.
            for _taken in range(READY_DATAGRAMS):
                if self.handle == NULL or not delivers(self) or self.paused or self.held:
                    break
                if len(items) >= JOINED_DATAGRAMS:
                    break
                if self.emptied is not None:
                    items, self.emptied = self.emptied, None
                result = ul_datagram_take(self.handle, memory)
                if result == -EAGAIN:
                    break
                if result > 0:
                    items += self.items_of(memory)
                else:
                    items.append((result, None))
        finally:
            engine.give_received(memory)
        self.deliver_items(items)

    cdef deliver_items(self, list items):
        """Deliver several datagrams, each with its sender."""
        cdef Dispatcher dispatcher = self.engine.dispatcher
        cdef Py_ssize_t index = 0, count = len(items)
        # Each datagram is an event, so that the answers may leave together.
        dispatcher.tick.outcomes += max(count - 1, 0)
        try:
            while index < count:
                item, address = items[index]
                index += 1
                self.receive(item, address)
                if waits_long(&dispatcher.tick):
                    dispatcher.send_waiting()
        finally:
            if index < count and delivers(self):
                # KeyboardInterrupt or SystemExit: the others come in the next tick.
                for item, address in items[index:]:
                    self.keep(item if type(item) is int else (item, address))
                self.deliver_soon()

    cdef empty_socket(self):
        """Take all that came joined out of the socket, and end that; it is delivered behind what was received before.
        """
        cdef EngineBase engine = self.engine
        cdef list items = []
        cdef int _round
        cdef bint receives = not self.paused and not self.held and delivers(self)
        if checked(ul_datagram_hold(self.handle)) == 1:
            engine.dispatcher.submit_cancel()
        cdef char *memory = engine.take_received()
        try:
            for _round in range(EMPTYING_ROUNDS):
                self.receive_all_now(memory, items)
                if ul_datagram_end_coalescing(self.handle):
                    break
            else:
                ul_datagram_drop_arriving(self.handle, True)
                try:
                    self.receive_all_now(memory, items)
                    ul_datagram_end_coalescing(self.handle)
                finally:
                    ul_datagram_drop_arriving(self.handle, False)
        finally:
            engine.give_received(memory)
        if items:
            self.emptied = items
        if receives:
            checked(self.receive_in_core())

    cdef receive_all_now(self, char *memory, list items):
        """Receive until the socket is empty, without delivering."""
        cdef int result, failed = -EAGAIN
        while True:
            result = ul_datagram_receive_now(self.handle, memory)
            if result == -EAGAIN or result == failed:
                return  # an error that stays is that of a closed descriptor
            failed = min(result, 0)
            items += self.items_of(memory) if result > 0 else [(result, None)]

    cdef sender_of(self, const char *data):
        return self.address_of(data + sizeof(io_uring_recvmsg_out), (<const io_uring_recvmsg_out *>data).namelen)

    cdef address_of(self, const char *name, uint32_t name_size):
        cdef uint32_t size = min(name_size, <uint32_t>UL_NAME_SIZE)
        if size == 0:
            return None
        if size != self.source_size or memcmp(name, self.source_name, size) != 0:
            if self.family == AF_INET or self.family == AF_INET6:
                self.source = self.addresses.find(name, min(size, <uint32_t>KEY_SIZE))
            else:
                self.source = self.transport.unpack_address(PyBytes_FromStringAndSize(name, size))
            memcpy(self.source_name, name, size)
            self.source_size = size
        return self.source

    cdef receive(self, item, address):
        """Deliver a datagram, or an errno, or keep it until resumed."""
        if not delivers(self):
            return
        if self.paused or self.held:
            self.hold(item if type(item) is int else (item, address))
        elif PyBytes_CheckExact(item):
            self.deliver(item, address)
        else:
            self.deliver_error(item)

    cdef deliver(self, data, address):
        try:
            self.protocol.datagram_received(data, address)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.transport.protocol_failed(error, "datagram_received")

    cdef deliver_error(self, int res):
        if self.protocol is None:
            return
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
            ValueError: the address is not the one that the endpoint was made for.
        """
        self.check_caller()
        if not PyBytes_CheckExact(data) and not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if not self.sends_empty and not data:
            return
        if self.remote is not None:
            if addr is not None and addr != self.remote:
                raise ValueError(f"Invalid address: must be None or {self.remote}")
            addr = self.remote
        if self.protocol is None or (self.state >= ENDING and self.remote is not None):
            self.note_lost_write()
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
        """Put a literal address into target_name; return False for another one."""
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
        cdef int row
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
        row = ul_datagram_note_send(self.handle, view.len, target, name_size) if self.has_segments else 0
        if row > 0 and self.holds_next(row):
            result = ul_datagram_hold_send(self.handle, view.buf, view.len, target, name_size, self.high_water)
        else:
            result = ul_datagram_send(self.handle, view.buf, view.len, target, name_size, self.state < ENDING)
        PyBuffer_Release(&view)
        if result > 0:
            if self.handle != NULL and ul_datagram_queued(self.handle) > self.high_water:
                self.transport._maybe_pause_protocol()
        elif result < 0 and not (self.state >= ENDING and result == -EAGAIN) and self.protocol is not None:
            self.protocol.error_received(OSError(-result, strerror(-result)))

    cdef bint holds_next(self, int row) noexcept:
        """Return whether the next datagram waits, to leave with others of its address; row: of `ul_datagram_note_send`.

        The first to an address leaves at once.  In ticks with many callbacks the later ones wait as small writes of
        streams do.  If many follow each other, they also wait in a tick with few, until their callback ends.
        Outside of a tick nothing ends, and none waits.
        """
        cdef Dispatcher dispatcher = self.engine.dispatcher
        if self.state != OPEN or not dispatcher.has_memory() or is_over(&dispatcher.tick):
            return False
        if dispatcher.sends_at_once():
            if row == 1:
                return False
            if not dispatcher.tick.held:
                dispatcher.hold()
        dispatcher.tick.unsent = True
        return True

    def queued(self):
        """Return the number of bytes that the socket did not take yet; those that wait for others leave before."""
        self.check_caller()
        if self.handle != NULL:
            ul_datagram_send_held(self.handle)
        return self.queued_bytes()

    def notify_low(self, size_t low_water_bytes):
        """Call the transport's `_maybe_resume_protocol` when the queue has fallen to this."""
        self.check_caller()
        if self.handle != NULL:
            ul_datagram_notify_low(self.handle, low_water_bytes)

    cdef size_t queued_bytes(self):
        return ul_datagram_queued(self.handle) if self.handle != NULL else 0

    # Closing

    cdef closing(self, bint abort):
        """Send the datagrams that wait for others: asyncio's are sent."""
        cdef int error = -1
        while error < 0 and self.handle != NULL:
            ul_datagram_send_held(self.handle)
            error = ul_datagram_take_error(self.handle)
            if error < 0:
                self.deliver_error(error)

    cdef int close_in_core(self, bint abort):
        if self.handle == NULL:
            return 1
        return ul_datagram_abort(self.handle) if abort else ul_datagram_close(self.handle)

    cdef bint is_idle(self):
        return self.handle == NULL or ul_datagram_idle(self.handle)

    cdef free_core(self):
        if self.handle != NULL:
            ul_datagram_free(self.handle)
            self.handle = NULL
