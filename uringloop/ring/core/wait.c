/* Waiting for a completion: whether to wait at all, asleep or awake, in the ring or beside it.
 *
 * Falling asleep and waking up take longer than the answers of many peers.  So a wait that is likely to be short is
 * spent awake, for at most the loop's spin_ns.  The completion shows in memory that the kernel shares: as a CQE, or as
 * work that an enter will make one of.  Likely means that the last waits were short.  A spin in vain costs its time,
 * and takes the CPU from a peer that may wait for it.  So each one in a row doubles the number of short waits before
 * the next spin.  A wait for a thread that shares the loop's CPU is never likely to be short: the spin would make it
 * long.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>

#define SHORT_WAITS_MAX 1024
#define ARM_ROUNDS 8
/* So long after a look on epoll, the next one is due.  The CPU counts a cycle a nanosecond, or more: 0.1 ms at most. */
#define UNHURRIED_CYCLES 100000

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static uint64_t count_cycles(void)
{
#if defined(__x86_64__) || defined(__i386__)
    return __builtin_ia32_rdtsc();
#else
    return (uint64_t)ul_now_ns();
#endif
}

/* Whether the sleep has found a reader or writer ready. */
int ul_found_readers(const ul_ring *ring)
{
    return ring->readers != NULL && ring->readers->collects && (ring->readers->count > 0 || ring->readers->other_found);
}

/* With IOPOLL, and on epoll, nothing completes but in an enter. */
static int completes_in_enters(const ul_ring *ring)
{
    if (ring->setup_flags & IORING_SETUP_IOPOLL || ring->backend != &ul_backend_io_uring)
        return ring->statistics.in_flight > 0 || (ring->readers != NULL && ring->readers->collects);
    return 0;
}

/* Whether this tick may do without a look on epoll: only unhurried operations are in flight, and the next look is not
 * due.  The first tick after a look always may. */
static int spares_look(ul_ring *ring, uint32_t unhurried)
{
    if (ring->backend == &ul_backend_io_uring || ring->statistics.in_flight > unhurried ||
        (ring->readers != NULL && ring->readers->collects))
        return 0;
    uint64_t now_cycles = count_cycles();
    if (ring->spared_after != ring->statistics.enters) {
        ring->spared_after = ring->statistics.enters;
        ring->spared_from_cycles = now_cycles;
    }
    return now_cycles - ring->spared_from_cycles < UNHURRIED_CYCLES;
}

static int engines_wait(const ul_ring *ring)
{
    for (const ul_engine *engine = ring->first_engine; engine != NULL; engine = engine->next) {
        if (engine->waiting(engine))
            return 1;
    }
    return 0;
}

/* Something is posted, or a post would not be heard. */
static int posts_forbid_sleep(const ul_ring *ring)
{
    return ring->wakeup != NULL && (!ring->wakeup_watched || ul_wakeup_is_posted(ring->wakeup));
}

static int must_not_sleep(ul_ring *ring)
{
    return cqes_ready(ring) || ul_staged(ring) || engines_wait(ring) || posts_forbid_sleep(ring);
}

/* Whether a tick has to enter. */
int ul_has_work(ul_ring *ring) { return deferred_work(ring) || must_not_sleep(ring); }

/* Whether a sleep beside the ring, whose descriptor is armed, would be wrong. */
int ul_is_awake(ul_ring *ring) { return tells_of_work(ring) || must_not_sleep(ring); }

/* Begins a tick without an enter, if that would find nothing, and there is nothing to submit; whether it has begun.
 * unhurried: so many operations in flight may complete some ticks later. */
int ul_begin_idly(ul_ring *ring, uint32_t unhurried)
{
    if (ring->dropped || (completes_in_enters(ring) && !spares_look(ring, unhurried)) || ul_has_work(ring))
        return 0;
    /* Nothing waits to be staged; the engines count the ticks. */
    for (ul_engine *engine = ring->first_engine; engine != NULL; engine = engine->next)
        engine->stage(engine);
    return 1;
}

/* Before an enter: stages the engines' waiting SQEs.  Makes the timeout 0 if a completion is at hand, or work that may
 * bring one.  Returns 1 if there is a reason to enter. */
int ul_prepare(ul_ring *ring, int64_t *timeout_ns)
{
    if (ring->dropped)
        return -EOWNERDEAD;
    int error = ul_buffers_adjust(ring);
    if (error < 0)
        return error;
    if (ring->wakeup != NULL && !ring->wakeup_watched) {
        error = ring->backend->watch_wakeup(ring);
        if (error < 0)
            return error;
        ring->wakeup_watched = 1;
    }
    int busy = 0;
    for (ul_engine *engine = ring->first_engine; engine != NULL; engine = engine->next) {
        int result = engine->stage(engine);
        if (result < 0)
            return result;
        busy |= result;
    }
    if (busy || cqes_ready(ring) || tells_of_work(ring) || posts_forbid_sleep(ring))
        *timeout_ns = 0;
    return *timeout_ns != 0 || ul_staged(ring) || deferred_work(ring) || completes_in_enters(ring);
}

