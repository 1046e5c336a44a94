"""The messages of an open TLS connection, without the Python calls of asyncio's TLS protocol.

The protocol, its transport and their state are asyncio's.  So are all rare cases: handshake, shutdown, pauses, errors,
bytes that OpenSSL does not take at once.  This module has the straight way through them, and checks that state each
time.

asyncio's own functions run where this Python lacks a part that `hooks.py` lists, or a tool has replaced one.  They also
run for an `SSLObject` of another class, for TLS in TLS, and for a `BufferedProtocol`.
"""

from asyncio.sslproto import SSLProtocol

from cpython.bytes cimport PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject

from ..hooks import TLS_AGAIN, TLS_OPEN, tls_is_known
from .receiver cimport Receiver

cdef extern from "Python.h":
    PyObject *Py_True
    PyObject *Py_False
    PyObject *item_of "PyDict_GetItemWithError"(dict, str) except? NULL
    bint is_true "PyObject_IsTrue"(PyObject *) except -1

cdef enum:
    # A read gives the bytes of one record at most, which has so many.
    RECORD_BYTES = 16384

cdef object WRAPPED = TLS_OPEN
cdef tuple AGAIN = TLS_AGAIN
cdef str FATAL = "Fatal error on SSL protocol"


cdef Receiver receiver_of(protocol):
    """Return the straight way into a protocol: itself, or through asyncio's unchanged one for TLS; None without one."""
    if isinstance(protocol, Receiver):
        return protocol
    return Tls(protocol) if type(protocol) is SSLProtocol and tls_is_known(protocol) else None


cdef class Tls(Receiver):
    """asyncio's TLS protocol over a stream.  The transport that the application sees takes its `write` as an attribute.

    It reads the protocol's attributes out of their dict, and calls methods that it has bound once.  A look-up in the
    class costs more.
    """

    def __init__(self, protocol):
        session = protocol._sslobj._sslobj
        self.protocol = protocol
        self.state = vars(protocol)
        self.incoming = protocol._incoming
        self.outgoing = protocol._outgoing
        self.encrypted, self.encrypt = self.outgoing.read, session.write
        self.add_encrypted, self.read, self.pending = self.incoming.write, session.read, session.pending
        self.transport = protocol._app_transport
        self.transport.write = self.write

    cdef detached(self):
        """Break the reference cycle of the transport and this; asyncio breaks its own when the connection is lost."""
        if vars(self.transport).get("write") == self.write:
            del self.transport.write

    cdef PyObject *attribute(self, str name) except NULL:
        """Return a borrowed reference to an attribute of the protocol."""
        cdef PyObject *value = item_of(self.state, name)
        if value == NULL:
            raise AttributeError(name)
        return value

    cdef bint has(self, str name) except -1:
        """Return whether an attribute of the protocol is true."""
        cdef PyObject *value = self.attribute(name)
        return value == Py_True or value != Py_False and is_true(value)

    cdef bint is_open(self) except -1:
        """Return whether the connection is between handshake and shutdown."""
        return self.attribute("_state") == <PyObject *>WRAPPED

    cdef bint receive(self, const char *data, Py_ssize_t size) except -1:
        """Do the work of `get_buffer`, `buffer_updated` and `_do_read`; return False if the caller must call them."""
        if not self.is_open() or self.has("_app_reading_paused") or self.has("_app_protocol_is_buffer"):
            return False
        self.add_encrypted(PyBytes_FromStringAndSize(data, size))
        try:
            self.decrypt()
            if self.has("_write_backlog"):
                self.protocol._do_write()
            else:
                self.send()
            if self.incoming.pending or self.has("_ssl_reading_paused") or not self.has("_incoming_high_water"):
                self.protocol._control_ssl_reading()
        except Exception as error:
            self.protocol._fatal_error(error, FATAL)
        return True

    cdef decrypt(self):
        """Do the work of `_do_read__copied`, which reads until an exception ends it; that alone takes 1.5 µs.

        A read ends within a record only by an exception, so the rest is in the BIO or decrypted.
        """
        cdef list chunks = None
        cdef Py_ssize_t size = self.incoming.pending
        first = chunk = None
        try:
            while size > 0:
                chunk = self.read(min(size, RECORD_BYTES))
                if not chunk:
                    break
                if first is None:
                    first = chunk
                elif chunks is None:
                    chunks = [first, chunk]
                else:
                    chunks.append(chunk)
                size = max(self.incoming.pending, self.pending())
        except AGAIN:
            pass
        if first is not None:
            protocol = <object>self.attribute("_app_protocol")
            protocol.data_received(first if chunks is None else b"".join(chunks))
        if chunk is not None and not chunk:  # the peer's goodbye
            self.protocol._call_eof_received()
            self.protocol._start_shutdown()

    cdef send(self):
        """Do the work of `_process_outgoing`, without a backlog."""
        if not self.has("_ssl_writing_paused"):
            if self.outgoing.pending:
                transport = <object>self.attribute("_transport")
                transport.write(self.encrypted())
            if not self.has("_app_writing_paused") and self.has("_outgoing_high_water"):
                return
        self.protocol._control_app_writing()

    def write(self, data):
        """See `asyncio.WriteTransport.write`."""
        cdef Py_ssize_t taken
        if not PyBytes_CheckExact(data) or not data or not self.is_open() or self.has("_write_backlog"):
            type(self.transport).write(self.transport, data)
            return
        try:
            try:
                taken = self.encrypt(data)
            except AGAIN:
                taken = 0
            if taken < PyBytes_GET_SIZE(data):
                self.protocol._write_appdata((data[taken:],))
            else:
                self.send()
        except Exception as error:
            self.protocol._fatal_error(error, FATAL)
