# A class that tools such as nest_asyncio may replace in its module, looked up again only after a change of that module.

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint64_t

cdef extern from *:
    """
    #if PY_VERSION_HEX < 0x030E0000
    /* A number that changes with a dict. */
    static inline uint64_t dict_version(PyObject *dict, PyObject *name)
    {
        (void)name;
    #pragma GCC diagnostic push
    #pragma GCC diagnostic ignored "-Wdeprecated-declarations"
        return ((PyDictObject *)dict)->ma_version_tag;
    #pragma GCC diagnostic pop
    }

    static inline int watch_item(PyObject *dict, PyObject *name)
    {
        (void)dict, (void)name;
        return 0;
    }

    #define keep_value(value) (value)

    /* A new reference to an item, or NULL without an exception. */
    static inline PyObject *find_item(PyObject *dict, PyObject *name)
    {
        return Py_XNewRef(PyDict_GetItemWithError(dict, name));
    }
    #else
    /* From Python 3.14 on a dict has no version, but tells of its changes.  An item that has changed once has no
     * version any more: it may change again at any time, in another thread. */
    #define WATCHED_MAX 4
    static struct { PyObject *dict, *name; int changed; } watched[WATCHED_MAX];
    static int watched_count;

    static int note_change(PyDict_WatchEvent event, PyObject *dict, PyObject *key, PyObject *value)
    {
        (void)event, (void)value;
        for (int i = 0; i < watched_count; i++)
            if (watched[i].dict == dict && (key == NULL || !PyUnicode_CheckExact(key) ||
                                            PyUnicode_Compare(key, watched[i].name) == 0))
                __atomic_store_n(&watched[i].changed, 1, __ATOMIC_SEQ_CST);
        return 0;
    }

    /* Called while the module is imported. */
    static int watch_item(PyObject *dict, PyObject *name)
    {
        static int watcher = -1;
        if (watcher < 0)
            watcher = PyDict_AddWatcher(note_change);
        if (watcher < 0 || watched_count == WATCHED_MAX || PyDict_Watch(watcher, dict) < 0) {
            PyErr_Clear();
            return -1;
        }
        watched[watched_count].dict = dict;
        watched[watched_count++].name = name;
        return 0;
    }

    static inline uint64_t dict_version(PyObject *dict, PyObject *name)
    {
        for (int i = 0; i < watched_count; i++)
            if (watched[i].name == name && watched[i].dict == dict)
                return !__atomic_load_n(&watched[i].changed, __ATOMIC_SEQ_CST);
        return 0;
    }

    /* For ever: another thread may be about to use the value when it is replaced. */
    #define keep_value(value) Py_NewRef(value)

    static inline PyObject *find_item(PyObject *dict, PyObject *name)
    {
        PyObject *item = NULL;
        (void)PyDict_GetItemRef(dict, name, &item);
        return item;
    }
    #endif

    /* Who sees the version sees its value. */
    #define load_known(version) __atomic_load_n(version, __ATOMIC_ACQUIRE)
    #define store_known(version, number) __atomic_store_n(version, number, __ATOMIC_RELEASE)
    #define load_value(value) __atomic_load_n(value, __ATOMIC_RELAXED)
    #define store_value(value, object) __atomic_store_n(value, object, __ATOMIC_RELAXED)
    """
    uint64_t load_known(const uint64_t *version)
    void store_known(uint64_t *version, uint64_t number)
    PyObject *load_value(PyObject *const *value)
    void store_value(PyObject **value, PyObject *object)
    uint64_t dict_version(PyObject *dict, PyObject *name)
    int watch_item(PyObject *dict, PyObject *name)
    PyObject *keep_value(PyObject *value)
    # Cython's own call reads the thread's state twice more, to count the recursion, and makes a new dict.
    object PyObject_Call(PyObject *callable, object arguments, object keywords)
    PyObject *find_item(PyObject *dict, PyObject *name) except? NULL


cdef struct Patched:
    # The module's names live for ever, and hold the value while their version is this.
    PyObject *names
    PyObject *name
    PyObject *value
    uint64_t version


cdef inline Patched patched(module, name):
    """Return what finds a name of a module by `call_patched`."""
    cdef Patched found
    names = vars(module)
    Py_INCREF(names)
    Py_INCREF(name)
    found.names, found.name, found.value, found.version = <PyObject *>names, <PyObject *>name, NULL, 0
    watch_item(found.names, found.name)
    return found


cdef inline object call_patched(Patched *patched, arguments, keywords):
    """Call the value that the name has now."""
    cdef uint64_t known = load_known(&patched.version)
    if dict_version(patched.names, patched.name) != known or known == 0:
        value = search(patched)
        return PyObject_Call(<PyObject *>value, arguments, keywords)
    # Without a reference of its own: that would be an atomic count, which all threads share.
    return PyObject_Call(load_value(&patched.value), arguments, keywords)


cdef inline object search(Patched *patched):
    cdef uint64_t version = dict_version(patched.names, patched.name)
    cdef PyObject *found = find_item(patched.names, patched.name)
    if found == NULL:
        raise AttributeError(<object>patched.name)
    value = <object>found
    Py_DECREF(value)
    # Loops of several threads share this: without a version nothing is kept in it.
    if version != 0:
        store_value(&patched.value, keep_value(found))
        store_known(&patched.version, version)
    return value
