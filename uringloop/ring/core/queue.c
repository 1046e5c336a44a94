/* The submission queue, and the enters that hand it to the backend.
 *
 * SQEs are staged in the queue's memory and handed over together by the next enter.  A full queue is submitted
 * on the spot.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#define INTERRUPTS_SEEN 256
#define REFUSALS_MAX 64
#define REFUSED_MAX_NS 2000000000LL
#define NS_PER_S 1000000000LL

int ul_ring_register(ul_ring *ring, uint32_t opcode, void *arg, uint32_t count)
{
    return ring->backend->control(ring, opcode, arg, count);
}

/* The user_data of the next operation. */
uint64_t ul_operation_token(ul_ring *ring)
{
    ring->next_token += 1U << UL_KIND_BITS;
    return ring->next_token;
}

uint64_t ul_in_flight(ul_ring *ring) { return ring->statistics.in_flight; }

uint64_t ul_completed(ul_ring *ring) { return ring->statistics.completed; }

int64_t ul_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

uint32_t ul_staged(ul_ring *ring) { return ring->dropped ? 0 : ring->sqe_tail - load_acquire(ring->sq_head); }

/* Passes the error of an enter on, or -ENOTRECOVERABLE if every enter has been refused for long.
 *
 * EAGAIN and EBUSY are told to try again, and a signal interrupts a wait as often as it likes.  But a filter may answer
 * so for ever.  An enter that does not wait is interrupted by no signal, so one of these shows what the interrupts are.
 */
static int count_refusal(ul_ring *ring, int error, uint32_t min_complete)
{
    if (error == -EINTR && min_complete > 0) {
        if (++ring->interrupts % INTERRUPTS_SEEN != 0)
            return error;
        struct io_uring_getevents_arg none = {0, 0, 0, 0};
        if (ring->backend->enter(ring, 0, 0, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG | ring->enter_flags,
                                 &none) >= 0) {
            ring->refusals = 0;
            return error;
        }
    } else if (error != -EAGAIN && error != -EBUSY && error != -EINTR) {
        return error;
    }
    if (ring->refusals++ == 0)
        ring->refused_since_ns = ul_now_ns();
    if (ring->refusals >= REFUSALS_MAX && ul_now_ns() - ring->refused_since_ns >= REFUSED_MAX_NS)
        return -ENOTRECOVERABLE;
    return error;
}

/* One enter; submits all that is staged, and waits for min_complete CQEs.  timeout_ns < 0: none.  signal_mask:
 * which signals to block meanwhile, NULL to leave that as it is.
 *
 * With SQPOLL the kernel's thread takes what is published, without a system call while it is awake. */
int ul_wait(ul_ring *ring, uint32_t min_complete, int64_t timeout_ns, uint32_t enter_flags, const uint64_t *signal_mask)
{
    struct ul_timespec ts = {timeout_ns / NS_PER_S, timeout_ns % NS_PER_S};
    struct io_uring_getevents_arg arg = {(uint64_t)(uintptr_t)signal_mask, _NSIG / 8, 0,
                                         timeout_ns < 0 ? 0 : (uint64_t)(uintptr_t)&ts};
    if (ring->dropped)
        return -EOWNERDEAD;
    int polled = (ring->setup_flags & IORING_SETUP_SQPOLL) != 0;
    uint32_t to_submit = polled ? ring->sqe_tail - *ring->sq_tail : ul_staged(ring);
    uint32_t flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG | ring->enter_flags | enter_flags;
    if (min_complete > 0)
        flags |= ring->wait_flags;
    store_release(ring->sq_tail, ring->sqe_tail);
    if (to_submit > ring->statistics.batches_max)
        ring->statistics.batches_max = to_submit;
    if (load_relaxed(ring->sq_flags) & IORING_SQ_CQ_OVERFLOW)
        ring->statistics.overflows++;
    if (polled) {
        ring->statistics.submitted += to_submit;
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (load_relaxed(ring->sq_flags) & IORING_SQ_NEED_WAKEUP)
            flags |= IORING_ENTER_SQ_WAKEUP;
        else if (min_complete == 0 && enter_flags == 0 && !deferred_work(ring))
            return (int)to_submit;
    }
    ring->statistics.enters++;
    int result = ring->backend->enter(ring, to_submit, min_complete, flags, &arg);
    if (result < 0)
        return count_refusal(ring, result, min_complete);
    ring->refusals = 0;
    ring->told_in_vain = ring->backend == &ul_backend_io_uring && deferred_work(ring) && !cqes_ready(ring);
    if (!polled)
        ring->statistics.submitted += (uint64_t)result;
    return result;
}

