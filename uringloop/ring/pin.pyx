"""`Pin`: memory held still for the kernel."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uintptr_t


cdef class Pin:
    """An object's buffer held still, so that the kernel may read or write it: neither resized nor freed until dropped.

    Args:
        buffer: bytes, bytearray, memoryview, or another object with a contiguous buffer.
        writable: the kernel will write into it.

    Raises:
        TypeError: the object has no buffer.
        BufferError: it is not contiguous, or read-only where writable is asked for.
    """

    def __cinit__(self, buffer, *, bint writable=False):
        PyObject_GetBuffer(buffer, &self.view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)

    def __dealloc__(self):
        PyBuffer_Release(&self.view)

    @property
    def address(self):
        return <uintptr_t>self.view.buf

    @property
    def size_bytes(self):
        return self.view.len

    def release(self):
        """Let go of the buffer now, whoever still refers to this; only when nothing in flight uses it."""
        PyBuffer_Release(&self.view)
        self.view.buf = NULL
        self.view.len = 0
