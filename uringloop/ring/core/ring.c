/* One io_uring: its set-up, its facts, and its end.
 *
 * Memory shared with the kernel is not inherited by fork (MADV_DONTFORK): a child that touched it would corrupt the
 * parent's queues.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef __NR_io_uring_setup
#define __NR_io_uring_setup 425
#endif

/* A number that begins no pointer, no small number, and is another in most rings. */
static uint64_t make_stamp(const ul_ring *ring)
{
    uint64_t mixed = ((uint64_t)ul_now_ns() ^ (uint64_t)(uintptr_t)ring ^ (uint64_t)getpid() << 20) *
                     0x9e3779b97f4a7c15ULL;
    return (mixed >> 57 | 0x80) << UL_STAMP_SHIFT;
}

/* The kernel maps all pages of a ring at once, so MAP_POPULATE would only walk through them again. */
static void *map_shared(int fd, size_t size, uint64_t offset)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
    if (memory == MAP_FAILED)
        return NULL;
    madvise(memory, size, MADV_DONTFORK);
    return memory;
}

static int map_queues(ul_ring *ring, const struct io_uring_params *p)
{
    size_t sq_size = p->sq_off.array + p->sq_entries * sizeof(uint32_t);
    size_t cq_size = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
    if (p->flags & IORING_SETUP_NO_SQARRAY)
        sq_size = p->sq_off.flags + sizeof(uint32_t);
    ring->ring_map_size = sq_size > cq_size ? sq_size : cq_size;
    ring->ring_map = map_shared(ring->fd, ring->ring_map_size, IORING_OFF_SQ_RING);
    ring->sqe_map_size = p->sq_entries * sizeof(struct io_uring_sqe);
    ring->sqe_map = map_shared(ring->fd, ring->sqe_map_size, IORING_OFF_SQES);
    if (ring->ring_map == NULL || ring->sqe_map == NULL)
        return -errno;

    char *base = ring->ring_map;
    ring->sq_head = (uint32_t *)(base + p->sq_off.head);
    ring->sq_tail = (uint32_t *)(base + p->sq_off.tail);
    ring->sq_flags = (uint32_t *)(base + p->sq_off.flags);
    ring->sq_mask = *(uint32_t *)(base + p->sq_off.ring_mask);
    ring->sqes = ring->sqe_map;
    ring->cq_head = (uint32_t *)(base + p->cq_off.head);
    ring->cq_tail = (uint32_t *)(base + p->cq_off.tail);
    ring->cq_mask = *(uint32_t *)(base + p->cq_off.ring_mask);
    ring->cq_overflow = (uint32_t *)(base + p->cq_off.overflow);
    ring->cqes = (struct io_uring_cqe *)(base + p->cq_off.cqes);
    ring->cq_flags = p->cq_off.flags ? (uint32_t *)(base + p->cq_off.flags) : NULL;
    ring->sqe_tail = *ring->sq_tail;
    if (!(p->flags & IORING_SETUP_NO_SQARRAY)) {
        uint32_t *array = (uint32_t *)(base + p->sq_off.array);
        for (uint32_t i = 0; i < p->sq_entries; i++)
            array[i] = i;
    }
    return 0;
}

ul_ring *ul_ring_open(uint32_t sq_entries, uint32_t cq_entries, uint32_t setup_flags, uint32_t idle_ms, uint32_t cpu,
                      int attach_fd, int *error)
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
    ring->fd = (int)syscall(__NR_io_uring_setup, sq_entries, &p);
    if (ring->fd < 0) {
        *error = -errno;
        free(ring);
        return NULL;
    }
    ring->enter_fd = ring->fd;
    ring->setup_flags = p.flags;
    ring->features = p.features;
    /* An idle ring is no wait for a disk: without this the kernel counts its CPU as waiting for I/O. */
    ring->wait_flags = p.features & IORING_FEAT_NO_IOWAIT ? IORING_ENTER_NO_IOWAIT : 0;
    ring->sq_entries = p.sq_entries;
    ring->cq_entries = p.cq_entries;
    ring->stamp = ring->next_token = make_stamp(ring);
    ring->next_serial = 1;
    ring->short_waits_wanted = 1;
    const uint32_t needed = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE |
                            IORING_FEAT_FAST_POLL | IORING_FEAT_EXT_ARG;
    *error = (p.features & needed) == needed ? map_queues(ring, &p) : -ENOSYS;
    if (*error < 0) {
        ul_ring_close(ring, 0);
        return NULL;
    }
    return ring;
}

