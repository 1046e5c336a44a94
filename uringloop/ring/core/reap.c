/* The completion queue.
 *
 * Reaping is complete, or the loop would sleep on finished work.  With DEFER_TASKRUN a completion exists as a CQE only
 * after an enter with GETEVENTS.  One such enter runs at most about twenty of them and does not signal for the rest.
 * CQEs that overflowed the queue send no signal.  Both states show in the SQ flags (TASKRUN, CQ_OVERFLOW), so reaping
 * goes on until these are clear.  A bounded number of rounds, because completions of sends stage more sends.
 */
#include "internal.h"

#define REAP_ROUNDS 16
#define WARM_AHEAD 4 /* so many CQEs */

/* Whether a CQE belongs to no SQE of this ring: it is a message of another one, which may carry any user_data. */
static int is_foreign(const ul_ring *ring, uint64_t user_data)
{
    return (user_data & UL_STAMP_MASK) != ring->stamp || kind_of(user_data) == UL_KIND_FOREIGN;
}

/* Copies a CQE out and frees its place: 1, or 0 when the queue is empty. */
static int next_cqe(ul_ring *ring, struct io_uring_cqe *out)
{
    if (ring->dropped)
        return 0;
    uint32_t head = *ring->cq_head;
    if (head == load_acquire(ring->cq_tail))
        return 0;
    *out = ring->cqes[head & ring->cq_mask];
    store_release(ring->cq_head, head + 1);
    ring->statistics.completed++;
    if (is_foreign(ring, out->user_data))
        return 1;
    if (is_wakeup(ring, out->user_data)) {
        ul_wakeup_completed(ring, out);
        return 1;
    }
    if (!(out->flags & IORING_CQE_F_MORE) && ring->statistics.in_flight > 0)
        ring->statistics.in_flight--;
    if (is_cancel(out->user_data))
        ul_cancel_answered(ring, out);
    else if (ring->targets.count > 0)
        ul_cancel_target_completed(ring, out);
    return 1;
}

/* Of many CQEs, each belongs to memory that is not in the CPU's caches: has that of a later one fetched. */
static void warm_later(const ul_ring *ring)
{
    uint32_t later = *ring->cq_head + WARM_AHEAD;
    if (ring->dropped || (int32_t)(load_relaxed(ring->cq_tail) - later) <= 0)
        return;
    uint64_t token = ring->cqes[later & ring->cq_mask].user_data;
    const ul_engine *engine = ring->engines[kind_of(token)];
    if (engine != NULL && engine->warm != NULL && !is_foreign(ring, token))
        engine->warm(engine, token);
}

/* Turns the CQEs that are there into outcomes, without a system call; the number of outcomes. */
int ul_reap_ready(ul_ring *ring, ul_outcome *outcomes, uint32_t capacity)
{
    uint32_t count = 0;
    struct io_uring_cqe cqe;
    while (count < capacity && next_cqe(ring, &cqe)) {
        warm_later(ring);
        ul_outcome *outcome = &outcomes[count];
        uint32_t kind = kind_of(cqe.user_data);
        ul_engine *engine = ring->engines[kind];
        if (is_wakeup(ring, cqe.user_data))
            continue;
        if (kind == UL_KIND_OPERATION || is_foreign(ring, cqe.user_data)) {
            outcome->token = cqe.user_data;
            outcome->res = cqe.res;
            outcome->flags = cqe.flags;
            outcome->owner = NULL;
            count++;
        } else if (engine != NULL) {
            count += (uint32_t)engine->complete(engine, &cqe, outcome);
        } else if (kind == UL_KIND_BUFFER) {
            ul_buffer_taken(ring, &cqe);
        }
    }
    return (int)count;
}

/* Reaps every completion there is, up to the capacity; the number of outcomes, or a negative errno. */
int ul_reap(ul_ring *ring, ul_outcome *outcomes, uint32_t capacity)
{
    uint32_t count = 0;
    for (int round = 0; round < REAP_ROUNDS; round++) {
        count += (uint32_t)ul_reap_ready(ring, outcomes + count, capacity - count);
        if (ring->targets.owed > 0)
            ul_cancels_stage(ring);
        if (count == capacity || !tells_of_work(ring))
            break;
        int result = ul_enter(ring, 0, -1);
        if (result < 0)
            return count > 0 ? (int)count : result;
    }
    return (int)count;
}

/* Enters without reaping until the queue is full, or nothing completes: a multishot operation without room ends. */
void ul_let_overflow(ul_ring *ring)
{
    for (uint32_t round = 0; round < 2 * ring->cq_entries && !(load_relaxed(ring->sq_flags) & IORING_SQ_CQ_OVERFLOW);
         round++) {
        if (ul_enter(ring, 0, -1) < 0)
            return;
    }
}
