/* The calls that a thread of the pool makes.  Each is one system call, with the fields of its SQE. */
#define _GNU_SOURCE
#include "../../../vectored.h"
#include "epoll.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#define POINTER(field) ((void *)(uintptr_t)(field))

static long move(const struct io_uring_sqe *sqe)
{
    struct iovec one = {POINTER(sqe->addr), sqe->len};
    int is_vector = sqe->opcode == IORING_OP_READV || sqe->opcode == IORING_OP_WRITEV;
    const struct iovec *vector = is_vector ? one.iov_base : &one;
    int count = is_vector ? (int)sqe->len : 1;
    int reads = sqe->opcode == IORING_OP_READ || sqe->opcode == IORING_OP_READV;
    off_t offset = (off_t)sqe->off;
    for (;;) {
        ssize_t size = reads ? ul_preadv2(sqe->fd, vector, count, offset, (int)sqe->op_flags)
                             : ul_pwritev2(sqe->fd, vector, count, offset, (int)sqe->op_flags);
        /* The kernel's ring takes an offset where pwrite(2) refuses any, as files of /proc do. */
        if (size >= 0 || errno != ESPIPE || offset == -1)
            return size;
        offset = -1;
    }
}

static long transfer(const struct io_uring_sqe *sqe)
{
    off_t in = (off_t)sqe->addr, out = (off_t)sqe->off;
    return splice(sqe->splice_fd_in, sqe->addr == UINT64_MAX ? NULL : &in, sqe->fd,
                  sqe->off == UINT64_MAX ? NULL : &out, sqe->len, sqe->op_flags);
}

static long attribute(const struct io_uring_sqe *sqe)
{
    const char *name = POINTER(sqe->addr), *path = POINTER(sqe->addr3);
    void *value = POINTER(sqe->off);
    switch (sqe->opcode) {
    case IORING_OP_FSETXATTR: return fsetxattr(sqe->fd, name, value, sqe->len, (int)sqe->op_flags);
    case IORING_OP_SETXATTR: return setxattr(path, name, value, sqe->len, (int)sqe->op_flags);
    case IORING_OP_FGETXATTR: return fgetxattr(sqe->fd, name, value, sqe->len);
    default: return getxattr(path, name, value, sqe->len);
    }
}

static long on_path(const struct io_uring_sqe *sqe)
{
    const char *path = POINTER(sqe->addr), *second = POINTER(sqe->off);
    int second_folder = (int)sqe->len;
    switch (sqe->opcode) {
    case IORING_OP_STATX: return syscall(__NR_statx, sqe->fd, path, (int)sqe->op_flags, sqe->len, second);
    case IORING_OP_RENAMEAT: return syscall(__NR_renameat2, sqe->fd, path, second_folder, second, sqe->op_flags);
    case IORING_OP_UNLINKAT: return unlinkat(sqe->fd, path, (int)sqe->op_flags);
    case IORING_OP_MKDIRAT: return mkdirat(sqe->fd, path, (mode_t)sqe->len);
    case IORING_OP_SYMLINKAT: return symlinkat(path, sqe->fd, second);
    default: return linkat(sqe->fd, path, second_folder, second, (int)sqe->op_flags);
    }
}

static long on_descriptor(const struct io_uring_sqe *sqe)
{
    switch (sqe->opcode) {
    case IORING_OP_FSYNC: return sqe->op_flags & IORING_FSYNC_DATASYNC ? fdatasync(sqe->fd) : fsync(sqe->fd);
    case IORING_OP_SYNC_FILE_RANGE: return sync_file_range(sqe->fd, (off_t)sqe->off, sqe->len, sqe->op_flags);
    case IORING_OP_FALLOCATE: return fallocate(sqe->fd, (int)sqe->len, (off_t)sqe->off, (off_t)sqe->addr);
    case IORING_OP_FADVISE: {
        int error = posix_fadvise(sqe->fd, (off_t)sqe->off, sqe->addr ? (off_t)sqe->addr : sqe->len,
                                  (int)sqe->op_flags);
        errno = error;
        return error ? -1 : 0;
    }
    case IORING_OP_MADVISE: return madvise(POINTER(sqe->addr), sqe->off ? sqe->off : sqe->len, (int)sqe->op_flags);
    case IORING_OP_FTRUNCATE: return ftruncate(sqe->fd, (off_t)sqe->off);
    case IORING_OP_READ_MULTISHOT: return read(sqe->fd, POINTER(sqe->addr), sqe->len);
    case IORING_OP_CLOSE: return close(sqe->fd);
    case IORING_OP_ACCEPT: return ul_accept(sqe);
    case IORING_OP_CONNECT: return connect(sqe->fd, POINTER(sqe->addr), (socklen_t)sqe->off);
    default: errno = EINVAL; return -1;
    }
}

static long call(const struct io_uring_sqe *sqe)
{
    switch (sqe->opcode) {
    case IORING_OP_READ:
    case IORING_OP_READV:
    case IORING_OP_WRITE:
    case IORING_OP_WRITEV: return move(sqe);
    case IORING_OP_SPLICE: return transfer(sqe);
    case IORING_OP_FSETXATTR:
    case IORING_OP_SETXATTR:
    case IORING_OP_FGETXATTR:
    case IORING_OP_GETXATTR: return attribute(sqe);
    case IORING_OP_STATX:
    case IORING_OP_RENAMEAT:
    case IORING_OP_UNLINKAT:
    case IORING_OP_MKDIRAT:
    case IORING_OP_SYMLINKAT:
    case IORING_OP_LINKAT: return on_path(sqe);
    default: return on_descriptor(sqe);
    }
}

static int makes_file(const struct io_uring_sqe *sqe)
{
    return sqe->opcode == IORING_OP_OPENAT || sqe->opcode == IORING_OP_OPENAT2;
}

void ul_run_blocking(ul_job *job)
{
    ul_request *request = (ul_request *)job;
    if (makes_file(&request->sqe)) {
        request->res = ul_open_file(request);
    } else {
        long result = call(&request->sqe);
        request->res = result < 0 ? -errno : (int32_t)result;
    }
    request->has_run = 1;
}

/* An abandoned call has returned, after its ring was closed. */
void ul_drop_result(ul_job *job)
{
    ul_request *request = (ul_request *)job;
    int makes_descriptor = makes_file(&request->sqe) || request->sqe.opcode == IORING_OP_ACCEPT;
    if (request->has_run && request->res >= 0 && makes_descriptor)
        close(request->res);
    if (request->holds_file)
        close(request->fd);
    free(request);
}
