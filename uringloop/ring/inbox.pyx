# cython: language_level=3, boundscheck=False, wraparound=False
"""`Inbox`: the handles that other threads give to a loop, and the wakeup of that loop.

Any thread puts, the loop takes.  A put makes a system call only if the loop sleeps, and only the first of several.  The
lock is short: no Python runs under it.  So a finalizer or a signal handler that puts too cannot wait for itself.
"""

from posix.unistd cimport close

import os

cdef extern from "ring/core/wakeup.h" nogil:
    int ul_wakeup_open()
    bint ul_wakeup_post(ul_wakeup *wakeup)
    void ul_wakeup_write(const ul_wakeup *wakeup)
    void ul_wakeup_take(ul_wakeup *wakeup)

cdef extern from *:
    void lock_inbox(inbox_lock *lock) noexcept
    void unlock_inbox(inbox_lock *lock) noexcept
    # Without the exception that `except -1` would look for.
    int append "PyList_Append"(object list, object item) noexcept


cdef class Inbox:
    """Take handles from any thread, in each thread's order.

    It wakes nothing before `open`, and after `close`.
    """

    def __cinit__(self):
        self.wakeup.fd = -1
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
            ul_wakeup_write(&self.wakeup)

    cdef int put(self, handle) except -1:
        """Add a handle, and wake the loop if it sleeps."""
        cdef int result
        lock_inbox(&self.lock)
        result = append(self.waiting, handle)
        if result == 0:
            self.post()
        unlock_inbox(&self.lock)
        if result < 0:
            raise MemoryError
        return 0

    cdef int move_to(self, extend) except -1:
        """Call `extend` with the list of all handles, in their order; only the loop does."""
        cdef list taken, fresh = self.spare
        if fresh is None:
            fresh = []
        lock_inbox(&self.lock)
        self.spare = None
        taken, self.waiting = self.waiting, fresh
        ul_wakeup_take(&self.wakeup)
        unlock_inbox(&self.lock)
        extend(taken)
        taken.clear()
        self.spare = taken
        return 0
