"""`TlsProtocol`: TLS between a transport and the application's protocol, over a `Session`.

The states and the order of all calls are those of asyncio's `SSLProtocol`, and so is the transport that the application
sees: asyncio's class calls the methods here.  Differences, where asyncio loses bytes or waits in vain, stand in
docs/asyncio.md.

    UNWRAPPED ---> HANDSHAKE ---> WRAPPED ---> FLUSHING ---> SHUTDOWN

UNWRAPPED follows each of them, at the end.  WRAPPED carries bytes both ways.  FLUSHING delivers what has come, as soon
as the application reads.  SHUTDOWN has said goodbye, and waits for the peer's.
"""

import collections
import ssl
from asyncio import BufferedProtocol
from logging import getLogger

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from ..engine.stream cimport Stream
from ..engine.stream_reader cimport feed_reader, feeds_reader
from ..hooks import (
    SSL_HANDSHAKE_TIMEOUT_S, SSL_SHUTDOWN_TIMEOUT_S, SslTransport, TLS_PROTOCOLS,
    default_tls_context,
)
from .openssl cimport UL_TLS_AGAIN, UL_TLS_CLOSED, UL_TLS_FAILED, UL_TLS_MORE
from .outgoing cimport FLUSHING, HANDSHAKE, SHUTDOWN, UNWRAPPED, WRAPPED, Outgoing
from .session cimport Session, open_session

from .outgoing import FATAL

# The callbacks that the application's protocol has had, in this order.
cdef enum:
    NOTHING
    MADE
    EOF
    LOST

cdef tuple NAMES = ("UNWRAPPED", "DO_HANDSHAKE", "WRAPPED", "FLUSHING", "SHUTDOWN")
_log = getLogger("asyncio")


def make_tls_protocol(
    loop, protocol, context, waiter, *, server_side, server_hostname, handshake_timeout_s, shutdown_timeout_s,
    calls_connection_made=True,
):
    """Return the protocol, or None where asyncio's must serve: the context makes `SSLObject`s of another kind.

    Args:
        loop: an event loop.
        protocol: the application's protocol.
        context: an `ssl.SSLContext`; None: a client's default one.
        waiter: a future that is resolved after the handshake, or None.
        server_side: whether this is the server.
        server_hostname: the name that a client asks for, or None.
        handshake_timeout_s: the time that the handshake may take, in seconds; None: asyncio's.
        shutdown_timeout_s: the same of the shutdown.
        calls_connection_made: False: the protocol has a connection already.

    Raises:
        ValueError: a time is not positive, or a server has no context.
        Exception: as from `context.wrap_bio`.
    """
    cdef TlsProtocol tls
    cdef Session session
    if handshake_timeout_s is None:
        handshake_timeout_s = SSL_HANDSHAKE_TIMEOUT_S
    elif handshake_timeout_s <= 0:
        raise ValueError(f"ssl_handshake_timeout should be a positive number, got {handshake_timeout_s}")
    if shutdown_timeout_s is None:
        shutdown_timeout_s = SSL_SHUTDOWN_TIMEOUT_S
    elif shutdown_timeout_s <= 0:
        raise ValueError(f"ssl_shutdown_timeout should be a positive number, got {shutdown_timeout_s}")
    if not context:
        context = default_tls_context(server_side, server_hostname)
    session = open_session(context, server_side, server_hostname if server_hostname and not server_side else None)
    if session is None:
        return None
    tls = TlsProtocol.__new__(TlsProtocol, session)
    tls.loop, tls.waiter = loop, waiter
    tls.handshake_timeout_s, tls.shutdown_timeout_s = handshake_timeout_s, shutdown_timeout_s
    tls.extra = {"sslcontext": context}
    tls.told = NOTHING if calls_connection_made else MADE
    tls._write_backlog = collections.deque()
    tls._set_app_protocol(protocol)
    tls._set_read_buffer_limits()
    tls._set_write_buffer_limits()
    tls._app_transport = SslTransport(loop, tls)
    tls._app_transport.write = tls.write
    return tls


