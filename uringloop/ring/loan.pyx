"""`Loan`: a buffer that the kernel filled, for Python to read without a copy.

A recycled buffer must not be visible any more: the kernel writes the next bytes there.  So a `Loan` counts its
memoryviews.  It refuses to recycle while there is one, and after that makes no new one.
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
        entries: writable memory of the ring, 16 bytes for each buffer.
        memory: writable memory of the buffers.
        size_bytes: the size of a buffer.
        count: the number of buffers, a power of two.
    """

    def __init__(self, entries, memory, uint32_t size_bytes, uint32_t count):
        self.entries = Pin(entries, writable=True)
        self.memory = Pin(memory, writable=True)
        assert self.entries.view.len >= count * 16 and self.memory.view.len >= <Py_ssize_t>size_bytes * count
        self.size_bytes = size_bytes
        self.count = count

    def provide_all(self):
        """Give all buffers to the kernel; call it once, after the group was registered."""
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
        """Lend the buffer that a completion names, once; return the `Loan` of the received bytes.

        Raises:
            IndexError: the group has no such buffer.
            ValueError: the completion has no buffer, or its buffer was lent before.
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
        with cython.critical_section(self):
            self.lent += 1
        completion.lent = True
        return loan

    def close(self):
        """Give no buffer to the kernel any more: the group is unregistered."""
        with cython.critical_section(self):
            self.closed = True


# A loan that the garbage collector has cleared could not find its lender.
@cython.no_gc_clear
cdef class Loan:
    """A buffer of a group with the received bytes, until it is recycled.  It has the buffer protocol.

    As a context manager it gives a memoryview, and recycles the buffer at the end.  A dropped loan recycles it too.

    Attributes:
        size_bytes: the number of received bytes.
        buffer_id: the buffer's id in its group.
    """

    # Any thread may look at the bytes, and drop the last reference.

    def __getbuffer__(self, Py_buffer *view, int flags):
        with cython.critical_section(self):
            if self.lender is None:
                raise BufferError("this buffer was recycled")
            PyBuffer_FillInfo(view, self, self.memory, self.size_bytes, 0, flags)
            self.views += 1

    def __releasebuffer__(self, Py_buffer *view):
        with cython.critical_section(self):
            self.views -= 1

    def recycle(self):
        """Give the buffer back to the kernel.

        Raises:
            BufferError: a memoryview of it, or an object made from one, still exists; the buffer stays lent.
        """
        with cython.critical_section(self):
            if self.views:
                raise BufferError(f"the buffer is still looked at ({self.views} views), so it cannot be recycled")
            lender, self.lender = self.lender, None
        self.give_back(lender)

    cdef recycle_now(self):
        lender, self.lender = self.lender, None
        self.give_back(lender)

    cdef give_back(self, Lender lender):
        if lender is not None:
            with cython.critical_section(lender):
                lender.lent -= 1
                if not lender.closed:
                    lender.provide(self.buffer_id)

    def __enter__(self):
        self.view = memoryview(self)
        return self.view

    def __exit__(self, kind, value, traceback):
        view, self.view = self.view, None
        view.release()
        if kind is None:
            self.recycle()
        elif self.views == 0:
            # Otherwise the traceback refers to it, and the buffer is recycled with the traceback's end.
            self.recycle_now()

    def __len__(self):
        return self.size_bytes

    def __dealloc__(self):
        if self.lender is not None:
            self.recycle_now()
