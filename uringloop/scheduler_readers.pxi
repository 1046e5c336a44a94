"""`Watching`: asyncio's methods for readers and writers, over a `Registry`."""

cdef extern from "sys/epoll.h":
    enum:
        EPOLLIN
        EPOLLOUT


cdef extern from *:
    """
    #define load_flag(flag) __atomic_load_n(flag, __ATOMIC_RELAXED)
    #define store_flag(flag, value) __atomic_store_n(flag, value, __ATOMIC_RELAXED)
    """
    int load_flag(const int *flag)
    void store_flag(int *flag, int value)


# The garbage collector leaves the queue and the registry to a loop that it clears: they drop their own references.
@cython.no_gc_clear
cdef class Watching:
    """The base of `Scheduler`, with the loop's readers and writers."""

    cdef ReadyQueue ready
    cdef Registry registry
    cdef public bint _debug
    cdef int closed
    cdef bint sleeping  # from before the loop looks whether anything is ready until it has slept

    @property
    def _closed(self):
        return load_flag(&self.closed) != 0

    @_closed.setter
    def _closed(self, bint closed):
        store_flag(&self.closed, closed)

    def __cinit__(self):
        self.ready = ReadyQueue()

    cdef make_reader(self, callback, args, context):
        """Return a handle, unless the loop is closed."""
        raise NotImplementedError

    def _watch_by(self, Registry registry):
        """Set the registry of readers and writers, which makes their handles ready."""
        self.registry = registry
        registry.ready = self.ready

    def add_reader(self, fd, callback, *args):
        """See `asyncio.loop.add_reader`."""
        if type(fd) is not int or fd in self.registry.transports:
            self._ensure_fd_no_transport(fd)
        self.watch(fd, EPOLLIN, callback, args, None)

    def add_writer(self, fd, callback, *args):
        """See `asyncio.loop.add_writer`."""
        if type(fd) is not int or fd in self.registry.transports:
            self._ensure_fd_no_transport(fd)
        self.watch(fd, EPOLLOUT, callback, args, None)

    def remove_reader(self, fd):
        """See `asyncio.loop.remove_reader`."""
        if type(fd) is not int or fd in self.registry.transports:
            self._ensure_fd_no_transport(fd)
        return self.unwatch(fd, EPOLLIN)

    def remove_writer(self, fd):
        """See `asyncio.loop.remove_writer`."""
        if type(fd) is not int or fd in self.registry.transports:
            self._ensure_fd_no_transport(fd)
        return self.unwatch(fd, EPOLLOUT)

    def _add_reader(self, fd, callback, *args, context=None):
        """Do the same for a transport, and return the handle."""
        return self.watch(fd, EPOLLIN, callback, args, context)

    def _add_writer(self, fd, callback, *args, context=None):
        return self.watch(fd, EPOLLOUT, callback, args, context)

    def _remove_reader(self, fd):
        return self.unwatch(fd, EPOLLIN)

    def _remove_writer(self, fd):
        return self.unwatch(fd, EPOLLOUT)

    cdef watch(self, fd, uint32_t direction, callback, args, context):
        check_thread(&self.registry.dispatcher.tick)
        handle = self.make_reader(callback, args, context)
        self.registry.add(fd, direction, handle)
        if self.sleeping:
            # Another thread may not do this, but with asyncio it has its effect.
            self._write_to_self()
        return handle

    cdef bint unwatch(self, fd, uint32_t direction) except -1:
        if load_flag(&self.closed):
            return False
        check_thread(&self.registry.dispatcher.tick)
        return self.registry.remove(fd, direction)
