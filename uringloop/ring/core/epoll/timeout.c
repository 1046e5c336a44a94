/* Timeouts: TIMEOUT, LINK_TIMEOUT, and those that count completions. */
#define _GNU_SOURCE
#include "epoll.h"

#include <errno.h>

int ul_try_timeout(ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    int multishot = (sqe->op_flags & IORING_TIMEOUT_MULTISHOT) != 0;
    int64_t deadline_ns, interval_ns = 0;
    int error = ul_deadline(sqe, &deadline_ns);
    if (error == 0 && multishot)
        error = ul_read_time((const void *)(uintptr_t)sqe->addr, &interval_ns);
    if (error == 0)
        error = ul_timer_add(request, deadline_ns);
    if (error < 0)
        return error;
    request->state = UL_REQUEST_TIMED;
    if (multishot) {
        request->repeats = (uint32_t)sqe->off;
        request->interval_ns = interval_ns;
    } else if ((uint32_t)sqe->off > 0) {
        request->count_end = request->user->posted + (uint32_t)sqe->off;
        ul_list_append(&request->user->counting, request);
    }
    return UL_TRY_HELD;
}

/* TIMEOUT_REMOVE: removes a timeout, or gives it another time. */
int ul_try_timeout_remove(ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    int updates = (sqe->op_flags & IORING_TIMEOUT_UPDATE) != 0;
    int changes_link = updates && sqe->op_flags & IORING_LINK_TIMEOUT_UPDATE;
    ul_request *timeout = ul_request_find(request->user, sqe->addr);
    int64_t deadline_ns;
    if (timeout == NULL || timeout->heap_place == 0 ||
        timeout->sqe.opcode != (changes_link ? IORING_OP_LINK_TIMEOUT : IORING_OP_TIMEOUT))
        return -ENOENT;
    if (!updates) {
        ul_timer_remove(timeout);
        ul_request_complete(timeout, -ECANCELED, 0);
        return 0;
    }
    int error = ul_deadline_at((const void *)(uintptr_t)sqe->off, sqe->op_flags & IORING_TIMEOUT_ABS, &deadline_ns);
    if (error < 0)
        return error;
    uint64_t count_end = timeout->count_end;
    timeout->count_end = 0;
    ul_timer_remove(timeout);
    timeout->count_end = count_end;
    return ul_timer_add(timeout, deadline_ns);
}

/* The time of a LINK_TIMEOUT has come. */
static void expire(ul_request *timeout)
{
    ul_user *user = timeout->user;
    ul_request *bounded = timeout->timeout;
    uint64_t token = timeout->sqe.user_data;
    timeout->timeout = bounded->timeout = NULL;
    ul_request_release(timeout);
    int error = ul_cancel_request(bounded);
    ul_post(user, token, error < 0 ? error : -ETIME, 0);
}

static void fire(ul_request *request, int64_t now_ns)
{
    ul_timer_remove(request);
    if (request->state == UL_REQUEST_BLOCKED) {
        ul_request_is_long(request, now_ns);
        return;
    }
    if (request->sqe.opcode == IORING_OP_LINK_TIMEOUT) {
        expire(request);
        return;
    }
    if (request->sqe.opcode != IORING_OP_TIMEOUT) {
        ul_request_try(request);
        return;
    }
    request->user->posted--; /* timeouts that count completions leave it out */
    if (request->sqe.op_flags & IORING_TIMEOUT_MULTISHOT && request->repeats != 1) {
        int64_t next_ns = request->deadline_ns + request->interval_ns;
        request->repeats -= request->repeats > 0;
        if (ul_timer_add(request, next_ns > now_ns ? next_ns : now_ns + 1) == 0) {
            ul_request_post(request, -ETIME, 0);
            return;
        }
    }
    ul_request_complete(request, -ETIME, 0);
}

/* Completes the timeouts whose time or number of completions has come. */
void ul_timers_fire(ul_user *user)
{
    int64_t now_ns = user->heap_count > 0 ? ul_now_ns() : 0;
    while (user->heap_count > 0 && user->heap[0]->deadline_ns <= now_ns)
        fire(user->heap[0], now_ns);
    for (ul_request *request = user->counting.first, *next; request != NULL; request = next) {
        next = request->next;
        if (user->posted < request->count_end)
            continue;
        ul_timer_remove(request);
        ul_request_complete(request, 0, 0);
        next = user->counting.first;
    }
}
