/* preadv2(2) and pwritev2(2).  musl has functions for them from 1.2.5 on only, and wheels run on any 1.2. */
#ifndef UL_VECTORED_H
#define UL_VECTORED_H

#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* The kernel takes the upper half of an offset by itself, and ignores it where a long has 64 bits. */
static inline ssize_t ul_preadv2(int fd, const struct iovec *vector, int count, off_t offset, int flags)
{
    return syscall(SYS_preadv2, fd, vector, (long)count, offset, 0L, flags);
}

static inline ssize_t ul_pwritev2(int fd, const struct iovec *vector, int count, off_t offset, int flags)
{
    return syscall(SYS_pwritev2, fd, vector, (long)count, offset, 0L, flags);
}

#endif
