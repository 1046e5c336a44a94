/* Requests and CQEs: the memory of both.
 *
 * A CQE that finds the queue full is kept, in order, and IORING_SQ_CQ_OVERFLOW is set until it has a place.
 */
#define _GNU_SOURCE
#include "epoll.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOKENS_MIN 64

struct ul_late_cqe {
    ul_late_cqe *next;
    struct io_uring_cqe cqe;
};

void ul_list_append(ul_request_list *list, ul_request *request)
{
    request->next = NULL;
    request->previous = list->last;
    if (list->last != NULL)
        list->last->next = request;
    else
        list->first = request;
    list->last = request;
}

void ul_list_remove(ul_request_list *list, ul_request *request)
{
    if (request->previous != NULL)
        request->previous->next = request->next;
    else
        list->first = request->next;
    if (request->next != NULL)
        request->next->previous = request->previous;
    else
        list->last = request->previous;
    request->next = request->previous = NULL;
}

/* --- by token --- */

static ul_request **place_of(const ul_user *user, uint64_t token)
{
    return &user->by_token[(uint32_t)(token * 0x9e3779b97f4a7c15ULL >> 40) & (user->token_capacity - 1)];
}

static int make_room(ul_user *user)
{
    uint32_t capacity = user->token_capacity ? user->token_capacity * 2 : TOKENS_MIN;
    ul_request **by_token = calloc(capacity, sizeof(*by_token));
    if (by_token == NULL)
        return user->token_capacity ? 0 : -ENOMEM;
    free(user->by_token);
    user->by_token = by_token;
    user->token_capacity = capacity;
    for (ul_request *request = user->all; request != NULL; request = request->next_of_all) {
        ul_request **place = place_of(user, request->sqe.user_data);
        request->next_of_hash = *place;
        *place = request;
    }
    return 0;
}

static void enter_token(ul_user *user, ul_request *request)
{
    ul_request **place = place_of(user, request->sqe.user_data);
    request->next_of_hash = *place;
    *place = request;
    user->token_count++;
}

static void leave_token(ul_user *user, ul_request *request)
{
    ul_request **place = place_of(user, request->sqe.user_data);
    while (*place != request)
        place = &(*place)->next_of_hash;
    *place = request->next_of_hash;
    user->token_count--;
}

/* A request with this user_data that has not ended, or NULL. */
ul_request *ul_request_find(ul_user *user, uint64_t token)
{
    ul_request *request = user->token_count > 0 ? *place_of(user, token) : NULL;
    while (request != NULL && request->sqe.user_data != token)
        request = request->next_of_hash;
    return request;
}

/* Gives a request another user_data. */
void ul_request_rename(ul_request *request, uint64_t token)
{
    leave_token(request->user, request);
    request->sqe.user_data = token;
    enter_token(request->user, request);
}

/* --- making and freeing --- */

/* A new request with a copy of the SQE; NULL if there is no memory. */
ul_request *ul_request_take(ul_user *user, const struct io_uring_sqe *sqe)
{
    if (user->token_count >= user->token_capacity && make_room(user) < 0)
        return NULL;
    ul_request *request = user->free_requests;
    if (request != NULL)
        user->free_requests = request->next;
    else if ((request = malloc(sizeof(*request))) == NULL)
        return NULL;
    memset(request, 0, sizeof(*request));
    request->sqe = *sqe;
    request->user = user;
    request->fd = sqe->fd;
    request->owned = kind_of(sqe->user_data) >= UL_KIND_ENGINES && !is_cancel(sqe->user_data) &&
                     (sqe->user_data & UL_STAMP_MASK) == user->ring->stamp;
    request->empties = request->owned && sqe->opcode == IORING_OP_RECV && (sqe->ioprio & UL_RECV_EMPTIES) != 0;
    if (request->empties)
        request->sqe.ioprio &= (uint16_t)~UL_RECV_EMPTIES;
    request->next_of_all = user->all;
    request->link_of_all = &user->all;
    if (user->all != NULL)
        user->all->link_of_all = &request->next_of_all;
    user->all = request;
    enter_token(user, request);
    return request;
}

