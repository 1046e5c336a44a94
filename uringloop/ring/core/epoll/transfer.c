/* Reads, writes, splices and polls.
 *
 * A disk's file goes to the pool, since only a thread can wait for a disk.  Everything else is tried at once and waits
 * by epoll.  A descriptor that is not O_NONBLOCK is tried with RWF_NOWAIT; where its file does not know that flag, a
 * thread of the pool makes the call once poll(2) has called it ready.
 */
#define _GNU_SOURCE
#include "../../../vectored.h"
#include "epoll.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif
#ifndef RWF_HIPRI
#define RWF_HIPRI 1
#endif
#ifndef __NR_pidfd_open
#define __NR_pidfd_open 434
#endif
#define MEMORY_MAJOR 1 /* /dev/null, /dev/zero: they never wait */
#define READS_IN_A_ROW 16

/* UL_FILE_*, or a negative errno. */
int ul_kind_of_file(int fd)
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    if (S_ISREG(status.st_mode) || S_ISBLK(status.st_mode) || S_ISDIR(status.st_mode))
        return UL_FILE_ON_DISK;
    if (S_ISCHR(status.st_mode) && major(status.st_rdev) == MEMORY_MAJOR)
        return UL_FILE_NEVER_WAITS;
    return UL_FILE_WAITS;
}

size_t ul_vector_size(const struct io_uring_sqe *sqe)
{
    const struct iovec *vector = (const struct iovec *)(uintptr_t)sqe->addr;
    size_t size = 0;
    for (uint32_t i = 0; i < sqe->len; i++)
        size += vector[i].iov_len;
    return size;
}

/* How many bytes a read into a buffer of a group may take; of a vector, its one part counts. */
static uint32_t selected_size(const struct io_uring_sqe *sqe, const struct io_uring_buf *buffer)
{
    size_t size = sqe->opcode == IORING_OP_READV ? ul_vector_size(sqe) : sqe->len;
    return size > 0 && size < buffer->len ? (uint32_t)size : buffer->len;
}

/* The memory of a read or write. */
static int vector_of(ul_request *request, struct iovec *one, const struct iovec **vector, int *count)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    int is_vector = sqe->opcode == IORING_OP_READV || sqe->opcode == IORING_OP_WRITEV;
    *vector = one;
    *count = 1;
    one->iov_base = (void *)(uintptr_t)sqe->addr;
    one->iov_len = sqe->len;
    if (is_vector && !(sqe->flags & IOSQE_BUFFER_SELECT)) {
        *vector = one->iov_base;
        *count = (int)sqe->len;
    } else if (sqe->flags & IOSQE_BUFFER_SELECT) {
        const struct io_uring_buf *buffer = ul_group_next(request->user, sqe->buf_index);
        if (buffer == NULL)
            return -ENOBUFS;
        one->iov_base = (void *)(uintptr_t)buffer->addr;
        one->iov_len = selected_size(sqe, buffer);
    }
    return 0;
}

/* A thread makes the call.  A buffer of a group is the request's from now on, since others read meanwhile. */
static int block(ul_request *request)
{
    struct io_uring_sqe *sqe = &request->sqe;
    if (!(sqe->flags & IOSQE_BUFFER_SELECT))
        return UL_TRY_BLOCK;
    const struct io_uring_buf *buffer = ul_group_next(request->user, sqe->buf_index);
    if (buffer == NULL)
        return -ENOBUFS;
    sqe->len = selected_size(sqe, buffer);
    sqe->addr = buffer->addr;
    sqe->opcode = sqe->opcode == IORING_OP_READV ? IORING_OP_READ : sqe->opcode;
    sqe->flags &= (uint8_t)~IOSQE_BUFFER_SELECT;
    request->cqe_flags = ul_group_use(request->user, sqe->buf_index);
    return UL_TRY_BLOCK;
}

static int writes(const struct io_uring_sqe *sqe)
{
    return sqe->opcode == IORING_OP_WRITE || sqe->opcode == IORING_OP_WRITEV;
}

/* One call that does not wait: the size, or a negative errno; -EOPNOTSUPP if the file cannot promise that. */
static ssize_t move_now(const ul_request *request, const struct iovec *vector, int count, int nowait)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    int flags = (int)sqe->op_flags | nowait;
    ssize_t size;
    if (flags == 0 && sqe->off == UINT64_MAX)
        size = writes(sqe) ? writev(sqe->fd, vector, count) : readv(sqe->fd, vector, count);
    else
        size = writes(sqe) ? ul_pwritev2(sqe->fd, vector, count, (off_t)sqe->off, flags)
                           : ul_preadv2(sqe->fd, vector, count, (off_t)sqe->off, flags);
    return size < 0 ? -errno : size;
}

/* Whether the file is not O_NONBLOCK, or a negative errno. */
int ul_is_blocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 ? -errno : !(flags & O_NONBLOCK);
}

