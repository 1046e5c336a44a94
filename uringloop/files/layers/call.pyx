"""`FileCall`: the coroutine that a file's method returns.

Nothing happens before it is awaited.  Then its owner answers at once whatever its buffer or the page cache can answer.
For everything else the owner makes a coroutine of a Python class, and the call forwards to it.

`await` takes the value of a finished call from a StopIteration.  All calls share one, because making one for each call
would take longer than all the rest.
"""

import inspect
from collections.abc import Coroutine
from inspect import CO_COROUTINE
from types import CoroutineType
from warnings import warn

cimport cython
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF

cdef extern from "Python.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_NEXT
    PySendResult PyIter_Send(PyObject *iterator, PyObject *value, PyObject **result)
    PyObject *Py_None

cdef tuple NAMES = (
    "read",
    "readline",
    "seek",
    "write",
    "__anext__",
    "__aenter__",
    "close",
    "__aexit__",
    "Lock.__aenter__",
    "Lock.__aexit__",
)

cdef extern from *:
    """
    static PyObject *kept_stop;

    /* The kept StopIteration holds its value until the next call.  So it takes nothing large, and nothing whose end has
     * effects. */
    static int may_be_kept(PyObject *value)
    {
        if (PyBytes_CheckExact(value))
            return PyBytes_GET_SIZE(value) <= 65536;
        if (PyUnicode_CheckExact(value))
            return PyUnicode_GET_LENGTH(value) <= 65536;
        return value == Py_None || PyLong_CheckExact(value);
    }

    /* Raise StopIteration(value), without the traceback that Cython would add. */
    static void raise_stop(PyObject *value)
    {
        PyStopIterationObject *stop;
        if (!may_be_kept(value)) {
            PyObject *once = PyObject_CallOneArg(PyExc_StopIteration, value);
            if (once != NULL)
                PyErr_SetObject(PyExc_StopIteration, once);
            Py_XDECREF(once);
            return;
        }
        /* Take it while it is in use: freeing the old value may run Python, which may end another call. */
        stop = (PyStopIterationObject *)kept_stop;
        kept_stop = NULL;
        if (stop != NULL && Py_REFCNT(stop) == 1) {
            /* The traceback is that of the last catch. */
            Py_CLEAR(stop->traceback);
            Py_CLEAR(stop->context);
        }
        if (stop != NULL && Py_REFCNT(stop) == 1) {
            Py_XSETREF(stop->value, Py_NewRef(value));
        } else {
            /* Something still refers to the last one. */
            Py_XDECREF(stop);
            stop = (PyStopIterationObject *)PyObject_CallOneArg(PyExc_StopIteration, value);
            if (stop == NULL)
                return;
        }
        /* PyErr_SetObject would set the exception in handling as the context, and so keep it and its frames. */
    #if PY_VERSION_HEX >= 0x030C0000
        PyErr_SetRaisedException(Py_NewRef(stop));
    #else
        PyErr_Restore(Py_NewRef(PyExc_StopIteration), Py_NewRef(stop), NULL);
    #endif
        if (kept_stop == NULL)
            kept_stop = (PyObject *)stop;
        else
            Py_DECREF(stop);
    }

    /* Python tells a coroutine function by its code object.  That of a compiled function is for inspection only. */
    #define set_code(function, code) Py_XSETREF(((__pyx_CyFunctionObject *)(function))->func_code, Py_NewRef(code))

    static void set_next(PyTypeObject *type, PyObject *(*next)(PyObject *)) { type->tp_iternext = next; }
    """
    void raise_stop(value)
    void set_code(object function, object code)
    void set_next(PyTypeObject *type, PyObject *(*next)(PyObject *) except? NULL)


cdef class CallOwner:
    """The base of everything whose methods return a `FileCall`."""

    cdef answer(self, FileCall call):
        """Return the result of a call if it is there at once.  Else set `call.running` and return the call."""
        raise NotImplementedError


