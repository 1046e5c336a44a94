"""`Registry`: the readers and writers of a loop, and the epoll set of their descriptors.

An entry of the set begins with EPOLLONESHOT: its first event switches it off.  Most libraries watch a descriptor for
one event, and then remove it.  So that removal costs no system call, and the next watch is one EPOLL_CTL_MOD, which
also raises the descriptor's error.  An entry that is still in use after its callback has run stands from then on: it is
level-triggered, as all entries of asyncio are.

A descriptor may be closed without a removal, and its number used again.  A copy of it keeps the old entry in the set.
EPOLL_CTL_MOD then finds no entry of the new file, and a new one is made.  Each change of an entry gives it another
generation, which its events carry.  So an event of an old file or an old callback tells nothing.  A stale entry fires
once at most: those that stand leave the set, or are switched off, at once.

The ring watches the set: by one IORING_OP_EPOLL_WAIT (Linux 6.15), or by a poll of the set before.  Both are staged
before a sleep, when the callbacks have run.  Events that come between two sleeps are dropped and asked for again, since
a callback may have read the bytes.  Where the last look at the set found events, the next sleep looks itself first: a
system call for that is cheaper than an operation.
"""

import selectors
from os import strerror

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from cpython.object cimport PyObject
from libc.errno cimport EBADF, EEXIST, EINTR, ENOENT, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, realloc
from libc.string cimport memmove, memset

from ..ring.core.core cimport (
    EOWNERDEAD, IORING_OP_EPOLL_WAIT, IORING_OP_POLL_ADD, UL_BACKEND_IO_URING, io_uring_sqe, ul_has_work, ul_outcome,
    ul_ring_backend,
)
from ..ring.dispatcher cimport Awaited, Dispatcher, raise_errno

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
    int ul_epoll_fd(const ul_epoll_event *event)
    uint32_t ul_epoll_generation(const ul_epoll_event *event)
    int ul_epoll_sleep(int epoll_fd, ul_epoll_event *events, int capacity, int64_t timeout_ns)

cdef extern from "poll.h" nogil:
    struct pollfd:
        int fd
        short events, revents
    int POLLNVAL
    int poll(pollfd *asked, unsigned long count, int timeout_ms)

cdef extern from *:
    int PyObject_AsFileDescriptor(object fd) except -1
    object PyObject_CallOneArg(object callable, object argument)

cdef enum:
    # The last generation; the bit above it is the backend's.
    GENERATION_MAX = 0x7FFFFFFF
    # After looks in vain, up to so many sleeps go without one.
    LOOKS_SPARED_MAX = 64


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


