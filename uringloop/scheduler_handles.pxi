"""The handles: asyncio's `Handle` and `TimerHandle` with a compiled `cancel`, and the free lists that they come from.

They are made without their Python `__init__`: their slots are filled in directly, at the offsets that the running
Python gives them.
"""

cdef extern from *:
    """
    #include <structmember.h>

    /* Where a class with __slots__ keeps one of them; -1 with an exception if it is no slot. */
    static Py_ssize_t slot_offset(PyObject *type, const char *name)
    {
        Py_ssize_t offset = -1;
        PyObject *descriptor = PyObject_GetAttrString(type, name);
        if (descriptor == NULL)
            return -1;
        if (Py_TYPE(descriptor) == &PyMemberDescr_Type)
            offset = ((PyMemberDescrObject *)descriptor)->d_member->offset;
        else
            PyErr_Format(PyExc_ImportError, "asyncio's handles have no slot %s any more", name);
        Py_DECREF(descriptor);
        return offset;
    }

    static int has_weak_references(PyObject *handle)
    {
        return *(PyObject **)((char *)handle + Py_TYPE(handle)->tp_weaklistoffset) != NULL;
    }

    /* Another number after each change of a class or of its bases; 0 until an attribute is looked up. */
    static unsigned int type_version(PyTypeObject *type)
    {
        return type->tp_version_tag;
    }
    """
    unsigned int type_version(PyTypeObject *type)
    bint has_weak_references(object handle)
    Py_ssize_t slot_offset(object type, const char *name) except -1
    PyObject *PyType_GenericAlloc(PyTypeObject *type, Py_ssize_t items) except NULL

cdef enum:
    # As many handles are kept for the next ones: a thread that keeps the GIL for its 5 ms schedules more than that.
    # They take 3 MB; if so many never wait at once, so many are never made.
    SPARES_MAX = 32768

cdef Py_ssize_t CALLBACK = slot_offset(asyncio.Handle, b"_callback")
cdef Py_ssize_t ARGS = slot_offset(asyncio.Handle, b"_args")
cdef Py_ssize_t CANCELLED = slot_offset(asyncio.Handle, b"_cancelled")
cdef Py_ssize_t LOOP = slot_offset(asyncio.Handle, b"_loop")
cdef Py_ssize_t TRACEBACK = slot_offset(asyncio.Handle, b"_source_traceback")
cdef Py_ssize_t REPR = slot_offset(asyncio.Handle, b"_repr")
cdef Py_ssize_t CONTEXT = slot_offset(asyncio.Handle, b"_context")
cdef Py_ssize_t WHEN = slot_offset(asyncio.TimerHandle, b"_when")
cdef Py_ssize_t SCHEDULED = slot_offset(asyncio.TimerHandle, b"_scheduled")


cdef inline PyObject **slot(handle, Py_ssize_t offset) noexcept:
    return <PyObject **>(<char *><PyObject *>handle + offset)


cdef inline void set_slot(handle, Py_ssize_t offset, value) noexcept:
    cdef PyObject *old = slot(handle, offset)[0]
    Py_INCREF(value)
    slot(handle, offset)[0] = <PyObject *>value
    Py_XDECREF(old)


cdef inline void empty_slot(handle, Py_ssize_t offset) noexcept:
    cdef PyObject *old = slot(handle, offset)[0]
    slot(handle, offset)[0] = NULL
    Py_XDECREF(old)


cdef inline bint is_cancelled(handle) except -1:
    if type(handle) is Handle or type(handle) is TimerHandle:
        return <object>slot(handle, CANCELLED)[0] is True
    return handle._cancelled


cdef struct Spares:
    # Handles that have run and that nobody else refers to: cheaper to fill in again than to free and make.  They refer
    # to nothing, the loop among it, which the garbage collector could not see.
    PyObject **handles
    int count, capacity


