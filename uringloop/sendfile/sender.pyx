"""Cached bytes of files, on their way into sockets without a wait; see page_cache.c."""

import sys

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.long cimport PyLong_CheckExact
from libc.errno cimport EAGAIN
from libc.stdint cimport INT64_MAX, int64_t
from posix.unistd cimport SEEK_SET, lseek

from ..engine.stream cimport Stream
from ..ring.dispatcher cimport raise_errno

cdef extern from "sendfile/page_cache.h" nogil:
    enum:
        UL_SENT_ALL
        UL_SENT_MUCH
        UL_SOCKET_FULL
        UL_FILE_ENDS
        UL_NOT_CACHED
    int64_t ul_file_size(int file)
    int64_t ul_send_cached(int sock, int file, int64_t offset, int64_t size_bytes, int *reason)
    int64_t ul_read_cached(int file, void *buffer, size_t size_bytes, int64_t offset)
    int64_t ul_send_now(int sock, const void *data, size_t size_bytes)

cdef extern from "Python.h":
    int PyObject_AsFileDescriptor(object file) except -1

cdef enum:
    # Fewer take microseconds; from here on it is worth releasing the GIL.
    RELEASE_FROM_BYTES = 65536

#: Why `send_cached` sent no more.
SENT_ALL, SENT_MUCH, SOCKET_FULL, FILE_ENDS, NOT_CACHED = (
    UL_SENT_ALL, UL_SENT_MUCH, UL_SOCKET_FULL, UL_FILE_ENDS, UL_NOT_CACHED
)

#: Before Python 3.14 asyncio leaves the file's position unchanged if nothing was sent.
cdef bint ALWAYS_MOVES = sys.version_info >= (3, 14)


cdef inline int64_t end_of(int64_t size_bytes, int64_t offset, object count) except -1:
    """Return where the part ends, or the file, whose size may be unknown: 0."""
    cdef int64_t end = size_bytes
    if count is not None and (size_bytes == 0 or count < size_bytes - offset):
        end = INT64_MAX if count > INT64_MAX - offset else offset + <int64_t>count
    return end


cdef int64_t send_part(int sock, int file, int64_t offset, int64_t size_bytes, int *reason) noexcept:
    cdef int64_t sent_bytes
    if size_bytes < RELEASE_FROM_BYTES:
        return ul_send_cached(sock, file, offset, size_bytes, reason)
    with nogil:
        sent_bytes = ul_send_cached(sock, file, offset, size_bytes, reason)
    return sent_bytes


def send_cached(int sock, int file, int64_t offset, count):
    """Send what the page cache has of a file and the socket takes.

    Args:
        sock: the descriptor of a stream socket.
        file: the file's descriptor.
        offset: the first byte to send.
        count: the most bytes to send; None for all.

    Returns:
        The number of bytes sent, and why there were no more.  SENT_ALL: the part, or the file as it is now, was sent.

    Raises:
        OSError: as from sendfile(2), if nothing was sent.
    """
    cdef int reason
    cdef int64_t sent_bytes, end, size_bytes = ul_file_size(file)
    if size_bytes < 0:
        raise_errno(<int>size_bytes)
    end = end_of(size_bytes, offset, count)
    if end <= offset:
        return 0, UL_FILE_ENDS
    sent_bytes = send_part(sock, file, offset, end - offset, &reason)
    if reason < 0 and sent_bytes == 0:
        raise_errno(reason)
    return sent_bytes, reason


def read_cached(int file, buffer, int64_t offset):
    """Read what the page cache has of a file into a buffer.

    Returns:
        The number of bytes, 0 at the end of the file, -1 if nothing is cached.

    Raises:
        OSError: as from preadv2(2).
    """
    cdef Py_buffer view
    cdef int64_t count_bytes
    PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
    with nogil:
        count_bytes = ul_read_cached(file, view.buf, view.len, offset)
    PyBuffer_Release(&view)
    if count_bytes == -EAGAIN:
        return -1
    if count_bytes < 0:
        raise_errno(<int>count_bytes)
    return count_bytes


def send_bytes(int sock, data):
    """Send what a stream socket takes of a buffer; return the number of bytes, 0 if the socket is full.

    Raises:
        OSError: as from send(2).
    """
    cdef Py_buffer view
    cdef int64_t sent_bytes
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    with nogil:
        sent_bytes = ul_send_now(sock, view.buf, view.len)
    PyBuffer_Release(&view)
    if sent_bytes < 0:
        raise_errno(<int>sent_bytes)
    return sent_bytes


def send_at_once(Stream stream, file, offset, count):
    """Send a whole file, or its part, behind what the stream has queued, if none of it has to wait.

    It leaves everything that is unusual to the caller: arguments that are wrong, and errors.

    Args:
        stream: of the transport.
        file: an object with the methods of a binary file.
        offset: the first byte to send.
        count: the number of bytes; None for all.

    Returns:
        The number of bytes sent if that is all, and the file's position is behind them.  Otherwise -1 less the number
        of bytes sent, and the position is as it was.

    Raises:
        ValueError: the file is closed.
    """
    cdef int fd, reason
    cdef int64_t start, end, sent_bytes
    if not PyLong_CheckExact(offset) or not 0 <= offset < INT64_MAX:
        return -1
    if count is not None and (not PyLong_CheckExact(count) or count <= 0):
        return -1
    if "b" not in getattr(file, "mode", "b") or not stream.sends_queue():
        return -1
    try:
        fd = PyObject_AsFileDescriptor(file)
    except (AttributeError, OSError, TypeError):
        return -1
    start, end = offset, ul_file_size(fd)
    if end < 0:
        return -1
    if end == 0 and count is None:
        return 0
    end = end_of(end, start, count)
    reason = UL_SENT_ALL
    sent_bytes = send_part(stream.fd, fd, start, end - start, &reason) if end > start else 0
    if reason != UL_SENT_ALL and reason != UL_FILE_ENDS:
        return -1 - sent_bytes
    if (sent_bytes > 0 or ALWAYS_MOVES) and lseek(fd, start + sent_bytes, SEEK_SET) < 0:
        return -1 - sent_bytes
    return sent_bytes