@cython.freelist(32)
cdef class FileCall:
    """A coroutine of a file's method.

    Attributes:
        kind: the method.
        owner: the object whose method it is; None as soon as the call is awaited.
        first: the first argument.
        second: the second argument.
        running: the coroutine that does what cannot be done at once.
    """

    @property
    def __class__(self):
        """The class of Python's coroutines, for `isinstance`; `inspect.iscoroutine` uses that."""
        return CoroutineType

    @property
    def __name__(self):
        """The method's name."""
        return NAMES[self.kind]

    @property
    def __qualname__(self):
        """The method's name."""
        return NAMES[self.kind]

    # See `types.CoroutineType`, and `inspect.getcoroutinestate`.

    @property
    def cr_await(self):
        """The awaitable that the call waits for, or None."""
        return self.running

    @property
    def cr_code(self):
        """The code of the running coroutine; without one, that of a stand-in."""
        if self.running is None:
            return stand_in.__code__.replace(co_name=NAMES[self.kind], co_qualname=NAMES[self.kind])
        return self.running.cr_code

    @property
    def cr_frame(self):
        """The frame of the running coroutine; without one, that of a stand-in; None after the end."""
        if self.running is not None:
            return self.running.cr_frame
        if self.owner is None:
            return None
        coroutine = stand_in()
        frame = coroutine.cr_frame
        coroutine.close()
        return frame

    @property
    def cr_origin(self):
        """None: the origin is not tracked."""
        return None

    @property
    def cr_running(self):
        """Whether the call executes."""
        return self.running is not None and self.running.cr_running

    @property
    def cr_suspended(self):
        """Whether the call waits."""
        return self.running is not None and not self.running.cr_running

    @property
    def cr_state(self):
        """The state by the names of `inspect.getcoroutinestate`, which asks for it from Python 3.15 on."""
        if self.running is not None:
            return inspect.getcoroutinestate(self.running)
        return inspect.CORO_CREATED if self.owner is not None else inspect.CORO_CLOSED

    def __await__(self):
        if self.running is not None:
            raise RuntimeError("coroutine is being awaited already")
        return self

    def __iter__(self):
        return self

    def __next__(self):
        raise NotImplementedError  # replaced below

    def send(self, value, /):
        """Run to the next suspension; see `coroutine.send`."""
        if self.running is None:
            return next(self)
        return self.forward(self.running.send, value)

    def throw(self, *exception):
        """Raise an exception where the call is suspended; see `coroutine.throw`."""
        if self.running is None:
            self.owner = None
            raise exception[0] if len(exception) < 2 or exception[1] is None else exception[1]
        return self.forward(self.running.throw, *exception)

    def forward(self, method, *arguments):
        try:
            return method(*arguments)
        except BaseException:
            self.running = None
            raise

    def close(self):
        """Raise GeneratorExit where the call is suspended; see `coroutine.close`."""
        self.owner = None
        if self.running is not None and self.running.cr_running:
            raise ValueError("coroutine already executing")
        running, self.running = self.running, None
        if running is not None:
            running.close()


@cython.final
cdef class OwedCall(FileCall):
    """A call that warns if it is never awaited, as any coroutine.  `async for` always awaits, and saves the cost."""

    def __dealloc__(self):
        # The owner is still there, because FileCall's own deallocation comes later.
        if self.owner is not None:
            warn(f"coroutine {self.__name__!r} was never awaited", RuntimeWarning, stacklevel=1)


cdef FileCall make_call(CallOwner owner, CallKind kind, first, second):
    """Return a call of a method with two arguments, None for those that the method does not have."""
    cdef FileCall self = OwedCall.__new__(OwedCall)
    self.kind = kind
    self.owner = owner
    self.first = first
    self.second = second
    return self


cdef FileCall make_line_call(CallOwner owner):
    """Return a call of `__anext__` for `async for`, which is sure to await it."""
    # Made here, because another module would make it by a call of tp_new.
    cdef FileCall self = FileCall.__new__(FileCall)
    self.kind = NEXT_LINE
    self.owner = owner
    return self


cdef PyObject *next_of_call(PyObject *raw) except? NULL:
    cdef FileCall self = <FileCall>raw
    cdef PyObject *result = NULL
    cdef CallOwner owner
    if self.running is None:
        owner = self.owner
        if owner is None:
            raise RuntimeError("cannot reuse already awaited coroutine")
        self.owner = None
        value = owner.answer(self)
        if value is not self:
            raise_stop(value)
            return NULL
    running = self.running  # a `close` within drops the attribute
    cdef PySendResult status = PyIter_Send(<PyObject *>running, Py_None, &result)
    if status == PYGEN_NEXT:
        return result
    self.running = None
    if status == PYGEN_RETURN:
        value = <object>result
        Py_DECREF(value)
        raise_stop(value)
    return NULL


def looks_async(*functions):
    """Have functions that return calls pass for coroutine functions, as `inspect.iscoroutinefunction` tells them."""
    for function in functions:
        set_code(function, function.__code__.replace(co_flags=function.__code__.co_flags | CO_COROUTINE))


# A function of Python, so that its coroutine is of Python's type.
code_of_stand_in = {}
exec(compile("async def stand_in(): pass", __file__, "exec"), code_of_stand_in)
cdef object stand_in = code_of_stand_in.pop("stand_in")
set_next(<PyTypeObject *>FileCall, next_of_call)
set_next(<PyTypeObject *>OwedCall, next_of_call)
Coroutine.register(FileCall)
