/* Operations of sockets.  They never block: MSG_DONTWAIT, or a descriptor that is non-blocking.  Where there is neither
 * such a flag nor such a descriptor, a thread of the pool makes the call once poll(2) has called the socket ready. */
#define _GNU_SOURCE
#include "epoll.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define ACCEPTS_IN_A_ROW 64
/* The most bytes of one request, as of one system call: MAX_RW_COUNT of the kernel.  A result has 31 bits. */
#define TRANSFER_MAX 0x7ffff000

static int would_block(void) { return errno == EAGAIN || errno == EWOULDBLOCK; }

static int polls_first(const ul_request *request)
{
    return request->sqe.ioprio & IORING_RECVSEND_POLL_FIRST && !request->tried;
}

static size_t capped(size_t size) { return size < TRANSFER_MAX ? size : TRANSFER_MAX; }

/* The memory to receive into: the caller's, or the next buffer of a group. */
static int receive_memory(ul_request *request, char **memory, size_t *size)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    if (!(sqe->flags & IOSQE_BUFFER_SELECT)) {
        *memory = (char *)(uintptr_t)sqe->addr;
        *size = capped(sqe->len);
        return 0;
    }
    const struct io_uring_buf *buffer = ul_group_next(request->user, sqe->buf_index);
    if (buffer == NULL)
        return -ENOBUFS;
    *memory = (char *)(uintptr_t)buffer->addr;
    /* The length of a RECVMSG counts message headers. */
    int limits = sqe->opcode != IORING_OP_RECVMSG && sqe->len > 0 && sqe->len < buffer->len;
    *size = request->buffer_size = limits ? sqe->len : buffer->len;
    return 0;
}

/* Whether less than was asked for is not enough: with MSG_WAITALL, and as in the kernel, where there is an order. */
static int asks_for_all(const struct io_uring_sqe *sqe)
{
    int type = 0;
    socklen_t size = sizeof(type);
    return sqe->op_flags & MSG_WAITALL && getsockopt(sqe->fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 &&
           (type == SOCK_STREAM || type == SOCK_SEQPACKET);
}

/* Takes the buffer out of its group before the last CQE, so that no other receive gets it. */
static void keep_buffer(ul_request *request, char *memory, size_t size)
{
    if (!(request->sqe.flags & IOSQE_BUFFER_SELECT))
        return;
    request->cqe_flags = ul_group_use(request->user, request->sqe.buf_index);
    request->sqe.flags &= (uint8_t)~IOSQE_BUFFER_SELECT;
    request->sqe.addr = (uintptr_t)memory;
    request->sqe.len = (uint32_t)size;
}

/* An engine's multishot receive waits for news, so that epoll need not look at the socket again to find it empty.  Once
 * a receive may have left something, it waits as long as there is any. */
static int wait_for_more(ul_request *request, int left_none)
{
    if (!request->tried)
        return ul_wait_for(request, request->empties ? EPOLLIN | EPOLLRDHUP | EPOLLPRI | EPOLLET : EPOLLIN);
    return ul_wait_for(request, left_none ? request->events : EPOLLIN);
}

/* Whether the last event told of bytes and of nothing behind them. */
static int brought_bytes_only(const ul_request *request) { return !(request->event.events & ~(EPOLLIN | EPOLLOUT)); }

int ul_try_receive(ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    int multishot = (sqe->ioprio & IORING_RECV_MULTISHOT) != 0;
    char *memory;
    size_t size;
    /* A stream's socket is seldom readable when its receive is armed. */
    if (!request->tried && (polls_first(request) || (multishot && request->owned)))
        return wait_for_more(request, 0);
    int error = receive_memory(request, &memory, &size);
    if (error < 0)
        return error;
    ssize_t received = recv(sqe->fd, memory + request->done, size - request->done, (int)sqe->op_flags | MSG_DONTWAIT);
    if (received < 0 && would_block() && !(sqe->op_flags & MSG_DONTWAIT))
        return multishot ? wait_for_more(request, 1) : ul_wait_for(request, EPOLLIN);
    if (received < 0)
        return request->done > 0 ? (int)request->done : -errno;
    request->done += (size_t)received;
    if (received > 0 && request->done < size && !(sqe->op_flags & MSG_DONTWAIT) && asks_for_all(sqe)) {
        keep_buffer(request, memory, size);
        return ul_wait_for(request, EPOLLIN);
    }
    int32_t res = (int32_t)request->done;
    uint32_t flags = request->cqe_flags | (request->done == size ? IORING_CQE_F_SOCK_NONEMPTY : 0);
    request->done = 0;
    if (sqe->flags & IOSQE_BUFFER_SELECT && res > 0)
        flags |= ul_group_use(request->user, sqe->buf_index);
    if (!multishot || res == 0) {
        request->cqe_flags = flags;
        return res;
    }
    ul_request_post(request, res, flags);
    return wait_for_more(request, (size_t)received < size && brought_bytes_only(request));
}

/* One datagram into a buffer of a group: io_uring_recvmsg_out, the name, the control data, the payload.  An empty one
 * ends the request, as in the kernel. */
static int receive_into_group(ul_request *request, const struct msghdr *asked, uint32_t *flags, int *ends)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    char *memory;
    size_t size, head = sizeof(struct io_uring_recvmsg_out) + asked->msg_namelen + asked->msg_controllen;
    int error = receive_memory(request, &memory, &size);
    if (error < 0)
        return error;
    if (size < head)
        return -EFAULT;
    char *name = memory + sizeof(struct io_uring_recvmsg_out), *control = name + asked->msg_namelen;
    struct iovec vector = {memory + head, size - head};
    struct msghdr message = {.msg_name = asked->msg_namelen ? name : NULL,
                             .msg_namelen = asked->msg_namelen,
                             .msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = asked->msg_controllen ? control : NULL,
                             .msg_controllen = asked->msg_controllen};
    ssize_t received = recvmsg(sqe->fd, &message, (int)sqe->op_flags | MSG_DONTWAIT);
    if (received < 0)
        return -errno;
    struct io_uring_recvmsg_out out = {message.msg_namelen, (uint32_t)message.msg_controllen, (uint32_t)received,
                                       (uint32_t)message.msg_flags};
    memcpy(memory, &out, sizeof(out));
    *ends = received == 0;
    *flags = ul_group_use(request->user, sqe->buf_index);
    return (int)(head + ((size_t)received < size - head ? (size_t)received : size - head));
}