/* A read or write of a pipe, tty, socket, eventfd, or the like. */
static int move_when_ready(ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    uint32_t events = writes(sqe) ? EPOLLOUT : EPOLLIN;
    const struct iovec *vector;
    struct iovec one;
    int count, nowait = 0;
    int error = vector_of(request, &one, &vector, &count);
    if (error == 0 && !request->owned)
        error = nowait = ul_is_blocking(sqe->fd);
    if (error < 0)
        return error;
    ssize_t size = move_now(request, vector, count, nowait ? RWF_NOWAIT : 0);
    if (size == -ESPIPE && sqe->off != UINT64_MAX) {
        request->sqe.off = UINT64_MAX; /* as the kernel's ring, which ignores an offset where there is no position */
        return move_when_ready(request);
    }
    if (size == -EAGAIN && !(sqe->op_flags & RWF_NOWAIT))
        return request->is_always_ready ? block(request) : ul_wait_for(request, events);
    if (size == -EOPNOTSUPP && nowait && !(sqe->op_flags & RWF_NOWAIT)) {
        if (request->is_always_ready || ul_poll_now(sqe->fd, (short)events))
            return block(request);
        return ul_wait_for(request, events);
    }
    if (size >= 0 && sqe->flags & IOSQE_BUFFER_SELECT)
        request->cqe_flags = ul_group_use(request->user, sqe->buf_index);
    return (int)size;
}

static int move(ul_request *request)
{
    int kind = request->owned ? UL_FILE_WAITS : ul_kind_of_file(request->sqe.fd);
    if (kind < 0)
        return kind;
    if (request->sqe.op_flags & RWF_HIPRI)
        return -EINVAL; /* no ring here polls devices */
    if (kind == UL_FILE_ON_DISK)
        return block(request);
    if (kind == UL_FILE_WAITS)
        return move_when_ready(request);
    const struct iovec *vector;
    struct iovec one;
    int count, error = vector_of(request, &one, &vector, &count);
    if (error < 0)
        return error;
    ssize_t size = move_now(request, vector, count, 0);
    if (size >= 0 && request->sqe.flags & IOSQE_BUFFER_SELECT)
        request->cqe_flags = ul_group_use(request->user, request->sqe.buf_index);
    return (int)size;
}

int ul_try_read(ul_request *request) { return move(request); }

int ul_try_write(ul_request *request) { return move(request); }

/* One read that does not wait: its size, -EAGAIN, another negative errno, or UL_TRY_BLOCK. */
static ssize_t read_once(ul_request *request, const struct io_uring_buf *buffer)
{
    int fd = request->sqe.fd, blocks = request->owned ? 0 : ul_is_blocking(fd);
    struct iovec one = {(void *)(uintptr_t)buffer->addr, buffer->len};
    if (blocks < 0)
        return blocks;
    ssize_t size = blocks ? ul_preadv2(fd, &one, 1, -1, RWF_NOWAIT) : readv(fd, &one, 1);
    if (size < 0 && errno == EOPNOTSUPP && blocks)
        return ul_poll_now(fd, POLLIN) ? block(request) : -EAGAIN;
    return size < 0 ? -errno : size;
}

/* Reads a pipe until its end, into buffers of a group. */
int ul_try_read_multishot(ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    if (!request->tried && request->owned)
        return ul_wait_for(request, EPOLLIN);
    if (!request->tried && ul_kind_of_file(sqe->fd) != UL_FILE_WAITS)
        return -EBADFD;
    for (int reads = 0; reads < READS_IN_A_ROW; reads++) {
        const struct io_uring_buf *buffer = ul_group_next(request->user, sqe->buf_index);
        if (buffer == NULL)
            return -ENOBUFS;
        ssize_t size = read_once(request, buffer);
        if (size == -EAGAIN)
            return ul_wait_for(request, EPOLLIN);
        if (size <= 0)
            return (int)size;
        int is_full = (size_t)size == buffer->len;
        ul_request_post(request, (int32_t)size, ul_group_use(request->user, sqe->buf_index));
        if (!is_full || request->owned)
            return ul_wait_for(request, EPOLLIN);
    }
    ul_request_run_again(request);
    return UL_TRY_HELD;
}

/* --- splice and tee --- */

static off_t *offset_of(uint64_t given, off_t *offset)
{
    *offset = (off_t)given;
    return given == UINT64_MAX ? NULL : offset;
}

static int is_pipe(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode);
}

/* Waits for the end that is not ready, unless it is O_NONBLOCK; between two pipes, unless either is. */
static int wait_for_ends(ul_request *request, int in, int out)
{
    int is_ready = ul_poll_now(in, POLLIN) != 0;
    int end = is_ready ? out : in, other = is_ready ? in : out;
    if (is_ready && ul_poll_now(out, POLLOUT))
        return -EAGAIN;
    if (!ul_is_blocking(end) || (is_pipe(in) && is_pipe(out) && !ul_is_blocking(other)))
        return -EAGAIN;
    request->fd = end;
    return ul_wait_for(request, is_ready ? EPOLLOUT : EPOLLIN);
}

/* Whether splice(2) may wait for an end in spite of SPLICE_F_NONBLOCK, which is for pipes alone. */
static int may_wait(int in, int out)
{
    return is_pipe(in) != is_pipe(out) && ul_is_blocking(is_pipe(in) ? out : in) > 0;
}

