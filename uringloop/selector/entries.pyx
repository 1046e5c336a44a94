"""`Entries`: the readers and writers of a loop by descriptor, and their places in an epoll set.

An entry of the set begins with EPOLLONESHOT: its first event switches it off.  Most libraries watch a descriptor for
one event, and then remove it.  So that removal costs no system call, and the next watch is one EPOLL_CTL_MOD, which
also raises the descriptor's error.  An entry that is still in use after its callback has run stands from then on: it is
level-triggered, as all entries of asyncio are.

A descriptor may be closed without a removal, and its number used again.  A copy of it keeps the old entry in the set.
EPOLL_CTL_MOD then finds no entry of the new file, and a new one is made.  Each change of an entry gives it another
generation, which its events carry.  So an event of an old file or an old callback tells nothing.  A stale entry fires
once at most: those that stand leave the set, or are switched off, at once.

On the backend epoll, entries stand in the backend's own set (readers.h).  The selector's set then has only those whose
place a request needs, and those that another thread makes during a sleep.
"""

import selectors
from os import strerror

from cpython.object cimport PyObject
from libc.errno cimport EBADF, EEXIST, ENOENT, errno
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from ..ring.core.core cimport ul_ring
from ..ring.dispatcher cimport Awaited, Dispatcher

cdef extern from "selector/epoll.h" nogil:
    enum:
        EPOLLIN
        EPOLLOUT
        EPOLLET
        EPOLLONESHOT
        EPOLL_CTL_ADD
        EPOLL_CTL_DEL
        EPOLL_CTL_MOD
    int ul_epoll_control(int epoll_fd, int operation, int fd, uint32_t events, uint32_t generation)

cdef extern from "ring/core/readers.h" nogil:
    int ul_reader_control(ul_ring *ring, int operation, int fd, uint32_t events, uint32_t generation)

cdef extern from *:
    int PyObject_AsFileDescriptor(object fd) except -1

cdef enum:
    # The last generation; the bit above it is the backend's.
    GENERATION_MAX = 0x7FFFFFFF


cdef int descriptor_of(fileobj) except -1:
    """Return the descriptor of a file object or a number, as `selectors` does."""
    if isinstance(fileobj, int):
        fd = fileobj
    else:
        try:
            fd = int(fileobj.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"Invalid file object: {fileobj!r}") from None
    if fd < 0:
        raise ValueError(f"Invalid file descriptor: {fd}")
    return PyObject_AsFileDescriptor(fd)


cdef refused(int error):
    return OSError(error, strerror(error))


cdef class Entry:
    """The handles of a descriptor, and its place in the epoll set."""

    def __cinit__(self, int fd):
        self.fd = fd


