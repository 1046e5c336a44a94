# cython: language_level=3, boundscheck=False, wraparound=False
"""`Decoded`: the characters of a text file that are decoded and not yet read, and its iteration; compiled, because it
runs once for each line.

A line that is there already is handed out without a coroutine, as a `Ready`.  What `async for` takes from that is the
value of a StopIteration.  One is kept for all of them, because making one each time would take longer than all the rest.
"""

from collections.abc import Coroutine

cimport cython
from cpython.object cimport PyObject, PyTypeObject
from cpython.unicode cimport PyUnicode_FindChar, PyUnicode_Substring

cdef extern from *:
    """
    static PyObject *spare_stop;

    /* Raises StopIteration(value), without the traceback that Cython would add. */
    static void raise_stop(PyObject *value)
    {
        PyStopIterationObject *stop = (PyStopIterationObject *)spare_stop;
        if (stop == NULL || Py_REFCNT(stop) != 1) {
            /* Somebody keeps the last one. */
            PyObject *fresh = PyObject_CallOneArg(PyExc_StopIteration, value);
            if (fresh == NULL)
                return;
            Py_XSETREF(spare_stop, fresh);
            stop = (PyStopIterationObject *)fresh;
        } else {
            PyObject *old = stop->value;
            Py_INCREF(value);
            stop->value = value;
            Py_XDECREF(old);
        }
    #if PY_VERSION_HEX >= 0x030C0000
        PyErr_SetRaisedException(Py_NewRef(stop));
    #else
        PyErr_SetObject(PyExc_StopIteration, (PyObject *)stop);
    #endif
    }

    static void raise_spent(void)
    {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
    }

    static void set_next(PyTypeObject *type, PyObject *(*next)(PyObject *)) { type->tp_iternext = next; }

    static void take_anext(PyTypeObject *type, PyTypeObject *base)
    {
        type->tp_as_async->am_anext = base->tp_as_async->am_anext;
    }
    """
    void raise_stop(value)
    void raise_spent()
    void take_anext(PyTypeObject *type, PyTypeObject *base)
    void set_next(PyTypeObject *type, PyObject *(*next)(PyObject *) noexcept)


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
        raise NotImplementedError  # replaced below

    def send(self, value, /):
        """See `generator.send`: there is nobody to get it."""
        return next(self)

    def throw(self, kind, value=None, traceback=None, /):
        """See `generator.throw`."""
        self.value = None
        raise kind if value is None else value

    def close(self):
        """See `generator.close`."""
        self.value = None


cdef PyObject *next_of_ready(PyObject *ready) noexcept:
    value = (<Ready>ready).value
    if value is None:
        raise_spent()
    else:
        (<Ready>ready).value = None
        raise_stop(value)
    return NULL


set_next(<PyTypeObject *>Ready, next_of_ready)
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


def iterated(type kind):
    """A class decorator: `async for` calls `Decoded.__anext__` directly, and does not look the method up each time."""
    take_anext(<PyTypeObject *>kind, <PyTypeObject *>Decoded)
    return kind
