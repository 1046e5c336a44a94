"""`Queues`: the compiled part of a ring by hand, which runs once for each SQE and CQE.

`Queues` stages and reaps as the loop's dispatcher does.  The next completion goes to the caller that asks for it;
nothing is dispatched.  The in-flight table is an array, because tokens are numbered in a row.  Completions are copied
out of the kernel's queue as soon as they are seen.  So there is nothing to mark as seen, and the kernel's queue does
not overflow while Python works.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EAGAIN, EBUSY, EINTR, ETIME
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from .core.core cimport (
    IORING_CQE_BUFFER_SHIFT, IORING_CQE_F_BUFFER, IORING_CQE_F_MORE, IOSQE_CQE_SKIP_SUCCESS, UL_KIND_BITS,
    UL_KIND_FOREIGN, io_uring_sqe, ul_cancel_drop, ul_cancel_targets, ul_cancels, ul_let_overflow, ul_next_sqe,
    ul_now_ns, ul_operation_token, ul_outcome, ul_place, ul_retire, ul_ring_entries, ul_ring_refuses, ul_sqe_at,
    ul_unstage, ul_wait,
)
from .dispatcher cimport Dispatcher, raise_errno
from .fillable cimport Fillable

cdef enum:
    # The in-flight table has so many places for each entry of the submission queue, and at most so many in all.
    PLACES_PER_ENTRY = 4
    PLACES_MAX = 8192


@cython.freelist(64)
cdef class Completion:
    """A CQE.

    Attributes:
        operation: the operation or `Sqe` that completed; None for a message or tag, see `number`.
        user_data: the token of its SQE; for a message, the user_data that the other ring sent.
        res: the result, negative for an errno.
        flags: IORING_CQE_F_*, see `CqeFlag`.
    """

    @property
    def more(self):
        """Return whether the same operation will complete again: it is multishot, or its memory is still in use."""
        return bool(self.flags & IORING_CQE_F_MORE)

    @property
    def number(self):
        """Return the number of a message of another ring, or of a tag; None for an operation."""
        if self.user_data & ((1 << UL_KIND_BITS) - 1) != UL_KIND_FOREIGN:
            return None
        return self.user_data >> UL_KIND_BITS

    @property
    def buffer_id(self):
        """Return the id of the buffer that the kernel picked out of a group, or None."""
        return self.flags >> IORING_CQE_BUFFER_SHIFT if self.flags & IORING_CQE_F_BUFFER else None

    def result(self):
        """Return the result in the operation's form.

        Raises:
            OSError: the kernel's errno, with the filename if there is one.
        """
        if self.operation is None:
            if self.res < 0:
                raise_errno(self.res)
            return self.res
        if self.res < 0:
            raise self.operation.error(self.res)
        return self.operation.result(self.res, self.flags)

    def __repr__(self):
        return f"<Completion user_data={self.user_data} res={self.res} flags={self.flags:#x} of {self.operation!r}>"


cdef class StagedSqe:
    """One SQE in the queue, until it is submitted; see `Sqe`."""

    cdef io_uring_sqe *fields(self) except NULL:
        self.queues.check_use()
        cdef io_uring_sqe *sqe = ul_sqe_at(self.queues.ring, self.place)
        if sqe == NULL:
            raise RuntimeError("this SQE was submitted: it is the kernel's now")
        return sqe

    def prep(self, int opcode, int fd, uint64_t addr=0, uint32_t length=0, uint64_t offset=0, uint32_t op_flags=0, *,
             int ioprio=0, int flags=0, int buf_index=0, int personality=0, int file_index=0, uint64_t addr3=0):
        """Fill in the fields, as io_uring_prep_rw(3) does; return the user_data."""
        cdef io_uring_sqe *sqe = self.fields()
        sqe.opcode = self.opcode = opcode
        sqe.ioprio = ioprio
        sqe.fd = fd
        sqe.off = offset
        sqe.addr = addr
        sqe.len = length
        sqe.op_flags = op_flags
        sqe.buf_index = buf_index
        sqe.personality = personality
        sqe.splice_fd_in = file_index
        sqe.addr3 = addr3
        self.flags = flags
        return self.user_data

    @property
    def features(self):
        """Return the `Features` of the ring."""
        return self.queues.features

    @property
    def flags(self):
        """The IOSQE_* flags, which may be set until the SQE is submitted."""
        return self.fields().flags

    @flags.setter
    def flags(self, int flags):
        self.fields().flags = flags
        self.queues.mark(self.user_data, flags)


cdef class Queues(Dispatcher):
    """The two queues of a ring that no loop drives."""

    def __init__(self, *_):
        self.skipping = set()
        self.claimed = []
        self.others = {}
        cdef uint32_t places = min(ul_ring_entries(self.ring, 0) * PLACES_PER_ENTRY, PLACES_MAX)
        self.tokens = <uint64_t *>calloc(places, sizeof(uint64_t))
        if self.tokens == NULL:
            raise MemoryError
        self.held = [None] * places
        self.place_mask = places - 1

    def __dealloc__(self):
        free(self.tokens)

    cdef io_uring_sqe *next_sqe(self, operation) except NULL:
        cdef int error = 0
        self.check_use()
        cdef uint64_t token = ul_operation_token(self.ring)
        cdef uint32_t place = (token >> UL_KIND_BITS) & self.place_mask
        if self.tokens[place] == 0:
            self.tokens[place] = token
            self.held[place] = operation
            self.held_count += 1
        else:
            # An operation in flight is older by as many as there are places.
            self.operations[token] = operation
        cdef io_uring_sqe *sqe = ul_next_sqe(self.ring, &error)
        if sqe == NULL:
            self.let_go(token)
            raise_errno(error)
        sqe.user_data = token
        return sqe

    cdef find(self, uint64_t token):
        """Return the operation in flight with this token, or None."""
        cdef uint32_t place = (token >> UL_KIND_BITS) & self.place_mask
        return self.held[place] if self.tokens[place] == token else self.operations.get(token)

    cdef let_go(self, uint64_t token):
        """Remove the operation with this token from the in-flight table; return it, or None."""
        cdef uint32_t place = (token >> UL_KIND_BITS) & self.place_mask
        if self.tokens[place] != token or token == 0:
            return self.operations.pop(token, None)
        operation = self.held[place]
        self.tokens[place] = 0
        self.held[place] = None
        self.held_count -= 1
        return operation

    cdef take_operation(self, uint64_t token, uint32_t flags):
        if flags & IORING_CQE_F_MORE:
            return self.find(token)
        if ul_cancel_targets(self.ring) > 0:
            ul_cancel_drop(self.ring, token)
        if self.skipping:
            self.skipping.discard(token)
        return self.let_go(token)

    cdef list table(self):
        """Return the in-flight table: pairs of a token and its operation."""
        cdef uint32_t place
        cdef list pairs = list(self.operations.items())
        for place in range(self.place_mask + 1):
            if self.tokens[place]:
                pairs.append((self.tokens[place], self.held[place]))
        return pairs

    def in_use(self):
        """Return the operations in flight."""
        return [operation for _, operation in self.table()]

    cdef int check_use(self) except -1:
        self.check()
        cdef int error = ul_ring_refuses(self.ring)
        if error < 0:
            raise_errno(error)
        return 0

    cdef mark(self, uint64_t token, int sqe_flags):
        if sqe_flags & IOSQE_CQE_SKIP_SUCCESS:
            self.skipping.add(token)
        else:
            self.skipping.discard(token)

    def cancel(self, uint64_t token):
        """Cancel as every dispatcher does, but only on the ring's thread."""
        self.check_use()
        Dispatcher.cancel(self, token)

    def stage_by_hand(self, kind):
        """Stage an SQE that does nothing yet; `kind` is a subclass of `StagedSqe`, called without arguments."""
        cdef StagedSqe staged = kind()
        staged.queues = self
        staged.user_data = self.next_sqe(staged).user_data
        staged.place = ul_place(self.ring)
        return staged

    def enter_for(self, uint32_t wait_for, int64_t timeout_ns, signal_mask, uint32_t enter_flags=0):
        """Submit the staged SQEs, wait, and copy the completions out.

        Args:
            wait_for: the number of completions to wait for.
            timeout_ns: the longest wait; a negative number waits for ever.
            signal_mask: the signals to block during the wait, as a bit mask; None leaves the mask unchanged.
            enter_flags: IORING_ENTER_* beside those of every enter.

        Returns:
            The number of SQEs that the kernel took.
        """
        cdef uint64_t mask = 0 if signal_mask is None else signal_mask
        return self.enter_and_reap(wait_for, timeout_ns, NULL if signal_mask is None else &mask, enter_flags)

    cdef int enter_and_reap(self, uint32_t wait_for, int64_t timeout_ns, const uint64_t *blocked,
                            uint32_t enter_flags) except -1:
        """Do the same, with a pointer to the mask or NULL."""
        cdef int64_t deadline_ns = ul_now_ns() + timeout_ns if timeout_ns > 0 else 0
        cdef int result, submitted = 0
        cdef uint32_t missing
        self.check_use()
        while True:
            missing = max(<int64_t>wait_for - (self.count - self.cursor), 0)
            if missing:
                with nogil:
                    result = ul_wait(self.ring, missing, timeout_ns, enter_flags, blocked)
            else:
                result = ul_wait(self.ring, 0, -1, enter_flags, NULL)
            if result > 0:
                submitted += result
            elif result < 0 and result not in (-EINTR, -EBUSY, -EAGAIN, -ETIME):
                raise_errno(result)
            self.check()
            self.reap_all()
            if result == -EINTR:
                PyErr_CheckSignals()
            if self.count - self.cursor >= wait_for or result == -ETIME:
                return submitted
            if result == -EAGAIN and submitted == 0 and self.count == self.cursor:
                raise_errno(result)
            if timeout_ns >= 0:
                timeout_ns = max(deadline_ns - ul_now_ns(), 0)
                if timeout_ns == 0:
                    return submitted

    def take(self):
        """Return the next completion without a wait, or None."""
        return self.next_completion()

    cdef Completion next_completion(self):
        cdef ul_outcome outcome
        cdef Completion completion
        self.check_use()
        while True:
            if self.cursor == self.count:
                self.reap_all()
                if self.cursor == self.count:
                    return None
            outcome = self.outcomes[self.cursor]
            self.cursor += 1
            operation = self.take_operation(outcome.token, outcome.flags)
            completion = self.completion_of(operation, outcome.token, outcome.res, outcome.flags)
            if self.calls_under_way == 0 or self.call_of(completion) == 0:
                return completion
            self.claimed.append(completion)

    cdef uint64_t call_of(self, Completion completion) except? 0:
        """Return the number of the `run_many` that waits for a completion, or 0."""
        if isinstance(completion.operation, Fillable):
            return (<Fillable>completion.operation).call_number
        return self.others[completion.user_data][0] if completion.user_data in self.others else 0

    cdef Completion completion_of(self, operation, uint64_t token, int res, uint32_t flags):
        """Return a completion; with its last CQE an operation has ended."""
        cdef Completion completion = Completion.__new__(Completion)
        completion.operation = operation
        completion.user_data = token
        completion.res = res
        completion.flags = flags
        if operation is not None and not flags & IORING_CQE_F_MORE:
            if isinstance(operation, Fillable) and (<Fillable>operation).is_compiled:
                completion.res = (<Fillable>operation).end(res)
            else:
                completion.res = operation.finish(res)
                operation.release()
        return completion

    @property
    def in_flight(self):
        """Return the number of operations that will complete, without cancels and SQEs that skip success."""
        return self.count_in_flight()

    cdef Py_ssize_t count_in_flight(self) except -1:
        self.check()
        return self.held_count + len(self.operations) - len(self.skipping)

    def end_cancels(self):
        """Wait for the cancels in flight; no operation may be in flight."""
        cdef int result
        while ul_cancels(self.ring) > 0:
            self.cursor = self.count = 0
            result = ul_wait(self.ring, 1, -1, 0, NULL)
            if result == -EINTR:
                PyErr_CheckSignals()
            elif result < 0 and result not in (-EBUSY, -EAGAIN):
                raise_errno(result)
            self.reap_all()

    def let_overflow(self):
        """Let completions fill the kernel's queue: a multishot operation that finds no room ends."""
        self.check_use()
        ul_let_overflow(self.ring)

    def unstage(self):
        """Take the staged SQEs back; return their operations, which are no longer in flight."""
        cdef uint64_t token = 0
        cdef list taken = []
        self.check_use()
        while ul_unstage(self.ring, &token):
            self.skipping.discard(token)
            ul_cancel_drop(self.ring, token)
            operation = self.let_go(token)
            if operation is not None:  # and no cancel
                taken.append(operation)
        return taken

    def retire(self, uint64_t token, int res=0):
        self.check()
        self.skipping.discard(token)
        operation = self.let_go(token)
        ul_retire(self.ring)
        ul_cancel_drop(self.ring, token)
        res = operation.finish(res)
        operation.release()
        return res
