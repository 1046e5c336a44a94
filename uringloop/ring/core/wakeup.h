/* Wakes a loop from any thread: a write to an eventfd, made only while the loop sleeps.
 *
 * A producer sets `posted`, then looks at `asleep`.  The loop sets `asleep`, then looks at `posted`.  At least one of
 * them sees the other, whatever the order.  The first producer that sees a sleeping loop takes `asleep` away and
 * writes; all others rely on that write.  The ring watches the eventfd (backend.h).  Each write is an edge, so none is
 * read.
 */
#ifndef UL_WAKEUP_H
#define UL_WAKEUP_H

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int sched_getcpu(void); /* the header hides it without _GNU_SOURCE */

typedef struct ul_wakeup ul_wakeup;
struct ul_wakeup {
    uint32_t posted; /* there is a reason to wake, which the loop has not taken yet */
    uint32_t asleep;
    int32_t cpu; /* where the first post was made */
    int fd;      /* the eventfd; -1: none */
};

static inline int ul_wakeup_is_posted(const ul_wakeup *wakeup)
{
    return (int)__atomic_load_n(&wakeup->posted, __ATOMIC_ACQUIRE);
}

static inline int ul_wakeup_is_asleep(const ul_wakeup *wakeup)
{
    return (int)__atomic_load_n(&wakeup->asleep, __ATOMIC_ACQUIRE);
}

/* Whether the caller has to write. */
static inline int ul_wakeup_post(ul_wakeup *wakeup)
{
    if (__atomic_load_n(&wakeup->posted, __ATOMIC_RELAXED) == 0)
        __atomic_store_n(&wakeup->cpu, sched_getcpu(), __ATOMIC_RELAXED);
    __atomic_store_n(&wakeup->posted, 1, __ATOMIC_SEQ_CST);
    return __atomic_load_n(&wakeup->asleep, __ATOMIC_SEQ_CST) &&
           __atomic_exchange_n(&wakeup->asleep, 0, __ATOMIC_SEQ_CST);
}

/* The descriptor to write to and to watch, or a negative errno.  Where a filter refuses eventfds, it is a socket that
 * is its own peer. */
static inline int ul_wakeup_open(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), error = errno;
    if (fd >= 0)
        return fd;
    if (error == EMFILE || error == ENFILE || error == ENOMEM)
        return -error;
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    socklen_t size = sizeof(name);
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    /* Bound to no name, it gets one of its own. */
    if (bind(fd, (struct sockaddr *)&name, sizeof(name.sun_family)) == 0 &&
        getsockname(fd, (struct sockaddr *)&name, &size) == 0 && connect(fd, (struct sockaddr *)&name, size) == 0)
        return fd;
    error = errno;
    close(fd);
    return -error;
}

/* A socket holds a few writes only: then they are read, and the next one is news again. */
static inline void ul_wakeup_write(int fd)
{
    uint64_t one = 1;
    for (int tries = 0; tries < 3 && write(fd, &one, sizeof(one)) < 0; tries++)
        while (read(fd, &one, sizeof(one)) > 0)
            one = 1;
}

/* Whether something was posted on the CPU that runs this: a wait awake would only have kept the producer from it. */
static inline int ul_wakeup_came_from_here(const ul_wakeup *wakeup)
{
    return ul_wakeup_is_posted(wakeup) && __atomic_load_n(&wakeup->cpu, __ATOMIC_RELAXED) == sched_getcpu();
}

/* The loop is about to take what was posted. */
static inline void ul_wakeup_take(ul_wakeup *wakeup) { __atomic_store_n(&wakeup->posted, 0, __ATOMIC_SEQ_CST); }

/* Whether the loop may sleep; ul_wakeup_end_sleep follows in any case. */
static inline int ul_wakeup_begin_sleep(ul_wakeup *wakeup)
{
    __atomic_store_n(&wakeup->asleep, 1, __ATOMIC_SEQ_CST);
    return !__atomic_load_n(&wakeup->posted, __ATOMIC_SEQ_CST);
}

static inline void ul_wakeup_end_sleep(ul_wakeup *wakeup) { __atomic_store_n(&wakeup->asleep, 0, __ATOMIC_RELAXED); }

#endif
