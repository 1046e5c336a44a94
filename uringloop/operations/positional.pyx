"""`PositionalTransfer`: a read or write of a file, in compiled code because files are read and written with it."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint32_t, uint64_t, uintptr_t

from ..ring.core.core cimport IORING_CQE_F_MORE, IORING_OP_READ, IORING_OP_WRITE, io_uring_sqe
from ..ring.descriptor cimport Descriptor
from ..ring.dispatcher cimport Awaited, Dispatcher

from ..ring.workers import operation_error

cdef enum:
    TRANSFER_MAX_BYTES = 0x7FFFF000


# The garbage collector would drop the buffer's owner first, and leave the kernel its freed memory.
@cython.no_gc_clear
cdef class PositionalTransfer(Awaited):
    """A pread(2) or pwrite(2) of one buffer, in flight from the start.  The waiter gets the number of bytes.

    Args:
        dispatcher: where it is staged.
        waiter: a future.
        file: a descriptor that stays open until the transfer has ended, or a `Descriptor`, which is held until then.
        buffer: held until then; writable for a read.
        offset: in bytes; `CURRENT_POSITION` for the file's own.
        writes: whether it writes.
        at_once: whether `finish_now` should be asked first.

    Attributes:
        moved_bytes: the number of bytes moved, even without a waiter.
    """

    def __cinit__(self, Dispatcher dispatcher, waiter, file, buffer, uint64_t offset, bint writes=False,
                  bint at_once=False):
        cdef int opcode = IORING_OP_WRITE if writes else IORING_OP_READ
        if type(file) is Descriptor:
            self.descriptor = file
            self.fd = self.descriptor.fd
            self.filename = self.descriptor.filename
        else:
            self.fd = file
        PyObject_GetBuffer(buffer, &self.view, PyBUF_SIMPLE if writes else PyBUF_WRITABLE)
        self.dispatcher = dispatcher
        self.waiter = waiter
        self.at_once = at_once
        cdef uint64_t address = <uintptr_t>self.view.buf
        cdef io_uring_sqe *sqe
        cdef uint32_t length = min(self.view.len, TRANSFER_MAX_BYTES)
        if type(dispatcher) is Dispatcher:
            sqe = dispatcher.next_sqe(self)
            sqe.opcode = opcode
            sqe.fd = self.fd
            sqe.addr = address
            sqe.len = length
            sqe.off = offset
            self.token = sqe.user_data
        else:
            self.token = dispatcher.stage(self, opcode, self.fd, address, length, offset)
        self.in_flight = True
        dispatcher.submit_early()

    def __dealloc__(self):
        PyBuffer_Release(&self.view)

    def finish_now(self):
        """Submit what is staged, and give the waiter the result if the transfer has ended."""
        completion = self.dispatcher.finish_now(self.token)
        if completion is not None:
            self.arrive(completion[0], completion[1])

    cdef arrive(self, int res, uint32_t flags):
        if flags & IORING_CQE_F_MORE:
            self.detained = True
        else:
            self.in_flight = False
            self.moved_bytes = max(res, 0)
            PyBuffer_Release(&self.view)
            self.descriptor = None
        if not self.waiter.done():
            self.waiter.set_result(res if res >= 0 else self.error(res))

    cdef error(self, int res):
        return operation_error(res) if self.filename is None else operation_error(res, self.filename)

    def __repr__(self):
        return f"<PositionalTransfer fd={self.fd}{' abandoned' if self.abandoned else ''}>"
