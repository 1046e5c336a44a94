/* The checks that the kernel makes of an SQE before anything of its chain begins.  One that fails breaks the chain.
 *
 * A rule for each opcode names the fields that are to be zero, and the flags that its op_flags may have. */
#define _GNU_SOURCE
#include "epoll.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

enum {
    NO_ADDRESS = 1 << 0,
    NO_OFFSET = 1 << 1,
    NO_LENGTH = 1 << 2,
    NO_INDEX = 1 << 3, /* of a buffer */
    NO_FILE = 1 << 4,  /* index, or a second descriptor */
    NO_ADDR3 = 1 << 5,
    NO_FD = 1 << 6,
    NO_FIXED = 1 << 7, /* its own descriptor is none of the registered files */
};

#define NOTHING_ELSE (NO_INDEX | NO_FILE)
#define ANY_FLAGS UINT32_MAX
#define KNOWN_SQE_FLAGS 0x7f
#define NOP_FLAGS 0x1f /* but those of completions of 32 bytes */
#define SPLICE_FLAGS (SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT | SPLICE_F_FD_IN_FIXED)
#define TIMEOUT_FLAGS                                                                                                  \
    (IORING_TIMEOUT_ABS | IORING_TIMEOUT_BOOTTIME | IORING_TIMEOUT_REALTIME | IORING_TIMEOUT_ETIME_SUCCESS |           \
     IORING_TIMEOUT_MULTISHOT)
#define CLOCKS (IORING_TIMEOUT_BOOTTIME | IORING_TIMEOUT_REALTIME)
#define TIMEOUT_UPDATES (IORING_TIMEOUT_UPDATE | IORING_LINK_TIMEOUT_UPDATE)
#define POLL_UPDATES (IORING_POLL_UPDATE_EVENTS | IORING_POLL_UPDATE_USER_DATA)
#define CANCEL_FLAGS                                                                                                   \
    (IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_FD_FIXED |       \
     IORING_ASYNC_CANCEL_USERDATA | IORING_ASYNC_CANCEL_OP)
#define ACCEPT_FLAGS (IORING_ACCEPT_MULTISHOT | IORING_ACCEPT_DONTWAIT | IORING_ACCEPT_POLL_FIRST)
#define PIPE_FLAGS (O_CLOEXEC | O_NONBLOCK | O_DIRECT)

typedef struct {
    uint8_t zero;
    uint8_t selects;   /* a buffer of a group */
    uint16_t priority; /* what ioprio may hold */
    uint32_t flags;    /* what op_flags may hold */
} rule;

