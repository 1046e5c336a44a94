"""`EventCallback`: one event as a callback, for a loop that has to show handles of all that it runs."""


cdef class EventCallback:
    """Hands one event to its owner when it is called, unless a dispatch within a dispatch has done so.

    `repr` of a handle shows it as a method of the transport or operation, called with the protocol.

    Attributes:
        arguments: those to be shown; a call ignores them.
    """

    cdef Dispatcher dispatcher
    cdef uint64_t number  # so many events were taken before this one
    cdef object owner
    cdef readonly tuple arguments

    def __cinit__(self, Dispatcher dispatcher):
        cdef ul_event *event = &dispatcher.events[dispatcher.cursor]
        cdef Endpoint endpoint
        self.dispatcher = dispatcher
        self.number = dispatcher.taken
        self.arguments = ()
        if event.owner == NULL:
            self.owner = dispatcher.operations.get(event.token, dispatcher)
            return
        endpoint = <Endpoint>event.owner
        self.owner = endpoint if endpoint.transport is None else endpoint.transport
        if endpoint.protocol is not None:
            self.arguments = (endpoint.protocol,)

    def __call__(self, *arguments):
        if self.dispatcher.taken == self.number:
            self.dispatcher.hand_over()

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
        return f"<EventCallback of {self.owner!r}>"
