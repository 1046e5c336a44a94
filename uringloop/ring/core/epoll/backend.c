/* The backend on epoll(7): a ring in user space, for where the kernel refuses io_uring.
 *
 * Its queues are memory of the process, laid out as the kernel's.  An enter takes the SQEs and tries each at once; what
 * would block waits for epoll or for the pool.  Then it asks epoll once, without waiting if there are completions.
 * Nothing completes but in an enter.
 */
#define _GNU_SOURCE
#include "epoll.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#ifndef __NR_epoll_pwait2
#define __NR_epoll_pwait2 441
#endif

#define EVENTS_MAX 64 /* more at a time push each other out of the cache */
#define ENTRIES_MAX 32768
#define NS_PER_S 1000000000LL
#define NS_PER_MS 1000000LL
#define PORT_DATA UINT64_MAX
#define TIMER_DATA (UINT64_MAX - 1)
#define WAKEUP_DATA (UINT64_MAX - 2)

typedef struct {
    uint32_t sq_head, sq_tail, sq_flags, cq_head, cq_tail, cq_flags;
    struct io_uring_cqe cqes[];
} queues;

static uint32_t round_up(uint32_t entries)
{
    uint32_t rounded = 1;
    while (rounded < entries)
        rounded *= 2;
    return rounded;
}

static int map_queues(ul_ring *ring, uint32_t sq_entries, uint32_t cq_entries)
{
    ring->ring_map_size = sizeof(queues) + cq_entries * sizeof(struct io_uring_cqe);
    ring->sqe_map_size = sq_entries * sizeof(struct io_uring_sqe);
    ring->ring_map = ul_map_private(ring->ring_map_size);
    ring->sqe_map = ul_map_private(ring->sqe_map_size);
    if (ring->ring_map == NULL || ring->sqe_map == NULL)
        return -ENOMEM;
    queues *shared = ring->ring_map;
    ring->sq_head = &shared->sq_head;
    ring->sq_tail = &shared->sq_tail;
    ring->sq_flags = &shared->sq_flags;
    ring->sq_mask = sq_entries - 1;
    ring->sqes = ring->sqe_map;
    ring->cq_head = &shared->cq_head;
    ring->cq_tail = &shared->cq_tail;
    ring->cq_flags = &shared->cq_flags;
    ring->cq_mask = cq_entries - 1;
    ring->cqes = shared->cqes;
    ring->sqe_tail = 0;
    return 0;
}

static void unmap_queues(ul_ring *ring)
{
    if (ring->ring_map != NULL)
        munmap(ring->ring_map, ring->ring_map_size);
    if (ring->sqe_map != NULL)
        munmap(ring->sqe_map, ring->sqe_map_size);
}

/* Chooses the sizes as io_uring_setup(2) does. */
static int choose_sizes(uint32_t sq_entries, struct io_uring_params *params)
{
    int clamps = (params->flags & IORING_SETUP_CLAMP) != 0;
    uint32_t sq = sq_entries, cq = params->flags & IORING_SETUP_CQSIZE ? params->cq_entries : 2 * sq_entries;
    if (sq == 0 || cq == 0 || (!clamps && (sq > ENTRIES_MAX || cq > 2 * ENTRIES_MAX)))
        return -EINVAL;
    params->sq_entries = round_up(sq > ENTRIES_MAX ? ENTRIES_MAX : sq);
    params->cq_entries = round_up(cq > 2 * ENTRIES_MAX ? 2 * ENTRIES_MAX : cq);
    return params->cq_entries < params->sq_entries ? -EINVAL : 0;
}

