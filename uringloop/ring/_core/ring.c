/* One io_uring: setup, the two queues, submitting, waiting, reaping.
 *
 * Submission: SQEs are staged in the queue's memory and handed over together by the next io_uring_enter.  A full queue
 * is submitted on the spot.
 *
 * Reaping is complete, or the loop would sleep on finished work.  With DEFER_TASKRUN a completion exists as a CQE only
 * after an enter with GETEVENTS; one such enter runs at most about twenty of them and does not signal for the rest; and
 * CQEs that overflowed the queue signal nobody.  Both states show in the SQ flags (TASKRUN, CQ_OVERFLOW), so reaping
 * goes on until these are clear.  A bounded number of rounds, because completions of sends stage more sends.
 *
 * Memory shared with the kernel is not inherited by fork (MADV_DONTFORK): a child that touched it would corrupt the
 * parent's queues.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef __NR_io_uring_setup
#define __NR_io_uring_setup 425
#define __NR_io_uring_enter 426
#define __NR_io_uring_register 427
#endif

#define REAP_ROUNDS 16
#define INTERRUPTS_SEEN 256
#define REFUSALS_MAX 64
#define REFUSED_MAX_NS 2000000000LL
#define NS_PER_S 1000000000LL

int ul_ring_register(int ring_fd, uint32_t opcode, void *arg, uint32_t count)
{
    long result = syscall(__NR_io_uring_register, ring_fd, opcode, arg, count);
    return result < 0 ? -errno : (int)result;
}

static uint32_t kind_of(uint64_t token) { return token & ((1U << UL_KIND_BITS) - 1); }

static int is_cancel(uint64_t token) { return (token & UL_KIND_CANCEL_BIT) != 0 || kind_of(token) == UL_KIND_CANCEL; }

/* Whether a CQE belongs to no SQE of this ring: it is a message of another one, which may carry any user_data. */
static int is_foreign(const ul_ring *ring, uint64_t user_data)
{
    return (user_data & UL_STAMP_MASK) != ring->stamp || kind_of(user_data) == UL_KIND_FOREIGN;
}

/* A number that begins no pointer, no small number, and is another in most rings. */
static uint64_t make_stamp(const ul_ring *ring)
{
    uint64_t mixed = ((uint64_t)ul_now_ns() ^ (uint64_t)(uintptr_t)ring ^ (uint64_t)getpid() << 20) *
                     0x9e3779b97f4a7c15ULL;
    return (mixed >> 57 | 0x80) << UL_STAMP_SHIFT;
}

/* The user_data of the next operation. */
uint64_t ul_operation_token(ul_ring *ring)
{
    ring->next_token += 1U << UL_KIND_BITS;
    return ring->next_token;
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

/* 0, or why this process or thread may not touch the queues: of a ring with one issuer the kernel would take what is
 * staged here for the issuer's. */
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
    ul_streams_close(ring);
    ul_datagrams_close(ring);
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
uint64_t ul_build(void) { return UL_BUILD; }
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
    out->streams = ring->streams.count - ring->streams.free_count;
    out->bulk_streams = ring->bulk_streams;
    out->datagrams = ring->datagrams.count - ring->datagrams.free_count;
}

uint64_t ul_in_flight(ul_ring *ring) { return ring->statistics.in_flight; }

uint64_t ul_completed(ul_ring *ring) { return ring->statistics.completed; }

int64_t ul_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

