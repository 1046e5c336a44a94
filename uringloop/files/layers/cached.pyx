"""Reads, opens and stats that the page cache or the inode answers, without a wait or the ring; see cached.c."""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.errno cimport EAGAIN
from libc.stdint cimport int64_t, uint32_t, uint64_t

from ...ring.descriptor cimport Descriptor
from ...ring.dispatcher cimport raise_errno

cdef extern from "files/layers/cached.h" nogil:
    ctypedef struct ul_file_status:
        uint32_t mode
        uint32_t block_size_bytes
        uint64_t size_bytes
    int64_t ul_file_read_now(int fd, void *buffer, size_t size_bytes, int64_t offset)
    int ul_file_open_now(const char *path, int flags, ul_file_status *out)
    int ul_file_status_now(int fd, ul_file_status *out)

cdef extern from "Python.h":
    PyObject *new_bytes "PyBytes_FromStringAndSize" (const char *data, Py_ssize_t size_bytes) except NULL
    int resize_bytes "_PyBytes_Resize" (PyObject **data, Py_ssize_t size_bytes) except -1
    int filesystem_name "PyUnicode_FSConverter" (object path, PyObject **name) except 0


cdef enum:
    # A shorter read takes microseconds; from here on it is worth releasing the GIL.
    RELEASE_FROM_BYTES = 65536


cdef int64_t read_cached(int fd, void *buffer, size_t size_bytes, int64_t offset):
    cdef int64_t count_bytes
    if size_bytes < RELEASE_FROM_BYTES:
        return ul_file_read_now(fd, buffer, size_bytes, offset)
    with nogil:
        count_bytes = ul_file_read_now(fd, buffer, size_bytes, offset)
    return count_bytes


cpdef read_now(int fd, Py_ssize_t size_bytes, int64_t offset):
    """Read cached bytes, with preadv2(2) and RWF_NOWAIT.

    Args:
        fd: the descriptor.
        size_bytes: the largest number of bytes.
        offset: in bytes from the start of the file.

    Returns:
        The bytes; b"" at the end of the file; None if nothing is cached.

    Raises:
        OSError: as from preadv2(2); EOPNOTSUPP, this file does not offer RWF_NOWAIT.
    """
    cdef PyObject *data = new_bytes(NULL, size_bytes)
    cdef int64_t count_bytes = read_cached(fd, PyBytes_AS_STRING(<object>data), size_bytes, offset)
    if count_bytes != size_bytes:
        resize_bytes(&data, max(count_bytes, 0))
    result = <object>data
    Py_DECREF(result)
    if count_bytes >= 0:
        return result
    if count_bytes != -EAGAIN:
        raise_errno(<int>count_bytes)
    return None


def read_into_now(int fd, buffer, int64_t offset):
    """Read cached bytes into a buffer, with preadv2(2) and RWF_NOWAIT.

    Args:
        fd: the descriptor.
        buffer: a writable buffer in one piece.
        offset: in bytes from the start of the file.

    Returns:
        The number of bytes, 0 at the end of the file; None if nothing is cached.

    Raises:
        OSError: as from preadv2(2); EOPNOTSUPP, this file does not offer RWF_NOWAIT.
    """
    cdef Py_buffer view
    cdef int64_t count_bytes
    PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
    try:
        count_bytes = read_cached(fd, view.buf, view.len, offset)
    finally:
        PyBuffer_Release(&view)
    if count_bytes == -EAGAIN:
        return None
    if count_bytes < 0:
        raise_errno(<int>count_bytes)
    return count_bytes


def open_now(path, int flags):
    """Open a file whose path is cached, with openat2(2) and RESOLVE_CACHED; the descriptor is close-on-exec.

    A FIFO is opened for reading without waiting for a writer.

    Args:
        path: of the file.
        flags: os.O_* to read the file or to change it in place.

    Returns:
        The `Descriptor` and (st_mode, st_size, st_blksize), the sizes in bytes.  None for any failure, because the ring
        will report it.
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
    """Return (st_mode, st_size, st_blksize) of an open file, the sizes in bytes, without asking a server.

    The call is statx(2) with AT_STATX_DONT_SYNC.

    Raises:
        OSError: as from statx(2).
    """
    cdef ul_file_status status
    cdef int error = ul_file_status_now(fd, &status)
    if error < 0:
        raise_errno(error)
    return status.mode, status.size_bytes, status.block_size_bytes
