/* The life of a request: tried, put aside, tried again, completed; links and drains.
 *
 * A chain is submitted as a whole: its head is tried, and each further request when the one before has ended well.  A
 * request with IO_DRAIN begins when all earlier ones have ended, and later ones wait behind it.
 */
#define _GNU_SOURCE
#include "epoll.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Ends a request that has not begun. */
static void drop(ul_request *request, int silently)
{
    if (!silently)
        ul_post(request->user, request->sqe.user_data, request->is_refused ? request->res : -ECANCELED, 0);
    ul_request_release(request);
}

static void drop_links(ul_request *linked, int silently)
{
    while (linked != NULL) {
        ul_request *next = linked->linked, *timeout = linked->timeout;
        drop(linked, silently);
        if (timeout != NULL)
            drop(timeout, silently);
        linked = next;
    }
}

/* Ends a chain of which an SQE is wrong. */
void ul_chain_refuse(ul_request *head)
{
    ul_request *linked = head->linked, *timeout = head->timeout;
    int silently = (head->sqe.flags & IOSQE_CQE_SKIP_SUCCESS) != 0;
    drop(head, 0);
    if (timeout != NULL)
        drop(timeout, silently);
    drop_links(linked, silently);
}

/* Tries it behind those that have begun: a chain may be long, and the stack is not. */
static void begin(ul_request *request)
{
    ul_user *user = request->user;
    user->active++;
    request->state = UL_REQUEST_QUEUED;
    ul_list_append(&user->begun, request);
    if (user->is_beginning)
        return;
    user->is_beginning = 1;
    while ((request = user->begun.first) != NULL) {
        ul_list_remove(&user->begun, request);
        ul_request_try(request);
    }
    user->is_beginning = 0;
}

static void end_timeout(ul_request *request)
{
    ul_request *timeout = request->timeout;
    request->timeout = NULL;
    if (timeout == NULL)
        return;
    timeout->timeout = NULL;
    ul_timer_remove(timeout);
    ul_request_post_last(timeout, -ECANCELED, 0, 0);
    ul_request_release(timeout);
}

static void run_deferred(ul_user *user)
{
    while (user->deferred.first != NULL) {
        ul_request *head = user->deferred.first;
        if (head->sqe.flags & IOSQE_IO_DRAIN && user->active > 0)
            return;
        ul_list_remove(&user->deferred, head);
        begin(head);
    }
}

static int fails(const ul_request *request, int32_t res)
{
    if (res == -ETIME && request->sqe.opcode == IORING_OP_TIMEOUT)
        return !(request->sqe.op_flags & IORING_TIMEOUT_ETIME_SUCCESS);
    return res < 0 || request->user->is_short(request, res);
}

/* The call goes on for long: its thread counts as stuck.  If a cancel did not interrupt it, the waiter hears of the
 * cancel now, and the last CQE comes when the call returns. */
void ul_request_is_long(ul_request *request, int64_t now_ns)
{
    if (!ul_port_detain(request->user->port, &request->job)) {
        ul_timer_add(request, now_ns + UL_LONG_CALL_NS);
    } else if (request->is_unwanted && !request->detained) {
        request->detained = 1;
        request->user->ring->detained++;
        ul_request_post(request, -ECANCELED, 0);
    }
}

/* The last completion of a request, which is in no list any more; frees it. */
void ul_request_complete(ul_request *request, int32_t res, uint32_t flags)
{
    ul_user *user = request->user;
    int failed = fails(request, res);
    ul_request *linked = request->linked;
    int breaks = failed && !(request->sqe.flags & IOSQE_IO_HARDLINK);
    int silently = request->sqe.flags & IOSQE_CQE_SKIP_SUCCESS && failed;
    ul_timer_remove(request);
    user->ring->detained -= request->detained;
    ul_request_post_last(request, res, flags, failed);
    end_timeout(request);
    ul_request_release(request);
    user->active--;
    if (linked != NULL && breaks)
        drop_links(linked, silently);
    else if (linked != NULL)
        begin(linked);
    if (user->deferred.first != NULL && user->active == 0)
        run_deferred(user);
}

/* --- beginning --- */

/* Takes the head of a complete chain. */
void ul_request_submit(ul_request *head)
{
    ul_user *user = head->user;
    if (user->deferred.first != NULL || (head->sqe.flags & IOSQE_IO_DRAIN && user->active > 0)) {
        head->state = UL_REQUEST_QUEUED;
        ul_list_append(&user->deferred, head);
        return;
    }
    begin(head);
}

static void give_to_pool(ul_request *request)
{
    ul_user *user = request->user;
    int error = 0;
    if (user->port == NULL)
        user->port = ul_port_open(&error);
    if (user->port != NULL && !user->port_in_set) {
        struct epoll_event event = {.events = EPOLLIN, .data = {.u64 = UINT64_MAX}};
        if (epoll_ctl(user->epoll_fd, EPOLL_CTL_ADD, ul_port_fd(user->port), &event) < 0)
            error = -errno;
        else
            user->port_in_set = 1;
    }
    if (error == 0) {
        request->state = UL_REQUEST_BLOCKED;
        memset(&request->job, 0, sizeof(request->job));
        request->job.run = ul_run_blocking;
        request->job.dispose = ul_drop_result;
        error = ul_port_submit(user->port, &request->job);
        if (error != 0)
            request->state = UL_REQUEST_TRIED;
    }
    if (error == 0) {
        ul_timer_add(request, ul_now_ns() + UL_LONG_CALL_NS);
        return;
    }
    if (request->sqe.opcode == IORING_OP_CLOSE) {
        ul_run_blocking(&request->job); /* or the descriptor would stay open */
        error = request->res;
    }
    ul_request_complete(request, error, 0);
}

