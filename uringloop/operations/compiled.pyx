"""Operations that a ring by itself runs by the million, in compiled code: nop, reads and writes of one buffer.

A read or write that already runs cannot be cancelled: an abandoned one is waited for.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t

from ..ring.core.core cimport (
    IORING_OP_NOP, IORING_OP_READ, IORING_OP_READ_FIXED, IORING_OP_WRITE, IORING_OP_WRITE_FIXED, io_uring_sqe,
)
from ..ring.dispatcher cimport Dispatcher
from ..ring.fillable cimport DONE, IN_FLIGHT, Fillable
from .operation cimport FileOperation, Operation

from ..ring.abi import Opcode

cdef enum:
    NOP_INJECT_RESULT = 1
    TRANSFER_MAX_BYTES = 0x7FFFF000

cdef uint64_t FILE_POSITION = 0xFFFFFFFFFFFFFFFF


cdef class Nop(Operation):
    """Does nothing, and completes; io_uring_prep_nop(3).

    Args:
        answer: the result of its CQE, a negative errno for a failure.  Any but 0 needs Linux 6.10.
    """

    opcode = Opcode.NOP
    cdef int answer

    def __init__(self, int answer=0):
        self.set_fd(-1)
        self.is_compiled = type(self) is Nop
        self.answer = answer

    cdef void fill(self, io_uring_sqe *sqe) noexcept:
        sqe.opcode = IORING_OP_NOP
        sqe.fd = -1
        sqe.len = <uint32_t>self.answer
        sqe.op_flags = NOP_INJECT_RESULT if self.answer else 0

    def stage(self, dispatcher):
        return dispatcher.stage(
            self, IORING_OP_NOP, -1, 0, <uint32_t>self.answer, 0, NOP_INJECT_RESULT if self.answer else 0
        )


# The garbage collector would drop the buffer's owner first, and leave the kernel its freed memory.
@cython.no_gc_clear
cdef class Transfer(FileOperation):
    """Moves bytes between a file and one buffer.

    Attributes:
        moved_bytes: the number of bytes moved, even without a waiter.
    """

    cdef Py_buffer view
    cdef uint64_t offset
    cdef Py_ssize_t start_bytes
    cdef uint32_t flags
    cdef int number, buffer_index
    cdef uint8_t code
    cdef bint released
    cdef readonly int moved_bytes

    cdef int set_up(self, file, buffer, bint writable, uint64_t offset, Py_ssize_t start_bytes, uint32_t flags,
                    int buffer_index, uint8_t code) except -1:
        self.set_file(file)
        PyBuffer_Release(&self.view)
        PyObject_GetBuffer(buffer, &self.view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
        self.offset = offset
        self.start_bytes = start_bytes
        self.flags = flags
        self.buffer_index = buffer_index
        self.code = code
        self.released = False
        return 0

    def __dealloc__(self):
        PyBuffer_Release(&self.view)

    cdef int check(self) except -1:
        if self.released:
            raise ValueError("the operation has ended and released its buffer: make a new one")
        self.number = self.fd
        if not 0 <= self.start_bytes <= self.view.len:
            raise OverflowError("the transfer begins outside of its buffer")
        return 0

    cdef void fill(self, io_uring_sqe *sqe) noexcept:
        sqe.opcode = self.code
        sqe.fd = self.number
        sqe.addr = <uintptr_t>self.view.buf + self.start_bytes
        sqe.len = min(self.view.len - self.start_bytes, TRANSFER_MAX_BYTES)
        sqe.off = self.offset
        sqe.op_flags = self.flags
        sqe.buf_index = self.buffer_index

    cdef int end(self, int res) noexcept:
        self.life = DONE
        self.moved_bytes = max(res, 0)
        self.let_go()
        return res

    cdef void let_go(self) noexcept:
        self.released = True
        PyBuffer_Release(&self.view)

    def stage(self, dispatcher):
        self.check()
        return dispatcher.stage(
            self, self.code, self.number, <uintptr_t>self.view.buf + self.start_bytes,
            min(self.view.len - self.start_bytes, TRANSFER_MAX_BYTES), self.offset, self.flags,
            buf_index=self.buffer_index,
        )

    def finish(self, int res):
        self.moved_bytes = max(res, 0)
        self.life = DONE
        return res

    def release(self):
        if self.life != IN_FLIGHT:
            self.let_go()


cdef class Read(Transfer):
    """pread(2) into the caller's buffer; its result is the number of bytes, 0 at the end of the file.

    Args:
        offset: the first byte in the file; without it, the file's own position.
        start_bytes: the first byte of the buffer to use.
        flags: os.RWF_*, see preadv2(2).
    """

    opcode = Opcode.READ

    def __init__(self, file, buffer, uint64_t offset=FILE_POSITION, Py_ssize_t start_bytes=0, uint32_t flags=0):
        self.is_compiled = type(self) is Read
        self.set_up(file, buffer, True, offset, start_bytes, flags, 0, IORING_OP_READ)


cdef class Write(Transfer):
    """pwrite(2) of a buffer from start_bytes on; its result is the number of bytes written.

    Args:
        offset: the first byte in the file; without it, the file's own position.
        start_bytes: the first byte of the buffer to use.
        flags: os.RWF_*, see preadv2(2).
    """

    opcode = Opcode.WRITE
    may_end_at_once = True

    def __init__(self, file, buffer, uint64_t offset=FILE_POSITION, Py_ssize_t start_bytes=0, uint32_t flags=0):
        self.is_compiled = type(self) is Write
        self.set_up(file, buffer, False, offset, start_bytes, flags, 0, IORING_OP_WRITE)


cdef class FixedTransfer(Transfer):
    """Moves bytes between a file and a part of a registered buffer."""

    cdef int begin(self, Dispatcher dispatcher) except -1:
        Fillable.begin(self, dispatcher)
        if not self.modifiers:
            dispatcher.submit_early()
        return 0

    def stage(self, dispatcher):
        token = Transfer.stage(self, dispatcher)
        if not self.modifiers:
            dispatcher.submit_early()
        return token


cdef class ReadFixed(FixedTransfer):
    """pread(2) into a part of a registered buffer; its result is the number of bytes.

    Args:
        buffer: the part.
        index: the registered buffer's number.
        offset: the first byte in the file; without it, the file's own position.
        flags: os.RWF_*, see preadv2(2).
    """

    opcode = Opcode.READ_FIXED

    def __init__(self, file, buffer, uint16_t index, uint64_t offset=FILE_POSITION, uint32_t flags=0):
        self.is_compiled = type(self) is ReadFixed
        self.set_up(file, buffer, True, offset, 0, flags, index, IORING_OP_READ_FIXED)


cdef class WriteFixed(FixedTransfer):
    """pwrite(2) of a part of a registered buffer; its result is the number of bytes.  Arguments as of `ReadFixed`."""

    opcode = Opcode.WRITE_FIXED

    def __init__(self, file, buffer, uint16_t index, uint64_t offset=FILE_POSITION, uint32_t flags=0):
        self.is_compiled = type(self) is WriteFixed
        self.set_up(file, buffer, False, offset, 0, flags, index, IORING_OP_WRITE_FIXED)