static int receive_messages(ul_request *request, const struct msghdr *asked)
{
    for (int count = 0; count < ACCEPTS_IN_A_ROW; count++) {
        uint32_t flags = 0;
        int ends = 0, res = receive_into_group(request, asked, &flags, &ends);
        if (res == -EAGAIN)
            return ul_wait_for(request, EPOLLIN);
        if (ends)
            request->cqe_flags = flags;
        if (res < 0 || ends)
            return res;
        ul_request_post(request, res, flags);
    }
    return ul_wait_for(request, EPOLLIN);
}

static size_t message_size(const struct msghdr *message)
{
    size_t size = 0;
    for (size_t i = 0; i < message->msg_iovlen; i++)
        size += message->msg_iov[i].iov_len;
    return size;
}

/* The bytes that a send or a receive asks for. */
size_t ul_asked_size(const ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    if (sqe->flags & IOSQE_BUFFER_SELECT)
        return request->buffer_size;
    int is_message = sqe->opcode == IORING_OP_SENDMSG || sqe->opcode == IORING_OP_RECVMSG;
    return capped(is_message ? message_size((const struct msghdr *)(uintptr_t)sqe->addr) : sqe->len);
}

/* The message without its first bytes: the rest of the buffer that they end in, or all that follows. */
static void rest_of(const struct msghdr *message, size_t done, struct iovec *one, struct msghdr *rest)
{
    *rest = *message;
    if (done == 0)
        return;
    rest->msg_name = rest->msg_control = NULL;
    rest->msg_namelen = 0;
    rest->msg_controllen = 0;
    size_t left = TRANSFER_MAX - done;
    while (rest->msg_iovlen > 0 && done >= rest->msg_iov->iov_len) {
        done -= rest->msg_iov->iov_len;
        rest->msg_iov++;
        rest->msg_iovlen--;
    }
    if (rest->msg_iovlen == 0 || (done == 0 && message_size(rest) <= left))
        return;
    *one = (struct iovec){(char *)rest->msg_iov->iov_base + done, rest->msg_iov->iov_len - done};
    if (one->iov_len > left)
        one->iov_len = left;
    rest->msg_iov = one;
    rest->msg_iovlen = 1;
}

/* A message into the memory that it names, so many bytes. */
static int receive_into_vector(ul_request *request, struct msghdr *message, size_t size)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    for (;;) {
        struct iovec one;
        struct msghdr rest;
        rest_of(message, request->done, &one, &rest);
        ssize_t received = recvmsg(sqe->fd, &rest, (int)sqe->op_flags | MSG_DONTWAIT);
        if (received < 0)
            return would_block() || request->done == 0 ? -errno : (int)request->done;
        if (request->done == 0) {
            message->msg_namelen = rest.msg_namelen;
            message->msg_controllen = rest.msg_controllen;
        }
        message->msg_flags = rest.msg_flags;
        request->done += (size_t)received;
        if (received == 0 || request->done >= size || !asks_for_all(sqe))
            return (int)request->done;
    }
}

