"""`Operation`: one SQE, from staging to its last CQE.

The in-flight table holds the operation until its last CQE.  The operation holds the memory that the kernel may touch:
buffers, paths, addresses.  An operation that loses its waiter is abandoned: the kernel is asked once to cancel it.
If it completes all the same, its class disposes of the result.

A cancelled await returns only when the kernel has released the caller's memory.  The operation then drops its
references to that memory at once, because the traceback of the cancellation refers to the operation.

A class of Python stages its SQE by `stage`.  A compiled class fills it in by `fill` besides, and a ring calls no method
of Python for it.
"""

import os

from libc.errno cimport EINVAL
from libc.stdint cimport uint32_t

from ..ring.core.core cimport ECANCELED, IORING_CQE_F_MORE, IOSQE_FIXED_FILE
from ..ring.descriptor cimport Descriptor
from ..ring.dispatcher cimport Dispatcher
from ..ring.fillable cimport DONE, IN_FLIGHT, NEW, Life
from ..ring.queues cimport Queues

from ..ring.workers import operation_error
from .base import Slot, State, run

cdef tuple STATES = (State.NEW, State.IN_FLIGHT, State.DONE)


cdef class _Modified:
    """Adds SQE flags to one SQE on its way to the dispatcher."""

    cdef object dispatcher
    cdef int modifiers

    def stage(self, *fields, int sqe_flags=0, **named):
        return self.dispatcher.stage(*fields, sqe_flags=sqe_flags | self.modifiers, **named)


