"""The tick of a ring: staging, waiting, and handing each completion to its owner.

No callback runs while C walks CQEs.  Each CQE becomes an outcome at the end of a queue, and `dispatch` takes one
outcome at a time from its front.

A callback may reap in the middle of a dispatch: it finishes an operation at once, or it runs the loop.  So the outcome
in hand is a copy, and nothing points into the queue while Python runs.  A dispatch within a dispatch takes the outcomes
that the outer one has not reached.  If a callback raises KeyboardInterrupt or SystemExit, the other outcomes stay in
the queue, and the next tick dispatches them before all else.  One gap is left: a signal within the Python `complete` of
an operation loses the rest of that call.  The task is then not woken, or a descriptor stays open.  asyncio's own
callbacks have the same gap.

The GIL is released only around a wait that may block, and nothing but the system call runs without it.  Beside a busy
thread even that waits for a moment.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject, PyTypeObject
from libc.errno cimport EAGAIN, EBUSY, EINTR, ENOBUFS, ETIME
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, realloc
from libc.string cimport memmove

from ..meter cimport finish
from ..tick cimport IS_FREE_THREADED, begin_sleep, check_thread, end_sleep, must_send
from .core.core cimport (
    ECANCELED, EOWNERDEAD, IORING_CQE_BUFFER_SHIFT, IORING_CQE_F_MORE, IORING_SETUP_DEFER_TASKRUN, IOSQE_BUFFER_SELECT,
    IOSQE_CQE_SKIP_SUCCESS, UL_GROUP_BYTES, io_uring_sqe, ul_buffer_lend, ul_buffer_recycle, ul_buffers_found_empty,
    ul_buffers_need, ul_cancel_drop, ul_cancel_targets, ul_completed, ul_enter, ul_outcome, ul_descriptor_arm,
    ul_descriptor_disarm, ul_found_readers, ul_in_flight, ul_is_awake, ul_next_sqe, ul_now_ns, ul_operation_token,
    ul_prepare, ul_reap, ul_reap_ready, ul_reserve, ul_retire, ul_ring, ul_ring_entries, ul_ring_dropped,
    ul_ring_make_room, ul_ring_setup_flags, ul_ring_wants_room, ul_ring_watch_wakeup, ul_sleep, ul_spin,
    ul_stage_cancel, ul_stage_cancel_all, ul_staged, ul_wakeup,
)
from .inbox cimport Inbox
from .metered cimport copy_counters, meter_outcome
from .owner cimport Owner, warm_next
from .sender cimport Sender

from .errors import refusal

cdef extern from *:
    """
    static int has_other_threads(void)
    {
        PyThreadState *first = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
        return first != NULL && PyThreadState_Next(first) != NULL;
    }
    #define tp_base(object) (Py_TYPE(object)->tp_base)
    """
    bint has_other_threads()
    PyTypeObject *tp_base(PyObject *object)

cdef enum:
    # A longer wait for the GIL after a sleep means a busy thread beside the loop.
    GIL_AWAITED_NS = 2_000_000
    # So many later sleeps then wait awake for a moment first, in case that a completion comes meanwhile.
    CONTENDED_SLEEPS = 16
    SPIN_NS = 200_000


# The forks that led to this process since the package was loaded.
cdef uint32_t forks = 0


cdef raise_errno(int error):
    raise refusal(-error)


def count_fork():
    """Count a fork, in the child: a dispatcher from before it serves the parent alone."""
    global forks
    forks += 1


cdef class Awaited:
    """Base of the operations that compiled code awaits; see operations/operation.pyx for the life of an operation.

    Attributes:
        waiter: the future that gets the result, or an OSError as its result.
        in_flight: whether the kernel may still touch its memory and descriptor.
        abandoned: whether it has lost its waiter.
        detained: whether a thread makes its call, and no cancel interrupted that.
    """

    may_move = False

    cdef arrive(self, int res, uint32_t flags):
        """Take a CQE; called by the dispatch, for direct subclasses in place of `complete`."""
        raise NotImplementedError

    def complete(self, int res, uint32_t flags):
        """Take a CQE."""
        self.arrive(res, flags)

    def abandon(self):
        """Ask the kernel once to cancel: the waiter is gone."""
        if not self.abandoned:
            self.abandoned = True
            if self.in_flight:
                self.dispatcher.cancel(self.token)


cdef inline complete_operation(operation, int res, uint32_t flags):
    if tp_base(<PyObject *>operation) == <PyTypeObject *>Awaited:
        (<Awaited>operation).arrive(res, flags)
    else:
        operation.complete(res, flags)


cdef class Dispatcher(Sender):
    """Stages SQEs, waits, and hands each completion to its owner.

    Args:
        ring_address: the address of the core's `ul_ring`; 0 if `make` will make one.
        capacity: the largest number of completions of one tick.
        report: called with (exception, operation) when an operation's `complete` raises.

    Attributes:
        spin_ns: the longest wait awake while waits are short; 0 never waits awake.
        early_count: the number of staged SQEs that `submit_early` submits before the tick ends; 0 for never.
        features: the `Features` of the ring.
        make: called by the first need of a ring; it makes one, and calls `move` and `grow`.  None: there is a ring, or
            no further one.
        first: called before the first sleep or submission, to stage the first SQEs; it sets this to None.
    """

    def __cinit__(self, uintptr_t ring_address, int capacity, report):
        self.ring = <ul_ring *>ring_address
        self.forks = forks
        if capacity > 0:
            self.grow(capacity)
        self.report = report
        self.owners = []
        self.operations = {}

    def __dealloc__(self):
        free(self.outcomes)

    def close(self):
        """Drop the ring, which is about to close; refuse all later calls."""
        cdef Owner owner
        self.ring = NULL
        self.inbox = None
        self.make = None
        self.count = self.cursor = 0
        # Dropping a protocol may run Python.
        owners, self.owners = self.owners, []
        for owner in owners:
            owner.drop_core()

    cdef int check(self) except -1:
        check_thread(&self.tick)
        if self.ring == NULL:
            self.make_ring()
        return 0

    cdef int make_ring(self) except -1:
        if self.make is None:
            raise RuntimeError("the ring is closed")
        self.make()
        return 0

    cdef bint has_forked(self):
        return self.forks != forks if self.ring == NULL else ul_ring_dropped(self.ring)

    @property
    def forked(self):
        """Return whether this process is a child of the one that made this dispatcher."""
        return self.has_forked()

    cdef bint has_memory(self):
        """Return whether the queues and buffers exist: the ring is open, and this is no forked child."""
        return self.ring != NULL and not ul_ring_dropped(self.ring)

    cdef int check_use(self) except -1:
        """Raise a RuntimeError unless this thread may stage here."""
        return self.check()

    cdef mark(self, uint64_t token, int sqe_flags):
        """Note the flags of a staged SQE, if they change its completions."""

    cdef io_uring_sqe *next_sqe(self, operation) except NULL:
        """Return an SQE that is zeroed but for its token; the caller fills it before any Python runs.

        The in-flight table holds the operation until its last CQE.
        """
        cdef int error = 0
        self.check_use()
        cdef uint64_t token = ul_operation_token(self.ring)
        self.operations[token] = operation
        cdef io_uring_sqe *sqe = ul_next_sqe(self.ring, &error)
        if sqe == NULL:
            del self.operations[token]
            raise_errno(error)
        sqe.user_data = token
        return sqe

    def stage(self, operation, int opcode, int fd, uint64_t addr=0, uint32_t length=0, uint64_t offset=0,
              uint32_t op_flags=0, *, int ioprio=0, int sqe_flags=0, int buf_index=0, int file_index=0,
              uint64_t addr3=0):
        """Stage an SQE for an operation; return its token."""
        cdef io_uring_sqe *sqe = self.next_sqe(operation)
        cdef uint64_t token = sqe.user_data
        sqe.opcode = opcode
        sqe.flags = sqe_flags
        sqe.ioprio = ioprio
        sqe.fd = fd
        sqe.off = offset
        sqe.addr = addr
        sqe.len = length
        sqe.op_flags = op_flags
        sqe.buf_index = buf_index
        sqe.splice_fd_in = file_index
        sqe.addr3 = addr3
        if sqe_flags & IOSQE_BUFFER_SELECT and buf_index == UL_GROUP_BYTES:
            ul_buffers_need(self.ring)
        if sqe_flags & IOSQE_CQE_SKIP_SUCCESS:
            self.mark(token, sqe_flags)
        return token

    cpdef submit_early(self):
        """Submit the staged SQEs, if they are many: a disk idles, or sleeps, while a large batch is put together."""
        if self.early_count > 0 and self.ring != NULL and ul_staged(self.ring) >= self.early_count:
            self.enter(0)

    def reserve(self, uint32_t count):
        """Make room for count SQEs in a row, which go to the kernel together."""
        self.check()
        cdef int error = ul_reserve(self.ring, count)
        if error < 0:
            raise_errno(error)

    def retire(self, uint64_t token, int res=0):
        """End the operation of this token, which has no CQE, and return its result.

        Either it skips success, and the SQE linked behind it has completed; or it is linked behind one that skips
        success and has failed.
        """
        self.check()
        operation = self.operations.pop(token)
        ul_retire(self.ring)
        ul_cancel_drop(self.ring, token)
        res = operation.finish(res)
        operation.release()
        return res

    def take_buffer(self, uint32_t flags, int size_bytes):
        """Return the bytes in the buffer that a CQE's flags name, and recycle the buffer."""
        return self.bytes_of_buffer(flags, size_bytes)

    cdef bytes_of_buffer(self, uint32_t flags, int size_bytes):
        cdef uint32_t buffer_id = flags >> IORING_CQE_BUFFER_SHIFT
        self.check()
        if ul_ring_dropped(self.ring):
            raise_errno(-EOWNERDEAD)
        try:
            return PyBytes_FromStringAndSize(
                ul_buffer_lend(self.ring, UL_GROUP_BYTES, buffer_id, <void *>self), size_bytes
            )
        finally:
            ul_buffer_recycle(self.ring, UL_GROUP_BYTES, buffer_id, <void *>self)

    def grow_buffers(self):
        """Let the buffer group grow, if it may: a receive found it empty.  Return whether there is a group."""
        return ul_buffers_found_empty(self.ring, UL_GROUP_BYTES) != -ENOBUFS

    def cancel(self, uint64_t token):
        """Ask the kernel to cancel the operation of this token; its completion still comes, unless the ring is closed.

        In a forked child the operation ends here: the kernel completes it for the parent, in the parent's memory.
        """
        if self.ring == NULL:
            return
        check_thread(&self.tick)
        if ul_ring_dropped(self.ring):
            self.complete(token, -ECANCELED, 0)
            return
        cdef int error = ul_stage_cancel(self.ring, token)
        if error < 0:
            raise_errno(error)

    def cancel_all(self):
        """Ask the kernel to cancel all operations in flight, and drop the send queues."""
        cdef Owner owner
        for owner in self.owners:
            owner.abort_in_core()
        self.check()
        cdef int error = ul_stage_cancel_all(self.ring)
        if error < 0:
            raise_errno(error)

    def has_work(self):
        """Return whether a sleep would be wrong: completions are at hand or near, SQEs staged, or outcomes waiting."""
        return self.has_memory() and (self.cursor < self.count or ul_is_awake(self.ring) != 0)

    def has_outcomes(self):
        """Return whether an outcome waits to be dispatched."""
        return self.cursor < self.count

    def submit(self):
        """Hand the staged SQEs to the kernel now; their completions wait for the next `wait`."""
        if self.make is not None:
            return  # nothing is staged
        self.check()
        self.enter(0)
        self.tick.outcomes = 0

    cdef submit_cancel(self):
        """Submit the cancel of a receive, so that later bytes stay with their socket or pipe.

        With DEFER_TASKRUN the next enter is soon enough: an enter receives only after it has submitted.
        """
        if not ul_ring_setup_flags(self.ring) & IORING_SETUP_DEFER_TASKRUN:
            self.enter(0)

    cpdef finish_now(self, uint64_t token):
        """Submit the staged SQEs, and take the completion of this token if it is there.

        Other completions wait for the next dispatch.

        Returns:
            (res, flags), or None if `dispatch` will bring the completion.
        """
        cdef int place, found
        cdef ul_outcome outcome
        self.check()
        self.enter(0)
        found = self.reap_ready()
        for place in range(self.count - found, self.count):
            outcome = self.outcomes[place]
            if outcome.owner == NULL and outcome.token == token and not outcome.flags & IORING_CQE_F_MORE:
                self.count -= 1
                memmove(&self.outcomes[place], &self.outcomes[place + 1], (self.count - place) * sizeof(ul_outcome))
                del self.operations[token]
                return outcome.res, outcome.flags
        return None

    cdef bint enter(self, int64_t timeout_ns) except -1:
        """Submit, and wait for a completion; return whether a signal came first."""
        cdef int result
        cdef int64_t awake_ns
        cdef uint64_t slept_from
        if self.first is not None and ul_staged(self.ring):
            self.first()
        self.begin_batch()
        result = ul_prepare(self.ring, &timeout_ns)
        if result > 0 and timeout_ns == 0:
            result = ul_enter(self.ring, 0, -1)
        elif result > 0 and not self.finds_without_sleeping(timeout_ns):
            slept_from = begin_sleep(&self.tick)
            with nogil:
                result = ul_sleep(self.ring, timeout_ns, self.spin_ns)
                awake_ns = ul_now_ns()
                end_sleep(&self.tick, slept_from)
            self.contended -= self.contended > 0
            if not IS_FREE_THREADED and ul_now_ns() - awake_ns > GIL_AWAITED_NS and has_other_threads():
                self.contended = CONTENDED_SLEEPS
        if result < 0 and result not in (-EINTR, -EBUSY, -EAGAIN, -ETIME):
            raise_errno(result)
        return result == -EINTR

    cdef bint finds_without_sleeping(self, int64_t timeout_ns):
        """Return whether a completion comes within a moment, during which this thread keeps the GIL.

        Beside a thread that computes in Python, a released GIL comes back after a switch interval of 5 ms, in which
        much more would have arrived.  The other thread does not starve: the callbacks' Python releases the GIL for as
        long, as soon as it is asked to.
        """
        if self.contended == 0:
            return False
        if ul_spin(self.ring, SPIN_NS if timeout_ns < 0 else min(SPIN_NS, timeout_ns)):
            return True
        # The sleep that follows tells anew.  In vain may mean that the other thread is awaited, and needs the GIL.
        self.contended = 0
        return False

    def wait(self, int64_t timeout_ns):
        """Submit, wait for a completion, and copy the completions out.

        Args:
            timeout_ns: the longest wait; 0 does not wait, a negative number waits for ever.

        Returns:
            The number of outcomes to dispatch; 0 also after a signal or the timeout.
        """
        return self.wait_for(timeout_ns)

    cdef int wait_for(self, int64_t timeout_ns) except -1:
        cdef uint64_t completed
        cdef bint interrupted
        cdef int64_t deadline_ns = 0
        if self.ring == NULL and timeout_ns == 0 and self.make is not None:
            if self.has_forked():
                raise_errno(-EOWNERDEAD)
            return 0
        self.check()
        if self.cursor < self.count:
            timeout_ns = 0
        if timeout_ns != 0 and self.first is not None:
            self.first()
        if timeout_ns > 0:
            deadline_ns = ul_now_ns() + timeout_ns
        while True:
            self.check()
            completed = ul_completed(self.ring)
            interrupted = self.enter(timeout_ns)
            self.reap_all()
            if self.give_turns != NULL:
                # Behind the small pieces, which are dispatched in the same tick.
                self.add(self.give_turns(self.ring, self.outcomes + self.count, self.capacity - self.count))
            if ul_ring_wants_room(self.ring) and ul_ring_make_room(self.ring) == 0:
                self.grow(ul_ring_entries(self.ring, 1))
            self.tick.outcomes = self.count - self.cursor
            if self.cursor < self.count or timeout_ns == 0 or interrupted or ul_completed(self.ring) == completed:
                return self.count - self.cursor
            # Sends that end well are no reason to wake Python: sleep on, if an operation is still in flight.
            if ul_in_flight(self.ring) == 0 or ul_found_readers(self.ring):
                return 0
            if timeout_ns > 0:
                timeout_ns = deadline_ns - ul_now_ns()
                if timeout_ns <= 0:
                    return 0

    def grow(self, int capacity):
        """Make room for as many completions as the ring's queue holds now."""
        if capacity <= self.capacity:
            return
        cdef void *outcomes = realloc(self.outcomes, capacity * sizeof(ul_outcome))
        if outcomes == NULL:
            raise MemoryError
        self.outcomes = <ul_outcome *>outcomes
        self.capacity = capacity

    cdef inline int room(self) noexcept:
        """Make room at the queue's end; return the number of free places."""
        cdef int waiting = self.count - self.cursor
        if waiting == 0:
            self.cursor = self.count = 0
        elif self.cursor > self.capacity // 2 or self.count == self.capacity:
            # Half of the queue is moved at most once while as many outcomes are taken.
            memmove(self.outcomes, &self.outcomes[self.cursor], waiting * sizeof(ul_outcome))
            self.cursor, self.count = 0, waiting
        return self.capacity - self.count

    cdef int reap_all(self) except -1:
        """Queue an outcome for each completion, as far as there is room; return their number."""
        cdef int room = self.room()
        cdef int result = ul_reap(self.ring, self.outcomes + self.count, room)
        if result < 0:
            if result not in (-EINTR, -EBUSY, -EAGAIN, -ETIME):
                raise_errno(result)
            return 0
        if result > 0:
            self.add(result)
        return result

    cdef int reap_ready(self) noexcept:
        """Do the same without a system call."""
        cdef int room = self.room()
        cdef int result = ul_reap_ready(self.ring, self.outcomes + self.count, room)
        self.add(result)
        return result

    cdef void add(self, int count) noexcept:
        """Count the outcomes that were written behind the queue: each holds the core's half of its endpoint."""
        cdef int place
        for place in range(self.count, self.count + count):
            if self.outcomes[place].owner != NULL:
                (<Owner>self.outcomes[place].owner).untold += 1
        self.count += count

    def reap(self):
        """Copy the completions out without a system call, which another thread than the ring's may do."""
        self.check()
        self.reap_ready()

    def move(self, uintptr_t ring_address):
        """Take another ring; 0: none.  No endpoint may be open; the caller submits the operations again."""
        assert not self.owners
        self.ring = <ul_ring *>ring_address
        self.watch_inbox()
        self.operations.clear()

    def wake_by(self, Inbox inbox, bint multishot):
        """Let what is put into the inbox of the loop end each sleep from now on.

        Args:
            inbox: the loop's.
            multishot: whether the ring can watch its descriptor with one poll for all times.
        """
        self.inbox = inbox
        self.is_inbox_multishot = multishot
        self.watch_inbox()

    cdef void watch_inbox(self) noexcept:
        if self.ring != NULL and self.inbox is not None:
            ul_ring_watch_wakeup(self.ring, <ul_wakeup *>&self.inbox.wakeup, self.is_inbox_multishot)

    def arm_descriptor(self):
        self.check()
        self.slept_from = begin_sleep(&self.tick)
        ul_descriptor_arm(self.ring)

    def disarm_descriptor(self):
        end_sleep(&self.tick, self.slept_from)
        ul_descriptor_disarm(self.ring)

    cpdef dispatch(self):
        """Hand each outcome that waits now to its operation or owner.  Those that callbacks add are left for the next
        call.

        Raises:
            RuntimeError: a callback forked, and this is the child.
        """
        if self.cursor != self.count:
            self.hand_over(self.taken + <uint64_t>(self.count - self.cursor))
        if self.tick.is_metered:
            self.end_metering()

    cdef end_metering(self):
        """End the time of the last outcome, and copy the ring's counters into the meter's page."""
        finish(self.meter, 0)
        if self.ring != NULL:
            copy_counters(self.meter, self.ring)

    cdef hand_over(self, uint64_t end):
        """Hand the outcomes from the first of the queue up to this number to their owners, as far as they wait."""
        cdef ul_outcome outcome
        cdef Owner owner = None, told
        operation = None
        while True:
            # One `try` for all of them: to enter it costs as much as all else here.
            try:
                while self.taken < end:
                    # A signal handler that raises does so here, where it loses no outcome, and not on the way into a
                    # callback.
                    PyErr_CheckSignals()
                    if must_send(&self.tick):
                        self.send_waiting()
                    if self.cursor == self.count:
                        return
                    if ul_ring_dropped(self.ring):
                        raise_errno(-EOWNERDEAD)
                    if self.tick.is_metered:
                        meter_outcome(self.meter, &self.outcomes[self.cursor], self.operations)
                    outcome = self.outcomes[self.cursor]
                    self.cursor += 1
                    self.taken += 1
                    if outcome.owner == NULL:
                        operation = self.take_operation(outcome.token, outcome.flags)
                        if operation is not None:
                            complete_operation(operation, outcome.res, outcome.flags)
                            operation = None
                        continue
                    warm_next(&self.outcomes[self.cursor], self.count - self.cursor)
                    owner = <Owner>outcome.owner
                    owner.take_outcome(&outcome)
                    told, owner = owner, None
                    self.note_told(told)
                return
            except BaseException as error:
                if owner is None and operation is None:
                    raise
                told, owner = owner, None
                failed, operation = operation, None
                try:
                    if isinstance(error, (SystemExit, KeyboardInterrupt)):
                        raise
                    self.report(error, failed if told is None else told)
                finally:
                    if told is not None:
                        self.note_told(told)

    cdef inline note_told(self, Owner owner):
        owner.untold -= 1
        if owner.freeing:
            owner.free_half()

    cdef inline take_operation(self, uint64_t token, uint32_t flags):
        """Return the operation of this CQE, None for a message from another ring."""
        if flags & IORING_CQE_F_MORE:
            return self.operations.get(token)
        operation = self.operations.pop(token, None)
        if ul_cancel_targets(self.ring) > 0:
            ul_cancel_drop(self.ring, token)
        return operation

    cdef complete(self, uint64_t token, int res, uint32_t flags):
        operation = self.take_operation(token, flags)
        if operation is None:
            return
        try:
            complete_operation(operation, res, flags)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.report(error, operation)