/* Whether a filter forbids io_uring_enter or io_uring_register: 0, or the errno that it answers.  The ring is not
 * enabled yet, so the kernel itself refuses to enter it.  With an argument it refuses to enable it. */
int ul_ring_check(ul_ring *ring)
{
    int entered = ul_enter(ring, 0, -1);
    if (entered < 0 && entered != -EBADFD)
        return entered;
    int enabled = ul_ring_register(ring->fd, IORING_REGISTER_ENABLE_RINGS, NULL, 1);
    return enabled < 0 && enabled != -EINVAL ? enabled : 0;
}

int ul_ring_enable(ul_ring *ring)
{
    int error = ul_ring_register(ring->fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
    if (error == 0) {
        ring->owned = (ring->setup_flags & IORING_SETUP_SINGLE_ISSUER) != 0;
        ring->owner = pthread_self();
    }
    return error;
}

static void unmap_queues(ul_ring *ring)
{
    if (ring->ring_map != NULL)
        munmap(ring->ring_map, ring->ring_map_size);
    if (ring->sqe_map != NULL)
        munmap(ring->sqe_map, ring->sqe_map_size);
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
    result = ul_ring_register(ring->fd, IORING_REGISTER_RESIZE_RINGS, &p, 1);
    if (result < 0)
        return result;
    unmap_queues(ring);
    ring->sq_entries = p.sq_entries;
    ring->cq_entries = p.cq_entries;
    return map_queues(ring, &p);
}

/* Enters go by the ring's place in a table of this thread's, which saves looking up the descriptor. */
int ul_ring_register_fd(ul_ring *ring)
{
    struct io_uring_rsrc_update place = {UINT32_MAX, 0, (uint64_t)ring->fd};
    if (ring->enter_flags)
        return 0;
    int result = ul_ring_register(ring->fd, IORING_REGISTER_RING_FDS, &place, 1);
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
    int result = ul_ring_register(ring->fd, IORING_UNREGISTER_RING_FDS, &place, 1);
    ring->enter_fd = ring->fd;
    ring->enter_flags = 0;
    return result < 0 ? result : 0;
}

/* Returns 0, or the reason why this process or thread may not touch the queues.  On a ring with one issuer the kernel
 * would take SQEs of another thread for the issuer's. */
int ul_ring_refuses(ul_ring *ring)
{
    if (ring->forgotten)
        return -EOWNERDEAD;
    return ring->owned && !pthread_equal(ring->owner, pthread_self()) ? -EEXIST : 0;
}

/* Whether this is a forked child, where the queues and the receive buffers are not there. */
int ul_ring_forgotten(ul_ring *ring) { return ring->forgotten; }

/* What is still in flight keeps its memory for good, unless it only watches: the kernel may write there after the
 * close. */
void ul_ring_close(ul_ring *ring, int only_watches)
{
    if (!ring->forgotten) {
        ul_ring_unregister_fd(ring);
        close(ring->fd);
        unmap_queues(ring);
    }
    if (ring->statistics.in_flight > 0 && !only_watches && !ring->forgotten)
        return;
    for (uint32_t group_id = 0; group_id < UL_GROUPS && !ring->forgotten; group_id++)
        ul_buffers_close(ring, group_id);
    for (ul_engine *engine = ring->first_engine, *next; engine != NULL; engine = next) {
        next = engine->next;
        engine->close(engine);
    }
    ul_cancels_close(ring);
    free(ring);
}

/* In a forked child: let go of the parent's ring without a word to it. */
void ul_ring_forget(ul_ring *ring)
{
    if (ring->forgotten)
        return;
    ring->forgotten = 1;
    close(ring->fd);
    ring->fd = -1;
}

int ul_ring_fd(ul_ring *ring) { return ring->fd; }
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
