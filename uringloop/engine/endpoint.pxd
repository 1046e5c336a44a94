from ..ring.dispatcher cimport raise_errno
from ..ring.owner cimport Owner, flag
from .base cimport EngineBase

cdef extern from *:
    """
    /* Enters a context, or a copy of it where it is entered already: by a callback that runs the loop.  Returns the
     * context to be left. */
    static inline PyObject *enter_context(PyObject *context)
    {
        if (PyContext_Enter(context) == 0)
            return Py_NewRef(context);
        if (!PyErr_ExceptionMatches(PyExc_RuntimeError))
            return NULL;
        PyErr_Clear();
        context = PyContext_Copy(context);
        if (context != NULL && PyContext_Enter(context) < 0)
            Py_CLEAR(context);
        return context;
    }
    """
    object enter_context(object context)

# The states of an endpoint, see the table in endpoint.pyx.
cdef enum:
    OPEN
    FLUSHING
    ENDING
    CLOSED


cdef class Endpoint(Owner):
    cdef EngineBase engine
    cdef object transport, error
    cdef object context  # the callbacks of what is received run in it
    cdef object own_context  # the callbacks that are called soon run in it; None: in a copy of the current one
    cdef object server  # that accepted the connection
    cdef list held  # what a paused endpoint keeps for later; None: nothing
    cdef public object file
    cdef readonly object protocol
    cdef public size_t high_water
    cdef readonly int fd, opened_fd  # fd: -1 when it is closed
    cdef unsigned char state, lost_writes
    cdef flag paused
    cdef flag released  # nothing of it is queued or in flight
    cdef flag orphaned  # its loop is being closed: the protocol hears of nothing more
    cdef flag is_pipe

    cdef bint has_core(self)
    cdef int receive_in_core(self)
    cdef int hold_in_core(self)
    cdef size_t queued_bytes(self)
    cdef int close_in_core(self, bint abort)
    cdef bint is_idle(self)
    cdef bint is_alone(self)
    cdef free_core(self)
    cdef deliver_item(self, item)
    cdef closing(self, bint abort)
    cdef closing_file(self)
    cdef lost(self)

    cdef int check_caller(self) except -1
    cdef bint hands_over(self, end, argument) except -1
    cdef take_file(self, EngineBase engine, transport, int fd, file)
    cdef soon(self, callback, argument=*)
    cdef int advance(self, int to) except -1
    cdef keep(self, item)
    cdef hold(self, item)
    cdef deliver_soon(self)
    cdef note_lost_write(self)
    cdef queue_fell(self, bint closed)
    cdef core_closed(self)
    cdef finish(self, bint abort)
    cdef tell_close(self, int fd, bint alone)
    cdef orphan(self)


cdef inline bint delivers(Endpoint endpoint) noexcept:
    """Return whether the protocol is given what is received."""
    return endpoint.state == OPEN and not endpoint.orphaned


cdef inline int checked(int result) except -1:
    """Return a result of the core.

    Raises:
        OSError: the result is a negative errno.
    """
    if result < 0:
        raise_errno(result)
    return result
