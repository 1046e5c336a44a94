"""`ByHandBase`, the compiled half of `Ring`: the calls of each operation."""

import errno
import os
from collections import deque

from libc.stdint cimport int64_t, uint32_t, uint64_t

from .core.core cimport IORING_SETUP_IOPOLL, ul_now_ns, ul_ring_dropped, ul_ring_entries, ul_ring_setup_flags
from .fillable cimport Fillable
from .many cimport Many
from .queues cimport Completion, Queues


cdef class ByHandBase:
    """Base of `Ring`."""

    def __cinit__(self, *_, **__):
        self._set_aside = deque()

    cdef Queues use(self):
        """Return the queues of a ring that is open and of this process."""
        if self.queues is None or self.queues.ring == NULL or ul_ring_dropped(self.queues.ring):
            self.queues = self._queues
        return self.queues

    def prepare(self, operation):
        """Stage an operation and return it; the next `submit` or wait hands it to the kernel.

        Raises:
            RuntimeError: the ring belongs to another thread or process, or it is not enabled and the queue is full.
            ValueError: the ring is closed.
        """
        self.prepare_in(self.use(), operation)
        return operation

    cdef int prepare_in(self, Queues queues, operation) except -1:
        if isinstance(operation, Fillable) and (<Fillable>operation).is_compiled:
            return (<Fillable>operation).begin(queues)
        operation.submit(queues)
        return 0

    def submit(self, int64_t wait_for=0, *, int64_t timeout_ns=-1, signal_mask=None):
        """Hand the staged SQEs to the kernel, and wait, as io_uring_submit_and_wait_timeout(3) does.

        Args:
            wait_for: the number of completions to wait for.
            timeout_ns: the longest wait; -1 waits for ever.
            signal_mask: the signals to block during the wait, in place of the present mask; see pselect(2).

        Returns:
            The number of SQEs that the kernel took.

        Raises:
            ValueError: the completion queue cannot hold wait_for completions.
        """
        cdef uint32_t held = ul_ring_entries(self.use().ring, 1)
        if wait_for > held:
            raise ValueError(f"the completion queue holds {held}, so {wait_for} cannot be waited for")
        if wait_for <= 0:
            return self.enter(0, 0, None)
        return self.enter(max(wait_for - <int64_t>len(self._set_aside), 0), timeout_ns, signal_mask)

    cdef int enter(self, uint32_t wait_for, int64_t timeout_ns, signal_mask) except -1:
        cdef uint64_t mask = 0
        if signal_mask is None:
            return self.use().enter_and_reap(wait_for, timeout_ns, NULL, 0)
        for number in signal_mask:
            mask |= <uint64_t>1 << <int>(number - 1)
        return self.use().enter_and_reap(wait_for, timeout_ns, &mask, 0)

    def peek_cqe(self):
        """Return the next completion, or None, without waiting."""
        return self.peek()

    cdef Completion peek(self):
        cdef Queues queues = self.use()
        return self._set_aside.popleft() if self._set_aside else self.take_next(queues)

    cdef Completion take_next(self, Queues queues):
        cdef Completion completion = queues.next_completion()
        if completion is None and ul_ring_setup_flags(queues.ring) & IORING_SETUP_IOPOLL and queues.count_in_flight():
            queues.enter_and_reap(0, 0, NULL, 0)
            completion = queues.next_completion()
        return completion

    def wait_cqe(self, int64_t timeout_ns=-1, *, signal_mask=None):
        """Submit the staged SQEs, and wait for the next completion.

        Raises:
            TimeoutError: none came within timeout_ns.
        """
        cdef Completion completion = self.wait(timeout_ns, signal_mask)
        if completion is None:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        return completion

    cdef Completion wait(self, int64_t timeout_ns, signal_mask):
        """Do that; return None if all that was in flight belongs to a `run_many` under way."""
        cdef Completion completion = self.peek()
        cdef Queues queues = self.queues
        cdef int64_t deadline_ns = ul_now_ns() + timeout_ns
        cdef Py_ssize_t claimed
        while completion is None:
            claimed = len(queues.claimed)
            self.enter(1, timeout_ns, signal_mask)
            completion = self.peek()
            if completion is None:
                if len(queues.claimed) == claimed or timeout_ns == 0:
                    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
                if queues.count_in_flight() == 0:
                    return None
                if timeout_ns > 0:
                    timeout_ns = max(deadline_ns - ul_now_ns(), 0)
        return completion

    def completions(self, int64_t timeout_ns=-1):
        """Return an iterator of completions until nothing is in flight.

        SQEs that are staged meanwhile are submitted, and waited for.

        Raises:
            TimeoutError: none came within timeout_ns of the last.
        """
        cdef Completions completions = Completions()
        completions.ring = self
        completions.timeout_ns = timeout_ns
        return completions

    def run(self, operation):
        """Stage and submit an operation, and wait for its result; other completions stay for later.

        Raises:
            OSError: the kernel's errno, with the filename if the operation has one.
        """
        self.prepare_in(self.use(), operation)
        cdef Completion completion = self.next_of(operation), answer = completion
        while completion.more:
            # A zero-copy send still reads the memory.
            completion = self.next_of(operation)
        return answer.result()

    def run_many(self, operations, depth=None, *, bint return_exceptions=False):
        """Run operations, a bounded number in flight at a time, and wait for all results.

        All operations run to their end, in any order.  Other completions stay for later.

        Args:
            operations: an iterable; the next operation is asked for when one has ended.  It may use the ring itself.
            depth: the most operations in flight at a time; None: as many as the submission queue holds.
            return_exceptions: an OSError stands in the list in place of its operation's result.

        Returns:
            The results in the order of the operations.

        Raises:
            OSError: the first failure in that order.  The other results are disposed of.
            ValueError: depth is below 1, or an operation is in flight already.
        """
        cdef Many many = Many()
        many.queues = self.use()
        many.set_aside = self._set_aside
        cdef Py_ssize_t limit = ul_ring_entries(many.queues.ring, 0) if depth is None else depth
        if limit < 1:
            raise ValueError(f"depth must be at least 1, not {depth}")
        return many.run(operations, limit, return_exceptions)

    def _take(self):
        return self.take_next(self.use())

    def _next_of(self, operation):
        return self.next_of(operation)

    cdef Completion next_of(self, operation):
        """Return the next completion of this operation, and set others aside."""
        cdef Completion completion
        cdef Queues queues = self.use()
        if self._set_aside:
            for place, completion in enumerate(self._set_aside):
                if completion.operation is operation:
                    del self._set_aside[place]
                    return completion
        while True:
            completion = self.take_next(queues)
            if completion is None:
                queues.enter_and_reap(1, -1, NULL, 0)
            elif completion.operation is operation:
                return completion
            else:
                self._set_aside.append(completion)


cdef class Completions:
    """The iterator of `Ring.completions`."""

    cdef ByHandBase ring
    cdef int64_t timeout_ns

    def __iter__(self):
        return self

    def __next__(self):
        cdef Completion completion = self.ring.peek()
        if completion is None:
            if self.ring.use().count_in_flight() == 0:
                raise StopIteration
            completion = self.ring.wait(self.timeout_ns, None)
            if completion is None:
                raise StopIteration
        return completion