cdef make_handle_of(type, Spares *spares):
    """One whose callback, arguments, loop and context are yet to be set."""
    cdef PyObject *raw
    if spares.count > 0:
        spares.count -= 1
        raw = spares.handles[spares.count]
        handle = <object>raw
        Py_XDECREF(raw)
        return handle
    raw = PyType_GenericAlloc(<PyTypeObject *>type, 0)
    handle = <object>raw
    Py_XDECREF(raw)
    set_slot(handle, CANCELLED, False)
    set_slot(handle, TRACEBACK, None)
    set_slot(handle, REPR, None)
    return handle


cdef void spare_handle(handle, Spares *spares) noexcept:
    """Keep one that has run, if the caller's reference is the last."""
    if Py_REFCNT(handle) > 1 or has_weak_references(handle) or <object>slot(handle, CANCELLED)[0] is True:
        return
    if spares.count == spares.capacity and not grow_spares(spares):
        return
    set_slot(handle, CALLBACK, None)  # for `repr`, should anybody find it
    empty_slot(handle, ARGS)
    empty_slot(handle, LOOP)
    empty_slot(handle, CONTEXT)
    # What emptying them freed may have run handles.
    if spares.count < spares.capacity:
        Py_INCREF(handle)
        spares.handles[spares.count] = <PyObject *>handle
        spares.count += 1


cdef bint grow_spares(Spares *spares) noexcept:
    """Whether there is room for more."""
    cdef int capacity = spares.capacity * 2 or 64
    if capacity > SPARES_MAX:
        return False
    cdef void *larger = realloc(spares.handles, capacity * sizeof(PyObject *))
    if larger == NULL:
        return False
    spares.handles = <PyObject **>larger
    spares.capacity = capacity
    return True


cdef void drop_spares(Spares *spares) noexcept:
    while spares.count > 0:
        spares.count -= 1
        Py_XDECREF(spares.handles[spares.count])
    free(spares.handles)


cdef bint cancel_handle(handle):
    """Whether it was not cancelled before."""
    if <object>slot(handle, CANCELLED)[0] is True:
        return False
    set_slot(handle, CANCELLED, True)
    if (<Scheduler?><object>slot(handle, LOOP)[0])._debug:
        # What it was is still told of a cancelled one.
        set_slot(handle, REPR, repr(handle))
    set_slot(handle, CALLBACK, None)
    set_slot(handle, ARGS, None)
    return True


class CompiledHandle(asyncio.Handle):
    """See `asyncio.Handle`."""

    __slots__ = ()

    def cancel(self):
        cancel_handle(self)


class CompiledTimerHandle(asyncio.TimerHandle):
    """See `asyncio.TimerHandle`."""

    __slots__ = ()

    def cancel(self):
        if cancel_handle(self):
            (<Scheduler>slot(self, LOOP)[0]).count_cancelled(self)


CompiledHandle.__name__ = "Handle"
CompiledTimerHandle.__name__ = "TimerHandle"
cdef object Handle = CompiledHandle
cdef object TimerHandle = CompiledTimerHandle

cdef PyTypeObject *handle_type = <PyTypeObject *>CompiledHandle
cdef PyTypeObject *timer_handle_type = <PyTypeObject *>CompiledTimerHandle
cdef unsigned int known_version, known_timer_version  # 0 if they are to be looked at each time


cdef inline bint run_is_replaced() except -1:
    """Whether a tool, as a monitor of slow callbacks, has replaced `Handle._run`: then each handle is run by that."""
    if type_version(handle_type) == known_version != 0 and type_version(timer_handle_type) == known_timer_version != 0:
        return False
    return look_at_run()


cdef bint look_at_run() except -1:
    global known_version, known_timer_version
    known_version = known_timer_version = 0
    if not handles_are_run_as_usual(Handle) or not handles_are_run_as_usual(TimerHandle):
        return True
    known_version = type_version(handle_type)
    known_timer_version = type_version(timer_handle_type)
    return False
