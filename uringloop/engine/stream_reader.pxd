cdef class FedReader:
    cdef char *memory
    cdef Py_ssize_t start, size_bytes, capacity_bytes
    cdef bytearray shared
    cdef object limit, waiter
    cdef Py_ssize_t position  # in the stream, of the first byte that is not read
    cdef Py_ssize_t limit_bytes, full_bytes, wanted_bytes
    cdef public object _loop, _exception, _transport
    cdef public bint _eof, _paused
    cdef bint is_fed  # `feed_data` is this class's own

    cdef int append(self, const char *data, Py_ssize_t size_bytes) except -1
    cdef int drop(self, Py_ssize_t size_bytes) except -1
    cdef int load(self) except -1
    cdef int store(self) except -1
    cdef int feed(self, const char *data, Py_ssize_t size_bytes) except -1
    cdef int pause(self) except -1


cdef class FedProtocol:
    cdef public object _stream_reader_wr
    cdef public bint _paused, _connection_lost


cdef bint feeds_reader(protocol)
cdef bint feed_reader(protocol, const char *data, Py_ssize_t size_bytes) except -1
