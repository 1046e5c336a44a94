"""`Fillable`: an operation that compiled code stages and ends, without a call of Python."""

from .core.core cimport IOSQE_CQE_SKIP_SUCCESS, io_uring_sqe
from .dispatcher cimport Dispatcher


cdef class Fillable:
    """Base of operations; see operations/operation.pyx.

    Attributes:
        token: the user_data of its SQE.
        modifiers: `SqeFlag`s beside those of the class, such as ASYNC; set them before `submit`.
    """

    cdef int begin(self, Dispatcher dispatcher) except -1:
        """Put a compiled operation in flight."""
        self.check_life()
        self.check()
        cdef io_uring_sqe *sqe = dispatcher.next_sqe(self)
        self.token = sqe.user_data
        self._dispatcher = dispatcher
        self.life = IN_FLIGHT
        sqe.flags = self.modifiers
        self.fill(sqe)
        if self.modifiers & IOSQE_CQE_SKIP_SUCCESS:
            dispatcher.mark(self.token, self.modifiers)
        return 0

    cdef int check_life(self) except -1:
        """Refuse an operation in flight: its first end would release the memory that the kernel uses for the second."""
        if self.life == IN_FLIGHT:
            raise RuntimeError("the operation is in flight already")
        return 0

    cdef int check(self) except -1:
        """Raise the exception for fields that no SQE can have; called before `fill`."""
        return 0

    cdef void fill(self, io_uring_sqe *sqe) noexcept:
        """Write the fields of a compiled operation into its SQE, which has the token and the flags."""

    cdef int end(self, int res) noexcept:
        """Take the last CQE's result of a compiled operation, release its memory, and return the result."""
        self.life = DONE
        return res
