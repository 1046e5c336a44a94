# Files without the ring, where that is sure not to wait: see _core/file.c.  Part of hot.pyx.

cdef extern from "Python.h":
    PyObject *new_bytes "PyBytes_FromStringAndSize" (const char *data, Py_ssize_t size_bytes) except NULL
    int resize_bytes "_PyBytes_Resize" (PyObject **data, Py_ssize_t size_bytes) except -1


cdef extern from "unistd.h":
    int close_descriptor "close" (int fd)

cdef extern from "Python.h":
    int filesystem_name "PyUnicode_FSConverter" (object path, PyObject **name) except 0


cdef class Descriptor:
    """A descriptor that is held open by whoever refers to it.

    Args:
        fd: the descriptor.
        filename: named in the errors of its operations.
        owned: close it when the last reference is gone, unless `Close` did.

    Attributes:
        fd: -1 after it was closed.
    """

    cdef public int fd
    cdef public object filename
    cdef public bint owned

    def __cinit__(self, *args, **kwargs):
        self.fd = -1

    def __init__(self, int fd, filename=None, bint owned=True):
        self.fd = fd
        self.filename = filename
        self.owned = owned

    def close(self):
        """Close it now, whoever still refers to it; only when nothing in flight uses it.

        Raises:
            OSError: as from close(2).
        """
        cdef int fd = self.fd
        self.fd = -1
        if self.owned and fd >= 0 and close_descriptor(fd) < 0:
            raise_errno(-errno)

    def __dealloc__(self):
        if self.owned and self.fd >= 0:
            close_descriptor(self.fd)


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


cdef enum:
    READ_MAX_BYTES = 0x7FFFF000


cdef class Reading:
    """A pread(2) into one buffer, in flight from the start: an operation (see operations/base.py), whose waiter gets
    the number of bytes, or an OSError as its result.

    Args:
        dispatcher: where it is staged.
        waiter: a future.
        fd: stays open until it has ended.
        buffer: writable, held until then.
        offset: in bytes.
    """

    may_move = False
    cdef Dispatcher dispatcher
    cdef Py_buffer view
    cdef int fd
    cdef uint64_t token
    cdef public object waiter
    cdef readonly bint in_flight, abandoned

    def __cinit__(self, Dispatcher dispatcher, waiter, int fd, buffer, uint64_t offset):
        PyObject_GetBuffer(buffer, &self.view, PyBUF_WRITABLE)
        self.dispatcher = dispatcher
        self.waiter = waiter
        self.fd = fd
        cdef uint64_t address = <uintptr_t>self.view.buf
        cdef uint32_t length = min(self.view.len, READ_MAX_BYTES)
        if type(dispatcher) is Dispatcher:
            self.token = dispatcher.stage_sqe(self, IORING_OP_READ, fd, address, length, offset, 0, 0, 0, 0, 0, 0)
        else:
            self.token = dispatcher.stage(self, IORING_OP_READ, fd, address, length, offset)
        self.in_flight = True
        dispatcher.feed()

    def __dealloc__(self):
        PyBuffer_Release(&self.view)

    cpdef complete(self, int res, uint32_t flags):
        """The CQE arrived; called by the dispatch."""
        self.in_flight = False
        PyBuffer_Release(&self.view)
        if not self.waiter.done():
            self.waiter.set_result(res if res >= 0 else operation_error(res))

    def abandon(self):
        """Nobody waits any more: ask the kernel to cancel, once."""
        if not self.abandoned:
            self.abandoned = True
            if self.in_flight:
                self.dispatcher.cancel(self.token)

    def __repr__(self):
        return f"<Reading fd={self.fd}{' abandoned' if self.abandoned else ''}>"
