"""`Meter`: counts and times the callbacks of a loop that measures.

A loop without a meter looks at a pointer a few times a tick.  With one, the CPU's own counter is read once for each
callback; all times are its cycles until they are read out.  Two histograms have doubling buckets: how late callbacks
ran, and how long ticks were.

The ready queue holds no times.  So the meter keeps them beside it, in batches: after each callback it sees how many
handles that callback has made ready.  A handle is due when the callback that scheduled it has ended, and a timer at
its own time.  A completion is due when the loop wakes up.

All numbers stand in one page without pointers.  A shared page is a memfd that the loop holds open.  Another process of
the same user reads it through /proc/PID/fd at any time, also while the loop hangs.  It ends with the process, and no
path of it is left behind.
"""

import fcntl
import os
from functools import partial
from operator import itemgetter

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EINVAL, errno
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memmove, memset, strncmp

from .tick cimport count_cycles, monotonic_ns

cdef extern from "<string.h>" nogil:
    size_t strnlen(const char *text, size_t most)

cdef extern from "<unistd.h>" nogil:
    int getpid()
    long syscall(long number)

cdef extern from "<sys/syscall.h>" nogil:
    long SYS_gettid

cdef extern from "<sys/mman.h>" nogil:
    int PROT_READ, PROT_WRITE, MAP_SHARED
    void *MAP_FAILED
    void *mmap(void *address, size_t size, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t size)

cdef uint64_t MAGIC = 0x31504F4F4C475255  # "URGLOOP1"
cdef int64_t CALIBRATED_EVERY = 1024
#: A page cannot be mapped for writing again, nor change its size: a reader that maps it changes nothing.
cdef int SEALS = 0x0002 | 0x0004 | 0x0010
cdef int MFD_NOEXEC_SEAL = 0x0008

#: The name of a shared page, as a link in /proc/PID/fd shows it.
PAGE_NAME = "uringloop-statistics"
PAGE_SIZE_BYTES = sizeof(Page)
#: The upper bounds of all buckets but the last one, in nanoseconds.
BOUNDS_NS = tuple(1000 << place for place in range(BUCKET_COUNT - 1))
#: Callbacks that took at least so long are remembered by name.  To name one takes about 2 us.
SLOW_NS = 100_000

# The same moment on both clocks.
cdef uint64_t base_cycles = count_cycles()
cdef int64_t base_ns = monotonic_ns()


def name_of(callback):
    """Return the name of a callback, such as "module.Class.method"; of a task's step, that of its coroutine."""
    # The ring needs no asyncio, and imports this module.
    import asyncio

    while isinstance(callback, partial):
        callback = callback.func
    task = getattr(callback, "__self__", None)
    if isinstance(task, asyncio.Task):
        coroutine = task.get_coro()
        code = getattr(coroutine, "cr_code", None)
        if code is None:
            return class_name(coroutine) if coroutine is not None else "asyncio.Task"
        # A coroutine knows no module.
        module = os.path.basename(code.co_filename).removesuffix(".py")
        return f"{module}.{coroutine.__qualname__}"
    name = getattr(callback, "__qualname__", None)
    if not isinstance(name, str):
        return class_name(callback)
    module = getattr(callback, "__module__", None)
    if not isinstance(module, str) and task is not None:
        module = type(task).__module__  # a method of a compiled class
    return f"{module}.{name}" if isinstance(module, str) else name


cdef make_memfd():
    """Return a new memfd that can be sealed, and never executed: a kernel may refuse any other."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(PAGE_NAME, flags | MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != EINVAL:
            raise
    return os.memfd_create(PAGE_NAME, flags)  # before Linux 6.3


def class_name(instance):
    """Return the name of an object's class, with its module."""
    kind = type(instance)
    return f"{kind.__module__}.{kind.__qualname__}"