static int set_up(ul_ring *ring, uint32_t sq_entries, struct io_uring_params *params)
{
    const uint32_t known = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED;
    if (params->flags & ~known)
        return -EINVAL;
    int error = choose_sizes(sq_entries, params);
    if (error < 0)
        return error;
    params->features = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_RW_CUR_POS | IORING_FEAT_FAST_POLL |
                       IORING_FEAT_POLL_32BITS | IORING_FEAT_EXT_ARG | IORING_FEAT_CQE_SKIP | IORING_FEAT_LINKED_FILE;
    ul_watches_begin();
    ul_user *user = calloc(1, sizeof(*user));
    struct epoll_event *events = calloc(EVENTS_MAX, sizeof(*events));
    if (user == NULL || events == NULL) {
        free(user), free(events);
        return -ENOMEM;
    }
    user->ring = ring;
    user->try = ul_try;
    user->is_short = ul_is_short;
    user->events = events;
    user->event_fd = user->timer_fd = -1;
    user->timer_ns = INT64_MAX;
    user->has_pwait2 = 1;
    user->disabled = (params->flags & IORING_SETUP_R_DISABLED) != 0;
    user->epoll_fd = ring->fd = ring->enter_fd = epoll_create1(EPOLL_CLOEXEC);
    ring->backend_state = user;
    error = user->epoll_fd < 0 ? -errno : map_queues(ring, params->sq_entries, params->cq_entries);
    if (error < 0) {
        if (user->epoll_fd >= 0)
            close(user->epoll_fd);
        unmap_queues(ring);
        free(events), free(user);
    }
    return error;
}

static int resize(ul_ring *ring, struct io_uring_params *params)
{
    (void)ring, (void)params;
    return -EINVAL; /* CQEs that find the queue full are kept */
}

/* --- submitting --- */

typedef struct {
    ul_request *head, *last;
    int is_refused; /* an SQE of it is wrong, so none begins */
} chain;

/* Adds a request to the chain that is being submitted.  A LINK_TIMEOUT belongs to the one before it. */
static void add_to_chain(chain *chain, ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    ul_user *user = request->user;
    request->res = ul_check(user, sqe);
    int bounds = sqe->opcode == IORING_OP_LINK_TIMEOUT;
    if (request->res == 0 && bounds && (chain->head == NULL || chain->last->timeout != NULL))
        request->res = -EINVAL;
    request->is_refused = request->res < 0;
    chain->is_refused |= request->is_refused;
    if (bounds && !request->is_refused) {
        chain->last->timeout = request;
        request->timeout = chain->last;
        return;
    }
    if (chain->head == NULL) {
        chain->head = request;
        request->sqe.flags |= user->drains_next ? IOSQE_IO_DRAIN : 0;
        user->drains_next = 0;
    } else {
        chain->last->linked = request;
    }
    chain->last = request;
    /* A drain within a chain is one of the whole chain, and of the next one. */
    if (sqe->flags & IOSQE_IO_DRAIN && request != chain->head) {
        chain->head->sqe.flags |= IOSQE_IO_DRAIN;
        user->drains_next = 1;
    }
}

static void begin_chain(chain *chain)
{
    if (chain->is_refused)
        ul_chain_refuse(chain->head);
    else if (chain->head != NULL)
        ul_request_submit(chain->head);
    memset(chain, 0, sizeof(*chain));
}

/* Copies SQEs out and begins them, chain by chain; the number taken. */
static uint32_t submit(ul_user *user, uint32_t to_submit)
{
    ul_ring *ring = user->ring;
    chain chain = {0};
    uint32_t taken = 0;
    for (; taken < to_submit && *ring->sq_head != *ring->sq_tail; taken++) {
        const struct io_uring_sqe *sqe = &ring->sqes[*ring->sq_head & ring->sq_mask];
        ul_request *request = ul_request_take(user, sqe);
        if (request == NULL)
            break;
        store_release(ring->sq_head, *ring->sq_head + 1);
        add_to_chain(&chain, request);
        if (!(request->sqe.flags & (IOSQE_IO_LINK | IOSQE_IO_HARDLINK)))
            begin_chain(&chain);
    }
    begin_chain(&chain);
    return taken;
}

/* --- waiting --- */

