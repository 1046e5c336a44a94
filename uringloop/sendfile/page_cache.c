/* Sends the bytes of a file that the page cache has, without ever waiting for a disk.
 *
 * A few bytes are copied: preadv2(2) with RWF_NOWAIT takes them out of the cache, and send(2) sends them.  These two
 * calls take as long as sendfile(2), and the first one never waits.
 *
 * sendfile(2) copies nothing, but waits for bytes that are not cached.  So cachestat(2) first counts the pages.  It
 * also counts pages that are still being read.  So one byte of each PROBED_BYTES is read with RWF_NOWAIT, and the last
 * one: the kernel reads ahead in order.  A page that leaves the cache between the look and sendfile(2) is read again,
 * and that waits.
 *
 * The kernel answers cachestat(2) only to those who may write the file or own it, and only from Linux 6.5 on. Elsewhere
 * all bytes are copied.  So are they into a blocking socket, for which sendfile(2) would wait, and where SIGPIPE is not
 * ignored.
 *
 * overlayfs, which has a container's files, and tmpfs have no RWF_NOWAIT, and cachestat(2) sees nothing of a file in an
 * overlayfs.  mincore(2) tells of both after an mmap(2), and knows which pages are being read. */
#define _GNU_SOURCE
#include "page_cache.h"

#include "../vectored.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef __NR_cachestat
#define __NR_cachestat 451
#endif

#define SENDFILE_FROM_BYTES 16384 /* fewer are copied */
#define COPIED_BYTES 65536        /* so many at a time */
#define PROBED_BYTES 131072       /* what the kernel reads ahead at a time, unless told otherwise */
#define TURN_BYTES (1 << 20)      /* sent in about 0.2 ms */
#define PAGE_BYTES_MIN 4096

/* The kernel's structs, which only newer headers have. */
typedef struct {
    uint64_t offset, size_bytes;
} cachestat_range;
typedef struct {
    uint64_t cached, dirty, writeback, evicted, recently_evicted; /* in pages */
} cachestat_pages;

static __thread char copied[COPIED_BYTES];

int64_t ul_file_size(int file)
{
    struct stat status;
    return fstat(file, &status) < 0 ? -errno : status.st_size;
}

static ssize_t read_cached(int file, void *buffer, size_t size_bytes, int64_t offset)
{
    struct iovec vector = {buffer, size_bytes};
    ssize_t count;
    do
        count = ul_preadv2(file, &vector, 1, offset, RWF_NOWAIT);
    while (count < 0 && errno == EINTR);
    return count;
}

static int is_cached(int file, int64_t offset, int64_t size_bytes)
{
    char byte;
    int64_t page_bytes = sysconf(_SC_PAGESIZE), end = offset + size_bytes;
    cachestat_range range = {(uint64_t)offset, (uint64_t)size_bytes};
    cachestat_pages found = {0};
    if (syscall(__NR_cachestat, file, &range, &found, 0) < 0)
        return 0;
    if ((int64_t)found.cached <= (end - 1) / page_bytes - offset / page_bytes)
        return 0;
    for (int64_t at = offset + PROBED_BYTES; at < end; at += PROBED_BYTES)
        if (read_cached(file, &byte, 1, at - 1) != 1)
            return 0;
    return read_cached(file, &byte, 1, end - 1) == 1;
}

/* Returns how many of these bytes are cached, up to the first that is not.  mincore(2) calls each page of a file cached
 * that the process neither owns nor may write. */
static int64_t resident_bytes(int file, int64_t offset, int64_t size_bytes)
{
    unsigned char pages[TURN_BYTES / PAGE_BYTES_MIN + 1];
    int64_t page_bytes = sysconf(_SC_PAGESIZE), skipped_bytes = offset % page_bytes, count = 0;
    size_t mapped_bytes = (size_t)(skipped_bytes + size_bytes);
    int64_t page_count = ((int64_t)mapped_bytes + page_bytes - 1) / page_bytes;
    struct stat status;
    if (fstat(file, &status) < 0 || status.st_uid != geteuid())
        return 0;
    void *mapped = mmap(NULL, mapped_bytes, PROT_READ, MAP_SHARED, file, offset - skipped_bytes);
    if (mapped == MAP_FAILED)
        return 0;
    if (mincore(mapped, mapped_bytes, pages) == 0)
        while (count < page_count && pages[count] & 1)
            count++;
    munmap(mapped, mapped_bytes);
    if (count == page_count)
        return size_bytes;
    return count > 0 ? count * page_bytes - skipped_bytes : 0;
}

