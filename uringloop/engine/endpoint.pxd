from ..ring.dispatcher cimport Dispatcher, Owner
from .base cimport EngineBase

cdef extern from *:
    """
    /* Enters a context, or a copy of it where it is entered already: by a callback that runs the loop.  Returns the context
     * to be left. */
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

cdef enum:
    OPEN
    CLOSING
    CLOSED
    NOWHERE

cdef enum:
    # asyncio counts the loss itself as the first of five.
    LOST_WRITES_BEFORE_WARNING = 4


cdef class Endpoint(Owner):
    cdef EngineBase engine
    cdef Dispatcher dispatcher
    cdef object transport, call_soon, error
    cdef object own_context  # of what is called soon; None: a copy of the one that it comes from
    cdef dict transports  # those of the loop's sockets by descriptor, as weak references; None for a pipe
    cdef int state
    cdef bint ending  # `connection_lost` comes soon
    cdef bint released  # nothing is queued or in flight
    cdef public object file
    cdef readonly object protocol
    cdef readonly int fd  # -1 when it is closed
    cdef readonly bint paused, closing, lost
    cdef public size_t high_water

    cdef bint close_in_core(self, bint abort) except -1
    cdef bint is_quiet(self)
    cdef free_core(self)
    cdef leaving(self, bint abort)
    cdef closing_file(self)
    cdef left(self)
    cdef open_life(self, EngineBase engine, int fd, file, transport, dict transports, own_context)
    cdef soon(self, callback, argument=*)
    cdef int advance(self, int to) except -1
    cdef finish(self, bint abort)