cdef class Meter:
    """Counts and times the callbacks of a loop.

    Args:
        backend: the number of the backend, 0 for io_uring and 1 for epoll.

    Attributes:
        counts: whether `start` was called, and `stop` was not since.
        handler: kept for the hook's own use.
    """

    def __cinit__(self, *_):
        self.fd = -1
        self.page = <Page *>calloc(1, sizeof(Page))
        if self.page == NULL:
            raise MemoryError
        self.page.magic = MAGIC
        self.page.size_bytes = sizeof(Page)
        self.page.pid = os.getpid()
        self.page.slow_ns = SLOW_NS
        self.hook_ns = -1
        self.clear()

    def __init__(self, int backend=0):
        self.page.backend = backend

    def __dealloc__(self):
        if self.fd >= 0:
            munmap(self.page, sizeof(Page))
        else:
            free(self.page)
        free(self.batches)
        change_subject(self, NULL)

    def clear(self):
        """Forget everything counted so far: the numbers begin now."""
        cdef Page *page = self.page
        self.calibrate()
        page.since_ns, page.since_cycles = monotonic_ns(), count_cycles()
        if page.mark_cycles:
            page.mark_cycles = page.since_cycles
        page.ticks = page.callbacks = page.completions = page.busy_cycles = page.asleep_cycles = 0
        memset(&page.lag, 0, sizeof(Histogram))
        memset(&page.tick, 0, sizeof(Histogram))
        page.sequence += 1
        memset(page.slowest, 0, sizeof(page.slowest))
        page.sequence += 1

    def start(self, int64_t slow_ns):
        """Count from now on; remember callbacks of at least so many nanoseconds by name."""
        self.clear()
        self.page.slow_ns = slow_ns
        self.counts = True
        self.set_threshold()

    def stop(self):
        """Count no more."""
        self.counts = False
        self.set_threshold()

    def call_if_slow(self, hook, duration_s):
        """Call `hook(name, duration_ns, subject)` after a callback that took so many seconds or more.

        Args:
            hook: the function, None for none.
            duration_s: the least duration.
        """
        self.hook = hook
        self.hook_ns = -1 if hook is None else <int64_t>min(max(<double>duration_s, 0.0) * 1e9, 4e18)
        self.set_threshold()

    def is_used(self):
        """Return whether there is still something to look for."""
        return self.counts or self.hook is not None

    def share(self):
        """Move the numbers into a memfd, which other processes of the user may read.

        Raises:
            OSError: the kernel refuses it.
        """
        cdef void *shared
        cdef int fd
        if self.fd >= 0:
            return
        fd = make_memfd()
        try:
            os.fchmod(fd, 0o600)
            os.ftruncate(fd, sizeof(Page))
            shared = mmap(NULL, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
            if shared == MAP_FAILED:
                raise OSError(errno, os.strerror(errno))
        except BaseException:
            os.close(fd)
            raise
        try:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
        except OSError:
            pass  # before Linux 5.1
        with cython.critical_section(self):
            memcpy(shared, self.page, sizeof(Page))
            free(self.page)
            self.page, self.fd = <Page *>shared, fd

    def unshare(self):
        """Take the numbers back into memory of this process."""
        cdef void *own
        if self.fd < 0:
            return
        own = calloc(1, sizeof(Page))
        if own == NULL:
            raise MemoryError
        with cython.critical_section(self):
            memcpy(own, self.page, sizeof(Page))
            munmap(self.page, sizeof(Page))
            self.page = <Page *>own
            fd, self.fd = self.fd, -1
        os.close(fd)

    @property
    def is_shared(self):
        return self.fd >= 0

    def read(self):
        """Return the numbers; see `read_page`."""
        cdef Page copied
        # A finalizer that runs meanwhile, or another thread, may unmap the page.
        with cython.critical_section(self):
            self.calibrate()
            memcpy(&copied, self.page, sizeof(Page))
        return numbers_of(&copied)

    cdef void calibrate(self) noexcept:
        cdef int64_t ns = monotonic_ns() - base_ns
        cdef int64_t cycles = between(base_cycles, count_cycles())
        self.page.ns_per_cycle = <double>ns / cycles if cycles > 0 and ns > 0 else 1.0
        self.us_per_cycle = self.page.ns_per_cycle * 1e-3
        self.set_threshold()

    cdef void set_threshold(self) noexcept:
        cdef int64_t least_ns = self.hook_ns
        if self.counts and (least_ns < 0 or <int64_t>self.page.slow_ns < least_ns):
            least_ns = <int64_t>self.page.slow_ns
        self.slow_cycles = <int64_t>(min(least_ns / self.page.ns_per_cycle, 9e18)) if least_ns >= 0 else (
            0x7FFFFFFFFFFFFFFF
        )

    # News from the scheduler

    cdef int watch(self, ReadyQueue ready) except -1:
        """Take the ready queue."""
        self.ready = ready
        change_subject(self, NULL)
        self.first = self.end = self.known = 0
        self.sync(size_of(ready), count_cycles())
        return 0

    cdef void begin_run(self, bint asleep) noexcept:
        """Begin to time a run; `asleep` if the loop sleeps now, so that the rest of that counts as nothing."""
        self.page.thread = syscall(SYS_gettid)
        self.page.mark_cycles = 0 if asleep else count_cycles()

    cdef void end_run(self) noexcept:
        change_subject(self, NULL)
        if <uint64_t>getpid() != self.page.pid:
            return  # a forked child, whose parent goes on with the same page
        if self.page.mark_cycles:
            self.page.busy_cycles += between(self.page.mark_cycles, count_cycles())
        self.page.mark_cycles = 0

    cdef void wake(self, Tick *tick, Py_ssize_t ready) noexcept:
        """End a tick, and begin the next one: the loop has slept, or has looked for completions."""
        cdef Page *page = self.page
        cdef uint64_t now_cycles = count_cycles(), awake_cycles
        cdef int64_t slept, length
        slept, tick.slept_cycles = tick.slept_cycles, 0
        awake_cycles = tick.awake_cycles if slept > 0 else now_cycles
        if page.mark_cycles:
            length = between(page.mark_cycles, awake_cycles)
            slept = min(slept, length)
            length -= slept
            count_in(&page.tick, length, self.us_per_cycle)
            page.ticks += 1
            page.busy_cycles += length
            page.asleep_cycles += slept
            if page.ticks % CALIBRATED_EVERY == 0:
                self.calibrate()
        page.asleep = False
        page.mark_cycles = awake_cycles
        page.ready = ready
        self.last_cycles = now_cycles
        self.sync(ready, awake_cycles)

    cdef void push(self, uint64_t due_cycles, Py_ssize_t count) noexcept:
        """Note a batch at the end of the ready queue."""
        cdef Py_ssize_t used = self.end - self.first
        cdef Py_ssize_t capacity
        cdef void *larger
        if self.end == self.capacity:
            if self.first > self.capacity // 2:
                memmove(self.batches, &self.batches[self.first], used * sizeof(Batch))
            else:
                capacity = self.capacity * 2 + 64
                larger = realloc(self.batches, capacity * sizeof(Batch))
                if larger == NULL:
                    return  # the next `sync` sees that they are missing
                self.batches, self.capacity = <Batch *>larger, capacity
                memmove(self.batches, &self.batches[self.first], used * sizeof(Batch))
            self.first, self.end = 0, used
        self.batches[self.end] = Batch(due_cycles, count)
        self.end += 1
        self.known += count

    cdef void add_timer(self, double late_s) noexcept:
        """Note the last handle of the ready queue, a timer that was due so many seconds ago."""
        cdef double late = min(max(late_s, 0.0) * 1e9 / self.page.ns_per_cycle, 1e18)
        self.push(self.last_cycles - <uint64_t>late, 1)

    cdef void sync(self, Py_ssize_t ready, uint64_t now_cycles) noexcept:
        """Note the handles that have become ready since the last time."""
        if ready > self.known:
            self.push(now_cycles, ready - self.known)
        elif ready < self.known:
            # A tool has taken some out.
            self.first = self.end = self.known = 0
            if ready:
                self.push(now_cycles, ready)

    cdef uint64_t take(self) noexcept:
        """Return when the first handle of the ready queue was due, which is about to leave it."""
        cdef uint64_t due_cycles
        if self.first == self.end:
            return self.last_cycles
        due_cycles = self.batches[self.first].due_cycles
        self.batches[self.first].count -= 1
        self.known -= 1
        if self.batches[self.first].count == 0:
            self.first += 1
            if self.first == self.end:
                self.first = self.end = 0
        return due_cycles

    cdef uint64_t note_slow(self, int64_t cycles) except? 0:
        """Remember the callback that has just run and took long, and tell the hook; return the time after that."""
        cdef int64_t duration_ns = <int64_t>(cycles * self.page.ns_per_cycle)
        subject = <object>self.subject
        try:
            if self.is_outcome:
                name, subject = self.name_outcome(subject, self.what)
            else:
                name = name_of(subject)
        except Exception:
            name = class_name(subject)  # an attribute of the program's own raised
        if self.counts and duration_ns >= <int64_t>self.page.slow_ns:
            remember(self.page, name.encode(errors="replace")[: NAME_SIZE - 1], duration_ns)
        if self.hook is not None and duration_ns >= self.hook_ns:
            self.hook(name, duration_ns, subject)
        return count_cycles()


cdef void remember(Page *page, bytes name, int64_t duration_ns) noexcept:
    """Add a call to its name's place, or take that of the name whose longest call is shorter than all others."""
    cdef Slow *slow
    cdef Slow *shortest = &page.slowest[0]
    cdef Slow *found = NULL
    cdef int place
    for place in range(SLOW_COUNT):
        slow = &page.slowest[place]
        if slow.calls and strncmp(slow.name, PyBytes_AS_STRING(name), NAME_SIZE) == 0:
            found = slow
            break
        if slow.longest_ns < shortest.longest_ns:
            shortest = slow
    if found == NULL and <uint64_t>duration_ns <= shortest.longest_ns:
        return
    page.sequence += 1
    if found == NULL:
        found = shortest
        memset(found, 0, sizeof(Slow))
        memcpy(found.name, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
    found.calls += 1
    found.total_ns += duration_ns
    if <uint64_t>duration_ns > found.longest_ns:
        found.longest_ns = duration_ns
    page.sequence += 1


def read_page(bytes content):
    """Return the numbers of a copied page, None if it changed while it was copied.

    Raises:
        ValueError: it is no page, or one of another version.
    """
    cdef Page page
    if len(content) != sizeof(Page):
        raise ValueError(f"a page of {len(content)} bytes is of another version of uringloop")
    memcpy(&page, PyBytes_AS_STRING(content), sizeof(Page))
    if page.magic != MAGIC or page.size_bytes != sizeof(Page):
        raise ValueError("a page of another version of uringloop")
    return None if page.sequence & 1 else numbers_of(&page)


cdef dict numbers_of(Page *page):
    cdef double scale = page.ns_per_cycle
    slowest = [slow_of(&page.slowest[place]) for place in range(SLOW_COUNT) if page.slowest[place].calls]
    slowest.sort(key=itemgetter("longest_ns"), reverse=True)
    return {
        "pid": page.pid,
        "thread": page.thread,
        "backend": ("io_uring", "epoll")[page.backend & 1],
        "since_ns": page.since_ns,
        "running_since_ns": base_of(page, page.mark_cycles) if page.mark_cycles else 0,
        "asleep": bool(page.asleep),
        "ready": page.ready,
        "ticks": page.ticks,
        "callbacks": page.callbacks,
        "completions": page.completions,
        "busy_ns": <int64_t>(page.busy_cycles * scale),
        "asleep_ns": <int64_t>(page.asleep_cycles * scale),
        "lag": histogram_of(&page.lag, scale),
        "tick_lengths": histogram_of(&page.tick, scale),
        "slow_ns": page.slow_ns,
        "slowest": slowest,
        "ring": [page.ring[place] for place in range(RING_COUNTERS_MAX)],
    }


cdef int64_t base_of(Page *page, uint64_t cycles) noexcept:
    return page.since_ns + <int64_t>(<int64_t>(cycles - page.since_cycles) * page.ns_per_cycle)


cdef dict histogram_of(Histogram *histogram, double scale):
    return {
        "counts": [histogram.counts[place] for place in range(BUCKET_COUNT)],
        "sum_ns": <int64_t>(histogram.sum_cycles * scale),
        "longest_ns": <int64_t>(histogram.longest_cycles * scale),
    }


cdef dict slow_of(Slow *slow):
    return {
        "name": PyBytes_FromStringAndSize(slow.name, strnlen(slow.name, NAME_SIZE)).decode(errors="replace"),
        "calls": slow.calls,
        "total_ns": slow.total_ns,
        "longest_ns": slow.longest_ns,
    }