/* The LINK_TIMEOUT begins with the request that it bounds. */
static void begin_timeout(ul_request *request)
{
    int64_t deadline_ns;
    ul_request *timeout = request->timeout;
    if (timeout == NULL || timeout->heap_place > 0)
        return;
    if (ul_deadline(&timeout->sqe, &deadline_ns) == 0)
        ul_timer_add(timeout, deadline_ns);
}

/* epoll reports an error and a hang-up as long as they last.  A request that waits on beside one waits for an edge. */
static void wait_beside_errors(ul_request *request)
{
    uint32_t events = request->event.events;
    if (events & (EPOLLERR | EPOLLHUP) && !(events & request->events))
        request->events |= EPOLLET;
}

/* Takes the answer to a try; the request is in no list. */
static void take_answer(ul_request *request, int result)
{
    if (result == UL_TRY_HELD)
        return;
    if (result == UL_TRY_WAIT)
        wait_beside_errors(request);
    if (result == UL_TRY_WAIT && (result = ul_watch(request)) == 0) {
        request->tried = 1;
        return;
    }
    request->tried = 1;
    if (result == UL_TRY_BLOCK)
        give_to_pool(request);
    else
        ul_request_complete(request, result, request->cqe_flags);
}

/* Tries a request that is in no list. */
void ul_request_try(ul_request *request)
{
    request->state = UL_REQUEST_TRIED;
    if (request->timeout != NULL && !request->tried)
        begin_timeout(request);
    take_answer(request, request->lost_file ? -EBADF : request->user->try(request));
}

/* Whether the request goes on after a thread's call: it is multishot, or the descriptor has become non-blocking. */
static int has_more_calls(const ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    if (sqe->opcode == IORING_OP_READ_MULTISHOT)
        return request->res > 0;
    if (sqe->opcode != IORING_OP_ACCEPT)
        return 0;
    return request->res >= 0 ? sqe->ioprio & IORING_ACCEPT_MULTISHOT
                             : request->res == -EAGAIN && !(sqe->ioprio & IORING_ACCEPT_DONTWAIT);
}

/* The pool has made the request's call. */
void ul_request_finish_call(ul_request *request)
{
    request->state = UL_REQUEST_TRIED;
    ul_timer_remove(request);
    if (request->res == UL_TRY_WAIT) { /* an open whose FIFO has no other end yet */
        take_answer(request, request->is_unwanted ? -ECANCELED : ul_try_later(request));
        return;
    }
    if (request->is_unwanted || !has_more_calls(request)) {
        ul_request_complete(request, request->res, request->cqe_flags);
        return;
    }
    if (request->res >= 0)
        ul_request_post(request, request->res, request->cqe_flags);
    request->cqe_flags = 0;
    if (request->sqe.opcode == IORING_OP_READ_MULTISHOT) {
        request->sqe.flags |= IOSQE_BUFFER_SELECT;
        request->sqe.addr = request->sqe.len = 0;
    }
    ul_request_try(request);
}

/* Tries a request of an owned descriptor, which stays where it waits if it waits on. */
void ul_request_try_in_place(ul_request *request)
{
    uint32_t events = request->events;
    int result = request->user->try(request);
    if (result == UL_TRY_WAIT)
        wait_beside_errors(request);
    if (result == UL_TRY_WAIT && request->events == events)
        return;
    ul_unwatch(request);
    request->state = UL_REQUEST_TRIED;
    take_answer(request, result);
}

/* Ends a request that waits for its descriptor, and tells of it nowhere: 1, or 0 if it does more than that. */
int ul_request_withdraw(ul_request *request)
{
    ul_user *user = request->user;
    if (request->linked != NULL || request->timeout != NULL)
        return 0;
    if (request->state == UL_REQUEST_WAITING)
        ul_unwatch(request);
    else if (request->state == UL_REQUEST_READY)
        ul_list_remove(&user->ready, request);
    else
        return 0;
    ul_request_release(request);
    user->active--;
    if (user->deferred.first != NULL && user->active == 0)
        run_deferred(user);
    return 1;
}

void ul_requests_run_ready(ul_user *user)
{
    /* Those that become ready meanwhile are next time's. */
    uint32_t count = 0;
    for (ul_request *request = user->ready.first; request != NULL; request = request->next)
        count++;
    for (; count > 0 && user->ready.first != NULL; count--) {
        ul_request *request = user->ready.first;
        ul_list_remove(&user->ready, request);
        ul_request_try(request);
    }
    if (user->ready.first != NULL)
        *user->ring->sq_flags |= IORING_SQ_TASKRUN;
    else
        *user->ring->sq_flags &= ~(uint32_t)IORING_SQ_TASKRUN;
}
