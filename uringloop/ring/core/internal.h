/* What the files of the core share with each other and with the engines; the bindings do not see it. */
#ifndef UL_INTERNAL_H
#define UL_INTERNAL_H

#include "backend.h"
#include "readers.h"
#include "wakeup.h"

#include <pthread.h>

#define load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

/* A group of receive buffers that the kernel picks from.  It starts small, so that a few connections stay in the cache,
 * and follows the need (buffers.c). */
typedef struct {
    struct io_uring_buf *entries; /* shared with the kernel; NULL: no buffer group */
    char **address;               /* by buffer id */
    char **blocks;                /* what was allocated, one block a growth */
    uint8_t *retired;             /* by buffer id: kept from the kernel, because its block is to be released */
    uint32_t block_count, count, count_first, count_max, size_bytes, lent;
    uint32_t kept;                      /* buffers from this id on are retired; count: none */
    uint32_t retired_count;             /* of those, how many the kernel does not have */
    uint32_t found_empty;               /* receives since the last adjustment */
    uint32_t lent_max, lent_max_before; /* in this period and the one before */
    uint32_t taking, takes_left;        /* of UL_KIND_BUFFER: in flight, and to come */
    int64_t period_end_ns;
    uint16_t tail;
    uint8_t sparse; /* no huge pages */
#ifdef UL_DEBUG
    const void **borrowers; /* by buffer id; NULL: not lent */
#endif
} ul_buffers;

typedef struct {
    void **entries;
    uint32_t *free_slots;
    uint32_t count, capacity, free_count;
} ul_slots;

/* The operations for which a cancel was asked and which have not ended; see cancel.c. */
typedef struct ul_target ul_target;
typedef struct {
    ul_target *places;
    uint32_t capacity, count, owed; /* owed: of those that count, so many wait for room to be cancelled again */
} ul_targets;

/* Serves in C the completions of its own SQEs, whose tokens are of its kinds.  It is the first field of a larger
 * struct, which ul_ring_add_engine gives to the ring. */
typedef struct ul_engine ul_engine;
struct ul_engine {
    /* Takes one CQE; 1 if it makes an outcome for Python. */
    int (*complete)(ul_engine *engine, const struct io_uring_cqe *cqe, ul_outcome *outcome);
    /* Stages what waits, before an enter.  Positive: the enter is not to wait; or a negative errno. */
    int (*stage)(ul_engine *engine);
    /* Whether something waits to be staged. */
    int (*waiting)(const ul_engine *engine);
    /* Adds its numbers to the statistics. */
    void (*count)(const ul_engine *engine, ul_statistics *out);
    /* Frees all that it has, and itself: the ring is closed. */
    void (*close)(ul_engine *engine);
    /* Has the CPU fetch the memory that the CQE of this token will need; or NULL. */
    void (*warm)(const ul_engine *engine, uint64_t token);
    ul_engine *next;
};

/* What stands above all else in the user_data of a ring's own SQEs: messages of other rings have none, or another. */
#define UL_STAMP_SHIFT 52
#define UL_STAMP_MASK (~0ULL << UL_STAMP_SHIFT)

struct ul_ring {
    const ul_backend *backend;
    void *backend_state;
    int fd;
    int enter_fd; /* the descriptor, or with enter_flags the ring's place in the table of its thread */
    uint32_t enter_flags, wait_flags; /* wait_flags: of enters that may wait */
    int dropped;                      /* in a forked child: the mappings are not there */
    int owned;                        /* only this thread may enter it */
    pthread_t owner;
    uint32_t setup_flags, features, sq_entries, cq_entries, cq_entries_max; /* the last: 0 to stay as it is */
    uint32_t buffers_planned, buffers_planned_size, buffers_planned_max;    /* of UL_GROUP_BYTES, until it is needed */

    uint32_t *sq_head, *sq_tail, *sq_flags, sq_mask, sqe_tail;
    struct io_uring_sqe *sqes;
    uint32_t *cq_head, *cq_tail, *cq_flags, cq_mask;
    struct io_uring_cqe *cqes;
    void *ring_map, *sqe_map;
    size_t ring_map_size, sqe_map_size;

