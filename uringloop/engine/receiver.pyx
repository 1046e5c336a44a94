"""`Receiver`: a protocol, or what stands for one, that takes a stream's bytes by a compiled call."""


cdef class Receiver:
    """Take received bytes where they are, without a bytes object."""

    cdef bint receive(self, const char *data, Py_ssize_t size_bytes) except -1:
        """Take all bytes, whose memory is the caller's; return False if the protocol must get them by its methods."""
        raise NotImplementedError

    cdef detached(self):
        """Hear that the stream has another protocol from now on, or none."""