/* sendfile(2) has neither MSG_DONTWAIT nor MSG_NOSIGNAL. */
static int may_send_pages(int sock)
{
    struct sigaction broken;
    return fcntl(sock, F_GETFL) & O_NONBLOCK && sigaction(SIGPIPE, NULL, &broken) == 0 && broken.sa_handler == SIG_IGN;
}

/* Returns what was sent, and sets the reason if there will be no more. */
static int64_t send_pages(int sock, int file, off_t offset, int64_t size_bytes, int *reason)
{
    ssize_t sent = sendfile(sock, file, &offset, (size_t)size_bytes);
    if (sent == 0)
        *reason = UL_FILE_ENDS;
    else if (sent < 0 && errno != EAGAIN && errno != EINTR)
        *reason = -errno;
    else if (sent < size_bytes)
        *reason = UL_SOCKET_FULL;
    return sent < 0 ? 0 : sent;
}

static int64_t send_copy(int sock, int file, int64_t offset, int64_t size_bytes, int *reason)
{
    ssize_t sent, count;
    count = read_cached(file, copied, size_bytes < COPIED_BYTES ? (size_t)size_bytes : COPIED_BYTES, offset);
    int error = count < 0 ? errno : 0;
    if (error == EOPNOTSUPP && may_send_pages(sock) && (size_bytes = resident_bytes(file, offset, size_bytes)) > 0)
        return send_pages(sock, file, offset, size_bytes, reason);
    if (count == 0)
        *reason = UL_FILE_ENDS;
    else if (count < 0)
        *reason = error == EAGAIN || error == EOPNOTSUPP || error == ENOSYS ? UL_NOT_CACHED : -error;
    if (count <= 0)
        return 0;
    sent = ul_send_now(sock, copied, (size_t)count);
    if (sent < count)
        *reason = sent < 0 ? (int)sent : UL_SOCKET_FULL;
    return sent < 0 ? 0 : sent;
}

/* Sends what the cache has and the socket takes; the number of bytes, and why there are no more. */
int64_t ul_send_cached(int sock, int file, int64_t offset, int64_t size_bytes, int *reason)
{
    int64_t sent_bytes = 0;
    *reason = UL_SENT_ALL;
    /* With O_DIRECT the cache is not asked, and RWF_NOWAIT waits. */
    if (fcntl(file, F_GETFL) & O_DIRECT)
        *reason = UL_NOT_CACHED;
    while (*reason == UL_SENT_ALL && sent_bytes < size_bytes) {
        int64_t left_bytes = size_bytes - sent_bytes;
        if (sent_bytes >= TURN_BYTES) {
            *reason = UL_SENT_MUCH;
            break;
        }
        if (left_bytes > TURN_BYTES - sent_bytes)
            left_bytes = TURN_BYTES - sent_bytes;
        if (left_bytes >= SENDFILE_FROM_BYTES && may_send_pages(sock) &&
            is_cached(file, offset + sent_bytes, left_bytes))
            sent_bytes += send_pages(sock, file, offset + sent_bytes, left_bytes, reason);
        else
            sent_bytes += send_copy(sock, file, offset + sent_bytes, left_bytes, reason);
    }
    return sent_bytes;
}

/* Reads what the cache has: the number of bytes, 0 at the end of the file, -EAGAIN for nothing, or another errno. */
int64_t ul_read_cached(int file, void *buffer, size_t size_bytes, int64_t offset)
{
    ssize_t count = read_cached(file, buffer, size_bytes, offset);
    return count >= 0 ? count : errno == EOPNOTSUPP || errno == ENOSYS ? -EAGAIN : -errno;
}

/* Sends what the socket takes: the number of bytes, 0 if it is full, or a negative errno. */
int64_t ul_send_now(int sock, const void *data, size_t size_bytes)
{
    ssize_t sent;
    do
        sent = send(sock, data, size_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent >= 0 ? sent : errno == EAGAIN ? 0 : -errno;
}
