"""`Outgoing`: the sending half of a TLS connection, from the application's bytes to the transport below."""

from asyncio import CancelledError
from logging import getLogger

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_CheckExact, PyBytes_FromStringAndSize

from ..hooks import LOST_WRITES_BEFORE_WARNING
from .flow cimport Flow

cdef enum:
    # So many plain bytes are encrypted and sent together, while they are in the cache.
    CHUNK_BYTES = 65536

FATAL = "Fatal error on SSL protocol"
_log = getLogger("asyncio")


cdef class Outgoing(Flow):
    """The part of a `TlsProtocol` that writes, and ends by an error."""

    def pause_writing(self):
        """Keep records from now on: the transport's queue is full."""
        self.writing_paused = True

    def resume_writing(self):
        """Send the kept records."""
        self.writing_paused = False
        self.process_outgoing()

    def write(self, data):
        """See `asyncio.WriteTransport.write`."""
        cdef Py_buffer view
        cdef Py_ssize_t taken
        if not PyBytes_CheckExact(data) and not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data: expecting a bytes-like instance, got {type(data).__name__}")
        if not data:
            return
        if self.stream is not None:
            self.stream.check_caller()
        if self.state != WRAPPED or self._write_backlog:
            self._write_appdata((data,))
            return
        try:
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
            try:
                taken = self.encrypt(<const char *>view.buf, view.len)
                if taken < view.len:
                    self._write_backlog.append(PyBytes_FromStringAndSize(<char *>view.buf + taken, view.len - taken))
                    self._write_buffer_size += view.len - taken
            finally:
                PyBuffer_Release(&view)
            # The pieces that a callback writes leave together.
            if not self.receiving or self.session.tls.records_bytes >= CHUNK_BYTES or self.pauses_always:
                self.process_outgoing()
        except Exception as error:
            self.fatal_error(error, FATAL)

    def _write_appdata(self, list_of_data):
        if self.state != WRAPPED and self.state != HANDSHAKE:
            if self.lost_writes >= LOST_WRITES_BEFORE_WARNING:
                _log.warning("SSL connection is closed")
            self.lost_writes += 1
            return
        for data in list_of_data:
            if isinstance(data, (bytearray, memoryview)):
                data = bytes(data)  # it is the caller's, who may change it
            self._write_backlog.append(data)
            self._write_buffer_size += len(data)
        try:
            if self.state == WRAPPED:
                self.do_write()
        except Exception as error:
            self.fatal_error(error, FATAL)

    cdef Py_ssize_t encrypt(self, const char *data, Py_ssize_t size_bytes) except -1:
        """Encrypt the bytes, and send in between what is much; return how many OpenSSL took."""
        cdef Py_ssize_t taken = 0, part
        # A pause on the way counts for the next write, as asyncio's transport takes all of one.
        cdef bint sends = not self.writing_paused
        while taken < size_bytes:
            part = min(size_bytes - taken, CHUNK_BYTES)
            if not self.session.write(data + taken, part):
                break
            taken += part
            if sends and self.session.tls.records_bytes >= CHUNK_BYTES:
                self.send_records()
        return taken

    cdef do_write(self):
        cdef Py_buffer view
        cdef Py_ssize_t taken
        cdef bint whole = True
        while whole and self._write_backlog:
            data = self._write_backlog[0]
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
            try:
                taken = self.encrypt(<const char *>view.buf, view.len)
                whole = taken == view.len
            finally:
                PyBuffer_Release(&view)
            self._write_buffer_size -= taken
            if whole:
                self._write_backlog.popleft()
            else:
                self._write_backlog[0] = data[taken:]
        self.process_outgoing()

    cdef process_outgoing(self):
        if not self.writing_paused:
            self.send_records()
        self.control_writing()

    cdef send_records(self):
        """Give the records to the transport."""
        cdef Py_ssize_t size = self.session.tls.records_bytes
        if size == 0 or self.transport is None:
            return
        if self.stream is not None:
            try:
                self.stream.write_memory(self.session.tls.records, size)
            finally:
                self.session.sent()
        else:
            data = PyBytes_FromStringAndSize(self.session.tls.records, size)
            self.session.sent()
            self.transport.write(data)

    cdef fatal_error(self, error, str message="Fatal error on transport"):
        if self.transport is not None:
            self.transport._force_close(error)
        if isinstance(error, OSError):
            if self.loop.get_debug():
                _log.debug("%r: %s", self, message, exc_info=True)
        elif not isinstance(error, CancelledError):
            self.loop.call_exception_handler(
                {"message": message, "exception": error, "transport": self.transport, "protocol": self}
            )
