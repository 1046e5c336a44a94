/* Deadlines: a heap of the requests that have one, and what an SQE says of its time. */
#define _GNU_SOURCE
#include "epoll.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NS_PER_S 1000000000LL
#define HEAP_MIN 16
#define FIRST_PAUSE_NS 1000000LL
#define LONGEST_PAUSE_NS 50000000LL

static int64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static int comes_before(const ul_request *a, const ul_request *b) { return a->deadline_ns < b->deadline_ns; }

static void place(ul_user *user, uint32_t at, ul_request *request)
{
    user->heap[at - 1] = request;
    request->heap_place = at;
}

static void move_up(ul_user *user, uint32_t at, ul_request *request)
{
    while (at > 1 && comes_before(request, user->heap[at / 2 - 1])) {
        place(user, at, user->heap[at / 2 - 1]);
        at /= 2;
    }
    place(user, at, request);
}

static void move_down(ul_user *user, uint32_t at, ul_request *request)
{
    for (uint32_t child; (child = 2 * at) <= user->heap_count; at = child) {
        if (child < user->heap_count && comes_before(user->heap[child], user->heap[child - 1]))
            child++;
        if (!comes_before(user->heap[child - 1], request))
            break;
        place(user, at, user->heap[child - 1]);
    }
    place(user, at, request);
}

/* Has the request fire at its deadline. */
int ul_timer_add(ul_request *request, int64_t deadline_ns)
{
    ul_user *user = request->user;
    if (user->heap_count == user->heap_capacity) {
        uint32_t capacity = user->heap_capacity ? user->heap_capacity * 2 : HEAP_MIN;
        ul_request **heap = realloc(user->heap, capacity * sizeof(*heap));
        if (heap == NULL)
            return -ENOMEM;
        user->heap = heap;
        user->heap_capacity = capacity;
    }
    request->deadline_ns = deadline_ns;
    move_up(user, ++user->heap_count, request);
    return 0;
}

/* Has the request tried again after a pause, which doubles each time: UL_TRY_HELD, or a negative errno. */
int ul_try_later(ul_request *request)
{
    int64_t pause_ns = request->interval_ns > 0 ? 2 * request->interval_ns : FIRST_PAUSE_NS;
    request->interval_ns = pause_ns < LONGEST_PAUSE_NS ? pause_ns : LONGEST_PAUSE_NS;
    int error = ul_timer_add(request, ul_now_ns() + request->interval_ns);
    if (error < 0)
        return error;
    request->state = UL_REQUEST_TIMED;
    return UL_TRY_HELD;
}

void ul_timer_remove(ul_request *request)
{
    ul_user *user = request->user;
    uint32_t at = request->heap_place;
    if (request->count_end > 0)
        ul_list_remove(&user->counting, request);
    request->count_end = 0;
    if (at == 0)
        return;
    request->heap_place = 0;
    ul_request *last = user->heap[--user->heap_count];
    if (last == request)
        return;
    if (at > 1 && comes_before(last, user->heap[at / 2 - 1]))
        move_up(user, at, last);
    else
        move_down(user, at, last);
}

static int clock_of(uint32_t flags, clockid_t *clock)
{
    uint32_t chosen = flags & (IORING_TIMEOUT_BOOTTIME | IORING_TIMEOUT_REALTIME);
    if (chosen == (IORING_TIMEOUT_BOOTTIME | IORING_TIMEOUT_REALTIME))
        return -EINVAL;
    *clock = chosen == IORING_TIMEOUT_BOOTTIME   ? CLOCK_BOOTTIME
             : chosen == IORING_TIMEOUT_REALTIME ? CLOCK_REALTIME
                                                 : CLOCK_MONOTONIC;
    return 0;
}

/* Reads a timespec of the caller. */
int ul_read_time(const void *address, int64_t *time_ns)
{
    struct ul_timespec given;
    if (address == NULL)
        return -EFAULT;
    memcpy(&given, address, sizeof(given));
    if (given.tv_sec < 0 || given.tv_nsec < 0)
        return -EINVAL;
    int64_t whole_s = given.tv_nsec / NS_PER_S, rest_ns = given.tv_nsec % NS_PER_S;
    int64_t last_s = INT64_MAX / NS_PER_S - 1 - whole_s;
    *time_ns = given.tv_sec > last_s ? INT64_MAX : (given.tv_sec + whole_s) * NS_PER_S + rest_ns;
    return 0;
}

/* When a time of TIMEOUT_REMOVE is, on the monotonic clock. */
int ul_deadline_at(const void *address, uint32_t flags, int64_t *deadline_ns)
{
    clockid_t clock = CLOCK_MONOTONIC;
    int64_t time_ns = 0, now_ns = ul_now_ns();
    int error = clock_of(flags, &clock);
    if (error == 0)
        error = ul_read_time(address, &time_ns);
    if (error < 0)
        return error;
    if (flags & IORING_TIMEOUT_ABS)
        time_ns = time_ns > clock_ns(clock) ? time_ns - clock_ns(clock) : 0;
    *deadline_ns = time_ns > INT64_MAX - now_ns ? INT64_MAX : now_ns + time_ns;
    return 0;
}

/* When a TIMEOUT or LINK_TIMEOUT fires, on the monotonic clock. */
int ul_deadline(const struct io_uring_sqe *sqe, int64_t *deadline_ns)
{
    return ul_deadline_at((const void *)(uintptr_t)sqe->addr, sqe->op_flags, deadline_ns);
}

/* The first deadline; INT64_MAX: none. */
int64_t ul_timers_next(const ul_user *user) { return user->heap_count > 0 ? user->heap[0]->deadline_ns : INT64_MAX; }