uint32_t ul_staged(ul_ring *ring) { return ring->forgotten ? 0 : ring->sqe_tail - load_acquire(ring->sq_head); }

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
        uint32_t flags = IORING_ENTER_GETEVENTS | ring->enter_flags;
        if (syscall(__NR_io_uring_enter, ring->enter_fd, 0, 0, flags, NULL, 0) >= 0) {
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

/* The system call; submits all that is staged, and waits for min_complete CQEs.  timeout_ns < 0: none.  signal_mask:
 * which signals to block meanwhile, NULL to leave that as it is.
 *
 * With SQPOLL the kernel's thread takes what is published, without a system call while it is awake. */
int ul_wait(ul_ring *ring, uint32_t min_complete, int64_t timeout_ns, uint32_t enter_flags, const uint64_t *signal_mask)
{
    struct ul_timespec ts = {timeout_ns / NS_PER_S, timeout_ns % NS_PER_S};
    struct io_uring_getevents_arg arg = {(uint64_t)(uintptr_t)signal_mask, _NSIG / 8, 0,
                                         timeout_ns < 0 ? 0 : (uint64_t)(uintptr_t)&ts};
    if (ring->forgotten)
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
    long result = syscall(__NR_io_uring_enter, ring->enter_fd, to_submit, min_complete, flags, &arg, sizeof(arg));
    if (result < 0)
        return count_refusal(ring, -errno, min_complete);
    ring->refusals = 0;
    if (!polled)
        ring->statistics.submitted += (uint64_t)result;
    return (int)result;
}

int ul_enter(ul_ring *ring, uint32_t min_complete, int64_t timeout_ns)
{
    return ul_wait(ring, min_complete, timeout_ns, 0, NULL);
}

/* Room for count SQEs in a row: what must stay together (a link chain) never straddles a submit.  Which thread it is
 * does not matter: between two runs of a loop another one may stage what the next run submits. */
int ul_reserve(ul_ring *ring, uint32_t count)
{
    if (ring->forgotten)
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

/* An SQE ended without a CQE: it was told to (IOSQE_CQE_SKIP_SUCCESS), and what was linked behind it has completed. */
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

/* Copies a CQE out and frees its place: 1, or 0 when the queue is empty. */
int ul_next_cqe(ul_ring *ring, struct io_uring_cqe *out)
{
    if (ring->forgotten)
        return 0;
    uint32_t head = *ring->cq_head;
    if (head == load_acquire(ring->cq_tail))
        return 0;
    *out = ring->cqes[head & ring->cq_mask];
    store_release(ring->cq_head, head + 1);
    ring->statistics.completed++;
    if (is_foreign(ring, out->user_data))
        return 1;
    if (!(out->flags & IORING_CQE_F_MORE) && ring->statistics.in_flight > 0)
        ring->statistics.in_flight--;
    if (is_cancel(out->user_data))
        ul_cancel_answered(ring, out);
    else if (ring->targets.count > 0)
        ul_cancel_target_completed(ring, out);
    return 1;
}

/* Turns the CQEs that are there into events, without a system call; the number of events. */
int ul_reap_ready(ul_ring *ring, ul_event *events, uint32_t capacity)
{
    uint32_t count = 0;
    struct io_uring_cqe cqe;
    while (count < capacity && ul_next_cqe(ring, &cqe)) {
        ul_event *event = &events[count];
        uint32_t kind = kind_of(cqe.user_data);
        if (kind == UL_KIND_OPERATION || is_foreign(ring, cqe.user_data)) {
            event->token = cqe.user_data;
            event->res = cqe.res;
            event->flags = cqe.flags;
            event->owner = NULL;
            count++;
        } else if (kind == UL_KIND_DATAGRAM_RECEIVE || kind == UL_KIND_DATAGRAM_SEND) {
            count += (uint32_t)ul_datagram_complete(ring, &cqe, event);
        } else if (kind == UL_KIND_RECEIVE || kind == UL_KIND_SEND) {
            count += (uint32_t)ul_stream_complete(ring, &cqe, event);
        } else if (kind == UL_KIND_BUFFER) {
            ul_buffer_taken(ring, &cqe);
        }
    }
    return (int)count;
}

/* Reaps every completion there is, up to the capacity; the number of events, or a negative errno. */
int ul_reap(ul_ring *ring, ul_event *events, uint32_t capacity)
{
    uint32_t count = 0;
    for (int round = 0; round < REAP_ROUNDS; round++) {
        count += (uint32_t)ul_reap_ready(ring, events + count, capacity - count);
        if (ring->targets.owed > 0)
            ul_cancels_stage(ring);
        if (count == capacity || !deferred_work(ring))
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
