cdef bint feeds_reader(protocol)
cdef bint feed_reader(protocol, const char *data, Py_ssize_t size_bytes) except -1
