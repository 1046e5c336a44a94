/* Each opcode's way: at once, when its descriptor is ready, or on a thread of the pool. */
#define _GNU_SOURCE
#include "epoll.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static int try_nop(ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    if (sqe->op_flags & IORING_NOP_FILE && (sqe->op_flags & IORING_NOP_FIXED_FILE || fcntl(sqe->fd, F_GETFD) < 0))
        return -EBADF;
    if (sqe->op_flags & IORING_NOP_FIXED_BUFFER)
        return -EFAULT;
    return sqe->op_flags & IORING_NOP_INJECT_RESULT ? (int32_t)sqe->len : 0;
}

static int block(ul_request *request)
{
    (void)request;
    return UL_TRY_BLOCK;
}

static int try_open(ul_request *request)
{
    return request->sqe.splice_fd_in ? ul_refuse_slot(&request->sqe) : UL_TRY_BLOCK;
}

static int try_epoll_ctl(ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    struct epoll_event *event = (struct epoll_event *)(uintptr_t)sqe->addr;
    return epoll_ctl(sqe->fd, (int)sqe->len, (int)sqe->off, event) < 0 ? -errno : 0;
}

static int try_pipe(ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    if (sqe->splice_fd_in)
        return ul_refuse_slot(sqe);
    return pipe2((int *)(uintptr_t)sqe->addr, (int)sqe->op_flags) < 0 ? -errno : 0;
}

/* Only a disk makes a close wait. */
static int try_close(ul_request *request)
{
    int fd = request->sqe.fd;
    if (request->sqe.splice_fd_in)
        return fd ? -EINVAL : -ENXIO;
    if (fd == request->user->epoll_fd)
        return -EBADF;
    if (ul_kind_of_file(fd) == UL_FILE_ON_DISK)
        return UL_TRY_BLOCK;
    ul_watch_lose(request->user, fd);
    return close(fd) < 0 ? -errno : 0;
}

static int (*const tries[])(ul_request *) = {
    [IORING_OP_NOP] = try_nop,
    [IORING_OP_READV] = ul_try_read,
    [IORING_OP_WRITEV] = ul_try_write,
    [IORING_OP_FSYNC] = block,
    [IORING_OP_POLL_ADD] = ul_try_poll,
    [IORING_OP_POLL_REMOVE] = ul_try_poll_remove,
    [IORING_OP_SYNC_FILE_RANGE] = block,
    [IORING_OP_SENDMSG] = ul_try_send_message,
    [IORING_OP_RECVMSG] = ul_try_receive_message,
    [IORING_OP_TIMEOUT] = ul_try_timeout,
    [IORING_OP_TIMEOUT_REMOVE] = ul_try_timeout_remove,
    [IORING_OP_ACCEPT] = ul_try_accept,
    [IORING_OP_ASYNC_CANCEL] = ul_try_cancel,
    [IORING_OP_LINK_TIMEOUT] = NULL, /* only behind a link */
    [IORING_OP_CONNECT] = ul_try_connect,
    [IORING_OP_FALLOCATE] = block,
    [IORING_OP_OPENAT] = try_open,
    [IORING_OP_CLOSE] = try_close,
    [IORING_OP_STATX] = block,
    [IORING_OP_READ] = ul_try_read,
    [IORING_OP_WRITE] = ul_try_write,
    [IORING_OP_FADVISE] = block,
    [IORING_OP_MADVISE] = block,
    [IORING_OP_SEND] = ul_try_send,
    [IORING_OP_RECV] = ul_try_receive,
    [IORING_OP_OPENAT2] = try_open,
    [IORING_OP_EPOLL_CTL] = try_epoll_ctl,
    [IORING_OP_SPLICE] = ul_try_splice,
    [IORING_OP_TEE] = ul_try_tee,
    [IORING_OP_SHUTDOWN] = ul_try_shutdown,
    [IORING_OP_RENAMEAT] = block,
    [IORING_OP_UNLINKAT] = block,
    [IORING_OP_MKDIRAT] = block,
    [IORING_OP_SYMLINKAT] = block,
    [IORING_OP_LINKAT] = block,
    [IORING_OP_FSETXATTR] = block,
    [IORING_OP_SETXATTR] = block,
    [IORING_OP_FGETXATTR] = block,
    [IORING_OP_GETXATTR] = block,
    [IORING_OP_SOCKET] = ul_try_socket,
    [IORING_OP_URING_CMD] = ul_try_command,
    [IORING_OP_READ_MULTISHOT] = ul_try_read_multishot,
    [IORING_OP_WAITID] = ul_try_wait_child,
    [IORING_OP_FTRUNCATE] = block,
    [IORING_OP_BIND] = ul_try_bind,
    [IORING_OP_LISTEN] = ul_try_listen,
    [IORING_OP_EPOLL_WAIT] = ul_try_epoll_wait,
    [IORING_OP_PIPE] = try_pipe,
};

/* Whether this backend has the operation. */
int ul_has_opcode(uint32_t opcode)
{
    return opcode < sizeof(tries) / sizeof(*tries) && (tries[opcode] != NULL || opcode == IORING_OP_LINK_TIMEOUT);
}

/* The result, or UL_TRY_*. */
int ul_try(ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    if (sqe->flags & IOSQE_FIXED_FILE)
        return -EBADF; /* no file is registered here */
    return tries[sqe->opcode](request);
}

/* Whether a result is less than was asked for, which breaks a link. */
int ul_is_short(const ul_request *request, int32_t res)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    switch (sqe->opcode) {
    case IORING_OP_READ:
    case IORING_OP_WRITE:
    case IORING_OP_SPLICE:
    case IORING_OP_TEE: return !(sqe->flags & IOSQE_BUFFER_SELECT) && (uint32_t)res != sqe->len;
    case IORING_OP_READV:
    case IORING_OP_WRITEV: return (size_t)res != ul_vector_size(sqe);
    case IORING_OP_SEND:
    case IORING_OP_RECV:
    case IORING_OP_SENDMSG:
    case IORING_OP_RECVMSG: return sqe->op_flags & MSG_WAITALL && (size_t)res < ul_asked_size(request);
    default: return 0;
    }
}
