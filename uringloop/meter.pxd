# `Meter`: counts and times the callbacks of a loop; see meter.pyx.

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t

from .ready cimport ReadyQueue, size_of
from .tick cimport Tick, count_cycles

cdef enum:
    # Less than 1 us, then twice as much each time; the last one has no end.
    BUCKET_COUNT = 26
    SLOW_COUNT = 16
    NAME_SIZE = 104
    RING_COUNTERS_MAX = 32

cdef struct Histogram:
    uint64_t counts[BUCKET_COUNT]
    uint64_t sum_cycles, longest_cycles

cdef struct Slow:
    uint64_t calls, total_ns, longest_ns
    char name[NAME_SIZE]

cdef struct Page:
    # Everything that a look from outside needs, and no pointer: another process may read it at any time.
    uint64_t magic, size_bytes
    uint64_t sequence  # odd while `slowest` changes
    uint64_t pid, thread, backend
    int64_t since_ns  # of CLOCK_MONOTONIC
    uint64_t since_cycles
    double ns_per_cycle
    uint64_t mark_cycles  # the tick's begin; 0: the loop does not run
    uint64_t asleep
    uint64_t ticks, callbacks, completions, ready, busy_cycles, asleep_cycles
    Histogram lag, tick
    uint64_t ring[RING_COUNTERS_MAX]
    uint64_t slow_ns
    Slow slowest[SLOW_COUNT]

cdef struct Batch:
    # So many handles of the ready queue, one after the other, that could have run from then on.
    uint64_t due_cycles
    Py_ssize_t count


cdef class Meter:
    cdef Page *page
    cdef int fd  # of the shared page; -1: it is this process's own
    cdef public object name_outcome  # called with an outcome's receiver and bits
    cdef ReadyQueue ready  # None: not watched yet
    # The running callback, or the receiver of the running outcome, as a reference; NULL: none, or a cancelled one.
    cdef PyObject *subject
    cdef uint32_t what  # its bits, if an outcome leads to it
    cdef bint is_outcome
    cdef uint64_t begin_cycles
    cdef double us_per_cycle
    cdef uint64_t last_cycles
    cdef int64_t slow_cycles  # from here on a callback is slow
    cdef int64_t hook_ns
    cdef object hook
    cdef public object handler  # the loop's, which `hook` calls
    cdef readonly bint counts
    # The ready queue in batches.
    cdef Batch *batches
    cdef Py_ssize_t first, end, capacity, known

    cdef void calibrate(self) noexcept
    cdef int watch(self, ReadyQueue ready) except -1
    cdef void begin_run(self, bint asleep) noexcept
    cdef void end_run(self) noexcept
    cdef void wake(self, Tick *tick, Py_ssize_t ready) noexcept
    cdef void push(self, uint64_t due_cycles, Py_ssize_t count) noexcept
    cdef void add_timer(self, double late_s) noexcept
    cdef void sync(self, Py_ssize_t ready, uint64_t now_cycles) noexcept
    cdef uint64_t take(self) noexcept
    cdef uint64_t note_slow(self, int64_t cycles) except? 0
    cdef void set_threshold(self) noexcept


cdef extern from *:
    """
    static inline int bucket_of(uint64_t us)
    {
        int bucket = us == 0 ? 0 : 64 - __builtin_clzll(us);
        return bucket < 26 ? bucket : 25;
    }
    """
    void Py_XINCREF(PyObject *object)
    void Py_XDECREF(PyObject *object)
    int bucket_of(uint64_t us) noexcept nogil


cdef inline int64_t between(uint64_t begin, uint64_t end) noexcept nogil:
    """Return the cycles between two looks, never less than none: CPUs may disagree a little."""
    cdef int64_t cycles = <int64_t>(end - begin)
    return cycles if cycles > 0 else 0


cdef inline void count_in(Histogram *histogram, int64_t cycles, double us_per_cycle) noexcept nogil:
    histogram.counts[bucket_of(<uint64_t>(cycles * us_per_cycle))] += 1
    histogram.sum_cycles += cycles
    if <uint64_t>cycles > histogram.longest_cycles:
        histogram.longest_cycles = cycles


cdef inline void change_subject(Meter meter, PyObject *subject) noexcept:
    cdef PyObject *old = meter.subject
    Py_XINCREF(subject)
    meter.subject = subject
    Py_XDECREF(old)


cdef inline uint64_t finish(Meter meter, Py_ssize_t popped) except? 0:
    """Count the callback that has just run, if one has, and the handles that it made ready; return the time.

    Args:
        meter: the loop's meter.
        popped: 1 if the next handle has left the ready queue already.
    """
    cdef uint64_t now_cycles = count_cycles()
    cdef int64_t took
    cdef Py_ssize_t ready
    if meter.subject != NULL:
        took = between(meter.begin_cycles, now_cycles)
        if took >= meter.slow_cycles:
            now_cycles = meter.note_slow(took)
        change_subject(meter, NULL)
    ready = popped + size_of(meter.ready)
    if ready != meter.known:
        meter.sync(ready, now_cycles)
    return now_cycles


cdef inline int begin_handle(Meter meter, callback, Py_ssize_t popped) except -1:
    """Time the first handle of the ready queue, from now until `finish`.

    Args:
        meter: the loop's meter.
        callback: of the handle; None: it was cancelled.
        popped: 1 if it has left the queue already.
    """
    cdef uint64_t now_cycles = finish(meter, popped), due_cycles = meter.take()
    if callback is not None:
        count_in(&meter.page.lag, between(due_cycles, now_cycles), meter.us_per_cycle)
        meter.page.callbacks += 1
        change_subject(meter, <PyObject *>callback)
    meter.is_outcome, meter.begin_cycles = False, now_cycles
    return 0


cdef inline int begin_outcome(Meter meter, PyObject *receiver, uint32_t what) except -1:
    """Time an outcome, from now until `finish`.

    Args:
        meter: the loop's meter.
        receiver: its owner or operation.
        what: its bits.
    """
    cdef uint64_t now_cycles = finish(meter, 0)
    count_in(&meter.page.lag, between(meter.page.mark_cycles, now_cycles), meter.us_per_cycle)
    meter.page.completions += 1
    change_subject(meter, receiver)
    meter.what, meter.is_outcome, meter.begin_cycles = what, True, now_cycles
    return 0