cdef class Operation(Fillable):
    """One SQE and its result.  A subclass stages the SQE and converts the result for the caller.

    Attributes:
        fd: the descriptor, -1 for none; a `Slot` is a registered file.
        filename: a name for the OSError, or None.
        abandoned: the operation has lost its waiter.
        detained: a thread makes its call, and no cancel interrupted that; its memory stays in use without a waiter.
    """

    filename = None
    #: It only watches, so a loop that changes threads may stage it again on another ring.
    may_move = False
    #: The kernel often completes it during the submitting enter.
    may_end_at_once = False

    def __init__(self, fd=-1):
        self.set_fd(fd)

    cdef int set_fd(self, fd) except -1:
        if self.life == IN_FLIGHT:
            raise ValueError("the operation is in flight")
        self.fd = fd
        self.life = NEW
        self.modifiers = IOSQE_FIXED_FILE if type(fd) is Slot else 0
        return 0

    @property
    def state(self):
        """The `State` of its life."""
        return STATES[self.life]

    @state.setter
    def state(self, state):
        self.life = <Life><int>STATES.index(state)

    @property
    def in_flight(self):
        """Return whether the kernel may still touch the operation's memory and descriptor."""
        return self.life == IN_FLIGHT

    def stage(self, dispatcher):
        """Stage the SQE and return its token.  A subclass fills in its own fields."""
        return dispatcher.stage(self, self.opcode, self.fd)

    def result(self, int res, uint32_t flags):
        """Convert a result that is no error for the caller."""
        return res

    def dispose(self, int res, uint32_t flags):
        """Dispose of a result without a waiter: close the new descriptor, keep the received bytes."""

    def release(self):
        """Drop the caller's memory.  Nothing is in flight, and the result is read no more."""

    def error(self, int res):
        """Return the exception for a negative result."""
        if res == -EINVAL and self._dispatcher is not None:
            absence = self._dispatcher.features.absence(self.opcode)
            if absence is not None:
                return OSError(EINVAL, f"{os.strerror(EINVAL)}: {absence}")
        filename = self.filename
        return operation_error(res) if filename is None else operation_error(res, filename)

    def submit(self, dispatcher):
        """Put the operation in flight without waiting for it."""
        # A companion's dispatcher wants to hear of each SQE.
        if self.is_compiled and (type(dispatcher) is Dispatcher or type(dispatcher) is Queues):
            self.begin(<Dispatcher>dispatcher)
            return
        self.check_life()
        cdef _Modified modified
        if self.modifiers:
            modified = _Modified()
            modified.dispatcher = dispatcher
            modified.modifiers = self.modifiers
            self.token = self.stage(modified)
        else:
            self.token = self.stage(dispatcher)
        self._dispatcher = dispatcher
        self.life = IN_FLIGHT

    def _begin_again(self):
        """Stage a receive again that found no buffer; return False if it is abandoned or the ring has no group.

        Other receives hold all buffers of the group.  The dispatch of those recycles them.
        """
        dispatcher = self._dispatcher
        if self.abandoned or dispatcher is None or not dispatcher.grow_buffers():
            return False
        self.life = DONE
        self.submit(dispatcher)
        return True

    def wait_with(self, waiter):
        """Give the last CQE to this waiter, for a caller that uses `submit` instead of `run`."""
        self._waiter = waiter

    def take_waiter(self):
        """Remove the waiter and return it."""
        waiter, self._waiter = self._waiter, None
        return waiter

    def reset(self):
        """Make the operation new again: its ring is closed."""
        self.life = NEW

    def run_at_once(self, dispatcher):
        """Stage and submit the operation; return whether that completed it, so that `result_at_once` has its result."""
        self.submit(dispatcher)
        completion = dispatcher.finish_now(self.token)
        if completion is None:
            return False
        self._completion = self.finish(completion[0]), completion[1]
        return True

    def result_at_once(self):
        """Return the result of an operation that `run_at_once` completed.

        Raises:
            OSError: the kernel's errno, with the filename if the operation has one.
        """
        res, flags = self._completion
        if res < 0:
            raise self.error(res)
        return self.result(res, flags)

    def run(self, loop, dispatcher):
        """Stage the operation, unless it is in flight, and return a coroutine that waits for its result.

        Args:
            loop: makes the future that is awaited.
            dispatcher: stages the SQE.

        Raises:
            OSError: the kernel's errno, with the filename if the operation has one.
            asyncio.CancelledError: raised only when the kernel has released the operation's memory.
        """
        return run(self, loop, dispatcher)

    def abandon(self):
        """Ask the kernel once to cancel, and dispose of the result: the waiter is gone."""
        if self.abandoned:
            return
        # Between two stagings, while its callback runs, this prevents the second one.
        self.abandoned = True
        if self.life == IN_FLIGHT:
            self._dispatcher.cancel(self.token)

    def finish(self, int res):
        """Take the last CQE's result; return it, or the result that the class puts in its place."""
        self.life = DONE
        return res

    def complete(self, int res, uint32_t flags):
        """Take a CQE; called by the dispatcher."""
        waiter = self._waiter
        if flags & IORING_CQE_F_MORE and res == -ECANCELED:
            self.detained = True
        else:
            res = self.finish(res)
            if self.abandoned or waiter is None or waiter.done():
                self._dispose(res, flags)
            if self.abandoned or self.detained:
                self.release()
        if waiter is not None and not waiter.done():
            waiter.set_result((res, flags))

    def _dispose(self, int res, uint32_t flags):
        if res >= 0:
            self.dispose(res, flags)

    def __repr__(self):
        abandoned = " abandoned" if self.abandoned else ""
        return f"<{type(self).__name__} fd={self.fd} {self.state.value}{abandoned}>"


cdef class FileOperation(Operation):
    """An operation on an open file, given as its descriptor's number or as a `Descriptor`."""

    def __init__(self, file):
        self.set_file(file)

    cdef int set_file(self, file) except -1:
        cdef int _number
        if isinstance(file, Descriptor):
            self.set_fd((<Descriptor>file).fd)
            self._descriptor = file
            self.filename = (<Descriptor>file).filename
        else:
            _number = file  # or a TypeError
            # Not that number: a `Slot` is one.
            self.set_fd(file)
        return 0
