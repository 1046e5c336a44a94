"""The handles: asyncio's `Handle` and `TimerHandle` with a compiled `cancel`, and their free lists.

They are made without their Python `__init__`: their slots are filled directly, at the offsets of the running Python.
"""

cdef extern from *:
    """
    #include <structmember.h>

    /* The offset of a slot in the objects of a class; -1 with an exception if it is no slot. */
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

    static int has_weak_references(PyObject *object)
    {
        return *(PyObject **)((char *)object + Py_TYPE(object)->tp_weaklistoffset) != NULL;
    }

    /* Whether a copy of this thread's current context would be empty. */
    static int is_current_context_empty(void)
    {
        PyObject *current = PyThreadState_Get()->context;
        return current == NULL || PyObject_Size(current) == 0;
    }

    /* Whether the caller has the only reference, which no other thread can copy then. */
    static int is_unique(PyObject *object)
    {
    #if defined(Py_GIL_DISABLED) && PY_VERSION_HEX >= 0x030E0000
        return PyUnstable_Object_IsUniquelyReferenced(object);
    #else
        return Py_REFCNT(object) == 1;
    #endif
    }

    /* Set a flag, which any thread may do; return whether it was not set. */
    static int raise_flag(PyObject **slot)
    {
    #ifdef Py_GIL_DISABLED
        return __atomic_exchange_n(slot, Py_True, __ATOMIC_SEQ_CST) != Py_True;
    #else
        PyObject *old = *slot;
        *slot = Py_NewRef(Py_True);
        Py_XDECREF(old);
        return old != Py_True;
    #endif
    }

    #define load_slot(slot) __atomic_load_n(slot, __ATOMIC_RELAXED)
    #define store_slot(slot, value) __atomic_store_n(slot, value, __ATOMIC_RELEASE)

    /* Whether a context is as a new one, and no other object knows it. */
    static int is_context_unused(PyObject *context)
    {
        return PyContext_CheckExact(context) && is_unique(context) && PyObject_Size(context) == 0 &&
               !has_weak_references(context);
    }

    /* A number that changes with the class and its bases; 0 before the first look-up of an attribute. */
    static unsigned int type_version(PyTypeObject *type)
    {
        return __atomic_load_n(&type->tp_version_tag, __ATOMIC_RELAXED);
    }

    #define load_version(version) __atomic_load_n(version, __ATOMIC_RELAXED)
    #define store_version(version, value) __atomic_store_n(version, value, __ATOMIC_RELAXED)
    """
    unsigned int load_version(const unsigned int *version)
    void store_version(unsigned int *version, unsigned int value)
    bint is_unique(object object)
    bint raise_flag(PyObject **slot)
    PyObject *load_slot(PyObject *const *slot)
    void store_slot(PyObject **slot, PyObject *value)
    PyObject *Py_True
    PyObject *Py_None
    unsigned int type_version(PyTypeObject *type)
    bint has_weak_references(object object)
    bint is_current_context_empty()
    bint is_context_unused(PyObject *context)
    Py_ssize_t slot_offset(object type, const char *name) except -1
    PyObject *PyType_GenericAlloc(PyTypeObject *type, Py_ssize_t items) except NULL

cdef enum:
    # The most free handles to keep.  A thread that keeps the GIL for its 5 ms schedules more than that.  With their
    # contexts they take 11 MB, but only as many are made as wait at once.
    FREELIST_MAX = 65536

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
    store_slot(slot(handle, offset), <PyObject *>value)
    Py_XDECREF(old)


cdef inline bint has_flag(handle, Py_ssize_t offset) noexcept:
    return load_slot(slot(handle, offset)) == Py_True


cdef inline void empty_slot(handle, Py_ssize_t offset) noexcept:
    cdef PyObject *old = slot(handle, offset)[0]
    slot(handle, offset)[0] = NULL
    Py_XDECREF(old)


cdef inline bint is_cancelled(handle) except -1:
    if type(handle) is Handle or type(handle) is TimerHandle:
        return has_flag(handle, CANCELLED)
    return handle._cancelled


cdef inline object callback_of(handle):
    """Return the callback of a handle that is about to run; None: it was cancelled."""
    cdef PyObject *callback
    if type(handle) is Handle or type(handle) is TimerHandle:
        callback = slot(handle, CALLBACK)[0]
        return None if callback == NULL else <object>callback
    return None if handle._cancelled else handle._callback


cdef struct Freelist:
    # Handles that have run, without another reference: filling them again is cheaper than freeing and making.  They
    # refer to no object, not even the loop: the garbage collector could not see such a reference.  An empty context
    # stays with its handle, for a call in an empty one: most of a copy's cost is the collector's.
    PyObject **handles
    int count, capacity


cdef make_handle_of(PyTypeObject *type, Freelist *freelist):
    """Return a handle without callback, arguments, loop and context."""
    cdef PyObject *raw
    if freelist.count > 0:
        freelist.count -= 1
        raw = freelist.handles[freelist.count]
        handle = <object>raw
        Py_XDECREF(raw)
        return handle
    return new_handle(type)


