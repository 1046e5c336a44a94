"""`Call`: the base of the coroutines that compiled methods return, of files and of stream readers.

Nothing happens before a call is awaited.  Then its class answers at once whatever it can answer without waiting.

`await` takes the value of a finished call from a StopIteration.  All calls share one, because making one for each call
would take longer than all the rest.
"""

import inspect
from collections.abc import Coroutine
from inspect import CO_COROUTINE
from types import CoroutineType

cimport cython
from cpython.pythread cimport PyThread_get_thread_ident

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
        /* Without the GIL several threads would share the kept one. */
        if (IS_FREE_THREADED || !may_be_kept(value)) {
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
    """
    void raise_stop(value)
    void set_code(object function, object code)


cdef int check_loop(loop) except -1:
    """Refuse a call of another thread than the one that runs the loop; called where there is no GIL."""
    thread = getattr(loop, "_thread_id", None)
    if thread is not None and thread != PyThread_get_thread_ident():
        raise RuntimeError("Non-thread-safe operation invoked on an event loop other than the current one")
    return 0


cdef void stop(value) noexcept:
    """Set StopIteration with a value; the caller returns NULL to the interpreter."""
    raise_stop(value)


@cython.freelist(64)
cdef class Call:
    """A coroutine of a compiled method.  A class derived from it adds no field, so that all share one free list.

    Attributes:
        kind: the method.
        owner: the object whose method it is; None when the call can do nothing more for it.
        first: the first argument.
        second: the second argument.
        running: the awaitable that does what cannot be done at once.
    """

    cdef str name(self):
        """Return the method's name."""
        raise NotImplementedError

    cdef bint is_owed(self):
        """Return whether the call was never awaited."""
        return self.owner is not None and self.running is None

    @property
    def __class__(self):
        """The class of Python's coroutines, for `isinstance`; `inspect.iscoroutine` uses that."""
        return CoroutineType

    @property
    def __name__(self):
        """The method's name."""
        return self.name().rpartition(".")[2]

    @property
    def __qualname__(self):
        """The method's name, after that of its class if it has one."""
        return self.name()

    # See `types.CoroutineType`, and `inspect.getcoroutinestate`.

    @property
    def cr_await(self):
        """The awaitable that the call waits for, or None."""
        return self.running

    @property
    def cr_code(self):
        """The code of the running coroutine; without one, that of a stand-in."""
        if isinstance(self.running, CoroutineType):
            return self.running.cr_code
        return stand_in.__code__.replace(co_name=self.__name__, co_qualname=self.__qualname__)

    @property
    def cr_frame(self):
        """The frame of the running coroutine; without one, that of a stand-in; None after the end."""
        if isinstance(self.running, CoroutineType):
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
        return isinstance(self.running, CoroutineType) and self.running.cr_running

    @property
    def cr_suspended(self):
        """Whether the call waits."""
        return self.running is not None and not self.cr_running

    @property
    def cr_state(self):
        """The state by the names of `inspect.getcoroutinestate`, which asks for it from Python 3.15 on."""
        if isinstance(self.running, CoroutineType):
            return inspect.getcoroutinestate(self.running)
        if self.running is not None:
            return inspect.CORO_SUSPENDED
        return inspect.CORO_CREATED if self.owner is not None else inspect.CORO_CLOSED

    def __await__(self):
        if self.running is not None:
            raise RuntimeError("coroutine is being awaited already")
        return self

    def __iter__(self):
        return self


def looks_async(*functions):
    """Have functions that return calls pass for coroutine functions, as `inspect.iscoroutinefunction` tells them."""
    for function in functions:
        set_code(function, function.__code__.replace(co_flags=function.__code__.co_flags | CO_COROUTINE))


# A function of Python, so that its coroutine is of Python's type.
code_of_stand_in = {}
exec(compile("async def stand_in(): pass", __file__, "exec"), code_of_stand_in)
cdef object stand_in = code_of_stand_in.pop("stand_in")
Coroutine.register(Call)
