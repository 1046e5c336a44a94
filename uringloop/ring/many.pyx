"""`Many`: operations that run together on a ring by hand, a bounded number in flight at a time.

Compiled code stages, enters and takes completions.  Python runs only for operations whose classes are in Python.  Each
operation is in the ring's in-flight table until its last CQE, so its memory outlives every exception here.

The iterable of the operations may use the ring too.  It gets no completion of an operation that runs here: those that
it takes are put aside for the call that waits for them (`Queues.claimed`).
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint32_t, uint64_t

from .core.core cimport IORING_CQE_F_MORE, IOSQE_CQE_SKIP_SUCCESS, ul_outcome
from .fillable cimport IN_FLIGHT, Fillable
from .queues cimport Completion


cdef inline int check_modifiers(int modifiers) except -1:
    if modifiers & IOSQE_CQE_SKIP_SUCCESS:
        raise ValueError("an operation that skips success does not tell of its end")
    return 0


cdef class Many:
    """One call of `Ring.run_many`."""

    cdef list run(self, operations, Py_ssize_t depth, bint return_exceptions):
        self.queues.calls += 1
        self.number = self.queues.calls
        self.results = []
        self.firsts = {}
        self.queues.calls_under_way += 1
        try:
            self.run_all(operations, depth)
            if self.has_completions or (self.has_failed and not return_exceptions):
                return self.converted(return_exceptions)
        except BaseException:
            self.abandon()
            raise
        finally:
            self.queues.calls_under_way -= 1
        return self.results

    cdef int run_all(self, operations, Py_ssize_t depth) except -1:
        """Run all operations to their end."""
        cdef Py_ssize_t place = 0
        cdef bint more = True
        iterator = iter(operations)
        while True:
            while more and self.running < depth:
                try:
                    operation = next(iterator)
                except StopIteration:
                    more = False
                    break
                self.start(operation, place)
                place += 1
            if self.queues.claimed and self.take_claimed():
                continue
            if self.running == 0:
                return 0
            # Calls that complete at once are interrupted by no signal.
            PyErr_CheckSignals()
            self.queues.enter_and_reap(1, -1, NULL, 0)
            self.take_all()

    cdef int start(self, operation, Py_ssize_t place) except -1:
        """Stage an operation."""
        cdef Fillable fillable
        self.results.append(None)
        if not isinstance(operation, Fillable):
            check_modifiers(getattr(operation, "modifiers", 0))
            operation.submit(self.queues)
            self.queues.others[operation.token] = self.number, place
            self.running += 1
            return 0
        fillable = operation
        check_modifiers(fillable.modifiers)
        if fillable.life == IN_FLIGHT or fillable.call_number != 0:
            raise ValueError("an operation can be in flight only once")
        # Before its `submit`, which a signal handler may leave with the operation staged.
        fillable.call_number, fillable.index, self.started = self.number, place, fillable
        if fillable.is_compiled:
            fillable.begin(self.queues)
        else:
            operation.submit(self.queues)
        self.started = None
        self.running += 1
        return 0

    cdef int take_all(self) except -1:
        """Take the completions at hand."""
        cdef ul_outcome outcome
        while self.queues.cursor < self.queues.count:
            outcome = self.queues.outcomes[self.queues.cursor]
            self.queues.cursor += 1
            self.take(outcome.token, outcome.res, outcome.flags)
        return 0

    cdef int take(self, uint64_t token, int res, uint32_t flags) except -1:
        cdef Fillable fillable
        operation = self.queues.take_operation(token, flags)
        if isinstance(operation, Fillable) and not flags & IORING_CQE_F_MORE:
            fillable = operation
            if fillable.call_number == self.number and fillable.is_compiled:
                self.running -= 1
                fillable.call_number = 0
                return self.keep(operation, fillable.index, fillable.end(res))
        return self.take_completion(self.queues.completion_of(operation, token, res, flags))

    cdef int keep(self, operation, Py_ssize_t place, int res) except -1:
        """Keep the result of a compiled operation."""
        if res < 0:
            self.has_failed = True
        self.results[place] = res if res >= 0 else operation.error(res)
        return 0

    cdef int take_completion(self, Completion completion) except -1:
        """Take a completion, or put it aside for the code that waits for it."""
        cdef uint64_t number = self.queues.call_of(completion)
        cdef Py_ssize_t place
        operation = completion.operation
        if number == 0:
            self.set_aside.append(completion)
            return 0
        if number != self.number:
            self.queues.claimed.append(completion)
            return 0
        if isinstance(operation, Fillable):
            place = (<Fillable>operation).index
        else:
            place = self.queues.others[completion.user_data][1]
        if completion.flags & IORING_CQE_F_MORE:
            # A zero-copy send: its notification follows, and the memory is in use until then.
            self.firsts.setdefault(place, (completion.res, completion.flags))
            return 0
        self.running -= 1
        if not isinstance(operation, Fillable):
            del self.queues.others[completion.user_data]
        else:
            (<Fillable>operation).call_number = 0
            if (<Fillable>operation).is_compiled:
                return self.keep(operation, place, completion.res)
        if self.firsts:
            completion.res, completion.flags = self.firsts.pop(place, (completion.res, completion.flags))
        self.has_completions = True
        self.has_failed |= completion.res < 0
        self.results[place] = completion
        return 0

    cdef bint take_claimed(self) except -1:
        """Take the completions that other code has taken meanwhile; return whether there were any."""
        claimed, self.queues.claimed = self.queues.claimed, []
        for completion in claimed:
            self.take_completion(completion)
        return len(self.queues.claimed) < len(claimed)

    cdef list converted(self, bint return_exceptions):
        """Return the results in the operations' form.

        Raises:
            OSError: the first failure, unless exceptions are results.
        """
        cdef Completion completion
        cdef Py_ssize_t place
        cdef list taken = []
        try:
            for place, result in enumerate(self.results):
                if type(result) is Completion:
                    completion = result
                    if completion.res < 0:
                        self.results[place] = result = completion.operation.error(completion.res)
                    elif return_exceptions or not self.has_failed:
                        taken.append((place, completion))
                        self.results[place] = completion.operation.result(completion.res, completion.flags)
                if self.has_failed and not return_exceptions and isinstance(result, BaseException):
                    raise result
        except BaseException:
            # No caller gets the others.  What can be closed closes itself.
            for place, completion in taken:
                if not hasattr(self.results[place], "close"):
                    self.results[place] = completion
            raise
        return self.results

    cdef list tokens_in_flight(self):
        """Return the tokens of this call's operations that the kernel has."""
        return [token for token, operation in self.queues.table() if self.is_mine(token, operation)]

    cdef bint is_mine(self, token, operation) except -1:
        if isinstance(operation, Fillable):
            return (<Fillable>operation).call_number == self.number
        return token in self.queues.others and self.queues.others[token][0] == self.number

    cdef int abandon(self) except -1:
        """Cancel the operations in flight, wait for their ends, and dispose of all results."""
        try:
            self.take_claimed()
            tokens = self.tokens_in_flight()
            # An exception may have come between a start or an end and its count.
            self.running = len(tokens)
            for token in tokens:
                self.queues.cancel(token)
            while self.running:
                self.queues.enter_and_reap(1, -1, NULL, 0)
                self.take_all()
        finally:
            self.let_go()
            self.dispose()
        return 0

    cdef int let_go(self) except -1:
        """Leave what is still in flight, after an exception in the wait for it, to the ring's other callers."""
        if self.started is not None and self.started.call_number == self.number:
            self.started.call_number = 0
        for token in self.tokens_in_flight():
            operation = self.queues.find(token)
            if isinstance(operation, Fillable):
                (<Fillable>operation).call_number = 0
            else:
                del self.queues.others[token]
        return 0

    cdef int dispose(self) except -1:
        """Dispose of the results that no caller gets."""
        cdef Completion completion
        for result in self.results:
            if type(result) is Completion:
                completion = result
                if completion.res >= 0:
                    completion.operation.dispose(completion.res, completion.flags)
        self.results = []
        return 0
