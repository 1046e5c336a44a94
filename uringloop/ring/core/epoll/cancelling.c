/* Cancels.  They take effect at once, but for a call that a thread of the pool is running. */
#define _GNU_SOURCE
#include "epoll.h"

#include <errno.h>
#include <fcntl.h>

/* Ends a request: 0, or -EALREADY if a thread runs it. */
int ul_cancel_request(ul_request *request)
{
    ul_user *user = request->user;
    switch (request->state) {
    case UL_REQUEST_WAITING: ul_unwatch(request); break;
    case UL_REQUEST_READY: ul_list_remove(&user->ready, request); break;
    case UL_REQUEST_TIMED: ul_timer_remove(request); break;
    case UL_REQUEST_BLOCKED:
        if (!ul_port_withdraw(user->port, &request->job)) {
            /* Most calls return soon, and the caller's memory is free then. */
            request->is_unwanted = 1;
            if (!request->detained && request->heap_place == 0)
                ul_timer_add(request, ul_now_ns() + UL_LONG_CALL_NS);
            return -EALREADY;
        }
        request->state = UL_REQUEST_TRIED;
        break;
    default: /* as in the kernel, one that has not begun is not found */ return -ENOENT;
    }
    /* What was moved is told of, in the buffer that it may have. */
    ul_request_complete(request, request->done > 0 ? (int32_t)request->done : -ECANCELED, request->cqe_flags);
    return 0;
}

static int matches(const ul_request *request, uint64_t token, int fd, uint32_t flags, int opcode)
{
    if (flags & IORING_ASYNC_CANCEL_ANY)
        return 1;
    if (flags & (IORING_ASYNC_CANCEL_FD) && request->sqe.fd != fd)
        return 0;
    if (flags & IORING_ASYNC_CANCEL_OP && request->sqe.opcode != opcode)
        return 0;
    if (flags & (IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_OP) && !(flags & IORING_ASYNC_CANCEL_USERDATA))
        return 1;
    return request->sqe.user_data == token;
}

static ul_request *next_match(ul_user *user, uint64_t pass, uint64_t token, int fd, uint32_t flags, int opcode)
{
    for (ul_request *request = user->all; request != NULL; request = request->next_of_all) {
        if (request->cancel_pass != pass && matches(request, token, fd, flags, opcode))
            return request;
    }
    return NULL;
}

/* Cancels what matches: the number with IORING_ASYNC_CANCEL_ALL or _ANY, else 0; or a negative errno.  asking: not
 * this one. */
int ul_cancel_matching(ul_user *user, ul_request *asking, uint64_t token, int fd, uint32_t flags, int opcode)
{
    int many = (flags & (IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY)) != 0;
    if (flags & IORING_ASYNC_CANCEL_FD && (flags & IORING_ASYNC_CANCEL_FD_FIXED || fcntl(fd, F_GETFD) < 0))
        return -EBADF;
    const uint32_t criteria = IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_OP | IORING_ASYNC_CANCEL_ANY;
    if (!many && !(flags & criteria)) {
        ul_request *request = ul_request_find(user, token);
        if (request != NULL && request == asking)
            request = NULL;
        return request != NULL ? ul_cancel_request(request) : -ENOENT;
    }
    uint64_t pass = ++user->cancel_passes;
    int count = 0, error = -ENOENT;
    ul_request *request;
    if (asking != NULL)
        asking->cancel_pass = pass;
    while ((request = next_match(user, pass, token, fd, flags, opcode)) != NULL) {
        request->cancel_pass = pass;
        if (request->sqe.opcode == IORING_OP_LINK_TIMEOUT)
            continue;
        int result = ul_cancel_request(request);
        count += result != -ENOENT;
        error = result != -ENOENT && result != 0 ? result : error;
        if (!many && result == 0)
            return 0;
    }
    return many ? count : error;
}

int ul_try_cancel(ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    return ul_cancel_matching(request->user, request, sqe->addr, sqe->fd, sqe->op_flags, (int)sqe->len);
}
