/* One ring: its set-up on a backend, its facts, and its end. */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A number that begins no pointer, no small number, and is another in most rings. */
static uint64_t make_stamp(const ul_ring *ring)
{
    uint64_t mixed = ((uint64_t)ul_now_ns() ^ (uint64_t)(uintptr_t)ring ^ (uint64_t)getpid() << 20) *
                     0x9e3779b97f4a7c15ULL;
    return (mixed >> 57 | 0x80) << UL_STAMP_SHIFT;
}

/* backend: UL_BACKEND_*. */
ul_ring *ul_ring_open(uint32_t backend, uint32_t sq_entries, uint32_t cq_entries, uint32_t setup_flags,
                      uint32_t idle_ms, uint32_t cpu, int attach_fd, int *error)
{
    ul_ring *ring = calloc(1, sizeof(*ring));
    if (ring == NULL) {
        *error = -ENOMEM;
        return NULL;
    }
    struct io_uring_params p;
    memset(&p, 0, sizeof(p));
    p.flags = setup_flags;
    p.cq_entries = cq_entries;
    p.sq_thread_idle = idle_ms;
    p.sq_thread_cpu = cpu;
    p.wq_fd = (uint32_t)attach_fd;
    ring->backend = backend == UL_BACKEND_EPOLL ? &ul_backend_epoll : &ul_backend_io_uring;
    *error = ring->backend->set_up(ring, sq_entries, &p);
    if (*error < 0) {
        free(ring);
        return NULL;
    }
    ring->setup_flags = p.flags;
    ring->features = p.features;
    ring->sq_entries = p.sq_entries;
    ring->cq_entries = p.cq_entries;
    ring->stamp = ring->next_token = make_stamp(ring);
    ring->next_serial = 1;
    ring->short_waits_wanted = 1;
    return ring;
}

uint32_t ul_ring_backend(ul_ring *ring)
{
    return ring->backend == &ul_backend_io_uring ? UL_BACKEND_IO_URING : UL_BACKEND_EPOLL;
}

/* Whether a filter forbids io_uring_enter or io_uring_register: 0, or the errno that it answers.  The ring is not
 * enabled yet, so the kernel itself refuses to enter it.  With an argument it refuses to enable it. */
int ul_ring_check(ul_ring *ring)
{
    int entered = ul_enter(ring, 0, -1);
    if (entered < 0 && entered != -EBADFD)
        return entered;
    int enabled = ul_ring_register(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 1);
    return enabled < 0 && enabled != -EINVAL ? enabled : 0;
}

int ul_ring_enable(ul_ring *ring)
{
    int error = ul_ring_register(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
    if (error == 0) {
        ring->owned = (ring->setup_flags & IORING_SETUP_SINGLE_ISSUER) != 0;
        ring->owner = pthread_self();
    }
    return error;
}

/* Queues of another size.  What is staged is submitted first, because it would stay in the old memory. */
int ul_ring_resize(ul_ring *ring, uint32_t sq_entries, uint32_t cq_entries)
{
    struct io_uring_params p;
    int result = 0;
    while (ul_staged(ring) && (result >= 0 || result == -EINTR))
        result = ul_enter(ring, 0, -1);
    if (result < 0)
        return result;
    memset(&p, 0, sizeof(p));
    p.sq_entries = sq_entries;
    p.cq_entries = cq_entries;
    p.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
    result = ring->backend->resize(ring, &p);
    if (result < 0)
        return result;
    ring->sq_entries = p.sq_entries;
    ring->cq_entries = p.cq_entries;
    return 0;
}

/* Enters go by the ring's place in a table of this thread's, which saves looking up the descriptor. */
int ul_ring_register_fd(ul_ring *ring)
{
    struct io_uring_rsrc_update place = {UINT32_MAX, 0, (uint64_t)ring->fd};
    if (ring->enter_flags)
        return 0;
    int result = ul_ring_register(ring, IORING_REGISTER_RING_FDS, &place, 1);
    if (result != 1)
        return result;
    ring->enter_fd = (int)place.offset;
    ring->enter_flags = IORING_ENTER_REGISTERED_RING;
    return 0;
}

int ul_ring_unregister_fd(ul_ring *ring)
{
    struct io_uring_rsrc_update place = {(uint32_t)ring->enter_fd, 0, 0};
    if (!ring->enter_flags)
        return 0;
    int result = ul_ring_register(ring, IORING_UNREGISTER_RING_FDS, &place, 1);
    ring->enter_fd = ring->fd;
    ring->enter_flags = 0;
    return result < 0 ? result : 0;
}

/* Returns 0, or the reason why this process or thread may not touch the queues.  On a ring with one issuer the kernel
 * would take SQEs of another thread for the issuer's. */
int ul_ring_refuses(ul_ring *ring)
{
    if (ring->dropped)
        return -EOWNERDEAD;
    return ring->owned && !pthread_equal(ring->owner, pthread_self()) ? -EEXIST : 0;
}

/* Whether this is a forked child, where the queues and the receive buffers are not there. */
int ul_ring_dropped(ul_ring *ring) { return ring->dropped; }

/* What is still in flight keeps its memory for good, unless it only watches: the kernel may write there after the
 * close. */
void ul_ring_close(ul_ring *ring, int only_watches)
{
    if (!ring->dropped) {
        ring->backend->close(ring);
    }
    if (ring->statistics.in_flight > 0 && !only_watches && !ring->dropped)
        return;
    for (uint32_t group_id = 0; group_id < UL_GROUPS && !ring->dropped; group_id++)
        ul_buffers_close(ring, group_id);
    for (ul_engine *engine = ring->first_engine, *next; engine != NULL; engine = next) {
        next = engine->next;
        engine->close(engine);
    }
    ul_cancels_close(ring);
    free(ring);
}

/* In a forked child: drops the parent's ring. */
void ul_ring_drop(ul_ring *ring)
{
    if (ring->dropped)
        return;
    ring->dropped = 1;
    ring->backend->drop(ring);
    ring->fd = -1;
}

int ul_ring_fd(ul_ring *ring) { return ring->fd; }
/* Calls in flight that a cancel could not interrupt. */
uint32_t ul_ring_detained(ul_ring *ring) { return ring->detained; }
uint32_t ul_ring_features(ul_ring *ring) { return ring->features; }
uint32_t ul_ring_setup_flags(ul_ring *ring) { return ring->setup_flags; }

uint32_t ul_ring_entries(ul_ring *ring, int completion_queue)
{
    return completion_queue ? ring->cq_entries : ring->sq_entries;
}

void ul_ring_statistics(ul_ring *ring, ul_statistics *out)
{
    *out = ring->statistics;
    for (uint32_t group_id = 0; group_id < UL_GROUPS; group_id++) {
        out->buffers += ring->buffers[group_id].count;
        out->buffers_lent += ring->buffers[group_id].lent;
    }
    for (const ul_engine *engine = ring->first_engine; engine != NULL; engine = engine->next)
        engine->count(engine, out);
}

/* Gives the completions of these kinds, UL_KIND_ENGINES or above, to an engine. */
void ul_ring_add_engine(ul_ring *ring, ul_engine *engine, uint32_t first_kind, uint32_t kind_count)
{
    ul_engine **link = &ring->first_engine;
    while (*link != NULL)
        link = &(*link)->next;
    *link = engine;
    for (uint32_t kind = first_kind; kind < first_kind + kind_count; kind++)
        ring->engines[kind] = engine;
}