static int wait_ms(int64_t timeout_ns)
{
    if (timeout_ns < 0)
        return -1;
    int64_t ms = timeout_ns / NS_PER_MS + (timeout_ns % NS_PER_MS > 0);
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

/* epoll_pwait2(2), with milliseconds where there is none (before Linux 5.11, or a filter refuses it). */
static int ask(ul_user *user, int64_t timeout_ns, const struct io_uring_getevents_arg *arg)
{
    const void *mask = (const void *)(uintptr_t)arg->sigmask;
    long count;
    if (user->has_pwait2) {
        struct timespec ts = {timeout_ns / NS_PER_S, timeout_ns % NS_PER_S};
        count = syscall(__NR_epoll_pwait2, user->epoll_fd, user->events, EVENTS_MAX, timeout_ns < 0 ? NULL : &ts, mask,
                        _NSIG / 8);
        if (count >= 0 || (errno != ENOSYS && errno != EPERM))
            return count < 0 ? -errno : (int)count;
        user->has_pwait2 = 0;
    }
    count = syscall(__NR_epoll_pwait, user->epoll_fd, user->events, EVENTS_MAX, wait_ms(timeout_ns), mask, _NSIG / 8);
    return count < 0 ? -errno : (int)count;
}

static void take_finished(ul_user *user)
{
    ul_job *next;
    for (ul_job *job = ul_port_take(user->port); job != NULL; job = next) {
        next = job->next;
        ul_request_finish_call((ul_request *)job);
    }
}

static void serve_events(ul_user *user)
{
    int count = user->event_count;
    /* epoll's order hardly changes, so another one is the first each time: it gets the last buffers. */
    int i = count > 0 ? (int)(user->rounds++ % (uint32_t)count) : 0;
    if (user->ring->readers != NULL)
        ul_readers_serve(user);
    user->event_count = 0;
    for (int n = 0; n < count; n++, i = i + 1 < count ? i + 1 : 0) {
        uint64_t data = user->events[i].data.u64;
        uint64_t expirations;
        if (data == TIMER_DATA) {
            ssize_t size = read(user->timer_fd, &expirations, sizeof(expirations));
            (void)size;
            user->timer_ns = INT64_MAX;
        } else if (data == WAKEUP_DATA) {
            user->woken = 1;
        } else if (!(data & UL_READER_BIT)) {
            ul_request *request = ul_watch_event(user, &user->events[i]);
            if (request != NULL)
                ul_request_try_in_place(request);
        }
    }
    if (user->port != NULL && ul_port_ready(user->port))
        take_finished(user);
    ul_requests_run_ready(user);
    ul_timers_fire(user);
    ul_flush_late(user);
}

static uint32_t completions(const ul_user *user)
{
    return *user->ring->cq_tail - load_acquire(user->ring->cq_head) + user->late_count;
}

/* How long epoll may sleep. */
static int64_t sleep_ns(const ul_user *user, uint32_t min_complete, int64_t deadline_ns)
{
    int64_t until_ns = ul_timers_next(user);
    if (completions(user) >= min_complete || user->ready.first != NULL || ul_found_readers(user->ring))
        return 0;
    if (deadline_ns >= 0 && deadline_ns < until_ns)
        until_ns = deadline_ns;
    if (until_ns == INT64_MAX)
        return -1;
    int64_t now_ns = ul_now_ns();
    return until_ns > now_ns ? until_ns - now_ns : 0;
}

static int64_t deadline_of(const struct io_uring_getevents_arg *arg, uint32_t flags)
{
    struct ul_timespec ts;
    if (arg->ts == 0)
        return -1;
    memcpy(&ts, (const void *)(uintptr_t)arg->ts, sizeof(ts));
    int64_t time_ns = ts.tv_sec >= INT64_MAX / NS_PER_S - 1 ? INT64_MAX / 2 : ts.tv_sec * NS_PER_S + ts.tv_nsec;
    return flags & IORING_ENTER_ABS_TIMER ? time_ns : ul_now_ns() + time_ns;
}

static int has_reason_to_end(ul_user *user, uint32_t min_complete)
{
    int woken = user->woken;
    user->woken = 0;
    return woken || completions(user) >= min_complete || ul_found_readers(user->ring);
}

/* Waits for so many completions, or a wakeup: 0, -EINTR or -ETIME. */
static int wait_for(ul_user *user, uint32_t min_complete, uint32_t flags, const struct io_uring_getevents_arg *arg)
{
    int64_t deadline_ns = min_complete > 0 ? deadline_of(arg, flags) : -1;
    if (user->event_count > 0) {
        serve_events(user); /* those that a look has found */
        if (has_reason_to_end(user, min_complete))
            return 0;
    }
    for (int64_t timeout_ns;;) {
        timeout_ns = sleep_ns(user, min_complete, deadline_ns);
        if (timeout_ns != 0 && user->ring->first_engine == NULL) {
            ul_watches_check(user);
            timeout_ns = sleep_ns(user, min_complete, deadline_ns);
        }
        int count = ask(user, timeout_ns, arg);
        if (count < 0)
            return count;
        user->event_count = count;
        serve_events(user);
        if (has_reason_to_end(user, min_complete))
            return 0;
        if (deadline_ns >= 0 && ul_now_ns() >= deadline_ns)
            return -ETIME;
    }
}

static int enter(ul_ring *ring, uint32_t to_submit, uint32_t min_complete, uint32_t flags,
                 const struct io_uring_getevents_arg *arg)
{
    ul_user *user = ring->backend_state;
    if (user->disabled)
        return -EBADFD;
    ul_flush_late(user);
    uint32_t taken = submit(user, to_submit);
    if (taken < to_submit && taken == 0)
        return -EAGAIN;
    if (!(flags & IORING_ENTER_GETEVENTS))
        return (int)taken;
    int error = wait_for(user, min_complete < ring->cq_entries ? min_complete : ring->cq_entries, flags, arg);
    return taken > 0 || error == 0 ? (int)taken : error;
}

/* Whether an enter has something to do beside its SQEs, as far as memory tells. */
static int has_news(const ul_user *user)
{
    return user->event_count > 0 || (user->port != NULL && ul_port_ready(user->port)) ||
           (user->heap_count > 0 && user->heap[0]->deadline_ns <= ul_now_ns());
}

static int finds(ul_user *user)
{
    if (has_news(user))
        return 1;
    int count = epoll_wait(user->epoll_fd, user->events, EVENTS_MAX, 0);
    user->event_count = count > 0 ? count : 0;
    return count > 0;
}

/* Looks for readers without an enter, when ul_has_work sees nothing: their number, or -1 if an enter has to serve more
 * than them. */
int ul_readers_look(ul_ring *ring)
{
    ul_user *user = ring->backend_state;
    if (has_news(user))
        return -1;
    if (!finds(user))
        return 0;
    if (!ul_readers_alone(user))
        return -1;
    ul_readers_serve(user);
    user->event_count = 0;
    return ring->readers->count;
}

/* Keeps the events that it finds for the next enter. */
static int look(ul_ring *ring)
{
    if (cqes_ready(ring) || deferred_work(ring))
        return 1;
    if (!finds(ring->backend_state))
        return 0;
    *ring->sq_flags |= IORING_SQ_TASKRUN;
    return 1;
}

/* --- io_uring_register(2) --- */

static int probe(void *arg, uint32_t count)
{
    uint8_t *answer = arg; /* a header of 16 bytes, then 8 bytes for each opcode */
    uint32_t last = IORING_OP_PIPE;
    memset(answer, 0, 16 + 8 * (size_t)count);
    answer[0] = (uint8_t)last;
    answer[1] = (uint8_t)(count < last + 1 ? count : last + 1);
    for (uint32_t opcode = 0; opcode <= last && opcode < count; opcode++) {
        answer[16 + 8 * opcode] = (uint8_t)opcode;
        answer[16 + 8 * opcode + 2] = ul_has_opcode(opcode);
    }
    return 0;
}

/* Cancels, and waits for a call that a thread is making. */
static int cancel_now(ul_user *user, const struct io_uring_sync_cancel_reg *reg)
{
    int waits = reg->timeout.tv_sec >= 0 && reg->timeout.tv_nsec >= 0;
    int64_t time_ns = INT64_MAX, begin_ns = ul_now_ns();
    if (waits && ul_read_time(&reg->timeout, &time_ns) < 0)
        return -EINVAL;
    for (;;) {
        int found = ul_cancel_matching(user, NULL, reg->addr, reg->fd, reg->flags, reg->opcode);
        ul_flush_late(user);
        int64_t spent_ns = ul_now_ns() - begin_ns;
        if (found != -EALREADY)
            return found > 0 ? 0 : found;
        if (spent_ns >= time_ns)
            return -ETIME;
        struct pollfd finished = {ul_port_fd(user->port), POLLIN, 0};
        if (poll(&finished, 1, wait_ms(waits ? time_ns - spent_ns : -1)) < 0)
            return -errno;
        take_finished(user);
    }
}

static int control(ul_ring *ring, uint32_t opcode, void *arg, uint32_t count)
{
    ul_user *user = ring->backend_state;
    switch (opcode) {
    case IORING_REGISTER_ENABLE_RINGS:
        if (arg != NULL || count != 0)
            return -EINVAL;
        if (!user->disabled)
            return -EBADFD;
        user->disabled = 0;
        return 0;
    case IORING_REGISTER_EVENTFD:
    case IORING_REGISTER_EVENTFD_ASYNC:
        if (user->event_fd >= 0)
            return -EBUSY;
        user->event_fd = fcntl(*(const int *)arg, F_DUPFD_CLOEXEC, 0);
        return user->event_fd < 0 ? -errno : 0;
    case IORING_UNREGISTER_EVENTFD:
        if (user->event_fd < 0)
            return -ENXIO;
        close(user->event_fd);
        user->event_fd = -1;
        return 0;
    case IORING_REGISTER_PROBE: return probe(arg, count);
    case IORING_REGISTER_PBUF_RING: return arg == (void *)1 ? -EFAULT : ul_group_register(user, arg);
    case IORING_UNREGISTER_PBUF_RING: return ul_group_unregister(user, arg);
    case IORING_REGISTER_PBUF_STATUS: return ul_group_status(user, arg);
    case IORING_REGISTER_SYNC_CANCEL: return cancel_now(user, arg);
    default: return -EINVAL;
    }
}

/* --- beside another set --- */

/* Early, since arm() has no way to say that no descriptor is left. */
static int open_timer(ul_user *user)
{
    struct epoll_event event = {.events = EPOLLIN, .data = {.u64 = TIMER_DATA}};
    if (user->timer_fd >= 0)
        return 0;
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    if (epoll_ctl(user->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    user->timer_fd = fd;
    return 0;
}

static int open_descriptor(ul_ring *ring)
{
    ul_user *user = ring->backend_state;
    int error = open_timer(user);
    if (error < 0)
        return error;
    int fd = fcntl(user->epoll_fd, F_DUPFD_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

/* The set itself tells of descriptors and of the pool; a timer in it tells of timeouts. */
static void arm(ul_ring *ring)
{
    ul_user *user = ring->backend_state;
    int64_t next_ns = ul_timers_next(user);
    *ring->cq_flags = 0;
    if (next_ns == INT64_MAX || user->timer_ns <= next_ns)
        return;
    struct itimerspec when = {{0, 0}, {next_ns / NS_PER_S, next_ns % NS_PER_S}};
    if (when.it_value.tv_sec == 0 && when.it_value.tv_nsec == 0)
        when.it_value.tv_nsec = 1;
    if (user->timer_fd >= 0 && timerfd_settime(user->timer_fd, TFD_TIMER_ABSTIME, &when, NULL) == 0)
        user->timer_ns = next_ns;
}

static void disarm(ul_ring *ring) { *ring->cq_flags = IORING_CQ_EVENTFD_DISABLED; }

static int watch_wakeup(ul_ring *ring)
{
    ul_user *user = ring->backend_state;
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data = {.u64 = WAKEUP_DATA}};
    return epoll_ctl(user->epoll_fd, EPOLL_CTL_ADD, ring->wakeup->fd, &event) < 0 ? -errno : 0;
}

static int withdraw(ul_ring *ring, uint64_t token)
{
    ul_request *request = ul_request_find(ring->backend_state, token);
    return request != NULL && ul_request_withdraw(request);
}

static void closes(ul_ring *ring, int fd, int alone) { ul_watch_closes(ring->backend_state, fd, alone); }

static void close_ring(ul_ring *ring)
{
    ul_user *user = ring->backend_state;
    ul_requests_free(user);
    if (user->port != NULL)
        ul_port_close(user->port);
    if (user->event_fd >= 0)
        close(user->event_fd);
    if (user->timer_fd >= 0)
        close(user->timer_fd);
    close(user->epoll_fd);
    ul_groups_free(user);
    ul_watches_free(user);
    free(ring->readers);
    free(user->heap);
    free(user->events);
    free(user);
    unmap_queues(ring);
}

/* A forked child has copies of the descriptors, and no threads. */
static void drop(ul_ring *ring)
{
    ul_user *user = ring->backend_state;
    if (user->port != NULL)
        ul_port_drop(user->port);
    if (user->timer_fd >= 0)
        close(user->timer_fd);
    if (user->event_fd >= 0)
        close(user->event_fd);
    close(user->epoll_fd);
}

const ul_backend ul_backend_epoll = {0,   set_up, resize,       enter,    control, look,       open_descriptor,
                                     arm, disarm, watch_wakeup, withdraw, closes,  close_ring, drop};
