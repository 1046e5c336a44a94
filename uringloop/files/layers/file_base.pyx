"""`FileBase`: the compiled base of all files."""

from ...call cimport check_loop
from .call cimport CallOwner
from .lock cimport Lock


cdef class FileBase(CallOwner):
    """The base of all files: one call at a time, and whether it is closed.

    A file that was not closed has its method `_dropped` called when nothing refers to it any more.

    Attributes:
        _loop: the event loop; it finishes a cancelled close.
        _closing: the task that closes the file.
        _lock: held by the call in progress.
        _is_closed: whether the file is closed, or about to be.
    """

    def __cinit__(self, *args, **kwargs):
        # Before `__init__` there is nothing to close.
        self._is_closed = True
        self._lock = Lock.__new__(Lock)

    def __del__(self):
        if not self._is_closed:
            self._dropped()

    cdef int check_caller(self) except -1:
        return check_loop(self._loop)
