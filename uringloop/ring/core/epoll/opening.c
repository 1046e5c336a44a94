/* OPENAT and OPENAT2, on a thread of the pool; the call of an ACCEPT.
 *
 * An open of a FIFO waits for the other end, perhaps for ever, and only a signal interrupts it.  So a FIFO is opened
 * with O_NONBLOCK, again and again by a timer.  A reader keeps its first descriptor, which lets writers in; a writer
 * that reads ENXIO has none.  A reader of another process that came and went between two tries is not met.
 */
#define _GNU_SOURCE
#include "epoll.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef __NR_openat2
#define __NR_openat2 437
#endif

#define POINTER(field) ((void *)(uintptr_t)(field))

typedef struct {
    uint64_t flags, mode, resolve;
} open_how;

/* The arguments as those of openat2(2); the size of a newer kernel's struct is left to the kernel. */
static int how_of(const struct io_uring_sqe *sqe, open_how *how)
{
    if (sqe->opcode == IORING_OP_OPENAT) {
        *how = (open_how){sqe->op_flags, sqe->len, 0};
        return 1;
    }
    if (sqe->len != sizeof(*how))
        return 0;
    *how = *(const open_how *)POINTER(sqe->off);
    return 1;
}

static int open_with(const struct io_uring_sqe *sqe, int flags)
{
    const char *path = POINTER(sqe->addr);
    open_how how;
    int fd;
    if (sqe->opcode == IORING_OP_OPENAT) {
        fd = openat(sqe->fd, path, (int)sqe->op_flags | flags, (mode_t)sqe->len);
    } else if (flags == 0 || !how_of(sqe, &how)) {
        fd = (int)syscall(__NR_openat2, sqe->fd, path, POINTER(sqe->off), (size_t)sqe->len);
    } else {
        how.flags |= (uint64_t)flags;
        fd = (int)syscall(__NR_openat2, sqe->fd, path, &how, sizeof(how));
    }
    return fd < 0 ? -errno : fd;
}

/* Whether an open(2) would wait for a FIFO's other end. */
static int waits_for_other_end(const struct io_uring_sqe *sqe)
{
    open_how how;
    struct stat status;
    if (!how_of(sqe, &how) || how.flags & (O_NONBLOCK | O_PATH | O_DIRECTORY) || (how.flags & O_ACCMODE) == O_RDWR)
        return 0;
    int follows = how.flags & O_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0;
    return fstatat(sqe->fd, POINTER(sqe->addr), &status, follows) == 0 && S_ISFIFO(status.st_mode);
}

/* Whether the FIFO of a reader has, or had, a writer; or a negative errno.  Only tee(2) tells without taking a byte. */
static int has_writer(int fd)
{
    int scratch[2];
    if (ul_poll_now(fd, POLLIN))
        return 1;
    if (pipe2(scratch, O_CLOEXEC) < 0)
        return -errno;
    int has = tee(fd, scratch[1], 1, SPLICE_F_NONBLOCK) != 0;
    close(scratch[0]), close(scratch[1]);
    return has;
}

static int now_blocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

/* On a thread of the pool: the descriptor, a negative errno, or UL_TRY_WAIT. */
int ul_open_file(ul_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;
    if (!request->holds_file) {
        if (!waits_for_other_end(sqe))
            return open_with(sqe, 0);
        int fd = open_with(sqe, O_NONBLOCK);
        if (fd < 0)
            return fd == -ENXIO ? UL_TRY_WAIT : fd;
        if ((fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY)
            return now_blocking(fd);
        request->holds_file = 1;
        request->fd = fd;
    }
    int has = has_writer(request->fd);
    if (has == 0)
        return UL_TRY_WAIT;
    request->holds_file = 0;
    if (has > 0)
        return now_blocking(request->fd);
    close(request->fd);
    return has;
}

/* The error of a file that is to be put into a slot. */
int ul_refuse_slot(const struct io_uring_sqe *sqe) { return sqe->splice_fd_in == UL_ANY_SLOT ? -ENFILE : -ENXIO; }

/* There is no table of files for a connection that is to be put into one.  As in the kernel, it is lost. */
int ul_accept(const struct io_uring_sqe *sqe)
{
    int fd = accept4(sqe->fd, (struct sockaddr *)(uintptr_t)sqe->addr, (socklen_t *)(uintptr_t)sqe->off,
                     (int)sqe->op_flags);
    if (fd < 0 || !sqe->splice_fd_in)
        return fd;
    close(fd);
    errno = -ul_refuse_slot(sqe);
    return -1;
}