static const rule rules[] = {
    [IORING_OP_NOP] = {0, 0, 0, NOP_FLAGS},
    [IORING_OP_READV] = {0, 1, 0, ANY_FLAGS},
    [IORING_OP_WRITEV] = {0, 0, 0, ANY_FLAGS},
    [IORING_OP_FSYNC] = {NO_ADDRESS | NOTHING_ELSE, 0, 0, IORING_FSYNC_DATASYNC},
    [IORING_OP_POLL_ADD] = {NO_ADDRESS | NO_OFFSET | NO_INDEX, 0, 0, ANY_FLAGS},
    [IORING_OP_POLL_REMOVE] = {NOTHING_ELSE, 0, 0, ANY_FLAGS},
    [IORING_OP_SYNC_FILE_RANGE] = {NO_ADDRESS | NOTHING_ELSE, 0, 0, ANY_FLAGS},
    [IORING_OP_SENDMSG] = {NO_OFFSET | NO_FILE, 0, IORING_RECVSEND_POLL_FIRST, ANY_FLAGS},
    [IORING_OP_RECVMSG] = {NO_OFFSET | NO_FILE, 1, IORING_RECVSEND_POLL_FIRST | IORING_RECV_MULTISHOT, ANY_FLAGS},
    [IORING_OP_TIMEOUT] = {NOTHING_ELSE, 0, 0, TIMEOUT_FLAGS},
    [IORING_OP_TIMEOUT_REMOVE] = {NO_LENGTH | NOTHING_ELSE, 0, 0, ANY_FLAGS},
    [IORING_OP_ACCEPT] = {NO_LENGTH | NO_INDEX, 0, ACCEPT_FLAGS, SOCK_CLOEXEC | SOCK_NONBLOCK},
    [IORING_OP_ASYNC_CANCEL] = {NO_OFFSET | NO_FILE, 0, 0, CANCEL_FLAGS},
    [IORING_OP_LINK_TIMEOUT] = {NO_OFFSET | NOTHING_ELSE, 0, 0, TIMEOUT_FLAGS},
    [IORING_OP_CONNECT] = {NO_LENGTH | NOTHING_ELSE, 0, 0, 0},
    [IORING_OP_FALLOCATE] = {NOTHING_ELSE, 0, 0, 0},
    [IORING_OP_OPENAT] = {NO_INDEX | NO_FIXED, 0, 0, ANY_FLAGS},
    [IORING_OP_CLOSE] = {NO_ADDRESS | NO_OFFSET | NO_LENGTH | NO_INDEX | NO_FIXED, 0, 0, 0},
    [IORING_OP_STATX] = {NOTHING_ELSE | NO_FIXED, 0, 0, ANY_FLAGS},
    [IORING_OP_READ] = {0, 1, 0, ANY_FLAGS},
    [IORING_OP_WRITE] = {0, 0, 0, ANY_FLAGS},
    [IORING_OP_FADVISE] = {NOTHING_ELSE, 0, 0, ANY_FLAGS},
    [IORING_OP_MADVISE] = {NOTHING_ELSE, 0, 0, ANY_FLAGS},
    [IORING_OP_SEND] = {0, 0, IORING_RECVSEND_POLL_FIRST, ANY_FLAGS},
    [IORING_OP_RECV] = {NO_OFFSET | NO_FILE, 1, IORING_RECVSEND_POLL_FIRST | IORING_RECV_MULTISHOT, ANY_FLAGS},
    [IORING_OP_OPENAT2] = {NO_INDEX | NO_FIXED, 0, 0, ANY_FLAGS},
    [IORING_OP_EPOLL_CTL] = {NOTHING_ELSE, 0, 0, ANY_FLAGS},
    [IORING_OP_SPLICE] = {0, 0, 0, SPLICE_FLAGS},
    [IORING_OP_TEE] = {NO_ADDRESS | NO_OFFSET, 0, 0, SPLICE_FLAGS},
    [IORING_OP_SHUTDOWN] = {NO_ADDRESS | NO_OFFSET | NOTHING_ELSE, 0, 0, 0},
    [IORING_OP_RENAMEAT] = {NOTHING_ELSE | NO_FIXED, 0, 0, ANY_FLAGS},
    [IORING_OP_UNLINKAT] = {NO_OFFSET | NO_LENGTH | NOTHING_ELSE | NO_FIXED, 0, 0, AT_REMOVEDIR},
    [IORING_OP_MKDIRAT] = {NO_OFFSET | NOTHING_ELSE | NO_FIXED, 0, 0, 0},
    [IORING_OP_SYMLINKAT] = {NO_LENGTH | NOTHING_ELSE | NO_FIXED, 0, 0, 0},
    [IORING_OP_LINKAT] = {NOTHING_ELSE | NO_FIXED, 0, 0, ANY_FLAGS},
    [IORING_OP_FSETXATTR] = {0, 0, 0, ANY_FLAGS},
    [IORING_OP_SETXATTR] = {NO_FIXED, 0, 0, ANY_FLAGS},
    [IORING_OP_FGETXATTR] = {0, 0, 0, 0},
    [IORING_OP_GETXATTR] = {NO_FIXED, 0, 0, 0},
    [IORING_OP_SOCKET] = {NO_ADDRESS | NO_INDEX, 0, 0, 0},
    [IORING_OP_URING_CMD] = {0, 0, 0, 0},
    [IORING_OP_READ_MULTISHOT] = {NO_ADDRESS | NO_LENGTH, 1, 0, ANY_FLAGS},
    [IORING_OP_WAITID] = {NO_ADDRESS | NO_INDEX | NO_ADDR3, 0, 0, 0},
    [IORING_OP_FTRUNCATE] = {NO_ADDRESS | NO_LENGTH | NOTHING_ELSE | NO_ADDR3, 0, 0, 0},
    [IORING_OP_BIND] = {NO_LENGTH | NOTHING_ELSE, 0, 0, 0},
    [IORING_OP_LISTEN] = {NO_ADDRESS | NO_OFFSET | NOTHING_ELSE, 0, 0, 0},
    [IORING_OP_EPOLL_WAIT] = {NO_OFFSET | NOTHING_ELSE, 0, 0, 0},
    [IORING_OP_PIPE] = {NO_FD | NO_OFFSET | NO_ADDR3, 0, 0, PIPE_FLAGS},
};