/* Frees it, after its last CQE. */
void ul_request_release(ul_request *request)
{
    ul_user *user = request->user;
    if (request->holds_file && request->state != UL_REQUEST_BLOCKED)
        close(request->fd);
    leave_token(user, request);
    *request->link_of_all = request->next_of_all;
    if (request->next_of_all != NULL)
        request->next_of_all->link_of_all = request->link_of_all;
    request->next = user->free_requests;
    user->free_requests = request;
}

/* The ring closes: requests that the pool runs free themselves. */
void ul_requests_free(ul_user *user)
{
    while (user->all != NULL) {
        ul_request *request = user->all;
        int is_running = request->state == UL_REQUEST_BLOCKED && !ul_port_withdraw(user->port, &request->job);
        request->state = is_running ? UL_REQUEST_BLOCKED : UL_REQUEST_TRIED;
        ul_request_release(request);
        if (is_running) {
            user->free_requests = request->next;
            ul_port_abandon(user->port, &request->job);
        }
    }
    while (user->free_requests != NULL) {
        ul_request *request = user->free_requests;
        user->free_requests = request->next;
        free(request);
    }
    while (user->late_first != NULL) {
        ul_late_cqe *late = user->late_first;
        user->late_first = late->next;
        free(late);
    }
    free(user->by_token);
}

/* --- completions --- */

static void tell_eventfd(const ul_user *user)
{
    uint64_t one = 1;
    if (user->event_fd >= 0 && !(load_relaxed(user->ring->cq_flags) & IORING_CQ_EVENTFD_DISABLED)) {
        ssize_t written = write(user->event_fd, &one, sizeof(one));
        (void)written; /* a full counter is readable */
    }
}

static int put_cqe(ul_user *user, const struct io_uring_cqe *cqe)
{
    ul_ring *ring = user->ring;
    uint32_t tail = *ring->cq_tail;
    if (tail - load_acquire(ring->cq_head) > ring->cq_mask)
        return 0;
    ring->cqes[tail & ring->cq_mask] = *cqe;
    store_release(ring->cq_tail, tail + 1);
    tell_eventfd(user);
    return 1;
}

void ul_post(ul_user *user, uint64_t user_data, int32_t res, uint32_t flags)
{
    struct io_uring_cqe cqe = {user_data, res, flags};
    user->posted++;
    if (user->late_first == NULL && put_cqe(user, &cqe))
        return;
    ul_late_cqe *late = malloc(sizeof(*late));
    if (late == NULL)
        return; /* as a kernel without memory for it */
    late->next = NULL;
    late->cqe = cqe;
    if (user->late_first == NULL)
        user->late_first = late;
    else
        user->late_last->next = late;
    user->late_last = late;
    user->late_count++;
    *user->ring->sq_flags |= IORING_SQ_CQ_OVERFLOW;
}

/* Moves the CQEs that were kept into the queue, as far as there is room. */
void ul_flush_late(ul_user *user)
{
    while (user->late_first != NULL && put_cqe(user, &user->late_first->cqe)) {
        ul_late_cqe *late = user->late_first;
        user->late_first = late->next;
        user->late_count--;
        free(late);
    }
    if (user->late_first == NULL)
        *user->ring->sq_flags &= ~(uint32_t)IORING_SQ_CQ_OVERFLOW;
}

/* One of several CQEs of a request. */
void ul_request_post(ul_request *request, int32_t res, uint32_t flags)
{
    ul_post(request->user, request->sqe.user_data, res, flags | IORING_CQE_F_MORE);
}

/* Its last CQE, unless it skips success. */
void ul_request_post_last(ul_request *request, int32_t res, uint32_t flags, int failed)
{
    if (!(request->sqe.flags & IOSQE_CQE_SKIP_SUCCESS) || failed)
        ul_post(request->user, request->sqe.user_data, res, flags);
}

/* The request goes on in the next enter, behind all that is ready. */
void ul_request_run_again(ul_request *request)
{
    request->state = UL_REQUEST_READY;
    request->tried = 1;
    ul_list_append(&request->user->ready, request);
    *request->user->ring->sq_flags |= IORING_SQ_TASKRUN;
}
