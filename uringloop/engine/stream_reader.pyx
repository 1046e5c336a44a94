"""Bytes into asyncio's stream reader, without its four Python calls for each piece.

This way serves only the plain case.  The protocol and the reader are asyncio's own classes as this Python made them.
The reader is neither at its end nor so full that it pauses.  Everything else is asyncio's.
"""

import asyncio

from libc.string cimport memcpy

from ..hooks import stream_feeding

cdef extern from "Python.h":
    bint PyByteArray_CheckExact(object)
    Py_ssize_t PyByteArray_GET_SIZE(object)
    char *PyByteArray_AS_STRING(object)
    int PyByteArray_Resize(object, Py_ssize_t size_bytes) except -1
    bint PyLong_CheckExact(object)
    bint PyFloat_CheckExact(object)
    double PyFloat_AS_DOUBLE(object)
    long long PyLong_AsLongLongAndOverflow(object, int *overflow) except? -1

cdef object InvalidStateError = asyncio.InvalidStateError
cdef object StreamReader = asyncio.StreamReader
cdef tuple FEEDING = stream_feeding()


cdef bint feeds_reader(protocol):
    """Return whether the protocol's bytes may go straight into its reader."""
    return type(protocol) is asyncio.StreamReaderProtocol and stream_feeding() == FEEDING


cdef bint fills_reader(limit, Py_ssize_t size_bytes) except -1:
    """Return whether so many bytes, more than twice its limit, pause a reader, or only asyncio can tell."""
    cdef int overflow = 0
    cdef long long limit_bytes
    if PyLong_CheckExact(limit):
        limit_bytes = PyLong_AsLongLongAndOverflow(limit, &overflow)
        # Twice the limit may be too large a number.
        return (size_bytes - 1) >> 1 >= limit_bytes if overflow == 0 else overflow < 0
    if PyFloat_CheckExact(limit):
        return size_bytes > 2 * PyFloat_AS_DOUBLE(limit)
    return True


cdef bint feed_reader(protocol, const char *data, Py_ssize_t size_bytes) except -1:
    """Do the work of `StreamReaderProtocol.data_received`; return False if the caller must call it."""
    reference = protocol._stream_reader_wr
    reader = reference() if reference is not None else None
    if type(reader) is not StreamReader or reader._eof:
        return False
    buffer = reader._buffer
    if not PyByteArray_CheckExact(buffer):
        return False
    cdef Py_ssize_t before = PyByteArray_GET_SIZE(buffer)
    if fills_reader(reader._limit, before + size_bytes):
        return False
    PyByteArray_Resize(buffer, before + size_bytes)
    memcpy(PyByteArray_AS_STRING(buffer) + before, data, size_bytes)
    waiter = reader._waiter
    if waiter is not None:
        reader._waiter = None
        try:
            waiter.set_result(None)
        except InvalidStateError:
            # Asking before, as asyncio does, would nearly always be in vain.
            if not waiter.cancelled():
                raise
    return True