/* Looks for a completion or a wakeup for at most so long, and submits what is staged before; whether there is one. */
int ul_spin(ul_ring *ring, int64_t for_ns)
{
    int64_t end_ns = ul_now_ns() + for_ns;
    if (ul_staged(ring) && ul_enter(ring, 0, -1) < 0)
        return 0;
    while (!ul_found_readers(ring) && !ring->backend->look(ring)) {
        if (ring->wakeup != NULL && ul_wakeup_is_posted(ring->wakeup))
            return 1;
        if (ul_now_ns() >= end_ns)
            return 0;
        relax();
    }
    return 1;
}

static int is_posted_here(const ul_ring *ring)
{
    return ring->wakeup != NULL && ul_wakeup_came_from_here(ring->wakeup);
}

static int spin_if_likely(ul_ring *ring, int64_t for_ns)
{
    if (ring->short_waits < ring->short_waits_wanted)
        return 0;
    ring->statistics.spins++;
    if (ul_spin(ring, for_ns)) {
        if (is_posted_here(ring))
            ring->short_waits = 0;
        else
            ring->short_waits_wanted = 1;
        return 1;
    }
    ring->statistics.spins_in_vain++;
    ring->short_waits = 0;
    if (ring->short_waits_wanted < SHORT_WAITS_MAX)
        ring->short_waits_wanted *= 2;
    return 0;
}

static int fall_asleep(ul_ring *ring, int64_t timeout_ns)
{
    ul_wakeup *wakeup = ring->wakeup;
    if (wakeup == NULL || timeout_ns == 0)
        return ul_enter(ring, timeout_ns != 0, timeout_ns);
    int sleeps = ul_wakeup_begin_sleep(wakeup);
    int result = sleeps || ul_staged(ring) ? ul_enter(ring, (uint32_t)sleeps, timeout_ns) : 0;
    ul_wakeup_end_sleep(wakeup);
    return result;
}

/* As ul_enter for one completion or a wakeup, but up to spin_ns of it awake.  It also ends when there is work of which
 * an enter makes a completion. */
int ul_sleep(ul_ring *ring, int64_t timeout_ns, int64_t spin_ns)
{
    if (spin_ns <= 0)
        return fall_asleep(ring, timeout_ns);
    int64_t begin_ns = ul_now_ns();
    if (spin_if_likely(ring, timeout_ns < 0 || timeout_ns > spin_ns ? spin_ns : timeout_ns))
        return 0;
    int64_t left_ns = timeout_ns;
    if (timeout_ns > 0) {
        left_ns = begin_ns + timeout_ns - ul_now_ns();
        left_ns = left_ns > 0 ? left_ns : 0;
    }
    int result = fall_asleep(ring, left_ns);
    /* It includes the way to sleep and back, which takes about as long. */
    int is_short = ul_now_ns() - begin_ns < 2 * spin_ns && !is_posted_here(ring);
    ring->short_waits = is_short ? ring->short_waits + 1 : 0;
    return result;
}

/* A new descriptor that tells of completions, which begins disarmed; or a negative errno. */
int ul_descriptor_open(ul_ring *ring)
{
    int fd = ring->backend->open_descriptor(ring);
    if (fd >= 0)
        ul_descriptor_disarm(ring);
    return fd;
}

/* Before sleeping beside the ring: lets the descriptor speak.  ul_has_work then says whether to sleep. */
void ul_descriptor_arm(ul_ring *ring)
{
    if (ring->dropped)
        return;
    if (ring->wakeup != NULL)
        ul_wakeup_begin_sleep(ring->wakeup);
    ring->backend->arm(ring);
    /* Where the flag is no news, it hides work that came before.  An enter runs some of that at a time. */
    for (int round = 0; round < ARM_ROUNDS && ring->told_in_vain && !must_not_sleep(ring); round++) {
        if (ul_enter(ring, 0, -1) < 0)
            break;
    }
}

void ul_descriptor_disarm(ul_ring *ring)
{
    if (ring->dropped)
        return;
    if (ring->wakeup != NULL)
        ul_wakeup_end_sleep(ring->wakeup);
    ring->backend->disarm(ring);
}

/* An endpoint is about to close its descriptor.  alone: no other code of this process has a copy. */
void ul_descriptor_closes(ul_ring *ring, int fd, int alone)
{
    if (!ring->dropped)
        ring->backend->closes(ring, fd, alone);
}

/* Has the posts of this loop end each sleep in the ring or beside it; for the ring's life, or until another call. */
void ul_ring_watch_wakeup(ul_ring *ring, ul_wakeup *wakeup, int multishot)
{
    ring->wakeup = wakeup;
    ring->wakeup_multishot = multishot != 0;
}

/* The poll has told of a write.  A poll that ends is staged again by ul_prepare.  The eventfd is read before, since the
 * new poll would tell of the old writes. */
void ul_wakeup_completed(ul_ring *ring, const struct io_uring_cqe *cqe)
{
    uint64_t writes;
    if (cqe->flags & IORING_CQE_F_MORE)
        return;
    ring->wakeup_watched = 0;
    if (ring->wakeup != NULL && ring->wakeup->fd >= 0) {
        ssize_t size = read(ring->wakeup->fd, &writes, sizeof(writes));
        (void)size;
    }
}
