"""Outcomes as callbacks, one for each handle: for debug mode, and for tools that replace `Handle._run`."""

from libc.stdint cimport uint64_t

from .core.core cimport ul_outcome
from .dispatcher cimport Dispatcher
from .owner cimport Owner


def callbacks(Dispatcher dispatcher):
    """Yield an `OutcomeCallback` for each outcome that waits now, to be called before the next one is asked for."""
    cdef uint64_t end = dispatcher.taken + <uint64_t>(dispatcher.count - dispatcher.cursor)
    while dispatcher.taken < end and dispatcher.cursor < dispatcher.count:
        yield OutcomeCallback.__new__(OutcomeCallback, dispatcher)
    if dispatcher.tick.is_metered:
        dispatcher.end_metering()


cdef class OutcomeCallback:
    """Hands one outcome to its owner when it is called, unless a dispatch within a dispatch has done so.

    `repr` of a handle shows it as a method of the transport or operation, called with the protocol.

    Attributes:
        arguments: the arguments to show; a call ignores them.
    """

    cdef Dispatcher dispatcher
    cdef uint64_t number  # so many outcomes were taken before this one
    cdef object owner
    cdef readonly tuple arguments

    def __cinit__(self, Dispatcher dispatcher):
        cdef ul_outcome *outcome = &dispatcher.outcomes[dispatcher.cursor]
        self.dispatcher = dispatcher
        self.number = dispatcher.taken
        self.arguments = ()
        if outcome.owner == NULL:
            self.owner = dispatcher.operations.get(outcome.token, dispatcher)
            return
        self.owner, self.arguments = (<Owner>outcome.owner).shown()

    def __call__(self, *arguments):
        if self.dispatcher.taken == self.number:
            self.dispatcher.hand_over(self.dispatcher.taken + 1)

    @property
    def __self__(self):
        return self.owner

    @property
    def __name__(self):
        return "complete"

    @property
    def __qualname__(self):
        return f"{type(self.owner).__qualname__}.complete"

    def __repr__(self):
        return f"<OutcomeCallback of {self.owner!r}>"
