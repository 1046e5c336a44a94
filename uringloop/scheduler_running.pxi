"""How a handle runs: its callback in its context, and the report of an exception; the time."""

cdef extern from *:
    """
    /* As `time.monotonic` computes it. */
    static inline double monotonic_s(void)
    {
        return (double)monotonic_ns() / 1e9;
    }

    /* Whether an object's dict is empty.  To ask this of an older Python would make the dict. */
    static inline int has_no_attributes(PyObject *object)
    {
    #if PY_VERSION_HEX >= 0x030D0000
        PyObject **dict = _PyObject_GetDictPtr(object);
        return dict == NULL || *dict == NULL || PyDict_GET_SIZE(*dict) == 0;
    #else
        (void)object;
        return 0;
    #endif
    }
    """
    double monotonic_s() noexcept
    bint has_no_attributes(object object) noexcept


cdef int run_handle(Scheduler self, PyObject *handle, Freelist *freelist) except -1:
    """Run a handle of this module, and take its reference."""
    cdef PyObject *context = slot(<object>handle, CONTEXT)[0]
    cdef PyObject *callback = slot(<object>handle, CALLBACK)[0]
    cdef PyObject *args = slot(<object>handle, ARGS)[0]
    cdef PyObject *result
    if has_flag(<object>handle, CANCELLED):
        Py_XDECREF(handle)
        return 0
    if callback == NULL or args == NULL or type(<object>args) is not tuple or context == NULL:
        return run_by_itself(handle)  # a tool has made it, or changed it
    if PyContext_Enter(context) < 0:
        PyErr_Clear()
        return run_by_itself(handle)  # which says it in asyncio's words
    # If the callback cancels or changes the handle, that drops its references.
    Py_INCREF(<object>context)
    Py_INCREF(<object>callback)
    Py_INCREF(<object>args)
    result = call(callback, args)
    # An exception handler may run in this context: it is left first.
    if PyContext_Exit(context) < 0:
        Py_XDECREF(result)
        result = NULL
    Py_XDECREF(args)
    Py_XDECREF(callback)
    Py_XDECREF(context)
    if result == NULL:
        return fail(self, handle)
    Py_XDECREF(result)
    give_handle(handle, freelist)
    return 0


cdef int fail(Scheduler self, PyObject *raw) except -1:
    """Report the exception that is set, unless it ends the loop; take the handle's reference."""
    handle = <object>raw
    Py_XDECREF(raw)
    try:
        raise_set()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        report(self, handle, error)
    return 0


cdef int run_by_itself(PyObject *raw) except -1:
    """Run a handle by its own `_run`, and take its reference."""
    handle = <object>raw
    Py_XDECREF(raw)
    if not handle._cancelled:
        handle._run()
    return 0


cdef int raise_set() except -1:
    """Raise the exception that C code has set."""
    if PyErr_Occurred() == NULL:
        raise SystemError("a callback failed without an exception")
    return -1


cdef report(Scheduler self, handle, error):
    """Report a callback that raised, as `asyncio.Handle` does."""
    callback = value_of(handle, CALLBACK)
    args = value_of(handle, ARGS)
    context = {
        "message": f"Exception in callback {describe_callback(callback, args)}",
        "exception": error,
        "handle": handle,
    }
    source_traceback = value_of(handle, TRACEBACK)
    if source_traceback:
        context["source_traceback"] = source_traceback
    self.call_exception_handler(context)


cdef bint look_at_time(Scheduler self) except -1:
    self.usual_version = 0
    if getattr(type(self), "time", None) is not time.monotonic:
        return False
    self.usual_version = type_version((<PyObject *>self).ob_type)
    return has_no_attributes(self)
