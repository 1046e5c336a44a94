# cython: language_level=3
"""Objects to which no thread counts references.

Without the GIL a thread counts its references to another thread's object by atomic operations.  All threads that run
loops would so wait for the same few words: those of asyncio's classes and functions, and of this package's.  Python
counts no references to an immortal object.  These objects live as long as the process anyway.
"""

import gc
import sys
from types import (
    BuiltinFunctionType, ClassMethodDescriptorType, FunctionType, GetSetDescriptorType, MemberDescriptorType,
    MethodDescriptorType, ModuleType, WrapperDescriptorType,
)

from cpython.object cimport PyObject

from .tick cimport IS_FREE_THREADED

cdef extern from *:
    """
    /* Return whether the object has become immortal by this. */
    static int make_immortal(PyObject *object)
    {
    #if defined(Py_GIL_DISABLED) && SIZEOF_VOID_P > 4
        if (_Py_IsImmortal(object))
            return 0;
        if (_Py_IsOwnedByCurrentThread(object))
            Py_SET_REFCNT(object, PY_SSIZE_T_MAX);
        else
            /* If the owner counts at this moment, its count stands, and the object stays mortal. */
            __atomic_store_n(&object->ob_ref_local, UINT32_MAX, __ATOMIC_RELAXED);
        return 1;
    #else
        (void)object;
        return 0;
    #endif
    }
    """
    bint make_immortal(PyObject *object)


def share(*packages):
    """Make the functions, classes, methods, numbers and names of modules immortal; with the GIL, do nothing.

    Args:
        packages: names; those of their modules that are imported so far count.

    Returns:
        The number of objects that have become immortal.
    """
    cdef Py_ssize_t count = 0
    classes = set()
    if not IS_FREE_THREADED:
        return 0
    for name, module in list(sys.modules.items()):
        if isinstance(module, ModuleType) and is_within(name, packages):
            names = vars(module)
            count += make_immortal(<PyObject *>module) + make_immortal(<PyObject *>names)
            for value in list(names.values()):
                count += share_value(value, classes)
            # Classes that a module of C has under no name.
            for value in gc.get_referents(module):
                if isinstance(value, type):
                    count += share_value(value, classes)
    return count


def keep(value):
    """Make an object immortal that all threads are to use, and return it; with the GIL, return it."""
    make_immortal(<PyObject *>value)
    return value


cdef bint is_within(str name, tuple packages) except -1:
    for package in packages:
        if name == package or name.startswith(f"{package}."):
            return True
    return False


cdef tuple WRAPPERS = (staticmethod, classmethod)
cdef tuple SHARED = (
    int, float, bytes, tuple, frozenset, FunctionType, BuiltinFunctionType, MethodDescriptorType,
    ClassMethodDescriptorType, WrapperDescriptorType, GetSetDescriptorType, MemberDescriptorType, property,
    *WRAPPERS, type(share),
)


cdef Py_ssize_t share_value(value, set classes) except -1:
    cdef Py_ssize_t count = 0
    if isinstance(value, type):
        for cls in value.__mro__:
            if cls not in classes:
                classes.add(cls)
                count += make_immortal(<PyObject *>cls)
                for member in list(vars(cls).values()):
                    count += share_plain(member)
        return count
    return share_plain(value)


cdef Py_ssize_t share_plain(value) except -1:
    cdef Py_ssize_t count = 0
    if type(value) in SHARED:
        count = make_immortal(<PyObject *>value)
        if type(value) in WRAPPERS:
            count += share_plain(value.__func__)
        elif type(value) is property:
            count += share_plain(value.fget) + share_plain(value.fset)
    return count
