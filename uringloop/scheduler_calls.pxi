"""The methods that every callback comes by, which read their arguments themselves.

Cython reads keywords and `*args` with more instructions than all else takes that `call_soon` does.  These functions
know the usual forms of a call.  They leave the others, debug mode and foreign threads to the methods of the same names.
"""

cdef extern from *:
    """
    /* Adds a method to a class; it takes the place of the one with this name. */
    static int add_method(PyObject *class, const char *name, void *function, int flags, const char *doc)
    {
        PyTypeObject *type = (PyTypeObject *)class;
        PyMethodDef *definition = PyMem_Malloc(sizeof(*definition)); /* which lives as long as the class: for ever */
        PyObject *method;
        int result;
        if (definition == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        *definition = (PyMethodDef){name, (PyCFunction)function, flags, doc};
        method = PyDescr_NewMethod(type, definition);
        if (method == NULL)
            return -1;
        if (type->tp_flags & Py_TPFLAGS_HEAPTYPE) {
            result = PyObject_SetAttrString(class, name, method);
        } else {
            result = PyDict_SetItemString(type->tp_dict, name, method);
            PyType_Modified(type);
        }
        Py_DECREF(method);
        return result;
    }

    /* Calls a method in its general form. */
    static PyObject *call_generally(PyObject *method, PyObject *self, PyObject *const *arguments, Py_ssize_t count,
                                    PyObject *names)
    {
        Py_ssize_t size = count + (names == NULL ? 0 : PyTuple_GET_SIZE(names));
        PyObject **all = PyMem_Malloc((size_t)(size + 1) * sizeof(*all));
        PyObject *result;
        if (all == NULL)
            return PyErr_NoMemory();
        all[0] = self;
        for (Py_ssize_t place = 0; place < size; place++)
            all[place + 1] = arguments[place];
        result = PyObject_Vectorcall(method, all, (size_t)count + 1, names);
        PyMem_Free(all);
        return result;
    }

    /* Whether these are the names of no keyword argument, or of this one alone.  asyncio's own is not interned. */
    static inline int has_no_other_name(PyObject *names, const char *name, size_t length)
    {
        PyObject *given;
        if (names == NULL)
            return 1;
        if (PyTuple_GET_SIZE(names) != 1)
            return 0;
        given = PyTuple_GET_ITEM(names, 0);
        return PyUnicode_IS_COMPACT_ASCII(given) && (size_t)PyUnicode_GET_LENGTH(given) == length &&
               memcmp(PyUnicode_DATA(given), name, length) == 0;
    }
    #define takes_context(names) has_no_other_name(names, "context", 7)
    #define takes_name(names) has_no_other_name(names, "name", 4)
    """
    int add_method(object type, const char *name, void *function, int flags, const char *doc) except -1
    PyObject *call_generally(
        object method, object self, PyObject **arguments, Py_ssize_t count, PyObject *names
    ) except NULL
    bint takes_context(PyObject *names) noexcept
    bint takes_name(PyObject *names) noexcept
    int METH_NOARGS, METH_FASTCALL, METH_KEYWORDS

cdef object general_call_soon = Scheduler.call_soon
cdef object general_call_later = Scheduler.call_later
cdef object general_create_task = Scheduler.create_task


cdef inline bint is_special(Scheduler self) noexcept:
    """Return whether calls are checked, or may come from another thread than the loop's."""
    return self._debug or IS_FREE_THREADED and load_thread(&self.now.thread) != this_thread()


cdef PyObject *call_soon(Scheduler self, PyObject **arguments, Py_ssize_t count, PyObject *names) except NULL:
    if is_special(self) or count < 1 or not takes_context(names):
        return call_generally(general_call_soon, self, arguments, count, names)
    self.check()
    cdef PyObject *handle = self.make(
        handle_type, &self.freelist, arguments[0], pack(arguments + 1, count - 1),
        NULL if names == NULL else arguments[count],
    )
    self.make_ready(<object>handle)
    return handle


cdef PyObject *call_later(Scheduler self, PyObject **arguments, Py_ssize_t count, PyObject *names) except NULL:
    cdef double when
    if (
        is_special(self) or count < 2 or not takes_context(names) or not self.has_usual_time()
        or type(<object>arguments[0]) is not float and type(<object>arguments[0]) is not int
    ):
        return call_generally(general_call_later, self, arguments, count, names)
    self.check()
    when = monotonic_s() + <double><object>arguments[0]
    if when != when:
        return call_generally(general_call_later, self, arguments, count, names)
    cdef PyObject *handle = self.make(
        timer_handle_type, &self.free_timers, arguments[1], pack(arguments + 2, count - 2),
        NULL if names == NULL else arguments[count],
    )
    self.add_timer(<object>handle, when, when)
    return handle


cdef object create_future(Scheduler self, PyObject *_):
    return call_patched(&FUTURE, (), self.keywords or self.make_keywords())


cdef object get_debug(Scheduler self, PyObject *_):
    return self._debug


cdef PyObject *create_task(Scheduler self, PyObject **arguments, Py_ssize_t count, PyObject *names) except NULL:
    # asyncio.create_task gives a name of None.
    if (
        self._debug or self._task_factory is not None or count != 1 or not takes_name(names)
        or names != NULL and <object>arguments[1] is not None
    ):
        return call_generally(general_create_task, self, arguments, count, names)
    self.check()
    task = call_patched(&TASK, (<object>arguments[0],), self.keywords or self.make_keywords())
    Py_INCREF(task)
    return <PyObject *>task


add_method(
    Scheduler, b"call_soon", <void *>call_soon, METH_FASTCALL | METH_KEYWORDS,
    b"call_soon($self, callback, *args, context=None)\n--\n\nSee `asyncio.loop.call_soon`.",
)
add_method(
    Scheduler, b"call_later", <void *>call_later, METH_FASTCALL | METH_KEYWORDS,
    b"call_later($self, delay, callback, *args, context=None)\n--\n\nSee `asyncio.loop.call_later`; delay in seconds.",
)
add_method(
    Scheduler, b"create_task", <void *>create_task, METH_FASTCALL | METH_KEYWORDS,
    b"create_task($self, coro, **keywords)\n--\n\nSee `asyncio.loop.create_task`.",
)
add_method(
    Scheduler, b"create_future", <void *>create_future, METH_NOARGS,
    b"create_future($self)\n--\n\nSee `asyncio.loop.create_future`.",
)
add_method(
    Scheduler, b"get_debug", <void *>get_debug, METH_NOARGS,
    b"get_debug($self)\n--\n\nSee `asyncio.loop.get_debug`; each new future calls it.",
)
add_method(
    CompiledHandle, b"cancel", <void *>cancel, METH_NOARGS, b"cancel($self)\n--\n\nSee `asyncio.Handle.cancel`.",
)
add_method(
    CompiledTimerHandle, b"cancel", <void *>cancel_of_timer, METH_NOARGS,
    b"cancel($self)\n--\n\nSee `asyncio.Handle.cancel`.",
)
