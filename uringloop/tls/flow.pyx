"""`Flow`: the flow control of a TLS connection, between the application's protocol and the transport below.

The limits, and when a protocol is paused, are those of asyncio's `SSLProtocol`.
"""

from ..engine.receiver cimport Receiver
from ..hooks import SSL_READ_HIGH_WATER_KIB, SSL_WRITE_HIGH_WATER_KIB, flow_control_limits


cdef class Flow(Receiver):
    """The flow control of a `TlsProtocol`, and the methods for it that the application's transport calls.

    Attributes:
        _app_protocol: the application's protocol.
        _app_transport: the transport that it sees.
    """

    cdef Py_ssize_t unsent_bytes(self):
        """Return the number of bytes that wait for OpenSSL, or for the transport to take them."""
        # Other records are on their way, and leave when the callback ends.
        return self._write_buffer_size + (<Py_ssize_t>self.session.tls.records_bytes if self.writing_paused else 0)

    cdef control_writing(self):
        """Pause or resume the application's writing."""
        cdef Py_ssize_t size = self.unsent_bytes()
        if size == 0 and not self._app_writing_paused and not self.pauses_always:
            return
        if size >= self._outgoing_high_water and not self._app_writing_paused:
            self._app_writing_paused = True
            self.call_protocol("pause_writing")
        elif size <= self._outgoing_low_water and self._app_writing_paused:
            self._app_writing_paused = False
            self.call_protocol("resume_writing")

    cdef call_protocol(self, str method):
        try:
            getattr(self._app_protocol, method)()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            self.loop.call_exception_handler(
                {
                    "message": f"protocol.{method}() failed",
                    "exception": error,
                    "transport": self._app_transport,
                    "protocol": self,
                }
            )

    cdef control_reading(self):
        """Pause or resume the transport's reading."""
        cdef Py_ssize_t size = self.session.tls.received_bytes
        if size == 0 and not self.reading_paused and not self.stops_always or self.transport is None:
            return
        if size >= self._incoming_high_water and not self.reading_paused:
            self.reading_paused = True
            self.transport.pause_reading()
        elif size <= self._incoming_low_water and self.reading_paused:
            self.reading_paused = False
            self.transport.resume_reading()

    def _control_app_writing(self):
        self.control_writing()

    def _control_ssl_reading(self):
        self.control_reading()

    def _get_write_buffer_size(self):
        return self.unsent_bytes()

    def _set_write_buffer_limits(self, high=None, low=None):
        high, low = flow_control_limits(high, low, SSL_WRITE_HIGH_WATER_KIB)
        self._outgoing_high_water, self._outgoing_low_water, self.pauses_always = high, low, high <= 0

    def _get_read_buffer_size(self):
        return self.session.tls.received_bytes

    def _set_read_buffer_limits(self, high=None, low=None):
        high, low = flow_control_limits(high, low, SSL_READ_HIGH_WATER_KIB)
        self._incoming_high_water, self._incoming_low_water, self.stops_always = high, low, high <= 0