/* A message into a buffer of a group, as its only memory.  The first bytes take the buffer out of its group. */
static int receive_into_buffer(ul_request *request, struct msghdr *message)
{
    struct msghdr into = *message;
    struct iovec vector = {request->buffer, request->buffer_size};
    if (request->done == 0) {
        char *memory;
        int error = receive_memory(request, &memory, &vector.iov_len);
        if (error < 0)
            return error;
        vector.iov_base = request->buffer = memory;
        if (message->msg_iovlen > 0 && message->msg_iov->iov_len > 0 && message->msg_iov->iov_len < vector.iov_len)
            vector.iov_len = request->buffer_size = message->msg_iov->iov_len;
    }
    size_t before = request->done;
    into.msg_iov = &vector;
    into.msg_iovlen = 1;
    int received = receive_into_vector(request, &into, vector.iov_len);
    message->msg_namelen = into.msg_namelen;
    message->msg_controllen = into.msg_controllen;
    message->msg_flags = into.msg_flags;
    if (before == 0 && request->done > 0)
        request->cqe_flags = ul_group_use(request->user, request->sqe.buf_index);
    return received;
}

int ul_try_receive_message(ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    struct msghdr *message = (struct msghdr *)(uintptr_t)sqe->addr;
    int multishot = (sqe->ioprio & IORING_RECV_MULTISHOT) != 0;
    if (multishot && !request->tried)
        request->asked = *message; /* the kernel copies it too */
    if (!request->tried && (polls_first(request) || (multishot && request->owned)))
        return ul_wait_for(request, EPOLLIN);
    if (multishot)
        return receive_messages(request, &request->asked);
    int selects = (sqe->flags & IOSQE_BUFFER_SELECT) != 0;
    int received = selects ? receive_into_buffer(request, message)
                           : receive_into_vector(request, message, ul_asked_size(request));
    if (received != -EAGAIN)
        return received;
    if (!(sqe->op_flags & MSG_DONTWAIT))
        return ul_wait_for(request, EPOLLIN);
    return request->done > 0 ? (int)request->done : received;
}

/* Goes on until all is sent with MSG_WAITALL, as the kernel does for a stream. */
int ul_try_send(ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    const char *data = (const char *)(uintptr_t)sqe->addr;
    const void *name = (const void *)(uintptr_t)sqe->off;
    socklen_t name_size = (uint16_t)sqe->splice_fd_in;
    size_t size = capped(sqe->len);
    int flags = ((int)sqe->op_flags & ~MSG_WAITALL) | MSG_DONTWAIT | MSG_NOSIGNAL;
    if (polls_first(request))
        return ul_wait_for(request, EPOLLOUT);
    for (;;) {
        ssize_t sent = sendto(sqe->fd, data + request->done, size - request->done, flags, name, name_size);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && would_block() && !(sqe->op_flags & MSG_DONTWAIT))
            return ul_wait_for(request, EPOLLOUT);
        if (sent < 0)
            return request->done > 0 ? (int)request->done : -errno;
        request->done += (size_t)sent;
        if (!(sqe->op_flags & MSG_WAITALL) || request->done >= size)
            return (int)request->done;
    }
}

int ul_try_send_message(ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    const struct msghdr *message = (const struct msghdr *)(uintptr_t)sqe->addr;
    if (polls_first(request))
        return ul_wait_for(request, EPOLLOUT);
    int flags = ((int)sqe->op_flags & ~MSG_WAITALL) | MSG_DONTWAIT | MSG_NOSIGNAL;
    for (;;) {
        struct iovec one;
        struct msghdr rest;
        rest_of(message, request->done, &one, &rest);
        ssize_t sent = sendmsg(sqe->fd, &rest, flags);
        if (sent < 0 && would_block() && !(sqe->op_flags & MSG_DONTWAIT))
            return ul_wait_for(request, EPOLLOUT);
        if (sent < 0)
            return request->done > 0 ? (int)request->done : -errno;
        request->done += (size_t)sent;
        if (request->done >= ul_asked_size(request) || !asks_for_all(sqe))
            return (int)request->done;
    }
}

static int accept_one(const struct io_uring_sqe *sqe)
{
    int fd = ul_accept(sqe);
    return fd < 0 ? -errno : fd;
}

