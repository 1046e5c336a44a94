# A class that tools such as nest_asyncio may replace in its module, looked up again only after a change of that module.

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint64_t

cdef extern from *:
    """
    /* A number that changes with a dict; 0 from Python 3.14 on, which keeps none. */
    static inline uint64_t dict_version(PyObject *dict)
    {
    #if PY_VERSION_HEX < 0x030E0000
    #pragma GCC diagnostic push
    #pragma GCC diagnostic ignored "-Wdeprecated-declarations"
        return ((PyDictObject *)dict)->ma_version_tag;
    #pragma GCC diagnostic pop
    #else
        (void)dict;
        return 0;
    #endif
    }

    /* A new reference to an item, or NULL without an exception. */
    static inline PyObject *find_item(PyObject *dict, PyObject *name)
    {
        PyObject *item = NULL;
    #if PY_VERSION_HEX >= 0x030D0000
        (void)PyDict_GetItemRef(dict, name, &item);
    #else
        item = Py_XNewRef(PyDict_GetItemWithError(dict, name));
    #endif
        return item;
    }
    """
    uint64_t dict_version(PyObject *dict)
    PyObject *find_item(PyObject *dict, PyObject *name) except? NULL


cdef struct Patched:
    # The module's names live for ever, and hold the value while their version is this.
    PyObject *names
    PyObject *name
    PyObject *value
    uint64_t version


cdef inline Patched patched(module, name):
    """Return what finds a name of a module by `look_up`."""
    cdef Patched found
    names = vars(module)
    Py_INCREF(names)
    Py_INCREF(name)
    found.names, found.name, found.value, found.version = <PyObject *>names, <PyObject *>name, NULL, 0
    return found


cdef inline object look_up(Patched *patched):
    """Return the value that the name has now."""
    if dict_version(patched.names) != patched.version or patched.version == 0:
        return search(patched)
    return <object>patched.value


cdef inline object search(Patched *patched):
    cdef PyObject *found = find_item(patched.names, patched.name)
    if found == NULL:
        raise AttributeError(<object>patched.name)
    value = <object>found
    Py_DECREF(value)
    # Loops of several threads share this: without versions nothing is kept in it.
    if dict_version(patched.names) != 0:
        patched.value, patched.version = found, dict_version(patched.names)
    return value
