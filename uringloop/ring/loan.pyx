"""Buffers that the kernel fills in its own order, and that Python looks at without copying them.

A lent buffer must not be seen any more once it is recycled: the kernel writes the next bytes there.  So a `Loan` counts
the memoryviews of it, recycling it while there is one is refused, and after that no new one can be made.
"""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport uint32_t

from .core.core cimport IORING_CQE_BUFFER_SHIFT, IORING_CQE_F_BUFFER, io_uring_buf, ul_buffer_provide
from .pin cimport Pin
from .queues cimport Completion


cdef class Lender:
    """The ring of buffers that a group shares with the kernel.

    Args:
        entries: writable, 16 bytes for each buffer: the ring.
        memory: writable: the buffers.
        size_bytes: of one buffer.
        count: of buffers, a power of two.
    """

    def __init__(self, entries, memory, uint32_t size_bytes, uint32_t count):
        self.entries = Pin(entries, writable=True)
        self.memory = Pin(memory, writable=True)
        assert self.entries.view.len >= count * 16 and self.memory.view.len >= <Py_ssize_t>size_bytes * count
        self.size_bytes = size_bytes
        self.count = count

    def provide_all(self):
        """Give all buffers to the kernel; once, after the group was registered."""
        cdef int buffer_id
        for buffer_id in range(self.count):
            self.provide(buffer_id)

    cdef char *at(self, int buffer_id):
        return <char *>self.memory.view.buf + <Py_ssize_t>buffer_id * self.size_bytes

    cdef provide(self, int buffer_id):
        ul_buffer_provide(
            <io_uring_buf *>self.entries.view.buf, self.count, self.tail, self.at(buffer_id), self.size_bytes, buffer_id
        )
        self.tail += 1

    def lend(self, Completion completion):
        """Lend the buffer that a completion names, once; returns the `Loan` of what was received.

        Raises:
            IndexError: there is no such buffer.
            ValueError: the completion has no buffer, or it was lent before.
        """
        if not completion.flags & IORING_CQE_F_BUFFER:
            raise ValueError(f"{completion!r} has no buffer")
        if completion.lent:
            raise ValueError(f"the buffer of {completion!r} was lent before")
        cdef int buffer_id = completion.flags >> IORING_CQE_BUFFER_SHIFT
        cdef int size_bytes = max(completion.res, 0)
        if not 0 <= buffer_id < <int>self.count or not 0 <= size_bytes <= <int>self.size_bytes:
            raise IndexError("no such buffer, or more bytes than it has")
        cdef Loan loan = Loan()
        loan.lender = self
        loan.memory = self.at(buffer_id)
        loan.size_bytes = size_bytes
        loan.buffer_id = buffer_id
        self.lent += 1
        completion.lent = True
        return loan

    def close(self):
        """The kernel knows the group no more: what is recycled from here on goes nowhere."""
        self.closed = True


# Cleared by the garbage collector it could not find its lender any more.
@cython.no_gc_clear
cdef class Loan:
    """A buffer of a group, with what was received, until it is recycled.  It has the buffer protocol.

    As a context manager it gives a memoryview, and is recycled at the end.  A loan that is dropped is recycled as well.

    Attributes:
        size_bytes: of what was received.
        buffer_id: in its group.
    """

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.lender is None:
            raise BufferError("this buffer was recycled")
        PyBuffer_FillInfo(view, self, self.memory, self.size_bytes, 0, flags)
        self.views += 1

    def __releasebuffer__(self, Py_buffer *view):
        self.views -= 1

    def recycle(self):
        """Give the buffer back to the kernel.

        Raises:
            BufferError: a memoryview of it, or something made from one, is still there; it stays lent.
        """
        if self.views:
            raise BufferError(f"the buffer is still looked at ({self.views} views), so it cannot be recycled")
        self.give_back()

    cdef give_back(self):
        lender, self.lender = self.lender, None
        if lender is not None:
            (<Lender>lender).lent -= 1
            if not (<Lender>lender).closed:
                (<Lender>lender).provide(self.buffer_id)

    def __enter__(self):
        self.view = memoryview(self)
        return self.view

    def __exit__(self, kind, value, traceback):
        view, self.view = self.view, None
        view.release()
        if kind is None:
            self.recycle()
        elif self.views == 0:
            # Otherwise the traceback looks at it, and it is recycled when that is gone.
            self.give_back()

    def __len__(self):
        return self.size_bytes

    def __dealloc__(self):
        if self.lender is not None:
            self.give_back()
