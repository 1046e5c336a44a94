"""`Registry`: the sleeps that end when a descriptor of `Entries` is ready, and its handles made ready.

The ring watches the selector's set: by one IORING_OP_EPOLL_WAIT (Linux 6.15), or by a poll of the set before.  Both are
staged before a sleep, when the callbacks have run.  Events that come between two sleeps are dropped and asked for
again, since a callback may have read the bytes.  Where the last look at the set found events, the next sleep looks
itself first: a system call for that is cheaper than an operation.

On the backend epoll, the ring's own set has the entries, and one system call tells of everything.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from libc.errno cimport EINTR
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memmove

from ..ring.core.core cimport (
    EOWNERDEAD, IORING_OP_EPOLL_WAIT, IORING_OP_POLL_ADD, UL_BACKEND_IO_URING, io_uring_sqe, ul_has_work, ul_outcome,
    ul_ring, ul_ring_backend,
)
from ..ready cimport push, size_of
from ..ring.dispatcher cimport Dispatcher, begins_idly, raise_errno
from .entries cimport Entries, Entry, refused, ul_readers

cdef extern from "selector/epoll.h" nogil:
    enum:
        EPOLLIN
        EPOLLOUT
        EPOLLONESHOT
        EPOLL_CTL_DEL
        EPOLL_CTL_MOD
    int ul_epoll_control(int epoll_fd, int operation, int fd, uint32_t events, uint32_t generation)
    int ul_epoll_fd(const ul_epoll_event *event)
    uint32_t ul_epoll_generation(const ul_epoll_event *event)
    int ul_epoll_sleep(int epoll_fd, ul_epoll_event *events, int capacity, int64_t timeout_ns)

cdef extern from "ring/core/readers.h" nogil:
    ul_readers *ul_readers_open(ul_ring *ring, int other_fd)
    void ul_readers_ask(ul_ring *ring)
    int ul_readers_look(ul_ring *ring)

cdef extern from "poll.h" nogil:
    struct pollfd:
        int fd
        short events, revents
    int POLLNVAL
    int poll(pollfd *asked, unsigned long count, int timeout_ms)

cdef extern from *:
    object PyObject_CallOneArg(object callable, object argument)

cdef enum:
    # After looks in vain, up to so many sleeps go without one.
    LOOKS_SPARED_MAX = 64


cdef class Registry(Entries):
    """The readers and writers of a loop, by descriptor; the operation that waits for their events.

    Args:
        epoll_fd: the selector's epoll set.
        dispatcher: stages the wait.

    Attributes:
        look: called before each sleep with its timeout in nanoseconds; it returns the timeout to use.
    """

    may_move = True

    def __cinit__(self, int epoll_fd, Dispatcher dispatcher):
        self.fired, self.late = [], []
        self.lost_memory = []
        self.make_memory()

    cdef make_memory(self):
        self.memory = PyByteArray_FromStringAndSize(NULL, UL_EPOLL_MAX * sizeof(ul_epoll_event))
        self.events = <ul_epoll_event *>PyByteArray_AS_STRING(self.memory)

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
        if self.count > 0 and (self.ring == NULL or self.ring != dispatcher.ring):
            self.use_ring()
        if self.readers != NULL and self.ring == dispatcher.ring:
            self.wait_in_backend(timeout_ns)
            return
        if self.in_flight:
            dispatcher.reap_ready()
            if self.take_result(&res):
                self.ask_again(res)
        if self.count > 0 and not self.in_flight and not self.abandoned:
            if timeout_ns == 0:
                # A look is cheaper than the operation, which would only be of use for a sleep.
                if not self.are_all_late():
                    self.take(self.found, ul_epoll_sleep(self.epoll_fd, self.found, UL_EPOLL_MAX, 0))
                if self.skips_enter():
                    return
            elif self.looks_first():
                if self.skips_enter():
                    return
                timeout_ns = 0
            else:
                self.stage()
        if timeout_ns == 0 and begins_idly(dispatcher):
            return
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

    cdef bint is_likely_ready(self) noexcept:
        """Return whether the last look has found an event, and another one needs nothing else."""
        return self.looks_spared == 0 and self.count > 0 and self.look is None and not self.in_flight

    cdef bint looks_again(self) except -1:
        """Look at the set once, and begin a tick if there are events of it alone; return whether it has begun."""
        self.prepare()
        if self.ring == NULL or self.ring != self.dispatcher.ring or not self.has_nothing_to_enter_for():
            return False
        if self.readers != NULL:
            ul_readers_ask(self.ring)
            if self.looks_in_backend(False):
                return True
            self.readers.collects = False
            return False
        if not self.looks_first():
            return False
        self.begin_tick()
        return True

    # In the backend's set

    cdef use_ring(self):
        """Watch by the ring's own set from now on, if it has one."""
        cdef Entry entry
        cdef int place
        self.dispatcher.check()
        self.ring = self.dispatcher.ring
        self.readers = ul_readers_open(self.ring, self.epoll_fd)
        if self.readers == NULL:
            return
        left = dict(self.entries)
        # Those that are ready come first, so that they are told in their order.
        for place in range(ul_epoll_sleep(self.epoll_fd, self.found, UL_EPOLL_MAX, 0)):
            entry = self.entry_of(&self.found[place])
            if entry is not None:
                self.move(left.pop(entry.fd))
        for entry in left.values():
            self.move(entry)

    cdef move(self, Entry entry):
        """Take an entry from the selector's set into the ring's."""
        # An error is that of a closed descriptor, which is silent from now on.
        cdef bint is_there = ul_epoll_control(self.epoll_fd, EPOLL_CTL_DEL, entry.fd, 0, 0) == 0
        entry.armed, entry.in_set = 0, False
        if is_there and entry.wanted:
            self.arm(entry, entry.wanted, False)
        elif not entry.wanted:
            self.delete(entry)

    cdef wait_in_backend(self, int64_t timeout_ns):
        """Sleep in the ring, whose set has the entries; make the handles of ready descriptors ready."""
        if timeout_ns == 0 and self.are_all_late() and self.has_nothing_to_enter_for():
            self.begin_tick()
            return
        if timeout_ns == 0 and self.count == 0 and begins_idly(self.dispatcher):
            return
        ul_readers_ask(self.ring)
        if self.count > 0 and self.looks_in_backend(timeout_ns == 0):
            return
        self.waits = True
        try:
            self.dispatcher.wait_for(timeout_ns)
        finally:
            self.waits = False
            if self.ring == self.dispatcher.ring:
                self.readers.collects = False
                if self.readers.count > 0:
                    self.take(self.readers.events, self.readers.count)
                if self.readers.other_found:
                    self.take(self.found, ul_epoll_sleep(self.epoll_fd, self.found, UL_EPOLL_MAX, 0))

    cdef bint looks_in_backend(self, bint suffices) except -1:
        """Look at the set now, as `looks_first`; return whether a tick has begun, for there are ready readers only.

        suffices: no sleep follows, so a look that finds nothing begins a tick too, in the place of an enter.
        """
        cdef int found
        if self.looks_to_spare > 0 and not suffices:
            self.looks_to_spare -= 1
            return False
        if not self.has_nothing_to_enter_for():
            return False
        found = ul_readers_look(self.ring)
        if found == 0 and not suffices:
            self.spare_looks()
        if found < 0 or (found == 0 and not suffices):
            return False
        if found > 0:
            self.looks_spared = 0
        self.readers.collects = False
        self.begin_tick()
        self.take(self.readers.events, found)
        return True

    # In the selector's set

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

    cdef bint are_all_late(self):
        """Return whether all entries in use are switched off, because they have just fired."""
        cdef Entry entry
        cdef Py_ssize_t count = 0
        for entry in self.late:
            count += entry.wanted and entry.armed == 0
        return count == self.count > 0

    cdef bint skips_enter(self) noexcept:
        """Begin a tick without an enter, if there is nothing to enter for; return whether it has begun."""
        if not self.has_nothing_to_enter_for() or ul_ring_backend(self.dispatcher.ring) != UL_BACKEND_IO_URING:
            return False
        self.begin_tick()
        return True

    cdef inline bint has_nothing_to_enter_for(self) noexcept:
        cdef Dispatcher dispatcher = self.dispatcher
        return not (dispatcher.cursor < dispatcher.count or dispatcher.ring == NULL or ul_has_work(dispatcher.ring))

    cdef inline void begin_tick(self) noexcept:
        """Do as an enter does that finds nothing."""
        self.dispatcher.begin_batch()
        self.dispatcher.tick.outcomes = 0

    cdef prepare(self):
        """Bring the set up to date, before a sleep."""
        if self.removed:
            self.take_out()
        if self.late:
            self.stand()
        if self.fired:
            self.late, self.fired = self.fired, []
            if size_of(self.ready) > 0:
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
        self.spare_looks()
        return False

    cdef void spare_looks(self) noexcept:
        self.looks_to_spare = self.looks_spared = min(max(2 * self.looks_spared, 1), LOOKS_SPARED_MAX)

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
                push(self.ready, reader)
        if events & ~<uint32_t>EPOLLIN and writer is not None:
            if writer._cancelled:
                self.remove(entry.fd, EPOLLOUT)
            else:
                push(self.ready, writer)

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
        """Return whether the set has the descriptor's file; else its number was used again, without a removal.

        A change finds an entry that a request has moved to the other set.  The entry is switched off, and stays so.
        """
        entry.in_set = self.control(entry, EPOLL_CTL_MOD, EPOLLONESHOT, 0) == 0
        return entry.in_set

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
        self.clear()
        self.fired, self.late = [], []
        self.look = self.ready = None