cdef class Registry(Awaited):
    """The readers and writers of a loop, by descriptor; the operation that waits for their events.

    Args:
        epoll_fd: the epoll set.
        dispatcher: stages the wait.

    Attributes:
        begin: called once, before the first entry.
        look: called before each sleep with its timeout in nanoseconds; it returns the timeout to use.
    """

    may_move = True

    def __cinit__(self, int epoll_fd, Dispatcher dispatcher):
        self.epoll_fd = epoll_fd
        self.dispatcher = dispatcher
        self.entries = {}
        self.by_fd = NULL
        self.by_fd_size = 0
        self.transports = {}
        self.fired, self.late, self.removed = [], [], []
        self.lost_memory = []
        self.make_memory()

    def __dealloc__(self):
        free(self.by_fd)

    cdef make_memory(self):
        self.memory = PyByteArray_FromStringAndSize(NULL, UL_EPOLL_MAX * sizeof(ul_epoll_event))
        self.events = <ul_epoll_event *>PyByteArray_AS_STRING(self.memory)

    def serve(self, ready):
        """Take the loop's ready queue."""
        self.ready = ready
        self.append = ready.append

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

    # Entries

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
        while ul_epoll_control(self.epoll_fd, operation, entry.fd, interest, entry.generation) < 0:
            if operation == EPOLL_CTL_MOD and errno == ENOENT and may_be_new:
                operation = EPOLL_CTL_ADD
            elif operation == EPOLL_CTL_ADD and errno == EEXIST:
                operation = EPOLL_CTL_MOD
            else:
                entry.in_set, entry.armed = False, 0
                return errno
        entry.in_set, entry.armed = True, wanted
        return 0

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
            entry.in_set = ul_epoll_control(self.epoll_fd, EPOLL_CTL_MOD, entry.fd, EPOLLONESHOT, 0) == 0
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
                ul_epoll_control(self.epoll_fd, EPOLL_CTL_DEL, entry.fd, 0, 0)
                entry.in_set, entry.armed = False, 0
                self.delete(entry)

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

    # Sleeping

    cdef wait_for(self, int64_t timeout_ns):
        """Sleep in the ring until a descriptor is ready, or as `Dispatcher.wait`; make the handles ready."""
        cdef Dispatcher dispatcher = self.dispatcher
        cdef int res = 0
        if dispatcher.has_forked():
            raise_errno(-EOWNERDEAD)  # the set is the parent's, too
        if self.look is not None:
            timeout_ns = PyObject_CallOneArg(self.look, timeout_ns)
        self.prepare()
        if self.in_flight:
            dispatcher.reap_ready()
            if self.take_result(&res):
                self.ask_again(res)
        if self.count > 0 and not self.in_flight and not self.abandoned:
            if self.looks_first():
                if self.skips_enter():
                    return
                timeout_ns = 0
            else:
                self.stage()
        dispatcher.wait_for(timeout_ns)
        if self.in_flight and self.take_result(&res):
            if self.waits_for_events:
                self.take(self.events, res)
            elif res >= 0:
                self.take(self.found, ul_epoll_sleep(self.epoll_fd, self.found, UL_EPOLL_MAX, 0))

    def sleep(self, int64_t timeout_ns):
        """Sleep in the epoll set, for at most timeout_ns nanoseconds, -1 for ever; make the handles ready."""
        cdef int count
        self.prepare()
        if timeout_ns == 0:
            count = ul_epoll_sleep(self.epoll_fd, self.found, UL_EPOLL_MAX, 0)
        else:
            with nogil:
                count = ul_epoll_sleep(self.epoll_fd, self.found, UL_EPOLL_MAX, timeout_ns)
        if count < 0 and count != -EINTR:
            raise refused(-count)
        self.take(self.found, count)

    cdef bint take_result(self, int *res) except -1:
        """Take the wait's completion, if it waits to be dispatched; return whether it did."""
        cdef Dispatcher dispatcher = self.dispatcher
        cdef ul_outcome *outcome
        cdef int place
        for place in range(dispatcher.cursor, dispatcher.count):
            outcome = &dispatcher.outcomes[place]
            if outcome.owner == NULL and outcome.token == self.token:
                res[0] = outcome.res
                dispatcher.take_operation(self.token, outcome.flags)
                dispatcher.count -= 1
                memmove(outcome, outcome + 1, (dispatcher.count - place) * sizeof(ul_outcome))
                dispatcher.tick.outcomes = dispatcher.count - dispatcher.cursor
                self.in_flight = False
                return True
        return False

    cdef bint skips_enter(self) noexcept:
        """Begin a tick without an enter, if there is nothing to enter for; return whether it has begun."""
        cdef Dispatcher dispatcher = self.dispatcher
        if (
            dispatcher.cursor < dispatcher.count or dispatcher.ring == NULL or ul_has_work(dispatcher.ring)
            or ul_ring_backend(dispatcher.ring) != UL_BACKEND_IO_URING
        ):
            return False
        dispatcher.begin_batch()
        dispatcher.tick.outcomes = 0
        return True

    cdef prepare(self):
        """Bring the set up to date, before a sleep."""
        if self.removed:
            self.take_out()
        if self.late:
            self.stand()
        if self.fired:
            self.late, self.fired = self.fired, []
            if self.ready:
                self.look_at_late()
            else:
                self.stand()

    cdef bint looks_first(self):
        """Look at the set now, if that is likely to find an event; return whether it found one."""
        if self.looks_to_spare > 0:
            self.looks_to_spare -= 1
            return False
        if self.take(self.found, ul_epoll_sleep(self.epoll_fd, self.found, UL_EPOLL_MAX, 0)) > 0:
            self.looks_spared = 0
            return True
        self.looks_spared = min(max(2 * self.looks_spared, 1), LOOKS_SPARED_MAX)
        self.looks_to_spare = self.looks_spared
        return False

    cdef stage(self):
        """Stage the wait for the set's next events."""
        cdef io_uring_sqe *sqe = self.dispatcher.next_sqe(self)
        if self.features is not self.dispatcher.features:
            self.features = self.dispatcher.features
            self.waits_for_events = "epoll_wait" in self.features.enabled
        sqe.fd = self.epoll_fd
        if self.waits_for_events:
            sqe.opcode = IORING_OP_EPOLL_WAIT
            sqe.addr = <uint64_t><uintptr_t>self.events
            sqe.len = UL_EPOLL_MAX
        else:
            sqe.opcode = IORING_OP_POLL_ADD
            sqe.op_flags = EPOLLIN
        self.token = sqe.user_data
        self.in_flight = True

    cdef ask_again(self, int count):
        """Drop events that came between two sleeps: arm those that they have switched off."""
        cdef Entry entry
        cdef int place
        if not self.waits_for_events:
            return
        for place in range(count):
            entry = self.entry_of(&self.events[place])
            if entry is None or entry.stands:
                continue
            entry.armed = 0
            if entry.wanted:
                self.arm(entry, entry.wanted, False)

    cdef inline Entry entry_of(self, const ul_epoll_event *event):
        """Return the entry of an event; None if it is stale."""
        cdef int fd = ul_epoll_fd(event)
        cdef Entry entry
        if fd >= self.by_fd_size or self.by_fd[fd] == NULL:
            return None
        entry = <Entry>self.by_fd[fd]
        return entry if entry.generation == ul_epoll_generation(event) else None

    cdef arrive(self, int res, uint32_t flags):
        """Take the events, which came after the sleep."""
        self.in_flight = False
        self.ask_again(res)

    cdef int take(self, ul_epoll_event *events, int count) except -1:
        """Make the handles of these events ready, in their order; return the number of events."""
        cdef Entry entry
        cdef int place
        for place in range(count):
            entry = self.entry_of(&events[place])
            if entry is None:
                continue
            if not entry.stands:
                entry.armed = 0
                self.fired.append(entry)
            self.tell(entry, events[place].events)
        return max(count, 0)

    cdef tell(self, Entry entry, uint32_t events):
        """Make the handles of an entry ready; errors and hang-ups concern both."""
        reader, writer = entry.reader, entry.writer
        if events & ~<uint32_t>EPOLLOUT and reader is not None:
            if reader._cancelled:
                self.remove(entry.fd, EPOLLIN)
            else:
                PyObject_CallOneArg(self.append, reader)
        if events & ~<uint32_t>EPOLLIN and writer is not None:
            if writer._cancelled:
                self.remove(entry.fd, EPOLLOUT)
            else:
                PyObject_CallOneArg(self.append, writer)

    # Entries that stay in use

    cdef stand(self):
        """Have the entries that have fired, and are still in use, report from now on without being armed."""
        cdef Entry entry
        late, self.late = self.late, []
        for entry in late:
            if entry.wanted and entry.in_set and not entry.stands and entry.armed == 0:
                entry.stands = True
                # A closed descriptor has left the set, and reports no more.
                self.arm(entry, entry.wanted, False)

    cdef look_at_late(self):
        """Make the handles of entries that have fired ready again, if their descriptors are; asyncio looks at them now.

        Handles that are ready run before these, and mostly remove the entries, which then need no change of the set.
        """
        cdef Entry entry
        cdef pollfd asked
        for entry in self.late:
            if entry.wanted and entry.armed == 0 and not entry.stands:
                asked.fd, asked.events = entry.fd, entry.wanted
                if poll(&asked, 1, 0) > 0 and not asked.revents & POLLNVAL and self.has_same_file(entry):
                    self.tell(entry, asked.revents)

    cdef bint has_same_file(self, Entry entry) noexcept:
        """Return whether the set has the descriptor's file; else its number was used again, without a removal."""
        if ul_epoll_control(self.epoll_fd, EPOLL_CTL_ADD, entry.fd, EPOLLONESHOT, 0) < 0:
            return errno == EEXIST
        ul_epoll_control(self.epoll_fd, EPOLL_CTL_DEL, entry.fd, 0, 0)
        entry.in_set = False
        return False

    # The ring

    def submit(self, Dispatcher dispatcher):
        """Wait again, on another ring; see `Operation.submit`."""

    def reset(self):
        """Wait no more: the ring is closed; the kernel may still write to the memory of the wait."""
        self.lost_memory.append(self.memory)
        self.make_memory()
        self.in_flight = False

    def close(self):
        """Drop all entries: the loop is closed."""
        memset(self.by_fd, 0, self.by_fd_size * sizeof(PyObject *))
        self.entries.clear()
        self.count = 0
        self.fired, self.late, self.removed = [], [], []
        self.begin = self.look = self.ready = self.append = None
