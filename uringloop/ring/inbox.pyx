# cython: language_level=3, boundscheck=False, wraparound=False
"""`Inbox`: the handles that other threads give to a loop, and the wakeup of that loop.

Any thread puts, the loop takes.  A put makes a system call only if the loop sleeps, and only the first of several.  The
lock is short: no Python runs under it.  So a finalizer or a signal handler that puts too cannot wait for itself.

A woken loop needs the GIL.  If it runs on the producer's CPU, it comes before the producer, and then each waits for the
other: five switches of threads for a handle.  So the producer lets go of the GIL for the write, and the loop runs the
handle meanwhile.  A producer of many handles keeps the GIL: it would switch for each of them otherwise.  The
inbox tells both apart by its last wakeups: each brought one handle, or one brought more.  Where the loop has a CPU of
its own, the producer is back before it, and has let go in vain.  After a few such times it keeps the GIL for long.
"""

from cpython.object cimport PyTypeObject
from posix.unistd cimport close

from ..ready cimport push

import os

from ..tick cimport IS_FREE_THREADED

cdef extern from "ring/core/wakeup.h" nogil:
    int ul_wakeup_open()
    bint ul_wakeup_post(ul_wakeup *wakeup)
    void ul_wakeup_write(int fd)
    void ul_wakeup_take(ul_wakeup *wakeup)
    bint ul_wakeup_is_asleep(const ul_wakeup *wakeup)

cdef extern from *:
    PyTypeObject *type_of "Py_TYPE"(object object) noexcept
    void lock_inbox(inbox_lock *lock) noexcept
    void unlock_inbox(inbox_lock *lock) noexcept
    # Without the exception that `except -1` would look for.
    int append "PyList_Append"(object list, object item) noexcept

cdef enum:
    # After so many wakeups for one handle each, the next write is made without the GIL.
    LONE_WAKEUPS = 8
    # After as many, if more of the last writes were in vain than were not; twice as many each time, up to a limit.
    LONE_WAKEUPS_AFTER_VAIN = 64
    LONE_WAKEUPS_MAX = 1024
    VAIN_WRITES = 4
    # Each so many keeps the GIL, which shows whether the producer has more.
    LONE_WAKEUPS_LOOKED_AT = 64


# The class of callbacks by which a thread of an executor hands in its work.  It keeps the GIL: otherwise the loop would
# put the next work into the queue before this thread looks there, and wake another one.
cdef PyTypeObject *answer_type = NULL


cdef void answers_are(kind) noexcept:
    """Have threads keep the GIL while they wake a loop for a callback of this class."""
    global answer_type
    answer_type = <PyTypeObject *>kind


cdef class Inbox:
    """Take handles from any thread, in each thread's order.

    It wakes nothing before `open`, and after `close`.
    """

    def __cinit__(self):
        self.wakeup.fd = self.leftover_fd = -1
        self.lone_wakeups_wanted = LONE_WAKEUPS
        self.waiting = []
        self.spare = []

    def __dealloc__(self):
        if self.wakeup.fd >= 0:
            close(self.wakeup.fd)

    @property
    def fd(self):
        """Return the descriptor that wakes the loop, -1 before `open` and after `close`."""
        return self.wakeup.fd

    def open(self):
        """Make the descriptor that wakes the loop.

        Raises:
            OSError: none is left.
        """
        cdef int fd = ul_wakeup_open()
        if fd < 0:
            raise OSError(-fd, os.strerror(-fd))
        self.wakeup.fd = fd

    def close(self):
        """Close the descriptor.  A thread that puts at this moment writes to it before, or not at all."""
        cdef int fd
        lock_inbox(&self.lock)
        fd, self.wakeup.fd = self.wakeup.fd, -1
        if self.writing > 0 and fd >= 0:
            self.leftover_fd, fd = fd, -1
        unlock_inbox(&self.lock)
        if fd >= 0:
            close(fd)

    def wake(self):
        """End the loop's sleep, or keep it from the next one."""
        lock_inbox(&self.lock)
        self.post()
        unlock_inbox(&self.lock)

    cdef void post(self) noexcept:
        if ul_wakeup_post(&self.wakeup) and self.wakeup.fd >= 0:
            self.has_written = True
            ul_wakeup_write(self.wakeup.fd)

    cdef int put(self, handle, callback) except -1:
        """Add a handle of a callback, and wake the loop if it sleeps."""
        cdef int result, fd = -1
        lock_inbox(&self.lock)
        result = append(self.waiting, handle)
        if result == 0 and not self.lets_go(callback):
            self.post()
        elif result == 0 and ul_wakeup_post(&self.wakeup) and self.wakeup.fd >= 0:
            self.has_written = True
            self.writing += 1
            fd = self.wakeup.fd
        unlock_inbox(&self.lock)
        if result < 0:
            raise MemoryError
        if fd >= 0:
            self.write_without_gil(fd)
        return 0

    cdef bint lets_go(self, callback) noexcept:
        """Return whether a wakeup for this callback is made without the GIL."""
        if IS_FREE_THREADED or type_of(callback) == answer_type:
            return False
        return self.lone_wakeups >= self.lone_wakeups_wanted and self.lone_wakeups % LONE_WAKEUPS_LOOKED_AT != 0

    cdef void write_without_gil(self, int fd) noexcept:
        with nogil:
            ul_wakeup_write(fd)
        fd = -1
        lock_inbox(&self.lock)
        if ul_wakeup_is_asleep(&self.wakeup):
            self.lone_wakeups_wanted = LONE_WAKEUPS  # the loop has run the handle, and sleeps again
            self.vain_writes -= self.vain_writes > 0
        else:
            self.vain_writes += 1
        if self.vain_writes == VAIN_WRITES:
            self.vain_writes = self.lone_wakeups = 0
            self.lone_wakeups_wanted = min(max(2 * self.lone_wakeups_wanted, LONE_WAKEUPS_AFTER_VAIN), LONE_WAKEUPS_MAX)
        self.writing -= 1
        if self.writing == 0:
            fd, self.leftover_fd = self.leftover_fd, -1
        unlock_inbox(&self.lock)
        if fd >= 0:
            close(fd)

    cdef int move_to(self, ReadyQueue ready) except -1:
        """Move all handles to the end of the ready queue, in their order; only the loop does."""
        cdef list taken, fresh = self.spare
        if fresh is None:
            fresh = []
        lock_inbox(&self.lock)
        self.spare = None
        taken, self.waiting = self.waiting, fresh
        ul_wakeup_take(&self.wakeup)
        if self.has_written:
            self.has_written = False
            self.lone_wakeups = self.lone_wakeups + 1 if len(taken) == 1 else 0
        unlock_inbox(&self.lock)
        for handle in taken:
            push(ready, handle)
        taken.clear()
        self.spare = taken
        return 0