cdef new_handle(PyTypeObject *type):
    cdef PyObject *raw = PyType_GenericAlloc(type, 0)
    handle = <object>raw
    Py_XDECREF(raw)
    set_slot(handle, CANCELLED, False)
    set_slot(handle, TRACEBACK, None)
    set_slot(handle, REPR, None)
    return handle


cdef void free_handle(handle, Freelist *freelist) noexcept:
    """Keep a handle that has run, if the caller's reference is the last."""
    if not is_unique(handle) or has_weak_references(handle) or has_flag(handle, CANCELLED):
        return
    if IS_FREE_THREADED and load_slot(slot(handle, TRACEBACK)) != Py_None:
        return  # it was made in debug mode
    if freelist.count == freelist.capacity and not grow_freelist(freelist):
        return
    set_slot(handle, CALLBACK, None)  # for `repr`, should anybody find it
    empty_slot(handle, ARGS)
    empty_slot(handle, LOOP)
    if not is_context_unused(slot(handle, CONTEXT)[0]):
        empty_slot(handle, CONTEXT)
    # An object that this freed may have run handles.
    if freelist.count < freelist.capacity:
        Py_INCREF(handle)
        freelist.handles[freelist.count] = <PyObject *>handle
        freelist.count += 1


cdef bint grow_freelist(Freelist *freelist) noexcept:
    """Return whether the free list has room."""
    cdef int capacity = freelist.capacity * 2 or 64
    if capacity > FREELIST_MAX:
        return False
    cdef void *larger = realloc(freelist.handles, capacity * sizeof(PyObject *))
    if larger == NULL:
        return False
    freelist.handles = <PyObject **>larger
    freelist.capacity = capacity
    return True


cdef void drop_freelist(Freelist *freelist) noexcept:
    while freelist.count > 0:
        freelist.count -= 1
        Py_XDECREF(freelist.handles[freelist.count])
    free(freelist.handles)


cdef bint cancel_handle(handle):
    """Cancel; return whether the handle was not cancelled before.  Any thread may do that."""
    if not raise_flag(slot(handle, CANCELLED)):
        return False
    if IS_FREE_THREADED and load_thread(&(<Scheduler?><object>slot(handle, LOOP)[0]).now.thread) != this_thread():
        # The thread that runs the loop may be about to call it: it drops the rest.
        return True
    if (<Scheduler?><object>slot(handle, LOOP)[0])._debug:
        # The repr of a cancelled handle still names its callback.
        set_slot(handle, REPR, repr(handle))
    if IS_FREE_THREADED:
        # Another thread may be looking at them.
        with cython.critical_section(handle):
            drop_call(handle)
    else:
        drop_call(handle)
    return True


cdef inline void drop_call(handle) noexcept:
    set_slot(handle, CALLBACK, None)
    set_slot(handle, ARGS, None)


cdef inline int cancel_timer(handle) except -1:
    """Cancel a timer, and count it if it is in the heap."""
    if cancel_handle(handle):
        (<Scheduler>slot(handle, LOOP)[0]).count_cancelled(handle)
    return 0


cdef int cancel_shared_timer(handle) except -1:
    """Do both at once, for the thread that may be taking the timer out of the heap."""
    with cython.critical_section(handle):
        cancel_timer(handle)
    return 0


class CompiledHandle(asyncio.Handle):
    """See `asyncio.Handle`."""

    __slots__ = ()

    def cancel(self):
        cancel_handle(self)


class CompiledTimerHandle(asyncio.TimerHandle):
    """See `asyncio.TimerHandle`."""

    __slots__ = ()

    def cancel(self):
        if IS_FREE_THREADED:
            cancel_shared_timer(self)
        else:
            cancel_timer(self)


CompiledHandle.__name__ = "Handle"
CompiledTimerHandle.__name__ = "TimerHandle"
cdef object Handle = CompiledHandle
cdef object TimerHandle = CompiledTimerHandle

# For all but comparisons: each new reference to a class is an atomic count that all threads share, without the GIL.
cdef PyTypeObject *handle_type = <PyTypeObject *>CompiledHandle
cdef PyTypeObject *timer_handle_type = <PyTypeObject *>CompiledTimerHandle
cdef unsigned int known_version, known_timer_version  # 0 if they are to be looked at each time


cdef inline bint run_is_replaced() except -1:
    """Return whether a tool, such as a monitor of slow callbacks, has replaced `Handle._run`."""
    if (
        type_version(handle_type) == load_version(&known_version) != 0
        and type_version(timer_handle_type) == load_version(&known_timer_version) != 0
    ):
        return False
    return look_at_run()


cdef bint look_at_run() except -1:
    # Loops of several threads share the versions.  Each is that of before the look, or none.
    if not handles_are_run_as_usual(Handle) or not handles_are_run_as_usual(TimerHandle):
        store_version(&known_version, 0)
        return True
    store_version(&known_version, type_version(handle_type))
    store_version(&known_timer_version, type_version(timer_handle_type))
    return False
