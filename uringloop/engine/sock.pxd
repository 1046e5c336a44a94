from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t

from ..ring.dispatcher cimport Awaited, Dispatcher


cdef class Sockets:
    cdef Dispatcher dispatcher
    cdef object loop, check_socket, has_budget, leftovers
    cdef dict transports
    cdef dict of_loop  # what a future is made with
    cdef bint has_buffers
    cdef char *scratch
    cdef PyObject *receiving  # the first that waits, a list: the dispatcher holds them
    cdef int receiving_count
    cdef readonly dict held  # what else waits: the sockets by operation
    cdef readonly dict left  # whose sockets were closed: the last waiter of each descriptor
    cdef int64_t look_again_ns
    cdef uint8_t *emptied  # by descriptor; of one that was closed meanwhile it merely guesses wrong
    cdef int emptied_size

    cpdef int64_t look(self, int64_t timeout_ns) except? -2
    cdef abandon_closed(self)
    cdef bint ends(self, operation, uint64_t token)
    cdef int descriptor(self, sock) except -2
    cdef bint was_emptied(self, int fd)
    cdef int remember(self, int fd, bint emptied) except -1
    cdef ssize_t receive_now(self, int fd, void *buffer, Py_ssize_t size_bytes) except -2


cdef class Receiving(Awaited):
    cdef Sockets sockets
    cdef object sock
    cdef int fd
    cdef uint32_t size_bytes
    cdef PyObject *previous
    cdef PyObject *next

    cdef join(self)
    cdef part(self)
    cdef abandon_silently(self)
    cdef stage(self)