cdef class TlsProtocol(Outgoing):
    """TLS over one transport.  `make_tls_protocol` makes it.

    Attributes:
        _app_protocol: the application's protocol.
        _app_transport: the transport that it sees.
        _transport: the transport below, None before and after the connection.
    """

    def __cinit__(self, Session session not None):
        self.session = session

    def __init__(self, *_):
        raise TypeError("make_tls_protocol makes TLS protocols")

    @property
    def _transport(self):
        return self.transport

    cdef int enter(self, int state) except -1:
        if state != UNWRAPPED and state != self.state + 1:
            raise RuntimeError(f"cannot switch state from {NAMES[self.state]} to {NAMES[state]}")
        self.state = state
        return 0

    # The transport's calls

    def connection_made(self, transport):
        """Begin the handshake."""
        endpoint = getattr(transport, "_endpoint", None)
        if type(endpoint) is Stream and (<Stream>endpoint).protocol is self:
            self.stream = endpoint
        self.transport = transport
        self.start_handshake()

    def connection_lost(self, error):
        """Hear that the transport below is at its end."""
        self._write_backlog.clear()
        self.lost_writes += 1
        if self._app_transport is not None:
            # It warns of no unclosed transport.
            self._app_transport._closed = True
            # Without the reference from here, its second close leaves no garbage.
            if vars(self._app_transport).get("write") == self.write:
                del self._app_transport.write
        if self.state != HANDSHAKE and (self.told == MADE or self.told == EOF):
            self.told = LOST
            self.loop.call_soon(self._app_protocol.connection_lost, error)
        self.enter(UNWRAPPED)
        self.session.drop()
        self.session.keep(NULL, 0)
        self.session.sent()
        self.transport = self.stream = self._app_transport = self._app_protocol = None
        self.wake_waiter(error)
        timers = self.shutdown_timer, self.handshake_timer
        self.shutdown_timer = self.handshake_timer = None
        for timer in timers:
            if timer is not None:
                timer.cancel()

    def data_received(self, data):
        """Take records from a transport that is not of this package, or from an outer TLS."""
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self.receive(<const char *>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    cdef bint receive(self, const char *data, Py_ssize_t size_bytes) except -1:
        cdef bint outer = self.receiving
        if self.state == UNWRAPPED:
            return True
        if self.state == HANDSHAKE:
            # The context's callbacks run within, and may do anything to the caller's memory.
            self.session.keep(data, size_bytes)
        else:
            self.session.feed(data, size_bytes)
        self.receiving = True
        try:
            if self.state == WRAPPED:
                self.do_read()
            else:
                self._go_on()
        finally:
            self.receiving = outer
            if not self.source_is_there():
                self.session.drop()
            self.session.keep(NULL, 0)
            if self.session.tls.records_bytes > 0 and not self.writing_paused:
                self.process_outgoing()
        return True

    def _go_on(self):
        """Do what the state asks for."""
        if self.state == WRAPPED:
            self.do_read()
        elif self.state == HANDSHAKE:
            self.do_handshake()
        elif self.state == FLUSHING:
            self.do_flush()
        elif self.state == SHUTDOWN:
            self.do_shutdown()

    def eof_received(self):
        """See `asyncio.Protocol.eof_received`."""
        self.ended = True
        try:
            if self.loop.get_debug():
                _log.debug("%r received EOF", self)
            if self.state == HANDSHAKE:
                self.handshake_done(ConnectionResetError())
            elif self.state == WRAPPED:
                self.enter(FLUSHING)
                if not self._app_reading_paused:
                    self.do_flush()
                return self.state == FLUSHING
            elif self.state == FLUSHING:
                self.do_write()
                self.enter(SHUTDOWN)
                self.do_shutdown()
            elif self.state == SHUTDOWN:
                self.do_shutdown()
        except Exception:
            self.transport.close()
            raise

    # The handshake

    cdef start_handshake(self):
        if self.loop.get_debug():
            _log.debug("%r starts SSL handshake", self)
            self.handshake_began_s = self.loop.time()
        self.enter(HANDSHAKE)
        self.handshake_timer = self.loop.call_later(self.handshake_timeout_s, self._check_handshake_timeout)
        self.do_handshake()

    def _check_handshake_timeout(self):
        if self.state == HANDSHAKE:
            self.fatal_error(
                ConnectionAbortedError(
                    f"SSL handshake is taking longer than {self.handshake_timeout_s} seconds: aborting the connection"
                )
            )

    cdef do_handshake(self):
        try:
            done = self.session.handshake()
        except ssl.SSLError as error:
            self.handshake_done(error)
            return
        if done:
            self.handshake_done(None)
        else:
            self.process_outgoing()

    cdef handshake_done(self, error):
        timer, self.handshake_timer = self.handshake_timer, None
        if timer is not None:
            timer.cancel()
        if error is not None:
            # The alert, which tells the peer why.
            self.send_records()
            self.enter(UNWRAPPED)
            refused = isinstance(error, ssl.CertificateError)
            try:
                raise error  # its traceback begins here, as asyncio's
            except Exception:
                self.fatal_error(
                    error, "SSL handshake failed on verifying the certificate" if refused else "SSL handshake failed"
                )
            self.wake_waiter(error)
            return
        self.enter(WRAPPED)
        if self.handshake_began_s is not None:
            _log.debug("%r: SSL handshake took %.1f ms", self, (self.loop.time() - self.handshake_began_s) * 1e3)
        tls = self.session.ssl_object
        # The peer's certificate is decoded when it is asked for.
        self.extra.update(cipher=tls.cipher(), compression=tls.compression(), ssl_object=tls)
        if self.told == NOTHING:
            self.told = MADE
            self._app_protocol.connection_made(self._app_transport)
        self.wake_waiter(None)
        self.do_read()

    cdef wake_waiter(self, error):
        waiter, self.waiter = self.waiter, None
        if waiter is None or waiter.cancelled():
            return
        if error is not None:
            waiter.set_exception(error)
        else:
            waiter.set_result(None)

    # Reading

    cdef bint source_is_there(self):
        """Return whether the received bytes may be read: after a fork, a child lacks the ring's memory."""
        return self.stream is None or self.stream.engine.dispatcher.has_memory()

    cdef do_read(self):
        if self.state != WRAPPED and self.state != FLUSHING:
            return
        try:
            if not self._app_reading_paused:
                if self.buffered:
                    self.read_buffered()
                else:
                    self.read_copied()
                if self._write_backlog:
                    self.do_write()
                else:
                    self.process_outgoing()
            self.control_reading()
        except Exception as error:
            # The answers that were written before.
            self.send_records()
            self.fatal_error(error, FATAL)

    cdef read_copied(self):
        cdef int end = UL_TLS_AGAIN
        cdef bytes data = self.session.read(&end)
        # At once: a callback may use OpenSSL too.
        error = self.session.read_error() if end == UL_TLS_FAILED else None
        if data is not None:
            self.deliver(data)
        if end != UL_TLS_AGAIN:
            self.end_of_read(end, error)

    cdef deliver(self, bytes data):
        if self.feeds and feed_reader(self._app_protocol, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)):
            return
        self._app_protocol.data_received(data)

    cdef read_buffered(self):
        """Fill the application's buffers, as long as bytes are there."""
        cdef Py_buffer view
        cdef Py_ssize_t size
        cdef int end = UL_TLS_MORE
        while end == UL_TLS_MORE and self.session.has_bytes():
            buffer = self._app_protocol.get_buffer(self._get_read_buffer_size())
            if not len(buffer):
                raise RuntimeError("get_buffer() returned an empty buffer")
            if not self.source_is_there() or self.state != WRAPPED and self.state != FLUSHING:
                return
            PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
            size = self.session.read_into(<char *>view.buf, view.len, &end)
            error = self.session.read_error() if end == UL_TLS_FAILED else None
            PyBuffer_Release(&view)
            if size > 0:
                self._app_protocol.buffer_updated(size)
            if self.state != WRAPPED and self.state != FLUSHING:
                return
            if end == UL_TLS_CLOSED or error is not None:
                self.end_of_read(end, error)
            if self._app_reading_paused or not self.source_is_there():
                return
            if not self.buffered:
                if end == UL_TLS_MORE:
                    self.read_copied()
                return

    cdef end_of_read(self, int end, error):
        if error is not None:
            raise error
        if end == UL_TLS_CLOSED:
            self.tell_eof()
            self.start_shutdown()

    cdef tell_eof(self):
        try:
            if self.told == MADE:
                self.told = EOF
                if self._app_protocol.eof_received():
                    _log.warning("returning true from eof_received() has no effect when using ssl")
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            self.fatal_error(error, "Error calling eof_received()")

    # Shutdown

    def _start_shutdown(self):
        self.start_shutdown()

    cdef start_shutdown(self):
        if self.state == FLUSHING and self.ended and self.shutdown_timer is None:
            # The transport's end has waited for the application to read.
            self.enter(SHUTDOWN)
            self.do_shutdown()
        if self.state != HANDSHAKE and self.state != WRAPPED:
            return
        if self._app_transport is not None:
            self._app_transport._closed = True
        if self.state == HANDSHAKE:
            self._abort(None)
            return
        self.enter(FLUSHING)
        self.start_shutdown_timer()
        self.do_flush()

    cdef start_shutdown_timer(self):
        self.shutdown_timer = self.loop.call_later(self.shutdown_timeout_s, self._check_shutdown_timeout)

    def _check_shutdown_timeout(self):
        if self.state == FLUSHING or self.state == SHUTDOWN:
            self.transport._force_close(TimeoutError("SSL shutdown timed out"))

    cdef do_flush(self):
        self.do_read()
        # Unless the application has paused before it had all, and has not closed: the transport's end can wait.
        waits = self.ended and self._app_reading_paused and self.shutdown_timer is None and self.session.has_bytes()
        if self.state == FLUSHING and not waits:
            self.enter(SHUTDOWN)
            self.do_shutdown()

    cdef do_shutdown(self):
        """Say goodbye, and drop what comes until the peer says it, or the transport ends."""
        try:
            if not self.ended and self.session.shutdown() == UL_TLS_AGAIN:
                self.process_outgoing()
                self.control_reading()
                return
        except ssl.SSLError as error:
            self.shutdown_done(error)
            return
        self.process_outgoing()
        self.tell_eof()
        self.shutdown_done(None)

    cdef shutdown_done(self, error):
        if error is not None:
            timer, self.shutdown_timer = self.shutdown_timer, None
            if timer is not None:
                timer.cancel()
            self.fatal_error(error)
        elif self.transport is not None:
            if self.shutdown_timer is None:
                self.start_shutdown_timer()
            # It sends its queue first; a peer that does not read ends that by the timer alone.
            self.loop.call_soon(self.transport.close)

    def _abort(self, error=None):
        self.send_records()
        self.enter(UNWRAPPED)
        if self.transport is not None:
            self.transport._force_close(error)

    # The calls of the application's transport

    def _pause_reading(self):
        self._app_reading_paused = True

    def _resume_reading(self):
        if self._app_reading_paused:
            self._app_reading_paused = False
            self.loop.call_soon(self._resume)

    def _resume(self):
        if self.state != HANDSHAKE:
            self._go_on()
            self.session.keep(NULL, 0)

    def _set_app_protocol(self, protocol):
        cdef bint buffered = isinstance(protocol, BufferedProtocol)
        cdef bint feeds = feeds_reader(protocol)
        self._app_protocol, self.buffered, self.feeds = protocol, buffered, feeds

    def _get_extra_info(self, name, default=None):
        if name == "peercert" and name not in self.extra and "ssl_object" in self.extra:
            self.extra[name] = self.session.ssl_object.getpeercert()
        if name in self.extra:
            return self.extra[name]
        return default if self.transport is None else self.transport.get_extra_info(name, default)

    def _is_transport_closing(self):
        return self.transport is not None and self.transport.is_closing()


TLS_PROTOCOLS.append(TlsProtocol)
