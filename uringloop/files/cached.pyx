"""Files without the ring, where that is sure not to wait: see cached.c."""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.errno cimport EAGAIN
from libc.stdint cimport int64_t

from ..ring.descriptor cimport Descriptor
from ..ring.dispatcher cimport raise_errno

cdef extern from "Python.h":
    PyObject *new_bytes "PyBytes_FromStringAndSize" (const char *data, Py_ssize_t size_bytes) except NULL
    int resize_bytes "_PyBytes_Resize" (PyObject **data, Py_ssize_t size_bytes) except -1
    int filesystem_name "PyUnicode_FSConverter" (object path, PyObject **name) except 0


cdef enum:
    # A read of a few of these pieces is a matter of microseconds; the GIL is worth releasing from here on.
    RELEASE_FROM_BYTES = 65536


cdef int64_t read_cached(int fd, void *buffer, size_t size_bytes, int64_t offset):
    cdef int64_t count
    if size_bytes < RELEASE_FROM_BYTES:
        return ul_file_read_now(fd, buffer, size_bytes, offset)
    with nogil:
        count = ul_file_read_now(fd, buffer, size_bytes, offset)
    return count


def read_now(int fd, Py_ssize_t size_bytes, int64_t offset):
    """preadv2(2) with RWF_NOWAIT: up to size_bytes that are cached; b"" at the end of the file.

    Returns:
        None, nothing is cached.

    Raises:
        OSError: as from preadv2(2); EOPNOTSUPP, this file does not offer it.
    """
    cdef PyObject *data = new_bytes(NULL, size_bytes)
    cdef int64_t count = read_cached(fd, PyBytes_AS_STRING(<object>data), size_bytes, offset)
    if count != size_bytes:
        resize_bytes(&data, max(count, 0))
    result = <object>data
    Py_DECREF(result)
    if count >= 0:
        return result
    if count != -EAGAIN:
        raise_errno(<int>count)
    return None


def read_into_now(int fd, buffer, int64_t offset):
    """As `read_now`, into a writable buffer; returns the number of bytes, None if nothing is cached."""
    cdef Py_buffer view
    cdef int64_t count
    PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
    try:
        count = read_cached(fd, view.buf, view.len, offset)
    finally:
        PyBuffer_Release(&view)
    if count == -EAGAIN:
        return None
    if count < 0:
        raise_errno(<int>count)
    return count


def open_now(path, int flags):
    """openat2(2) with RESOLVE_CACHED, for reading a file or changing it in place; close-on-exec.

    A FIFO that is opened for reading has been opened without waiting for a writer.

    Returns:
        (`Descriptor`, (st_mode, st_size, st_blksize)), or None: whatever stands in the way, the ring will tell.
    """
    cdef ul_file_status status
    cdef PyObject *name = NULL
    filesystem_name(path, &name)
    encoded = <object>name
    Py_DECREF(encoded)
    cdef int fd = ul_file_open_now(PyBytes_AS_STRING(encoded), flags, &status)
    if fd < 0:
        return None
    return Descriptor(fd, path), (status.mode, status.size_bytes, status.block_size_bytes)


def status_now(int fd):
    """(st_mode, st_size, st_blksize) of an open file, as statx(2) with AT_STATX_DONT_SYNC: no server is asked.

    Raises:
        OSError: as from statx(2).
    """
    cdef ul_file_status status
    cdef int error = ul_file_status_now(fd, &status)
    if error < 0:
        raise_errno(error)
    return status.mode, status.size_bytes, status.block_size_bytes