int ul_try_splice(ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    int in = sqe->splice_fd_in, out = sqe->fd;
    if (sqe->op_flags & SPLICE_F_FD_IN_FIXED)
        return -EBADF;
    if (sqe->len == 0)
        return 0;
    if (ul_kind_of_file(in) == UL_FILE_ON_DISK || ul_kind_of_file(out) == UL_FILE_ON_DISK)
        return UL_TRY_BLOCK;
    if (may_wait(in, out)) {
        int result = wait_for_ends(request, in, out);
        return result == -EAGAIN ? UL_TRY_BLOCK : result;
    }
    off_t in_offset, out_offset;
    ssize_t moved = splice(in, offset_of(sqe->addr, &in_offset), out, offset_of(sqe->off, &out_offset), sqe->len,
                           sqe->op_flags | SPLICE_F_NONBLOCK);
    if (moved >= 0 || errno != EAGAIN || sqe->op_flags & SPLICE_F_NONBLOCK)
        return moved < 0 ? -errno : (int)moved;
    return wait_for_ends(request, in, out);
}

int ul_try_tee(ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    if (sqe->op_flags & SPLICE_F_FD_IN_FIXED)
        return -EBADF;
    ssize_t moved = tee(sqe->splice_fd_in, sqe->fd, sqe->len, sqe->op_flags | SPLICE_F_NONBLOCK);
    if (moved >= 0 || errno != EAGAIN || sqe->op_flags & SPLICE_F_NONBLOCK)
        return moved < 0 ? -errno : (int)moved;
    return wait_for_ends(request, sqe->splice_fd_in, sqe->fd);
}

/* --- poll --- */

static uint32_t answered(const ul_request *request)
{
    uint32_t asked = (request->sqe.op_flags & 0xffff) | EPOLLERR | EPOLLHUP | EPOLLRDHUP;
    return request->event.events & asked;
}

int ul_try_poll(ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    int multishot = (sqe->len & IORING_POLL_ADD_MULTI) != 0;
    uint32_t events = (sqe->op_flags & 0xffff) | EPOLLRDHUP | (multishot ? EPOLLET : 0);
    if (!request->tried)
        return ul_wait_for(request, events);
    if (!multishot || request->is_always_ready)
        return (int)answered(request);
    ul_request_post(request, (int32_t)answered(request), 0);
    return ul_wait_for(request, events);
}

/* Removes a poll, or gives it other events or another user_data. */
int ul_try_poll_remove(ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    const uint32_t updates = IORING_POLL_UPDATE_EVENTS | IORING_POLL_UPDATE_USER_DATA;
    ul_request *poll = ul_request_find(request->user, sqe->addr);
    if (poll == NULL || poll->sqe.opcode != IORING_OP_POLL_ADD)
        return -ENOENT;
    if (poll->state != UL_REQUEST_WAITING)
        return poll->state == UL_REQUEST_READY ? -EALREADY : -ENOENT;
    if (!(sqe->len & updates))
        return ul_cancel_request(poll);
    ul_unwatch(poll);
    if (sqe->len & IORING_POLL_UPDATE_EVENTS) {
        poll->sqe.op_flags = sqe->op_flags;
        poll->sqe.len = (poll->sqe.len & ~(uint32_t)IORING_POLL_ADD_MULTI) | (sqe->len & IORING_POLL_ADD_MULTI);
    }
    if (sqe->len & IORING_POLL_UPDATE_USER_DATA)
        ul_request_rename(poll, sqe->off);
    poll->tried = 0;
    ul_request_try(poll);
    return 0;
}

/* --- others --- */

/* The end of one child makes its pidfd readable.  Anything else is asked for by a timer: a thread that waits in
 * waitid(2) would take the child's status after a cancel. */
static int wait_for_child(ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    int only_ends = (sqe->splice_fd_in & (WEXITED | WSTOPPED | WCONTINUED)) == WEXITED;
    if (only_ends && sqe->len == P_PID && !request->holds_file) {
        int fd = (int)syscall(__NR_pidfd_open, sqe->fd, 0);
        request->fd = fd;
        request->holds_file = fd >= 0;
    }
    if (request->holds_file || (only_ends && sqe->len == P_PIDFD))
        return ul_wait_for(request, EPOLLIN);
    return ul_try_later(request);
}

int ul_try_wait_child(ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    siginfo_t info = {0};
    if (waitid((idtype_t)sqe->len, (id_t)sqe->fd, &info, sqe->splice_fd_in | WNOHANG) < 0)
        return -errno;
    if (info.si_pid == 0 && !(sqe->splice_fd_in & WNOHANG))
        return wait_for_child(request);
    if (sqe->off)
        memcpy((void *)(uintptr_t)sqe->off, &info, sizeof(info));
    return 0;
}

int ul_try_epoll_wait(ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    struct epoll_event *events = (struct epoll_event *)(uintptr_t)sqe->addr;
    int count = epoll_wait(sqe->fd, events, (int)sqe->len, 0);
    if (count < 0)
        return -errno;
    return count > 0 ? count : ul_wait_for(request, EPOLLIN);
}
