"""What asyncio's TLS protocol does with each message of an open connection, without its Python calls.

The protocol, its transport and their state are asyncio's, and so is all that is rare: handshake, shutdown, pauses,
errors, what OpenSSL does not take at once.  Here is the straight way through them, which looks at that state each time.
"""

from asyncio.sslproto import SSLProtocol
from ssl import SSLSyscallError, SSLWantReadError

from cpython.bytes cimport PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from ..hooks import TLS_OPEN, tls_is_known

cdef object WRAPPED = TLS_OPEN
cdef tuple AGAIN = (SSLWantReadError, SSLSyscallError)
cdef str FATAL = "Fatal error on SSL protocol"


cdef Tls tls_of(protocol):
    """The straight way through a protocol, None if it is not asyncio's own for TLS as this Python made it."""
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

    cdef let_go(self):
        """Break the circle that the transport and this are in; asyncio's own is broken when the connection is lost."""
        if vars(self.transport).get("write") == self.write:
            del self.transport.write

    cdef bint receive(self, const char *data, Py_ssize_t size) except -1:
        """As `get_buffer`, `buffer_updated` and `_do_read`; whether that is done, else call the first two."""
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
        """As `_do_read__copied`, which reads until an exception says that there is no more; that alone takes 1.5 µs.

        A read ends within a record only with an exception, so what is left is in the BIO or decrypted.
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
        """As `_process_outgoing`, when there is no backlog."""
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
