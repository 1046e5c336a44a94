/* Cancels, and asking again for those that were lost.
 *
 * A cancel that meets its target while that is completing finds nothing: it answers ENOENT or EALREADY, and a multishot
 * operation goes on for ever.  So the ring remembers each target from the first cancel to its last CQE.  A CQE with
 * MORE after the answer means that the cancel was lost, and the ring cancels again.  A multishot receive may also go on
 * without a CQE, so an answer that found nothing is followed by one more cancel.
 *
 * The table is a hash table with linear probing; tokens never come twice.  A cancel's user_data is its target's with
 * UL_KIND_CANCEL_BIT, so that its answer names the target.
 */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY_MIN 64
/* Cancels that find nothing, one after the other, while deferred work may still hold the target. */
#define LOST_MAX 8

struct ul_target {
    uint64_t token; /* 0: this place is free */
    uint8_t answered, lost, owed;
};

static uint32_t home(const ul_targets *targets, uint64_t token)
{
    return (uint32_t)(token * 0x9e3779b97f4a7c15ULL >> 40) & (targets->capacity - 1);
}

static ul_target *find(const ul_targets *targets, uint64_t token)
{
    if (targets->count == 0)
        return NULL;
    for (uint32_t i = home(targets, token); targets->places[i].token != 0; i = (i + 1) & (targets->capacity - 1)) {
        if (targets->places[i].token == token)
            return &targets->places[i];
    }
    return NULL;
}

static void put(ul_targets *targets, const ul_target *target)
{
    uint32_t i = home(targets, target->token);
    while (targets->places[i].token != 0)
        i = (i + 1) & (targets->capacity - 1);
    targets->places[i] = *target;
}

static int grow(ul_targets *targets)
{
    ul_targets larger = {NULL, targets->capacity ? targets->capacity * 2 : CAPACITY_MIN, targets->count, targets->owed};
    larger.places = calloc(larger.capacity, sizeof(*larger.places));
    if (larger.places == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < targets->capacity; i++) {
        if (targets->places[i].token != 0)
            put(&larger, &targets->places[i]);
    }
    free(targets->places);
    *targets = larger;
    return 0;
}

static int remember(ul_targets *targets, uint64_t token)
{
    if (find(targets, token) != NULL)
        return 0;
    if (targets->count * 2 >= targets->capacity) {
        int error = grow(targets);
        if (error < 0)
            return error;
    }
    ul_target target = {token, 0, 0, 0};
    put(targets, &target);
    targets->count++;
    return 0;
}

/* Takes a target out, and closes the gap: a later target that belongs before it moves up. */
static void take_out(ul_targets *targets, ul_target *target)
{
    uint32_t mask = targets->capacity - 1;
    uint32_t gap = (uint32_t)(target - targets->places);
    targets->owed -= target->owed;
    targets->count--;
    for (uint32_t i = (gap + 1) & mask; targets->places[i].token != 0; i = (i + 1) & mask) {
        uint32_t from_home = (i - home(targets, targets->places[i].token)) & mask;
        if (from_home >= ((i - gap) & mask)) {
            targets->places[gap] = targets->places[i];
            gap = i;
        }
    }
    targets->places[gap].token = 0;
}

static int stage(ul_ring *ring, uint64_t token, uint32_t flags, uint64_t user_data)
{
    int error;
    struct io_uring_sqe *sqe = ul_next_sqe(ring, &error);
    if (sqe == NULL)
        return error;
    sqe->opcode = IORING_OP_ASYNC_CANCEL;
    sqe->fd = -1;
    sqe->addr = token;
    sqe->op_flags = flags;
    sqe->user_data = user_data;
    ring->cancels++;
    return 0;
}

/* Asks the kernel to cancel the operation of this token, until that has ended. */
int ul_stage_cancel(ul_ring *ring, uint64_t token)
{
    if (ring->dropped)
        return 0; /* what is in flight is the parent's */
    int error = remember(&ring->targets, token);
    return error < 0 ? error : stage(ring, token, 0, token | UL_KIND_CANCEL_BIT);
}

int ul_stage_cancel_all(ul_ring *ring)
{
    if (ring->dropped)
        return 0;
    return stage(ring, 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL, ring->stamp | UL_KIND_CANCEL);
}

/* Cancels in flight. */
uint32_t ul_cancels(ul_ring *ring) { return ring->cancels; }

/* Targets that have not ended. */
uint32_t ul_cancel_targets(ul_ring *ring) { return ring->targets.count; }

/* A cancel inside a row of links would become a part of the chain. */
static int within_links(ul_ring *ring)
{
    const struct io_uring_sqe *last = ul_staged(ring) ? &ring->sqes[(ring->sqe_tail - 1) & ring->sq_mask] : NULL;
    return last != NULL && (last->flags & (IOSQE_IO_LINK | IOSQE_IO_HARDLINK));
}

static void set_owed(ul_ring *ring, ul_target *target, uint8_t owed)
{
    ring->targets.owed += (uint32_t)owed - target->owed;
    target->owed = owed;
}

static void ask_again(ul_ring *ring, ul_target *target)
{
    set_owed(ring, target, 1);
    /* Not by an enter for room: this is called while completions are reaped. */
    if (ul_staged(ring) == ring->sq_entries || within_links(ring))
        return;
    if (stage(ring, target->token, 0, target->token | UL_KIND_CANCEL_BIT) == 0) {
        set_owed(ring, target, 0);
        target->answered = 0;
        ring->statistics.cancels_lost++;
    }
}

/* Stages the cancels for which there was no room before. */
void ul_cancels_stage(ul_ring *ring)
{
    for (uint32_t i = 0; ring->targets.owed > 0 && i < ring->targets.capacity; i++) {
        ul_target *target = &ring->targets.places[i];
        if (target->token != 0 && target->owed)
            ask_again(ring, target);
    }
}

/* The CQE of a cancel.  Success says that the target's last CQE is there or comes. */
void ul_cancel_answered(ul_ring *ring, const struct io_uring_cqe *cqe)
{
    if (ring->cancels > 0)
        ring->cancels--;
    ul_target *target = find(&ring->targets, cqe->user_data & ~(uint64_t)UL_KIND_CANCEL_BIT);
    if (target == NULL)
        return;
    target->answered = 1;
    if (cqe->res >= 0 || target->owed)
        return;
    if (target->lost == 0 || (deferred_work(ring) && target->lost < LOST_MAX)) {
        target->lost++;
        ask_again(ring, target);
    }
}

/* A CQE of an operation while there are targets. */
void ul_cancel_target_completed(ul_ring *ring, const struct io_uring_cqe *cqe)
{
    ul_target *target = find(&ring->targets, cqe->user_data);
    if (target == NULL)
        return;
    if (!(cqe->flags & IORING_CQE_F_MORE)) {
        take_out(&ring->targets, target);
    } else if (target->answered) {
        target->lost = 0;
        ask_again(ring, target);
    }
}

/* The operation of this token has ended: its last CQE may have been reaped before the cancel was asked for. */
void ul_cancel_drop(ul_ring *ring, uint64_t token)
{
    ul_target *target = find(&ring->targets, token);
    if (target != NULL)
        take_out(&ring->targets, target);
}

/* Ends an engine's receive that only waits, where the backend can: 1 if no CQE of it will come, or 0. */
int ul_withdraw(ul_ring *ring, uint64_t token)
{
    if (ring->dropped || cqes_ready(ring) || deferred_work(ring) || !ring->backend->withdraw(ring, token))
        return 0;
    ring->statistics.in_flight--;
    return 1;
}

void ul_cancels_close(ul_ring *ring) { free(ring->targets.places); }
