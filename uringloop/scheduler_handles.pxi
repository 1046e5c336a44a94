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

    static inline int is_context_empty(PyObject *context)
    {
        return PyContext_Type.tp_as_mapping->mp_length(context) == 0;
    }

    /* Whether a copy of this thread's current context would be empty. */
    static inline int is_current_context_empty(void)
    {
        PyObject *current = PyThreadState_Get()->context;
        return current == NULL || is_context_empty(current);
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
    static inline int is_context_unused(PyObject *context)
    {
        return is_unique(context) && PyContext_CheckExact(context) && is_context_empty(context) &&
               !has_weak_references(context);
    }

    static inline PyObject *pack(PyObject *const *items, Py_ssize_t count)
    {
        PyObject *tuple = PyTuple_New(count);
        if (tuple == NULL)
            return NULL;
        for (Py_ssize_t place = 0; place < count; place++) {
            Py_INCREF(items[place]);
            PyTuple_SET_ITEM(tuple, place, items[place]);
        }
        return tuple;
    }

    /* Calls by a tuple.  Each callback comes here, so the interpreter's own checks on the way are left out. */
    static inline PyObject *call(PyObject *callable, PyObject *arguments)
    {
        PyTypeObject *type = Py_TYPE(callable);
        if (PyType_HasFeature(type, Py_TPFLAGS_HAVE_VECTORCALL)) {
            vectorcallfunc function;
            memcpy(&function, (char *)callable + type->tp_vectorcall_offset, sizeof(function));
            if (function != NULL)
                return function(callable, &PyTuple_GET_ITEM(arguments, 0), (size_t)PyTuple_GET_SIZE(arguments), NULL);
        }
        return PyObject_Call(callable, arguments, NULL);
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
    bint is_unique(PyObject *object) noexcept
    bint raise_flag(PyObject **slot)
    PyObject *load_slot(PyObject *const *slot)
    void store_slot(PyObject **slot, PyObject *value)
    PyObject *Py_True
    PyObject *Py_None
    unsigned int type_version(PyTypeObject *type)
    bint has_weak_references(PyObject *object) noexcept
    bint is_current_context_empty() noexcept
    bint is_context_unused(PyObject *context) noexcept
    # `except` would have Cython look for an exception each time.
    PyObject *pack(PyObject **items, Py_ssize_t count) except NULL
    PyObject *call(PyObject *callable, PyObject *arguments) noexcept
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


cdef inline value_of(handle, Py_ssize_t offset):
    """Return what a slot holds; None if a tool has emptied it."""
    cdef PyObject *value = slot(handle, offset)[0]
    return None if value == NULL else <object>value


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
    if type(handle) is Handle or type(handle) is TimerHandle:
        return value_of(handle, CALLBACK)
    return None if handle._cancelled else handle._callback


cdef struct Freelist:
    # Handles that have run, without another reference: filling them again is cheaper than freeing and making.  They
    # refer to no object, not even the loop: the garbage collector could not see such a reference.  An empty context
    # stays with its handle, for a call in an empty one: most of a copy's cost is the collector's.
    PyObject **handles
    int count, capacity


cdef inline PyObject *take_handle(PyTypeObject *type, Freelist *freelist) except NULL:
    """Return a new reference to a handle without callback, arguments, loop and context."""
    if freelist.count > 0:
        freelist.count -= 1
        return freelist.handles[freelist.count]
    return make_handle(type)


cdef PyObject *make_handle(PyTypeObject *type) except NULL:
    cdef PyObject *handle = PyType_GenericAlloc(type, 0)
    set_slot(<object>handle, CANCELLED, False)
    set_slot(<object>handle, TRACEBACK, None)
    set_slot(<object>handle, REPR, None)
    return handle


cdef inline bint is_unknown(PyObject *handle) noexcept:
    """Return whether the caller's reference to a handle is the last."""
    return is_unique(handle) and not has_weak_references(handle)


cdef inline bint is_of_debug_mode(PyObject *handle) noexcept:
    return IS_FREE_THREADED and load_slot(slot(<object>handle, TRACEBACK)) != Py_None


cdef void give_handle(PyObject *handle, Freelist *freelist) noexcept:
    """Take the caller's reference to a handle that has run; keep it, if that is the last."""
    if is_unknown(handle) and not has_flag(<object>handle, CANCELLED) and not is_of_debug_mode(handle):
        if freelist.count < freelist.capacity or grow_freelist(freelist):
            set_slot(<object>handle, CALLBACK, None)  # for `repr`, should anybody find it
            empty_slot(<object>handle, ARGS)
            empty_slot(<object>handle, LOOP)
            if slot(<object>handle, CONTEXT)[0] != NULL and not is_context_unused(slot(<object>handle, CONTEXT)[0]):
                empty_slot(<object>handle, CONTEXT)
            # An object that this freed may have run handles.
            if freelist.count < freelist.capacity:
                freelist.handles[freelist.count] = handle
                freelist.count += 1
                return
    Py_XDECREF(handle)


cdef void give_cancelled_timer(PyObject *handle, Freelist *freelist) noexcept:
    """Do the same with a cancelled timer that has left the heap."""
    if handle.ob_type == timer_handle_type and is_unknown(handle):
        set_slot(<object>handle, CANCELLED, False)
        set_slot(<object>handle, REPR, None)
    give_handle(handle, freelist)


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


cdef bint cancel_handle(handle) except -1:
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


class CompiledTimerHandle(asyncio.TimerHandle):
    """See `asyncio.TimerHandle`."""

    __slots__ = ()


cdef object cancel(handle, PyObject *_):
    cancel_handle(handle)


cdef object cancel_of_timer(handle, PyObject *_):
    if IS_FREE_THREADED:
        cancel_shared_timer(handle)
    else:
        cancel_timer(handle)


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
