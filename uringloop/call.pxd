from cpython.object cimport PyObject, PyTypeObject

cdef extern from "Python.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_NEXT
        PYGEN_ERROR
    PySendResult PyIter_Send(PyObject *iterator, PyObject *value, PyObject **result)
    PyObject *Py_None

cdef extern from *:
    """
    #ifdef Py_GIL_DISABLED
    #define IS_FREE_THREADED 1
    #else
    #define IS_FREE_THREADED 0
    #endif

    static inline void set_next(PyTypeObject *type, PyObject *(*next)(PyObject *)) { type->tp_iternext = next; }
    """
    bint IS_FREE_THREADED
    void set_next(PyTypeObject *type, PyObject *(*next)(PyObject *) except? NULL)


cdef class Call:
    cdef int kind
    cdef object owner, first, second, running

    cdef str name(self)
    cdef bint is_owed(self)


cdef void stop(value) noexcept
cdef int check_loop(loop) except -1
