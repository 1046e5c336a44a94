from ..engine.receiver cimport Receiver
from .session cimport Session


cdef class Flow(Receiver):
    cdef object loop
    cdef Session session
    cdef object transport  # below; None before connection_made and after connection_lost
    cdef bint writing_paused  # by the transport
    cdef bint reading_paused  # of the transport
    cdef bint pauses_always  # a limit of nothing is reached by an empty queue, with asyncio
    cdef bint stops_always  # the same of reading
    cdef readonly object _app_protocol, _app_transport
    cdef readonly bint _app_reading_paused, _app_writing_paused
    cdef readonly object _incoming_high_water, _incoming_low_water, _outgoing_high_water, _outgoing_low_water
    cdef public Py_ssize_t _write_buffer_size

    cdef Py_ssize_t unsent_bytes(self)
    cdef control_writing(self)
    cdef control_reading(self)
    cdef call_protocol(self, str method)
