"""`PositionalRead`: a read of a file, in compiled code because files are read with it."""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint32_t, uint64_t, uintptr_t

from ..ring.core.core cimport IORING_OP_READ, io_uring_sqe
from ..ring.descriptor cimport Descriptor
from ..ring.dispatcher cimport Awaited, Dispatcher

from ..ring.workers import operation_error

cdef enum:
    READ_MAX_BYTES = 0x7FFFF000


cdef class PositionalRead(Awaited):
    """A pread(2) into one buffer, in flight from the start.  The waiter gets the number of bytes.

    Args:
        dispatcher: where it is staged.
        waiter: a future.
        file: a descriptor that stays open until the read has ended, or a `Descriptor`, which is held until then.
        buffer: writable, held until then.
        offset: in bytes.
    """

    def __cinit__(self, Dispatcher dispatcher, waiter, file, buffer, uint64_t offset):
        if type(file) is Descriptor:
            self.descriptor = file
            self.fd = self.descriptor.fd
            self.filename = self.descriptor.filename
        else:
            self.fd = file
        PyObject_GetBuffer(buffer, &self.view, PyBUF_WRITABLE)
        self.dispatcher = dispatcher
        self.waiter = waiter
        cdef uint64_t address = <uintptr_t>self.view.buf
        cdef io_uring_sqe *sqe
        cdef uint32_t length = min(self.view.len, READ_MAX_BYTES)
        if type(dispatcher) is Dispatcher:
            sqe = dispatcher.next_sqe(self)
            sqe.opcode = IORING_OP_READ
            sqe.fd = self.fd
            sqe.addr = address
            sqe.len = length
            sqe.off = offset
            self.token = sqe.user_data
        else:
            self.token = dispatcher.stage(self, IORING_OP_READ, self.fd, address, length, offset)
        self.in_flight = True
        dispatcher.submit_early()

    def __dealloc__(self):
        PyBuffer_Release(&self.view)

    cdef arrive(self, int res, uint32_t flags):
        self.in_flight = False
        PyBuffer_Release(&self.view)
        self.descriptor = None
        if not self.waiter.done():
            self.waiter.set_result(res if res >= 0 else self.error(res))

    cdef error(self, int res):
        return operation_error(res) if self.filename is None else operation_error(res, self.filename)

    def __repr__(self):
        return f"<PositionalRead fd={self.fd}{' abandoned' if self.abandoned else ''}>"
