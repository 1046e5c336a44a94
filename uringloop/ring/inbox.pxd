from libc.stdint cimport uint32_t

from ..ready cimport ReadyQueue

cdef extern from "ring/core/wakeup.h" nogil:
    ctypedef struct ul_wakeup:
        uint32_t posted
        uint32_t asleep
        int fd
    bint ul_wakeup_is_posted(const ul_wakeup *wakeup)


cdef extern from *:
    """
    /* Python 3.13 may run without the GIL, and has a lock for that.  Before, there is the GIL: no Python, and nothing
     * that lets go of it, runs between locking and unlocking. */
    #if PY_VERSION_HEX >= 0x030D0000
    typedef PyMutex inbox_lock;
    #define lock_inbox(lock) PyMutex_Lock(lock)
    #define unlock_inbox(lock) PyMutex_Unlock(lock)
    #else
    typedef char inbox_lock;
    #define lock_inbox(lock) ((void)(lock))
    #define unlock_inbox(lock) ((void)(lock))
    #endif
    """
    ctypedef struct inbox_lock:
        pass


cdef void answers_are(kind) noexcept


cdef class Inbox:
    cdef ul_wakeup wakeup
    cdef inbox_lock lock  # around the next fields, and the descriptor
    cdef list waiting
    cdef list spare  # empty: the next `waiting`; None while the loop takes
    cdef bint has_written  # since the loop took last
    cdef uint32_t lone_wakeups  # in a row, which brought the loop one handle
    cdef uint32_t lone_wakeups_wanted  # before a write without the GIL
    cdef int vain_writes  # without the GIL, less those that were not in vain
    cdef int writing  # the threads that write without the GIL
    cdef int leftover_fd  # closed, but for those threads; -1: none

    cdef int put(self, handle, callback) except -1
    cdef int move_to(self, ReadyQueue ready) except -1
    cdef void post(self) noexcept
    cdef bint lets_go(self, callback) noexcept
    cdef void write_without_gil(self, int fd) noexcept