static int fields_of(const struct io_uring_sqe *sqe)
{
    return (sqe->addr ? NO_ADDRESS : 0) | (sqe->off ? NO_OFFSET : 0) | (sqe->len ? NO_LENGTH : 0) |
           (sqe->buf_index ? NO_INDEX : 0) | (sqe->splice_fd_in ? NO_FILE : 0) | (sqe->addr3 ? NO_ADDR3 : 0) |
           (sqe->fd ? NO_FD : 0) | (sqe->flags & IOSQE_FIXED_FILE ? NO_FIXED : 0);
}

static int check_time(const struct io_uring_sqe *sqe)
{
    int64_t time_ns;
    if (sqe->len != 1 || (sqe->op_flags & CLOCKS) == CLOCKS ||
        (sqe->op_flags & IORING_TIMEOUT_MULTISHOT && sqe->op_flags & IORING_TIMEOUT_ABS))
        return -EINVAL;
    return ul_read_time((const void *)(uintptr_t)sqe->addr, &time_ns);
}

static int check_change_of_time(const struct io_uring_sqe *sqe)
{
    int64_t time_ns;
    if (!(sqe->op_flags & TIMEOUT_UPDATES))
        return sqe->op_flags ? -EINVAL : 0;
    if (sqe->op_flags & ~(TIMEOUT_UPDATES | IORING_TIMEOUT_ABS))
        return -EINVAL;
    return ul_read_time((const void *)(uintptr_t)sqe->off, &time_ns);
}

static int check_change_of_poll(const struct io_uring_sqe *sqe)
{
    if (sqe->len & ~(uint32_t)(POLL_UPDATES | IORING_POLL_ADD_MULTI) || sqe->len == IORING_POLL_ADD_MULTI ||
        (sqe->off && !(sqe->len & IORING_POLL_UPDATE_USER_DATA)) ||
        (sqe->op_flags && !(sqe->len & IORING_POLL_UPDATE_EVENTS)))
        return -EINVAL;
    return 0;
}

static int check_receive(const struct io_uring_sqe *sqe)
{
    int multishot = (sqe->ioprio & IORING_RECV_MULTISHOT) != 0, selects = (sqe->flags & IOSQE_BUFFER_SELECT) != 0;
    if (sqe->len > INT32_MAX || (multishot && (!selects || sqe->op_flags & MSG_WAITALL)))
        return -EINVAL;
    const struct msghdr *message = (const struct msghdr *)(uintptr_t)sqe->addr;
    if (sqe->opcode == IORING_OP_RECV)
        return 0;
    if (message == NULL)
        return -EFAULT;
    return selects && message->msg_iovlen > 1 ? -EINVAL : 0;
}

static int check_cancel(const struct io_uring_sqe *sqe)
{
    const uint32_t criteria = IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_OP;
    return sqe->op_flags & IORING_ASYNC_CANCEL_ANY && sqe->op_flags & criteria ? -EINVAL : 0;
}

