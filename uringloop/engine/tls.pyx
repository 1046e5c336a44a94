"""The messages of an open TLS connection, without the Python calls of asyncio's TLS protocol.

The protocol, its transport and their state are asyncio's.  So are all rare cases: handshake, shutdown, pauses, errors,
bytes that OpenSSL does not take at once.  This module has the straight way through them, and checks that state each
time.

asyncio's own functions run where this Python lacks a part that `hooks.py` lists, or a tool has replaced one.  They also
run for an `SSLObject` of another class, for TLS in TLS, and for a `BufferedProtocol`.
"""

from asyncio.sslproto import SSLProtocol
from ssl import SSLSyscallError, SSLWantReadError

from cpython.bytes cimport PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from ..hooks import TLS_OPEN, tls_is_known

cdef object WRAPPED = TLS_OPEN
cdef tuple AGAIN = (SSLWantReadError, SSLSyscallError)
cdef str FATAL = "Fatal error on SSL protocol"


cdef Tls tls_of(protocol):
    """Return the straight way through a protocol, or None if it is not asyncio's unchanged one for TLS."""
    return Tls(protocol) if type(protocol) is SSLProtocol and tls_is_known(protocol) else None


cdef class Tls:
    """asyncio's TLS protocol over a stream.  The transport that the application sees takes its `write` as an attribute.
    """

    def __init__(self, protocol):
        self.protocol = protocol
        self.incoming = protocol._incoming
        self.outgoing = protocol._outgoing
        self.session = protocol._sslobj._sslobj
        self.transport = protocol._app_transport
        self.transport.write = self.write

    cdef drop_transport(self):
        """Break the reference cycle of the transport and this; asyncio breaks its own when the connection is lost."""
        if vars(self.transport).get("write") == self.write:
            del self.transport.write

    cdef bint receive(self, const char *data, Py_ssize_t size) except -1:
        """Do the work of `get_buffer`, `buffer_updated` and `_do_read`; return False if the caller must call them."""
        protocol = self.protocol
        if protocol._state is not WRAPPED or protocol._app_reading_paused or protocol._app_protocol_is_buffer:
            return False
        self.incoming.write(PyBytes_FromStringAndSize(data, size))
        try:
            self.decrypt()
            if protocol._write_backlog:
                protocol._do_write()
            else:
                self.send()
            if self.incoming.pending or protocol._ssl_reading_paused or not protocol._incoming_high_water:
                protocol._control_ssl_reading()
        except Exception as error:
            protocol._fatal_error(error, FATAL)
        return True

    cdef decrypt(self):
        """Do the work of `_do_read__copied`, which reads until an exception ends it; that alone takes 1.5 µs.

        A read ends within a record only by an exception, so the rest is in the BIO or decrypted.
        """
        cdef list chunks = []
        protocol = self.protocol
        chunk = None
        try:
            while chunk is None or self.incoming.pending or self.session.pending():
                chunk = self.session.read(protocol.max_size)
                if not chunk:
                    break
                chunks.append(chunk)
        except AGAIN:
            pass
        if chunks:
            protocol._app_protocol.data_received(chunks[0] if len(chunks) == 1 else b"".join(chunks))
        if chunk is not None and not chunk:  # the peer's goodbye
            protocol._call_eof_received()
            protocol._start_shutdown()

    cdef send(self):
        """Do the work of `_process_outgoing`, without a backlog."""
        protocol = self.protocol
        if not protocol._ssl_writing_paused:
            if self.outgoing.pending:
                protocol._transport.write(self.outgoing.read())
            if not protocol._app_writing_paused and protocol._outgoing_high_water:
                return
        protocol._control_app_writing()

    def write(self, data):
        """See `asyncio.WriteTransport.write`."""
        protocol = self.protocol
        if not PyBytes_CheckExact(data) or not data or protocol._state is not WRAPPED or protocol._write_backlog:
            type(self.transport).write(self.transport, data)
            return
        try:
            try:
                taken = self.session.write(data)
            except AGAIN:
                taken = 0
            if taken < PyBytes_GET_SIZE(data):
                protocol._write_appdata((data[taken:],))
            else:
                self.send()
        except Exception as error:
            protocol._fatal_error(error, FATAL)
