"""`Sender`: when written bytes leave.  The numbers are those of tick.pxd."""

from libc.stdint cimport uintptr_t

from ..tick cimport (
    FEW_WRITES, IS_FREE_THREADED, begin_waiting, has_few, is_late, must_send, store_thread, this_thread,
)


cdef class Sender:
    """Base of the dispatcher, which has the written bytes of a tick sent: each piece at once, or all together."""

    @property
    def tick_address(self):
        """Return the address of the `Tick`, for the scheduler."""
        return <uintptr_t>&self.tick

    def take_thread(self):
        """Belong to this thread from now on, where no loop of uringloop's says so."""
        store_thread(&self.tick.thread, this_thread())
        self.tick.is_strict = IS_FREE_THREADED

    cdef bint sends_at_once(self) noexcept:
        """Return whether a small write goes to its socket now.

        If many callbacks of a tick write, one enter for all costs less.
        """
        self.writes += 1
        if has_few(&self.tick) or max(self.writes, self.last_writes) <= FEW_WRITES or self.late:
            return True
        if is_late(&self.tick):
            self.send_waiting()
            return True
        return False

    cdef void hold(self) noexcept:
        """Let the next written bytes wait for the end of the callback."""
        if has_few(&self.tick):
            begin_waiting(&self.tick)
        self.tick.held = True

    cpdef void send_waiting(self) noexcept:
        """Send the bytes that wait for the end of the tick or of the callback."""
        if self.ring == NULL:
            return
        self.tick.held = False
        self.late = is_late(&self.tick)
        self.tick.unsent = self.send_written != NULL and self.send_written(self.ring, self.late) and not self.late

    def send_if_late(self):
        """Do the same between two callbacks, if it is time."""
        if must_send(&self.tick):
            self.send_waiting()

    cdef void begin_batch(self) noexcept:
        """Let the next writes be those of another tick: the ring is about to be entered."""
        self.late = self.tick.unsent = self.tick.held = False
        if self.writes > 0:
            self.last_writes, self.writes = self.writes, 0