/* An accept on a listener that blocks.  A thread makes the call, since another process may take the connection that
 * poll(2) has seen. */
static int accept_in_thread(const ul_request *request)
{
    int fd = request->sqe.fd, listens = 0;
    socklen_t size = sizeof(listens);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0)
        return -errno;
    if (!listens)
        return accept_one(&request->sqe); /* it fails at once */
    return ul_poll_now(fd, POLLIN) ? UL_TRY_BLOCK : -EAGAIN;
}

int ul_try_accept(ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    int multishot = (sqe->ioprio & IORING_ACCEPT_MULTISHOT) != 0, waits = !(sqe->ioprio & IORING_ACCEPT_DONTWAIT);
    if (sqe->ioprio & IORING_ACCEPT_POLL_FIRST && !request->tried)
        return ul_wait_for(request, EPOLLIN);
    int blocks = ul_is_blocking(sqe->fd);
    if (blocks) {
        int result = blocks < 0 ? blocks : accept_in_thread(request);
        return result == -EAGAIN && waits ? ul_wait_for(request, EPOLLIN) : result;
    }
    for (int count = 0; count < ACCEPTS_IN_A_ROW; count++) {
        int fd = accept_one(sqe);
        if (fd == -EAGAIN && waits)
            return ul_wait_for(request, multishot ? EPOLLIN | EPOLLET : EPOLLIN);
        if (!multishot || fd < 0)
            return fd;
        ul_request_post(request, fd, 0);
    }
    ul_request_run_again(request);
    return UL_TRY_HELD;
}

static int socket_error(int fd)
{
    int error = 0;
    socklen_t size = sizeof(error);
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 ? -errno : -error;
}

/* A second connect(2) tells how the first went on, as in the kernel: an event may have been an earlier one. */
int ul_try_connect(ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    if (!request->tried && ul_is_blocking(sqe->fd) > 0)
        return UL_TRY_BLOCK;
    if (connect(sqe->fd, (const struct sockaddr *)(uintptr_t)sqe->addr, (socklen_t)sqe->off) == 0)
        return 0;
    if (errno == EINPROGRESS || (request->tried && errno == EALREADY))
        return ul_wait_for(request, EPOLLOUT);
    return request->tried && (errno == EISCONN || errno == EBADFD) ? socket_error(sqe->fd) : -errno;
}

int ul_try_socket(ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    if (sqe->splice_fd_in)
        return ul_refuse_slot(sqe);
    int fd = socket(sqe->fd, (int)sqe->off, (int)sqe->len);
    return fd < 0 ? -errno : fd;
}

int ul_try_bind(ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    return bind(sqe->fd, (const struct sockaddr *)(uintptr_t)sqe->addr, (socklen_t)sqe->off) < 0 ? -errno : 0;
}

int ul_try_listen(ul_request *request) { return listen(request->sqe.fd, (int)request->sqe.len) < 0 ? -errno : 0; }

int ul_try_shutdown(ul_request *request) { return shutdown(request->sqe.fd, (int)request->sqe.len) < 0 ? -errno : 0; }

/* SOCKET_URING_OP_*: the fields of a command are where other operations have offset, address and file index.
 * No other file's command is here. */
int ul_try_command(ul_request *request)
{
    enum { SIOCINQ_COMMAND, SIOCOUTQ_COMMAND, GETSOCKOPT_COMMAND, SETSOCKOPT_COMMAND };
    const struct io_uring_sqe *sqe = &request->sqe;
    int level = (int)(uint32_t)sqe->addr, option = (int)(sqe->addr >> 32), value = 0;
    socklen_t size = (socklen_t)sqe->splice_fd_in;
    void *memory = (void *)(uintptr_t)sqe->addr3;
    struct stat status;
    if (fstat(sqe->fd, &status) < 0)
        return -errno;
    if (!S_ISSOCK(status.st_mode) || ((uint32_t)sqe->off == GETSOCKOPT_COMMAND && level != SOL_SOCKET))
        return -EOPNOTSUPP;
    switch ((uint32_t)sqe->off) {
    case SIOCINQ_COMMAND: return ioctl(sqe->fd, FIONREAD, &value) < 0 ? -errno : value;
    case SIOCOUTQ_COMMAND: return ioctl(sqe->fd, TIOCOUTQ, &value) < 0 ? -errno : value;
    case GETSOCKOPT_COMMAND: return getsockopt(sqe->fd, level, option, memory, &size) < 0 ? -errno : (int)size;
    case SETSOCKOPT_COMMAND: return setsockopt(sqe->fd, level, option, memory, size) < 0 ? -errno : 0;
    default: return -EOPNOTSUPP;
    }
}