/* A registered file is never inherited, so it cannot be asked to be closed at an execve(2). */
static int check_slot(const struct io_uring_sqe *sqe, uint64_t flags)
{
    return sqe->splice_fd_in && flags & O_CLOEXEC ? -EINVAL : 0;
}

static int check_open(const struct io_uring_sqe *sqe)
{
    const uint64_t *how = (const uint64_t *)(uintptr_t)sqe->off;
    if (sqe->opcode == IORING_OP_OPENAT)
        return check_slot(sqe, sqe->op_flags);
    if (how == NULL)
        return -EFAULT;
    return sqe->len < 3 * sizeof(*how) ? -EINVAL : check_slot(sqe, how[0]);
}

/* What the rules do not tell. */
static int check_more(const struct io_uring_sqe *sqe)
{
    switch (sqe->opcode) {
    case IORING_OP_POLL_ADD:
        return sqe->len & ~(uint32_t)IORING_POLL_ADD_MULTI || (sqe->len && sqe->flags & IOSQE_CQE_SKIP_SUCCESS)
                   ? -EINVAL
                   : 0;
    case IORING_OP_POLL_REMOVE: return check_change_of_poll(sqe);
    case IORING_OP_TIMEOUT:
    case IORING_OP_LINK_TIMEOUT: return check_time(sqe);
    case IORING_OP_TIMEOUT_REMOVE: return check_change_of_time(sqe);
    case IORING_OP_RECV:
    case IORING_OP_RECVMSG: return check_receive(sqe);
    case IORING_OP_READV:
        if (!(sqe->flags & IOSQE_BUFFER_SELECT))
            return 0;
        return sqe->len != 1 ? -EINVAL : sqe->addr ? 0 : -EFAULT;
    case IORING_OP_SEND: return sqe->len > INT32_MAX ? -EINVAL : 0;
    case IORING_OP_SENDMSG: return sqe->len > INT32_MAX ? -EINVAL : sqe->addr ? 0 : -EFAULT;
    case IORING_OP_ASYNC_CANCEL: return check_cancel(sqe);
    case IORING_OP_READ_MULTISHOT: return sqe->flags & IOSQE_BUFFER_SELECT ? 0 : -EINVAL;
    case IORING_OP_OPENAT:
    case IORING_OP_OPENAT2: return check_open(sqe);
    case IORING_OP_ACCEPT:
        if (sqe->ioprio & IORING_ACCEPT_MULTISHOT && sqe->splice_fd_in && sqe->splice_fd_in != UL_ANY_SLOT)
            return -EINVAL;
        return check_slot(sqe, sqe->op_flags);
    case IORING_OP_PIPE: return check_slot(sqe, sqe->op_flags);
    case IORING_OP_SOCKET:
        if ((uint32_t)sqe->off & ~0xfU & ~(uint32_t)(SOCK_CLOEXEC | SOCK_NONBLOCK))
            return -EINVAL;
        return check_slot(sqe, sqe->off);
    default: return 0;
    }
}

/* Returns 0 or a negative errno. */
int ul_check(ul_user *user, const struct io_uring_sqe *sqe)
{
    if (!ul_has_opcode(sqe->opcode))
        return -EINVAL;
    const rule *rule = &rules[sqe->opcode];
    if (sqe->flags & ~KNOWN_SQE_FLAGS)
        return -EINVAL;
    if (sqe->flags & IOSQE_BUFFER_SELECT && !rule->selects)
        return -EOPNOTSUPP;
    user->skips |= sqe->flags & IOSQE_CQE_SKIP_SUCCESS;
    if (sqe->flags & IOSQE_IO_DRAIN && user->skips)
        return -EOPNOTSUPP;
    if (sqe->ioprio & ~rule->priority || sqe->personality)
        return -EINVAL;
    int given = fields_of(sqe) & rule->zero;
    if (given)
        return given == NO_FIXED ? -EBADF : -EINVAL;
    if (sqe->op_flags & ~rule->flags)
        return -EINVAL;
    return check_more(sqe);
}