int ul_enter(ul_ring *ring, uint32_t min_complete, int64_t timeout_ns)
{
    return ul_wait(ring, min_complete, timeout_ns, 0, NULL);
}

/* Makes room for count SQEs in a row, so that a link chain never straddles a submit.  Any thread may call it: between
 * two runs of a loop another thread may stage SQEs that the next run submits. */
int ul_reserve(ul_ring *ring, uint32_t count)
{
    if (ring->dropped)
        return -EOWNERDEAD;
    if (count > ring->sq_entries)
        return -E2BIG;
    uint32_t flags = ring->setup_flags & IORING_SETUP_SQPOLL ? IORING_ENTER_SQ_WAIT : 0;
    while (ring->sq_entries - ul_staged(ring) < count) {
        int result = ul_wait(ring, 0, -1, flags, NULL);
        if (result < 0 && result != -EINTR)
            return result;
    }
    return 0;
}

/* The first place whose SQE the kernel has not taken, and cannot take without another call. */
static uint32_t first_staged(ul_ring *ring)
{
    return ring->setup_flags & IORING_SETUP_SQPOLL ? *ring->sq_tail : load_acquire(ring->sq_head);
}

/* Takes back the SQE that was staged last, if it was not handed over yet; whether there was one. */
int ul_unstage(ul_ring *ring, uint64_t *token)
{
    if (ring->sqe_tail == first_staged(ring))
        return 0;
    *token = ring->sqes[--ring->sqe_tail & ring->sq_mask].user_data;
    if (!(ring->setup_flags & IORING_SETUP_SQPOLL))
        store_release(ring->sq_tail, ring->sqe_tail);
    ring->statistics.in_flight--;
    if (is_cancel(*token))
        ring->cancels--;
    return 1;
}

/* The SQE at a place of the queue, as given by ul_place, or NULL once it was handed over. */
struct io_uring_sqe *ul_sqe_at(ul_ring *ring, uint32_t place)
{
    uint32_t first = first_staged(ring);
    return place - first < ring->sqe_tail - first ? &ring->sqes[place & ring->sq_mask] : NULL;
}

/* Where the SQE that ul_next_sqe gave last is. */
uint32_t ul_place(ul_ring *ring) { return ring->sqe_tail - 1; }

/* Takes the descriptor from an SQE that is still staged, which then ends with EBADF; whether it was. */
int ul_disown(ul_ring *ring, uint64_t token)
{
    for (uint32_t place = first_staged(ring); place != ring->sqe_tail; place++) {
        struct io_uring_sqe *sqe = &ring->sqes[place & ring->sq_mask];
        if (sqe->user_data == token) {
            sqe->fd = -1;
            return 1;
        }
    }
    return 0;
}

/* Counts an SQE that ended without a CQE (IOSQE_CQE_SKIP_SUCCESS): the SQE linked behind it has completed. */
void ul_retire(ul_ring *ring) { ring->statistics.in_flight--; }

/* The next free SQE, zeroed.  It counts as in flight from here on, so the caller fills it. */
struct io_uring_sqe *ul_next_sqe(ul_ring *ring, int *error)
{
    *error = ul_reserve(ring, 1);
    if (*error < 0)
        return NULL;
    struct io_uring_sqe *sqe = &ring->sqes[ring->sqe_tail++ & ring->sq_mask];
    memset(sqe, 0, sizeof(*sqe));
    ring->statistics.in_flight++;
    return sqe;
}
