# `Tick`: the tick that runs, shared by the scheduler and the ring's dispatcher, so that neither calls the other.
#
# The scheduler counts the callbacks of the tick.  By that count the dispatcher's base, `Sender`, decides when written
# bytes go to the kernel: see docs/decisions.md, "Small writes of busy ticks are collected".
#
# The tick also names the thread that runs the loop, to which all but a few calls belong: see docs/cores.md.

from libc.stdint cimport int64_t, uint64_t, uintptr_t

cdef enum:
    # In a tick with at most so many callbacks each write leaves at once, as with asyncio: an enter for all costs as
    # much.
    FEW = 2
    # In other ticks the first so many writes leave at once, if the last tick that wrote made no more.
    FEW_WRITES = 1
    # In other ticks the waiting bytes leave before the next callback after so long, and later writes leave at once.
    # Each callback that ran meanwhile adds to that time: many small callbacks are no reason to hurry.
    UNSENT_MAX_NS = 100_000
    UNSENT_CALLBACK_NS = 10_000


cdef extern from *:
    """
    #include <time.h>

    static inline int64_t monotonic_ns(void)
    {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
    }

    /* Counts about once a nanosecond, or faster.  The CPU's own counter takes a third of the clock's time to read. */
    static inline uint64_t count_cycles(void)
    {
    #ifdef __x86_64__
        return __builtin_ia32_rdtsc();
    #else
        return (uint64_t)monotonic_ns();
    #endif
    }

    #ifndef __has_builtin
    #define __has_builtin(name) 0
    #endif

    /* A number that no other living thread has. */
    static inline uintptr_t this_thread(void)
    {
    #if __has_builtin(__builtin_thread_pointer)
        return (uintptr_t)__builtin_thread_pointer();
    #else
        return (uintptr_t)PyThread_get_thread_ident();
    #endif
    }

    #ifdef Py_GIL_DISABLED
    #define IS_FREE_THREADED 1
    #else
    #define IS_FREE_THREADED 0
    #endif

    #define load_thread(thread) __atomic_load_n(thread, __ATOMIC_RELAXED)
    #define store_thread(thread, value) __atomic_store_n(thread, value, __ATOMIC_RELAXED)
    """
    int64_t monotonic_ns() noexcept nogil
    uint64_t count_cycles() noexcept nogil
    uintptr_t this_thread() noexcept nogil
    bint IS_FREE_THREADED
    uintptr_t load_thread(const uintptr_t *thread) noexcept nogil
    void store_thread(uintptr_t *thread, uintptr_t value) noexcept nogil


cdef struct Tick:
    Py_ssize_t outcomes, handles  # to be dispatched, to be run; 0 outside of a tick
    bint unsent  # written bytes wait for the tick's end
    # They do until wait_ns after the time of the last look.  Only of a tick with more than a few callbacks.
    int64_t looked_ns, wait_ns
    uint64_t looked_cycles
    # The loop measures: each sleep adds its length, and leaves the time of its end.
    bint is_metered
    int64_t slept_cycles
    uint64_t awake_cycles
    bint held  # some of them only for the end of the callback, which may close the connection
    uintptr_t thread  # that runs the loop, by `this_thread`; 0: none does
    # Calls of other threads are refused: in debug mode, and without the GIL, where they would break the loop's memory.
    bint is_strict


cdef inline bint is_foreign(Tick *tick) noexcept:
    """Return whether another thread than this runs the loop."""
    cdef uintptr_t thread = load_thread(&tick.thread)
    return thread != this_thread() and thread != 0


cdef inline int check_thread(Tick *tick) except -1:
    """Refuse a call of another thread than the one that runs the loop, if the loop is strict."""
    if is_foreign(tick) and tick.is_strict:
        raise RuntimeError("Non-thread-safe operation invoked on an event loop other than the current one")
    return 0


cdef inline bint has_few(Tick *tick) noexcept:
    return tick.outcomes + tick.handles <= FEW


cdef inline bint is_over(Tick *tick) noexcept:
    """Return whether no callback runs."""
    return tick.outcomes + tick.handles == 0


cdef inline void set_wait(Tick *tick, int64_t now_ns, int64_t wait_ns) noexcept:
    tick.looked_ns, tick.looked_cycles, tick.wait_ns = now_ns, count_cycles(), wait_ns


cdef inline void begin_waiting(Tick *tick) noexcept:
    """Let the bytes written from now on wait."""
    set_wait(tick, monotonic_ns(), UNSENT_MAX_NS)


cdef inline bint is_late(Tick *tick) noexcept:
    """Return whether a tick with many callbacks has gone on for long."""
    cdef int64_t now_ns, due_ns
    # Fewer cycles than nanoseconds left: it is early, and the clock need not say so twice a message.
    if count_cycles() - tick.looked_cycles < <uint64_t>tick.wait_ns:
        return False
    now_ns = monotonic_ns()
    due_ns = tick.looked_ns + tick.wait_ns
    if now_ns <= due_ns:
        set_wait(tick, now_ns, due_ns - now_ns)
    return now_ns > due_ns


cdef inline bint waits_long(Tick *tick) noexcept:
    """Return, within a callback that has ended a part of its work, whether bytes have waited long enough."""
    if not tick.unsent:
        return False
    tick.wait_ns += UNSENT_CALLBACK_NS
    return is_late(tick)


cdef inline bint must_send(Tick *tick) noexcept:
    """Return, between two callbacks, whether the waiting bytes have waited long enough."""
    if not tick.unsent:
        return False
    tick.wait_ns += UNSENT_CALLBACK_NS
    return tick.held or is_late(tick)


cdef inline uint64_t begin_sleep(Tick *tick) noexcept nogil:
    """Return the time of a sleep's begin, for `end_sleep`; 0 if the loop does not measure."""
    return count_cycles() if tick.is_metered else 0


cdef inline void end_sleep(Tick *tick, uint64_t begin_cycles) noexcept nogil:
    if begin_cycles:
        tick.awake_cycles = count_cycles()
        tick.slept_cycles += <int64_t>(tick.awake_cycles - begin_cycles)
