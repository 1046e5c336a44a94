"""`Descriptor`: an open file for operations to hold."""

from libc.errno cimport errno

from .dispatcher cimport raise_errno

cdef extern from "unistd.h":
    int close_descriptor "close" (int fd)


cdef class Descriptor:
    """A descriptor that its references hold open.

    Args:
        fd: the descriptor.
        filename: a name for the errors of its operations.
        owned: close the descriptor with the last reference, unless `Close` did.

    Attributes:
        fd: -1 after it was closed.
    """

    def __cinit__(self, *args, **kwargs):
        self.fd = -1

    def __init__(self, int fd, filename=None, bint owned=True):
        self.fd = fd
        self.filename = filename
        self.owned = owned

    def close(self):
        """Close the descriptor now, even with references; no operation in flight may use it.

        Raises:
            OSError: as from close(2).
        """
        cdef int fd = self.fd
        self.fd = -1
        if self.owned and fd >= 0 and close_descriptor(fd) < 0:
            raise_errno(-errno)

    def __dealloc__(self):
        if self.owned and self.fd >= 0:
            close_descriptor(self.fd)
