# `Call`: what a method of a file returns, to be awaited.  Part of hot.pyx.
#
# What `await` takes from a call that is over is the value of a StopIteration.  One is kept for all of them, because
# making one each time would take longer than all the rest.

cdef extern from *:
    """
    static PyObject *spare_stop;

    /* The spare one keeps its value until the next call: nothing large, and nothing that must be dropped in time. */
    static int may_be_kept(PyObject *value)
    {
        if (PyBytes_CheckExact(value))
            return PyBytes_GET_SIZE(value) <= 65536;
        if (PyUnicode_CheckExact(value))
            return PyUnicode_GET_LENGTH(value) <= 65536;
        return value == Py_None || PyLong_CheckExact(value);
    }

    /* Raises StopIteration(value), without the traceback that Cython would add. */
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
        /* Taken while it is in use: what is freed here may run Python, and end another call. */
        stop = (PyStopIterationObject *)spare_stop;
        spare_stop = NULL;
        if (stop != NULL && Py_REFCNT(stop) == 1) {
            /* The traceback is that of the last catch. */
            Py_CLEAR(stop->traceback);
            Py_CLEAR(stop->context);
        }
        if (stop != NULL && Py_REFCNT(stop) == 1) {
            Py_XSETREF(stop->value, Py_NewRef(value));
        } else {
            /* The last one is still referred to. */
            Py_XDECREF(stop);
            stop = (PyStopIterationObject *)PyObject_CallOneArg(PyExc_StopIteration, value);
            if (stop == NULL)
                return;
        }
        /* Not PyErr_SetObject: it makes what is being handled the context, and so keeps that and its frames. */
    #if PY_VERSION_HEX >= 0x030C0000
        PyErr_SetRaisedException(Py_NewRef(stop));
    #else
        PyErr_Restore(Py_NewRef(PyExc_StopIteration), Py_NewRef(stop), NULL);
    #endif
        if (spare_stop == NULL)
            spare_stop = (PyObject *)stop;
        else
            Py_DECREF(stop);
    }

    /* How Python tells a coroutine function; a compiled function's code object is only there to be looked at. */
    #define set_code(function, code) Py_XSETREF(((__pyx_CyFunctionObject *)(function))->func_code, Py_NewRef(code))

    static void set_next(PyTypeObject *type, PyObject *(*next)(PyObject *)) { type->tp_iternext = next; }

    static void take_anext(PyTypeObject *type, PyTypeObject *base)
    {
        type->tp_as_async->am_anext = base->tp_as_async->am_anext;
    }
    """
    void raise_stop(value)
    void set_code(object function, object code)
    void set_next(PyTypeObject *type, PyObject *(*next)(PyObject *) except? NULL)
    void take_anext(PyTypeObject *type, PyTypeObject *base)


@cython.freelist(32)
cdef class Call:
    """A coroutine of a file's method.

    Attributes:
        file: whose method it is; None as soon as it is awaited.
        first: and second: its arguments.
        running: the coroutine that does what cannot be done at once.
    """

    cdef Kind kind
    cdef object file, first, second
    cdef object running

    @property
    def __class__(self):
        """The class of Python's coroutines, for who asks by isinstance; `inspect.iscoroutine` does."""
        return CoroutineType

    @property
    def __name__(self):
        """Of the method."""
        return NAMES[self.kind]

    @property
    def __qualname__(self):
        """The same."""
        return NAMES[self.kind]

    # See `types.CoroutineType`, and `inspect.getcoroutinestate`.

    @property
    def cr_await(self):
        """What it waits for."""
        return self.running

    @property
    def cr_code(self):
        """Of the coroutine that is running; else of one that stands for it."""
        if self.running is None:
            return stand_in.__code__.replace(co_name=NAMES[self.kind], co_qualname=NAMES[self.kind])
        return self.running.cr_code

    @property
    def cr_frame(self):
        """The same; None when it is over."""
        if self.running is not None:
            return self.running.cr_frame
        if self.file is None:
            return None
        coroutine = stand_in()
        frame = coroutine.cr_frame
        coroutine.close()
        return frame

    @property
    def cr_origin(self):
        """Not tracked."""
        return None

    @property
    def cr_running(self):
        """Whether it is executing."""
        return self.running is not None and self.running.cr_running

    @property
    def cr_suspended(self):
        """Whether it waits."""
        return self.running is not None and not self.running.cr_running

    def __await__(self):
        if self.running is not None:
            raise RuntimeError("coroutine is being awaited already")
        return self

    def __iter__(self):
        return self

    def __next__(self):
        raise NotImplementedError  # replaced below

    def send(self, value, /):
        """See `coroutine.send`."""
        if self.running is None:
            return next(self)
        return self.forward(self.running.send, value)

    def throw(self, *exception):
        """See `coroutine.throw`."""
        if self.running is None:
            self.file = None
            raise exception[0] if len(exception) < 2 or exception[1] is None else exception[1]
        return self.forward(self.running.throw, *exception)

    def forward(self, method, *arguments):
        try:
            return method(*arguments)
        except BaseException:
            self.running = None
            raise

    def close(self):
        """See `coroutine.close`."""
        self.file = None
        if self.running is not None and self.running.cr_running:
            raise ValueError("coroutine already executing")
        running, self.running = self.running, None
        if running is not None:
            running.close()

    cdef answer(self):
        """What there is to answer at once; else MISS, and there is a coroutine running."""
        file, self.file = self.file, None
        if self.kind == READ:
            return (<Window>file).read_here(self)
        if self.kind == NEXT_LINE:
            return (<Lines>file).next_here(self)
        if self.kind == SEEK:
            return (<Window>file).seek_here(self)
        if self.kind == WRITE:
            return (<Window>file).write_here(self)
        if self.kind == READLINE:
            return (<Window>file).readline_here(self)
        if self.kind == OPEN:
            return (<Context>file).open_here(self)
        if self.kind == CLOSE:
            return (<Window>file).close_here(self)
        if self.kind == EXIT:
            return (<Context>file).close_here(self)
        if self.kind == LOCK:
            return (<Lock>file).lock_here(self)
        (<Lock>file).release()
        return None


@cython.final
cdef class Owed(Call):
    """A call that warns if it was never awaited, as any coroutine does.  `async for` always awaits, and has no time."""

    def __dealloc__(self):
        # The file is still there, because its own deallocation does not come here.
        if self.file is not None:
            warn(f"coroutine {self.__name__!r} was never awaited", RuntimeWarning, stacklevel=1)


cdef inline Call call(file, Kind kind, first=None, second=None):
    cdef Call self = Owed.__new__(Owed)
    self.kind = kind
    self.file = file
    self.first = first
    self.second = second
    return self


cdef PyObject *next_of_call(PyObject *raw) except? NULL:
    cdef Call self = <Call>raw
    cdef PyObject *result = NULL
    if self.running is None:
        if self.file is None:
            raise RuntimeError("cannot reuse already awaited coroutine")
        value = self.answer()
        if value is not MISS:
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
    """Have functions that return calls pass for coroutine functions: `inspect.iscoroutinefunction` tells them so."""
    for function in functions:
        set_code(function, function.__code__.replace(co_flags=function.__code__.co_flags | CO_COROUTINE))


# Of Python, and so of its type.
code_of_stand_in = {}
exec(compile("async def stand_in(): pass", __file__, "exec"), code_of_stand_in)
cdef object stand_in = code_of_stand_in.pop("stand_in")
set_next(<PyTypeObject *>Call, next_of_call)
set_next(<PyTypeObject *>Owed, next_of_call)
Coroutine.register(Call)
