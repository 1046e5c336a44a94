# cython: language_level=3, boundscheck=False, wraparound=False
"""`Decoded`: the characters of a text file that are decoded and not yet read, and its iteration; compiled, because it
runs once for each line.

A line that is there already is handed out without a coroutine: as a `Ready`, of which `async for` takes the value without
an exception being raised for it.
"""

from collections.abc import Coroutine

cimport cython
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF
from cpython.unicode cimport PyUnicode_FindChar, PyUnicode_Substring

cdef extern from *:
    """
    /* What `await` and `async for` use where it is there; Cython has no name for it. */
    static void install_send(PyTypeObject *type, int (*send)(PyObject *, PyObject *, PyObject **))
    {
        type->tp_as_async->am_send = (sendfunc)send;
        PyType_Modified(type);
    }
    """
    void install_send(PyTypeObject *type, int (*send)(PyObject *, PyObject *, PyObject **) noexcept)
    int PYGEN_RETURN
    int PYGEN_ERROR


@cython.final
@cython.freelist(32)
@cython.no_gc
cdef class Ready:
    """A coroutine that has ended before it began: awaiting it gives the value at once, and once."""

    cdef str value

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        raise StopIteration(self.take())

    def send(self, value, /):
        raise StopIteration(self.take())

    def throw(self, kind, value=None, traceback=None, /):
        self.value = None
        raise kind if value is None else value

    def close(self):
        self.value = None

    cdef str take(self):
        value = self.value
        if value is None:
            raise RuntimeError("cannot reuse already awaited coroutine")
        self.value = None
        return value


cdef int send_ready(PyObject *ready, PyObject *sent, PyObject **result) noexcept:
    # The reference goes over to the caller.
    result[0] = NULL
    value = (<Ready>ready).value
    if value is None:
        return send_spent(ready)
    (<Ready>ready).value = None
    Py_INCREF(value)
    result[0] = <PyObject *>value
    return PYGEN_RETURN


cdef int send_spent(PyObject *ready) noexcept:
    raise_spent(<Ready>ready)
    return PYGEN_ERROR


cdef extern from "Python.h":
    void PyErr_SetString(PyObject *type, const char *message)
    PyObject *PyExc_RuntimeError


cdef void raise_spent(Ready ready) noexcept:
    PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine")


install_send(<PyTypeObject *>Ready, send_ready)
Coroutine.register(Ready)


cdef class Decoded:
    """The base of a text file.

    Attributes:
        chars: what was decoded last.
        used: how many of them were read.
        iterating: lines end with "\\n" alone, and the next ones are to be served from here.
    """

    cdef public str chars
    cdef public Py_ssize_t used
    cdef public bint iterating

    def __cinit__(self, *args, **kwargs):
        self.chars = ""

    def next_line(self):
        """A coroutine for the next line, when it is not here."""
        raise NotImplementedError

    def __aiter__(self):
        return self

    def __anext__(self):
        cdef Py_ssize_t end
        cdef Ready ready
        if self.iterating:
            end = PyUnicode_FindChar(self.chars, 10, self.used, len(self.chars), 1)
            if end >= 0:
                ready = Ready.__new__(Ready)
                ready.value = PyUnicode_Substring(self.chars, self.used, end + 1)
                self.used = end + 1
                return ready
        return self.next_line()