    ul_buffers buffers[UL_GROUPS];
    ul_targets targets;
    uint32_t cancels, next_serial; /* cancels: in flight */
    uint64_t stamp, next_token;
    uint32_t detained;             /* calls in flight that a cancel could not interrupt, and that may never return */
    uint32_t refusals, interrupts; /* enters refused in a row; waits interrupted */
    int64_t refused_since_ns;
    int told_in_vain; /* the last enter found nothing, and yet the kernel tells of work: see tells_of_work */
    ul_engine *first_engine, *engines[1U << UL_KIND_BITS]; /* in the order in which they came; by kind of token */
    uint32_t short_waits, short_waits_wanted;              /* in a row so far; before the next wait is spent awake */
    uint64_t spared_after, spared_from_cycles;             /* the number of enters; when a tick first did without */
    ul_wakeup *wakeup;                                     /* of the loop; NULL: none, or it never sleeps */
    uint8_t wakeup_watched, wakeup_multishot;
    ul_readers *readers; /* in the backend's set; NULL: none */
    ul_statistics statistics;
};

static inline uint32_t kind_of(uint64_t token) { return token & ((1U << UL_KIND_BITS) - 1); }

static inline int is_cancel(uint64_t token)
{
    return (token & UL_KIND_CANCEL_BIT) != 0 || kind_of(token) == UL_KIND_CANCEL;
}

/* The token of the poll of the eventfd: no operation's, because the first of those comes after it. */
static inline int is_wakeup(const ul_ring *ring, uint64_t token) { return token == ring->stamp; }

static inline uint32_t cqes_ready(const ul_ring *ring)
{
    return ring->dropped ? 0 : load_acquire(ring->cq_tail) - *ring->cq_head;
}

static inline uint32_t deferred_work(const ul_ring *ring)
{
    return ring->dropped ? 0 : load_relaxed(ring->sq_flags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

/* Whether deferred work is news.  The kernel queues work, and then sets the flag.  A loop that runs the work in between
 * sees the flag stay, until other work comes.  A wait runs what there is, so it need not be spared for such a flag. */
static inline int tells_of_work(const ul_ring *ring) { return deferred_work(ring) && !ring->told_in_vain; }

/* Has the CPU fetch a struct of at most three lines of its cache. */
static inline void ul_warm(const void *memory)
{
    for (int line = 0; line < 3; line++)
        __builtin_prefetch((const char *)memory + 64 * line);
}

void ul_wakeup_completed(ul_ring *ring, const struct io_uring_cqe *cqe);
void *ul_map_private(size_t size);
int ul_buffers_adjust_all(ul_ring *ring);
void ul_buffer_taken(ul_ring *ring, const struct io_uring_cqe *cqe);

/* Before an enter. */
static inline int ul_buffers_adjust(ul_ring *ring)
{
    for (uint32_t group_id = 0; group_id < UL_GROUPS; group_id++) {
        const ul_buffers *group = &ring->buffers[group_id];
        if (group->found_empty > 0 || group->count > group->count_first)
            return ul_buffers_adjust_all(ring);
    }
    return 0;
}

void ul_cancels_stage(ul_ring *ring);
void ul_cancel_answered(ul_ring *ring, const struct io_uring_cqe *cqe);
void ul_cancel_target_completed(ul_ring *ring, const struct io_uring_cqe *cqe);
void ul_cancels_close(ul_ring *ring);

int ul_slot_take(ul_slots *slots, void *entry, uint32_t *slot);
void ul_slot_release(ul_slots *slots, uint32_t slot);
void *ul_slot_find(const ul_slots *slots, uint64_t token);
uint64_t ul_slot_token(ul_ring *ring, uint32_t slot, uint32_t kind);
void ul_slots_close(ul_slots *slots);

void ul_ring_add_engine(ul_ring *ring, ul_engine *engine, uint32_t first_kind, uint32_t kind_count);

#endif
