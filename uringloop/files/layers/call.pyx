"""`FileCall`: the coroutine that a file's method returns.

Nothing happens before it is awaited.  Then its owner answers at once whatever its buffer or the page cache can answer.
For everything else the owner makes a coroutine of a Python class, and the call forwards to it.  If the budget is spent,
the owner is asked again after the other callbacks that are ready, without such a coroutine.
"""

from warnings import warn

cimport cython
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF

from ...call cimport (
    IS_FREE_THREADED, PYGEN_NEXT, PYGEN_RETURN, Call, Py_None, PyIter_Send, PySendResult, set_next, stop,
)

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


cdef class CallOwner:
    """The base of everything whose methods return a `FileCall`."""

    cdef int check_caller(self) except -1:
        """Refuse a call of another thread than that of the loop, if there is one; called where there is no GIL."""
        return 0

    cdef answer(self, FileCall call):
        """Return the result of a call if it is there at once.

        Else set `call.running` and return the call: a coroutine, or this owner, to be asked again after others ran.
        """
        raise NotImplementedError

    cdef answer_again(self, FileCall call):
        """Answer a call that has let other callbacks run, as `answer`."""
        raise NotImplementedError

    cdef give_up(self):
        """Undo what `answer` did for a call that will not be answered again."""


cdef class FileCall(Call):
    """A coroutine of a file's method.

    The owner is a `CallOwner`, and None as soon as the call is awaited.  What runs then is a coroutine, or
    the owner, while the call lets other callbacks run.
    """

    cdef str name(self):
        return NAMES[self.kind]

    def __next__(self):
        raise NotImplementedError  # replaced below

    def send(self, value, /):
        """Run to the next suspension; see `coroutine.send`."""
        if self.running is None or isinstance(self.running, CallOwner):
            return next(self)
        return self.forward(self.running.send, value)

    def throw(self, *exception):
        """Raise an exception where the call is suspended; see `coroutine.throw`."""
        self.end_turn()
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
        self.end_turn()
        if self.running is not None and self.running.cr_running:
            raise ValueError("coroutine already executing")
        running, self.running = self.running, None
        if running is not None:
            running.close()

    cdef end_turn(self):
        """Tell an owner that waits to be asked again that it will not be."""
        if isinstance(self.running, CallOwner):
            owner, self.running = self.running, None
            (<CallOwner>owner).give_up()


@cython.final
cdef class OwedCall(FileCall):
    """A call that warns if it is never awaited, as any coroutine.  `async for` always awaits, and saves the cost."""

    def __dealloc__(self):
        # Both are still there, because FileCall's own deallocation comes later.
        self.end_turn()
        if self.owner is not None:
            warn(f"coroutine {self.name()!r} was never awaited", RuntimeWarning, stacklevel=1)


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
    if self.running is None:
        owner = self.owner
        if owner is None:
            raise RuntimeError("cannot reuse already awaited coroutine")
        self.owner = None
        if IS_FREE_THREADED:
            (<CallOwner>owner).check_caller()
        value = (<CallOwner>owner).answer(self)
        if value is not self:
            stop(value)
            return NULL
    elif isinstance(self.running, CallOwner):
        owner, self.running = self.running, None
        value = (<CallOwner>owner).answer_again(self)
        if value is not self:
            stop(value)
            return NULL
    running = self.running  # a `close` within drops the attribute
    if isinstance(running, CallOwner):
        Py_INCREF(None)
        return Py_None
    cdef PySendResult status = PyIter_Send(<PyObject *>running, Py_None, &result)
    if status == PYGEN_NEXT:
        return result
    self.running = None
    if status == PYGEN_RETURN:
        value = <object>result
        Py_DECREF(value)
        stop(value)
    return NULL


set_next(<PyTypeObject *>FileCall, next_of_call)
set_next(<PyTypeObject *>OwedCall, next_of_call)