cdef class Entries(Awaited):
    """The readers and writers of a loop, by descriptor.

    Args:
        epoll_fd: the selector's epoll set.
        dispatcher: the loop's.

    Attributes:
        begin: called once, before the first entry.
    """

    def __cinit__(self, int epoll_fd, Dispatcher dispatcher):
        self.epoll_fd = epoll_fd
        self.dispatcher = dispatcher
        self.entries = {}
        self.by_fd = NULL
        self.by_fd_size = 0
        self.transports = {}
        self.removed = []

    def __dealloc__(self):
        free(self.by_fd)

    def refuse(self, dict transports):
        """Take the loop's transports by descriptor, whose descriptors the loop looks at before it watches them."""
        self.transports = transports

    def add_edge(self, int fd):
        """Let an eventfd end a sleep in the set, once for each signal.

        Raises:
            OSError: as from epoll_ctl(2).
        """
        if ul_epoll_control(self.epoll_fd, EPOLL_CTL_ADD, fd, <uint32_t>EPOLLIN | <uint32_t>EPOLLET, 0) < 0:
            raise refused(errno)

    cdef Entry find(self, fileobj):
        """Return the entry in use of a descriptor or a file object; None if there is none."""
        cdef Entry entry
        if type(fileobj) is int:
            entry = self.entries.get(fileobj)
            if entry is not None:
                return entry if entry.wanted else None
        try:
            fd = descriptor_of(fileobj)
        except ValueError:
            # A closed object has no descriptor any more.
            for entry in self.entries.values():
                if entry.wanted and entry.fileobj is fileobj:
                    return entry
            raise
        entry = self.entries.get(fd)
        return entry if entry is not None and entry.wanted else None

    cdef add(self, fileobj, uint32_t direction, handle):
        """Watch a descriptor in a direction, in the place of an earlier handle.

        Raises:
            ValueError: this is no descriptor and no file object.
            OSError: epoll_ctl(2) refuses the descriptor.
        """
        cdef Entry entry
        cdef uint32_t wanted
        cdef int error
        cdef int fd = descriptor_of(fileobj)
        entry = self.entry_for(fd)
        wanted = entry.wanted | direction
        error = self.arm(entry, wanted, True)
        if error != 0 and not (error == EBADF and wanted == entry.wanted):
            if entry.wanted:
                self.forget(entry)
            raise refused(error)
        if entry.wanted == 0:
            self.take_into_use(entry, fileobj)
        entry.wanted = wanted
        if direction == EPOLLIN:
            old, entry.reader = entry.reader, handle
        else:
            old, entry.writer = entry.writer, handle
        if old is not None:
            old.cancel()

    cdef Entry entry_for(self, int fd):
        """Return the entry of a descriptor, or a new one."""
        cdef Entry entry = self.entries.get(fd)
        if self.begin is not None:
            begin, self.begin = self.begin, None
            begin()
        return Entry(fd) if entry is None else entry

    cdef take_into_use(self, Entry entry, fileobj):
        cdef int size
        cdef void *larger
        if entry.fd >= self.by_fd_size:
            size = (entry.fd | 63) + 1
            larger = realloc(self.by_fd, size * sizeof(PyObject *))
            if larger == NULL:
                raise MemoryError
            self.by_fd = <PyObject **>larger
            memset(self.by_fd + self.by_fd_size, 0, (size - self.by_fd_size) * sizeof(PyObject *))
            self.by_fd_size = size
        entry.fileobj = fileobj
        self.entries[entry.fd] = entry
        self.by_fd[entry.fd] = <PyObject *>entry
        self.count += 1

    cdef delete(self, Entry entry):
        """Drop an entry that neither the loop nor the set has."""
        if self.entries.get(entry.fd) is entry:
            self.by_fd[entry.fd] = NULL
            del self.entries[entry.fd]

    cdef int arm(self, Entry entry, uint32_t wanted, bint may_be_new) except? -1:
        """Have the set report these events of the descriptor; return 0 or an errno.

        may_be_new: the descriptor may be another file's by now.  Otherwise the entry is silent then.
        """
        if self.dispatcher.has_forked():
            return 0  # the set is the parent's, too, whose events carry its own generations
        cdef uint32_t interest = wanted if entry.stands else wanted | <uint32_t>EPOLLONESHOT
        cdef int operation = EPOLL_CTL_MOD if entry.in_set else EPOLL_CTL_ADD
        self.generation = self.generation + 1 if self.generation < GENERATION_MAX else 1
        entry.generation = self.generation
        cdef int error = self.control(entry, operation, interest, entry.generation)
        while error != 0:
            if operation == EPOLL_CTL_MOD and error == ENOENT and may_be_new:
                operation = EPOLL_CTL_ADD
            elif operation == EPOLL_CTL_ADD and error == EEXIST:
                operation = EPOLL_CTL_MOD
            else:
                entry.in_set, entry.armed = False, 0
                return error
            error = self.control(entry, operation, interest, entry.generation)
        entry.in_set, entry.armed = True, wanted
        return 0

    cdef int control(self, Entry entry, int operation, uint32_t events, uint32_t generation) noexcept:
        """Call epoll_ctl(2) on the set that has the entry; return 0 or an errno."""
        cdef int result = 0
        if self.readers != NULL and self.ring == self.dispatcher.ring and not entry.elsewhere:
            if not self.waits:
                result = ul_reader_control(self.ring, operation, entry.fd, events, generation)
                # A request may have moved the entry since.
                if result <= 0 and not (result == -ENOENT and self.readers.has_yielded):
                    return -result
            elif entry.in_set and not (self.readers.has_yielded and self.is_in_other_set(entry)):
                # Another thread's call, during the sleep.  The backend would drop events of an entry that it does not
                # know, so this one moves.
                result = ul_epoll_control(self.readers.set_fd, EPOLL_CTL_DEL, entry.fd, 0, 0)
                if result < 0 and operation == EPOLL_CTL_MOD:
                    return errno
                operation = EPOLL_CTL_ADD
        if ul_epoll_control(self.epoll_fd, operation, entry.fd, events, generation) < 0:
            return errno
        entry.elsewhere = self.readers != NULL
        return 0

    cdef bint is_in_other_set(self, Entry entry) noexcept:
        """Return whether a request has moved the entry, which is switched off then."""
        return ul_epoll_control(self.epoll_fd, EPOLL_CTL_MOD, entry.fd, EPOLLONESHOT, 0) == 0

    cdef bint remove(self, fileobj, uint32_t direction) except -1:
        """Watch in a direction no more; return whether there was a handle.

        Raises:
            ValueError: this is no descriptor and no file object.
            OSError: epoll_ctl(2) refuses the other direction: the descriptor is closed.
        """
        cdef Entry entry = self.find(fileobj)
        cdef uint32_t left
        cdef int error = 0
        if entry is None:
            return False
        left = entry.wanted & ~direction
        if left == 0:
            handle = entry.reader if direction == EPOLLIN else entry.writer
            self.forget(entry)
        else:
            if entry.armed and left != entry.wanted:
                error = self.arm(entry, left, False)
            if direction == EPOLLIN:
                handle, entry.reader = entry.reader, None
            else:
                handle, entry.writer = entry.writer, None
            entry.wanted = left
            if error != 0:
                self.forget(entry)
                raise refused(error)
        if handle is None:
            return False
        handle.cancel()
        return True

    cdef forget(self, Entry entry):
        """Take an entry out of use; its place in the set stays for the next use."""
        # Freed on return: a finalizer may watch the descriptor again.
        _fileobj, _reader, _writer = entry.fileobj, entry.reader, entry.writer
        entry.wanted = 0
        entry.fileobj = entry.reader = entry.writer = None
        self.count -= 1
        if entry.stands and entry.in_set and not self.dispatcher.has_forked():
            # A copy of a descriptor that is closed next would report for ever.
            entry.in_set = self.control(entry, EPOLL_CTL_MOD, EPOLLONESHOT, 0) == 0
            entry.armed = 0
        entry.stands = False
        if not entry.in_set:
            self.delete(entry)
        elif entry.armed and not entry.put_off:
            entry.put_off = True
            self.removed.append(entry)

    cdef take_out(self):
        """Take descriptors that were removed before any event out of the set, as far as they are not in use again."""
        cdef Entry entry
        removed, self.removed = self.removed, []
        for entry in removed:
            entry.put_off = False
            if entry.wanted == 0 and entry.armed:
                # An error is that of a closed descriptor, which has left the set.
                self.control(entry, EPOLL_CTL_DEL, 0, 0)
                entry.in_set, entry.armed = False, 0
                self.delete(entry)

    cdef clear(self):
        """Drop all entries."""
        memset(self.by_fd, 0, self.by_fd_size * sizeof(PyObject *))
        self.entries.clear()
        self.removed = []
        self.count = 0
        self.begin = None

    # For the selector

    def in_use(self):
        """Return (file object, descriptor, events of `selectors`, reader and writer) of each entry in use."""
        cdef Entry entry
        return [
            (
                entry.fileobj,
                entry.fd,
                (selectors.EVENT_READ if entry.wanted & EPOLLIN else 0)
                | (selectors.EVENT_WRITE if entry.wanted & EPOLLOUT else 0),
                (entry.reader, entry.writer),
            )
            for entry in self.entries.values()
            if entry.wanted
        ]

    def put(self, fileobj, int events, data):
        """Watch a descriptor for events of `selectors`; data is a handle or None for the reader, and for the writer.

        Raises:
            OSError: epoll_ctl(2) refuses the descriptor.
        """
        cdef int fd = descriptor_of(fileobj)
        cdef Entry entry = self.entry_for(fd)
        cdef uint32_t wanted = EPOLLIN if events & selectors.EVENT_READ else 0
        cdef int error
        reader, writer = data
        wanted |= EPOLLOUT if events & selectors.EVENT_WRITE else 0
        error = self.arm(entry, wanted, True)
        if error != 0:
            if entry.wanted:
                self.forget(entry)
            raise refused(error)
        if entry.wanted == 0:
            self.take_into_use(entry, fileobj)
        entry.wanted, entry.reader, entry.writer = wanted, reader, writer

    def drop(self, int fd):
        """Watch a descriptor no more; its handles are not cancelled."""
        cdef Entry entry = self.entries.get(fd)
        if entry is not None and entry.wanted:
            self.forget(entry)
