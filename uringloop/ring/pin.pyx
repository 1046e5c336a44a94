"""`Pin`: a Python object's memory, held still for the kernel."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uintptr_t


# The garbage collector would drop the buffer's owner first, and leave the kernel its freed memory.
@cython.no_gc_clear
cdef class Pin:
    """An object's buffer, held still for the kernel: it is neither resized nor freed before the pin is dropped.

    Args:
        buffer: bytes, bytearray, memoryview, or another object with a contiguous buffer.
        writable: the kernel will write into it.

    Raises:
        TypeError: the object has no buffer.
        BufferError: the buffer is not contiguous, or it is read-only and `writable` is true.
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
        """Release the buffer now, even with references to this pin; no operation in flight may use it."""
        PyBuffer_Release(&self.view)
        self.view.buf = NULL
        self.view.len = 0
